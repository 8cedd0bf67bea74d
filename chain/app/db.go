package app

import (
	"fmt"
	"path/filepath"

	cmtdb "github.com/cometbft/cometbft-db"
	cmtcfg "github.com/cometbft/cometbft/config"
	dbm "github.com/cosmos/cosmos-db"
	"github.com/syndtr/goleveldb/leveldb/filter"
	"github.com/syndtr/goleveldb/leveldb/opt"
)

// levels are LevelDB's settings: a node has six databases, and with the usual
// 4 MiB write buffers and 8 MiB caches they alone would take what an idle node
// may take in all.
func levels() *opt.Options {
	// The filter spares looking into tables that don't have a key.
	return &opt.Options{WriteBuffer: 2 << 20, BlockCacheCapacity: 2 << 20, OpenFilesCacheCapacity: 100, Filter: filter.NewBloomFilter(10), CompactionL0Trigger: 8, WriteL0SlowdownTrigger: 16, WriteL0PauseTrigger: 24}
}

// stateLevels are those of the state, which is most of what a node writes: a
// small buffer would merge tables all the time. What it writes is hashes, which
// don't compress.
func stateLevels() *opt.Options {
	o := levels()
	o.WriteBuffer, o.CompactionTableSize, o.Compression = 8<<20, 8<<20, opt.NoCompression
	// Levels that are merged less often: a first one of 64 MiB.
	o.CompactionTotalSize = 64 << 20
	return o
}

// OpenState opens the application's database of a home.
func OpenState(dir string, backend dbm.BackendType) (dbm.DB, error) {
	data := filepath.Join(dir, "data")
	var (
		db  dbm.DB
		err error
	)
	if backend == dbm.GoLevelDBBackend {
		db, err = dbm.NewGoLevelDBWithOpts("application", data, stateLevels())
	} else {
		db, err = dbm.NewDB("application", backend, data)
	}
	if err != nil {
		return nil, fmt.Errorf("open the state in %s: %w", dir, err)
	}
	return db, nil
}

// consensusDB opens one of CometBFT's databases.
func consensusDB(ctx *cmtcfg.DBContext) (cmtdb.DB, error) {
	if backend := cmtdb.BackendType(ctx.Config.DBBackend); backend != cmtdb.GoLevelDBBackend {
		return cmtdb.NewDB(ctx.ID, backend, ctx.Config.DBDir())
	}
	return cmtdb.NewGoLevelDBWithOpts(ctx.ID, ctx.Config.DBDir(), levels())
}
