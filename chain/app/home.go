package app

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	cmtcfg "github.com/cometbft/cometbft/config"
	cmtjson "github.com/cometbft/cometbft/libs/json"
	"github.com/cometbft/cometbft/p2p"
	"github.com/cometbft/cometbft/privval"
	cmttypes "github.com/cometbft/cometbft/types"
	"github.com/cosmos/cosmos-sdk/codec"
	srvconfig "github.com/cosmos/cosmos-sdk/server/config"
	sdk "github.com/cosmos/cosmos-sdk/types"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"

	"fallow.network"
)

// LeastBlockTime is the shortest wait between blocks that a home may ask for.
const LeastBlockTime = 250 * time.Millisecond

// Operator is the name of the validator's account in the home's keyring.
const Operator = "validator"

// Home says where a node lives, what it listens on and how fast it goes.
type Home struct {
	Dir     string
	Moniker string
	// BlockTime is the wait from one block to the next.
	BlockTime time.Duration
	// Listen addresses as host:port; port 0 takes a free one at each start.
	RPC, P2P, GRPC, API string
	// Metrics is where figures stand; empty is loopback three ports above RPC's,
	// and a free one at each start where RPC takes one.
	Metrics string
	// External is the host:port at which other nodes reach this one; P2P when
	// empty.
	External string
	// Peers to dial, as id@host:port, separated by commas.
	Peers string
	// GasPrice is the least price of gas in ufal that this node takes.
	GasPrice string
	// AnyOrigin lets pages of any web site read RPC and REST.
	AnyOrigin bool
	// History is what it keeps of the past.
	History History
	// StateSync lets it begin from a snapshot.
	StateSync StateSync
}

// DefaultHome listens on the loopback device at the ports that Cosmos tools expect.
func DefaultHome() Home {
	return Home{
		Moniker: "fallow", BlockTime: time.Second, GasPrice: "0.001" + fallow.TokenDenom, History: DefaultHistory(),
		RPC: "127.0.0.1:26657", P2P: "127.0.0.1:26656", GRPC: "127.0.0.1:9090", API: "127.0.0.1:1317",
	}
}

// Validate says what is wrong with h and how to put it right.
func (h Home) Validate() error {
	switch {
	case h.Dir == "":
		return errors.New("home: no folder given; use --home DIR")
	case h.BlockTime < LeastBlockTime || h.BlockTime > time.Minute:
		return fmt.Errorf("block time %s: want %s to 1m", h.BlockTime, LeastBlockTime)
	case len(h.Moniker) == 0 || len(h.Moniker) > 70:
		return fmt.Errorf("moniker of %d bytes: want 1 to 70", len(h.Moniker))
	}
	if _, err := sdk.ParseDecCoins(h.GasPrice); err != nil || h.GasPrice == "" {
		return fmt.Errorf("least gas price %.40q: want an amount with its denomination, as 0.001%s", h.GasPrice, fallow.TokenDenom)
	}
	if err := h.StateSync.set(cmtcfg.DefaultConfig()); err != nil {
		return err
	}
	return h.History.Validate()
}

// Exists says whether dir already holds a node.
func Exists(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "config", "genesis.json"))
	return err == nil
}

// write lays the folders, both config files and the node's keys.
func (h Home) write() (*cmtcfg.Config, error) {
	if err := h.Validate(); err != nil {
		return nil, err
	}
	if Exists(h.Dir) {
		return nil, fmt.Errorf("home %s already holds a node; choose another --home", h.Dir)
	}
	for _, d := range []string{"", "config", "data"} {
		if err := os.MkdirAll(filepath.Join(h.Dir, d), 0o700); err != nil {
			return nil, fmt.Errorf("make home: %w", err)
		}
	}
	cfg := cmtcfg.DefaultConfig()
	cfg.SetRoot(h.Dir)
	cfg.Moniker = h.Moniker
	cfg.LogLevel = "warn"
	cfg.RPC.ListenAddress, cfg.P2P.ListenAddress = "tcp://"+h.RPC, "tcp://"+h.P2P
	cfg.RPC.MaxBodyBytes = 4 << 20
	cfg.P2P.PersistentPeers, cfg.P2P.ExternalAddress = h.Peers, h.External
	cfg.P2P.AddrBookStrict, cfg.P2P.AllowDuplicateIP = false, true
	cfg.Consensus.TimeoutCommit = h.BlockTime
	cfg.Instrumentation.Prometheus, cfg.Instrumentation.PrometheusListenAddr = true, h.metrics()
	srv := srvconfig.DefaultConfig()
	srv.MinGasPrices = h.GasPrice
	srv.API.Enable, srv.API.Address = true, "tcp://"+h.API
	srv.GRPC.Address = h.GRPC
	srv.QueryGasLimit = 50_000_000
	h.History.set(srv)
	srv.IAVLCacheSize = 50_000
	// Transactions are found by hash, by height and by who signed; every event
	// of every lease would be written three times more.
	srv.IndexEvents = []string{"message.sender", "message.action", "tx.acc_seq"}
	if h.AnyOrigin {
		cfg.RPC.CORSAllowedOrigins = []string{"*"}
		srv.API.EnableUnsafeCORS = true
	}
	if err := h.StateSync.set(cfg); err != nil {
		return nil, err
	}
	if err := writeConfig(cfg); err != nil {
		return nil, err
	}
	srvconfig.WriteConfigFile(filepath.Join(h.Dir, "config", "app.toml"), srv)
	if _, err := p2p.LoadOrGenNodeKey(cfg.NodeKeyFile()); err != nil {
		return nil, fmt.Errorf("make the node key: %w", err)
	}
	privval.LoadOrGenFilePV(cfg.PrivValidatorKeyFile(), cfg.PrivValidatorStateFile())
	return cfg, nil
}

// metrics is where figures stand.
func (h Home) metrics() string {
	if h.Metrics != "" {
		return h.Metrics
	}
	_, port, _ := net.SplitHostPort(h.RPC)
	at, err := strconv.Atoi(port)
	if err != nil || at == 0 || at > 65535-3 {
		return "127.0.0.1:0"
	}
	return "127.0.0.1:" + strconv.Itoa(at+3)
}

// Join writes a home for an existing network, whose genesis this is, byte for byte.
func (h Home) Join(genesis []byte) error {
	if _, err := cmttypes.GenesisDocFromJSON(genesis); err != nil {
		return fmt.Errorf("read genesis: %w", err)
	}
	cfg, err := h.write()
	if err != nil {
		return err
	}
	return writeGenesis(cfg, genesis)
}

// ReadHome reads the settings of the node in dir: config.toml and app.toml,
// over them the environment (FALLOWD_…), over that the flags that were set.
func ReadHome(dir string, flags *pflag.FlagSet) (*cmtcfg.Config, srvconfig.Config, *viper.Viper, error) {
	var srv srvconfig.Config
	if !Exists(dir) {
		return nil, srv, nil, fmt.Errorf("home %s holds no node; make one with: fallowd init --home %s", dir, dir)
	}
	v := viper.New()
	v.SetConfigFile(filepath.Join(dir, "config", "config.toml"))
	if err := v.ReadInConfig(); err != nil {
		return nil, srv, nil, fmt.Errorf("read settings: %w", err)
	}
	v.SetConfigFile(filepath.Join(dir, "config", "app.toml"))
	if err := v.MergeInConfig(); err != nil {
		return nil, srv, nil, fmt.Errorf("read settings: %w", err)
	}
	v.SetEnvPrefix("FALLOWD")
	v.AutomaticEnv()
	if flags != nil {
		if err := v.BindPFlags(flags); err != nil {
			return nil, srv, nil, fmt.Errorf("read flags: %w", err)
		}
		for _, name := range []string{"snapshot-interval", "snapshot-keep-recent"} {
			if f := flags.Lookup(name); f != nil {
				if err := v.BindPFlag("state-sync."+name, f); err != nil {
					return nil, srv, nil, fmt.Errorf("read flags: %w", err)
				}
			}
		}
	}
	v.Set("home", dir)
	cfg := cmtcfg.DefaultConfig()
	if err := v.Unmarshal(cfg); err != nil {
		return nil, srv, nil, fmt.Errorf("read config.toml: %w", err)
	}
	cfg.SetRoot(dir)
	if err := cfg.ValidateBasic(); err != nil {
		return nil, srv, nil, fmt.Errorf("check config.toml: %w", err)
	}
	srv, err := srvconfig.GetConfig(v)
	if err != nil {
		return nil, srv, nil, fmt.Errorf("read app.toml: %w", err)
	}
	if err := checkHistory(srv); err != nil {
		return nil, srv, nil, fmt.Errorf("check app.toml: %w", err)
	}
	if err := srv.ValidateBasic(); err != nil {
		return nil, srv, nil, fmt.Errorf("check app.toml: %w", err)
	}
	return cfg, srv, v, nil
}

// GenesisHash is what a network file pins: the sha256 of the genesis document
// as CometBFT writes it, which is the file's bytes and what its RPC serves in
// chunks.
func GenesisHash(doc *cmttypes.GenesisDoc) (fallow.Digest, error) {
	raw, err := cmtjson.Marshal(doc)
	if err != nil {
		return fallow.Digest{}, fmt.Errorf("write genesis: %w", err)
	}
	return fallow.Sum(raw), nil
}

func setJSON(cdc codec.Codec, state map[string]rawJSON, module string, m codecMessage) error {
	raw, err := cdc.MarshalJSON(m)
	if err != nil {
		return fmt.Errorf("write the genesis of %s: %w", module, err)
	}
	state[module] = raw
	return nil
}
