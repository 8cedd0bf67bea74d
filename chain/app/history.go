package app

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	cmtcfg "github.com/cometbft/cometbft/config"
	sm "github.com/cometbft/cometbft/state"
	"github.com/cometbft/cometbft/store"
	srvconfig "github.com/cosmos/cosmos-sdk/server/config"
	pruningtypes "github.com/cosmos/cosmos-sdk/store/v2/pruning/types"
)

// History says what a node keeps of the past, and whether others can begin
// from it.
type History struct {
	// Pruning of states: default (362,880 blocks are kept), nothing (all are),
	// everything (two are) or custom.
	Pruning string
	// KeepRecent states; older ones go every Interval blocks. For custom alone.
	KeepRecent, Interval uint64
	// Blocks to keep at least; 0 keeps all, which an audit needs.
	Blocks uint64
	// SnapshotInterval is the number of blocks from one snapshot to the next; 0
	// takes none. Snapshots of them are kept, 0 keeps all.
	SnapshotInterval uint64
	Snapshots        uint32
}

// DefaultHistory answers queries and proofs for a while, keeps every block so
// that an audit can replay the ledger from its first one, and lets others begin
// from a snapshot.
func DefaultHistory() History {
	return History{Pruning: pruningtypes.PruningOptionCustom, KeepRecent: 1000, Interval: 10, SnapshotInterval: 1000, Snapshots: 2}
}

// Validate says what is wrong with h and how to put it right.
func (h History) Validate() error {
	switch h.Pruning {
	case pruningtypes.PruningOptionDefault, pruningtypes.PruningOptionNothing:
	case pruningtypes.PruningOptionEverything:
		if h.SnapshotInterval > 0 {
			return errors.New("pruning everything leaves nothing to take snapshots of: give --snapshot-interval 0 too")
		}
	case pruningtypes.PruningOptionCustom:
		if h.KeepRecent < 2 || h.Interval < 10 {
			return fmt.Errorf("pruning that keeps %d states and works every %d blocks: want at least 2 states (--pruning-keep-recent) and 10 blocks (--pruning-interval)", h.KeepRecent, h.Interval)
		}
	default:
		return fmt.Errorf("pruning %.40q: want default, nothing, everything or custom", h.Pruning)
	}
	return nil
}

func (h History) set(srv *srvconfig.Config) {
	srv.Pruning, srv.MinRetainBlocks = h.Pruning, h.Blocks
	srv.PruningKeepRecent, srv.PruningInterval = strconv.FormatUint(h.KeepRecent, 10), strconv.FormatUint(h.Interval, 10)
	srv.StateSync.SnapshotInterval, srv.StateSync.SnapshotKeepRecent = h.SnapshotInterval, h.Snapshots
}

// checkHistory says of the settings of a home, its flags included, what History says
// of its own.
func checkHistory(srv srvconfig.Config) error {
	h := History{Pruning: srv.Pruning, SnapshotInterval: srv.StateSync.SnapshotInterval}
	if srv.Pruning == pruningtypes.PruningOptionCustom {
		var errs [2]error
		h.KeepRecent, errs[0] = strconv.ParseUint(srv.PruningKeepRecent, 10, 64)
		h.Interval, errs[1] = strconv.ParseUint(srv.PruningInterval, 10, 64)
		if err := errors.Join(errs[:]...); err != nil {
			return fmt.Errorf("pruning-keep-recent and pruning-interval: %w", err)
		}
	}
	return h.Validate()
}

// trustPeriod is how old a trusted block may be: two thirds of the time that
// stake stays slashable after it leaves.
const trustPeriod = 14 * 24 * time.Hour

// StateSync lets a new node begin from a snapshot that its peers have, in place
// of carrying out every block. The zero value is off.
type StateSync struct {
	// Servers are the RPC addresses of two nodes or more, which say what the
	// snapshot has to come to; each is held against the others.
	Servers []string
	// Trust is a block that the operator believes, as HEIGHT:HASH.
	Trust string
}

// set turns cfg's state sync on as s says.
func (s StateSync) set(cfg *cmtcfg.Config) error {
	if len(s.Servers) == 0 && s.Trust == "" {
		return nil
	}
	if len(s.Servers) < 2 {
		return fmt.Errorf("state sync names %d nodes: want the RPC addresses of two or more, as --sync-from A:26657,B:26657, so that one is held against the other", len(s.Servers))
	}
	if s.Trust == "" {
		return fmt.Errorf("state sync needs a block that you believe, as --trust HEIGHT:HASH; see what the nodes say with: fallowd trust --rpc %s", strings.Join(s.Servers, " --rpc "))
	}
	height, hash, err := ParseTrust(s.Trust)
	if err != nil {
		return err
	}
	cfg.StateSync.Enable, cfg.StateSync.RPCServers = true, s.Servers
	cfg.StateSync.TrustHeight, cfg.StateSync.TrustHash, cfg.StateSync.TrustPeriod = height, fmt.Sprintf("%X", hash), trustPeriod
	return nil
}

// Set turns state sync on for this start, over what config.toml says.
func (s StateSync) Set(cfg *cmtcfg.Config) error {
	if err := s.set(cfg); err != nil {
		return err
	}
	return cfg.ValidateBasic()
}

// ParseTrust reads a block that somebody believes, as HEIGHT:HASH.
func ParseTrust(s string) (int64, []byte, error) {
	before, after, ok := strings.Cut(s, ":")
	height, err := strconv.ParseInt(before, 10, 64)
	if !ok || err != nil || height < 1 {
		return 0, nil, fmt.Errorf("trust %.90q: want HEIGHT:HASH, as 120000:9F86D0…", s)
	}
	hash, err := hex.DecodeString(after)
	if err != nil || len(hash) != 32 {
		return 0, nil, fmt.Errorf("trust %.90q: want a hash of 64 hex digits", s)
	}
	return height, hash, nil
}

// beginAgain removes the state of a state sync that was cut short: until
// consensus has taken it over nothing of it counts, and no other snapshot can
// be laid over it.
func beginAgain(cfg *cmtcfg.Config) error {
	if !cfg.StateSync.Enable {
		return nil
	}
	db, err := consensusDB(&cmtcfg.DBContext{ID: "state", Config: cfg})
	if err != nil {
		return fmt.Errorf("open the consensus state in %s: %w", cfg.RootDir, err)
	}
	state, err := sm.NewStore(db, sm.StoreOptions{}).Load()
	if err = errors.Join(err, db.Close()); err != nil {
		return fmt.Errorf("read the consensus state in %s: %w", cfg.RootDir, err)
	}
	half := []string{"application.db"}
	if state.LastBlockHeight > 0 {
		if db, err = consensusDB(&cmtcfg.DBContext{ID: "blockstore", Config: cfg}); err != nil {
			return fmt.Errorf("open the blocks in %s: %w", cfg.RootDir, err)
		}
		blocks := store.NewBlockStore(db)
		begun := blocks.Height() > 0 || blocks.LoadSeenCommit(state.LastBlockHeight) != nil
		if err := blocks.Close(); err != nil {
			return fmt.Errorf("read the blocks in %s: %w", cfg.RootDir, err)
		}
		if begun {
			return nil
		}
		half = append(half, "state.db", "blockstore.db")
	}
	for _, name := range half {
		if err := os.RemoveAll(filepath.Join(cfg.RootDir, "data", name)); err != nil {
			return fmt.Errorf("remove the state of a state sync that was cut short: %w", err)
		}
	}
	return nil
}
