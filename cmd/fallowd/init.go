package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"cosmossdk.io/log/v2"
	"github.com/cometbft/cometbft/p2p"
	dbm "github.com/cosmos/cosmos-db"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"fallow.network"
	"fallow.network/chain/app"
)

type initFacts struct {
	Home        string        `json:"home"`
	ChainID     string        `json:"chain_id"`
	GenesisHash fallow.Digest `json:"genesis_hash"`
	NodeID      string        `json:"node_id"`
	RPC         string        `json:"rpc"`
	GRPC        string        `json:"grpc"`
	API         string        `json:"api"`
	P2P         string        `json:"p2p"`
}

func newInitCommand() *cobra.Command {
	var (
		h        = app.DefaultHome()
		g        = app.DefaultGenesis("fallow-local-1", time.Time{})
		accounts []string
		genesis  string
		asJSON   bool
	)
	c := &cobra.Command{
		Use: "init", Short: "Write a node's home: settings, keys and the genesis", Args: cobra.NoArgs,
		Long: `Writes a home. Without --genesis it founds a network: this node is its
validator, and the operator's account lies as "validator" in the home's
keyring (fallowd keys --keyring-backend test). With --genesis FILE it joins
the network that the file describes, and carries out every block since its
first; with --sync-from and --trust it begins from a snapshot that its peers
have instead, and keeps no earlier block (fallowd trust says which block to
believe). What it keeps of the past, --pruning and --snapshot-interval say.`,
		Example: `  fallowd init --chain-id fallow-local-1 --block-time 250ms \
    --account fal1…=1000000000ufal,500000000ucredit
  fallowd init --genesis genesis.json --peers ID@HOST:26656 \
    --sync-from HOST:26657,OTHER:26657 --trust 120000:9F86D081…`,
		RunE: func(c *cobra.Command, _ []string) error {
			h.Dir, _ = c.Flags().GetString("home")
			for _, s := range accounts {
				app.SetPrefixes()
				f, err := app.ParseFunding(s)
				if err != nil {
					return &failure{exitUsage, err}
				}
				g.Accounts = append(g.Accounts, f)
			}
			if err := h.Validate(); err != nil {
				return &failure{exitUsage, err}
			}
			var (
				raw []byte
				err error
			)
			if genesis != "" {
				if raw, err = os.ReadFile(genesis); err != nil {
					return fmt.Errorf("read genesis: %w", err)
				}
				err = h.Join(raw)
			} else {
				var ledger *app.App
				if ledger, err = app.New(log.NewNopLogger(), dbm.NewMemDB(), app.Settings{}); err != nil {
					return err
				}
				g.Time, g.BlockTime = time.Now(), h.BlockTime
				raw, err = h.Found(c.Context(), ledger, g)
			}
			if err != nil {
				return err
			}
			key, err := p2p.LoadNodeKey(filepath.Join(h.Dir, "config", "node_key.json"))
			if err != nil {
				return fmt.Errorf("read the node key: %w", err)
			}
			f := initFacts{
				Home: h.Dir, ChainID: g.ChainID, GenesisHash: fallow.Sum(raw), NodeID: string(key.ID()),
				RPC: h.RPC, GRPC: h.GRPC, API: h.API, P2P: h.P2P,
			}
			if genesis != "" {
				var doc struct {
					ChainID string `json:"chain_id"`
				}
				if err := json.Unmarshal(raw, &doc); err != nil {
					return fmt.Errorf("read genesis: %w", err)
				}
				f.ChainID = doc.ChainID
			}
			if asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(f)
			}
			fmt.Fprintf(c.OutOrStdout(), "wrote %s for %s (genesis %s)\nrun it with: fallowd start --home %s\n", f.Home, f.ChainID, f.GenesisHash, f.Home)
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&h.Moniker, "moniker", h.Moniker, "name of this node")
	f.StringVar(&h.RPC, "rpc", h.RPC, "listen address of CometBFT's RPC; port 0 takes a free one at each start")
	f.StringVar(&h.P2P, "p2p", h.P2P, "listen address for other nodes")
	f.StringVar(&h.GRPC, "grpc", h.GRPC, "listen address of gRPC")
	f.StringVar(&h.API, "api", h.API, "listen address of REST")
	f.StringVar(&h.Metrics, "metrics", "", "listen address of metrics (default: loopback, three ports above --rpc)")
	f.StringVar(&h.Peers, "peers", "", "nodes to dial, as id@host:port,…")
	f.StringVar(&genesis, "genesis", "", "join the network of this genesis file")
	f.StringSliceVar(&h.StateSync.Servers, "sync-from", nil, "`RPC` addresses of two nodes or more, to begin from a snapshot; needs --trust")
	f.StringVar(&h.StateSync.Trust, "trust", "", "block that you believe, as HEIGHT:HASH (see fallowd trust)")
	genesisFlags(f, &g, &accounts)
	nodeFlags(f, &h)
	f.BoolVar(&asJSON, "json", false, "print what was written as JSON")
	return c
}

// nodeFlags are what every node of a network may be told alike.
func nodeFlags(f *pflag.FlagSet, h *app.Home) {
	f.DurationVar(&h.BlockTime, "block-time", h.BlockTime, "wait from one block to the next, 250ms to 1m")
	f.StringVar(&h.GasPrice, "min-gas-price", h.GasPrice, "least price of gas that this node takes")
	f.BoolVar(&h.AnyOrigin, "any-origin", false, "let pages of any web site read RPC and REST")
	f.StringVar(&h.History.Pruning, "pruning", h.History.Pruning, "states to keep: default (362880), nothing (all), everything (2) or custom")
	f.Uint64Var(&h.History.KeepRecent, "pruning-keep-recent", h.History.KeepRecent, "states that custom pruning keeps")
	f.Uint64Var(&h.History.Interval, "pruning-interval", h.History.Interval, "blocks from one custom pruning to the next")
	f.Uint64Var(&h.History.Blocks, "min-retain-blocks", h.History.Blocks, "blocks to keep at least; 0 keeps all, which an audit needs")
	f.Uint64Var(&h.History.SnapshotInterval, "snapshot-interval", h.History.SnapshotInterval, "blocks from one snapshot for state sync to the next; 0 takes none")
	f.Uint32Var(&h.History.Snapshots, "snapshot-keep-recent", h.History.Snapshots, "snapshots to keep; 0 keeps all")
}

// genesisFlags are what a new network begins with.
func genesisFlags(f *pflag.FlagSet, g *app.Genesis, accounts *[]string) {
	f.StringVar(&g.ChainID, "chain-id", g.ChainID, "name of the network")
	f.StringArrayVar(accounts, "account", nil, "ADDRESS=COINS at genesis; may be repeated")
	f.Uint64Var(&g.Stake, "stake", g.Stake, "each validator's stake in ufal")
	f.DurationVar(&g.VotingPeriod, "voting-period", g.VotingPeriod, "how long a governance vote lasts")
	for _, w := range []struct {
		name, text string
		ms         *uint64
	}{
		{"check-window", "from a redemption to its payout", &g.Lease.CheckWindowMS},
		{"grace", "how long a service that is dry keeps its disk", &g.Lease.GraceMS},
		{"start-window", "in which an opened service must start", &g.Lease.StartWindowMS},
		{"max-claim-window", "longest claim window that terms may name", &g.Lease.MaxClaimWindowMS},
		{"max-horizon", "how far ahead a service may be signed to accrue", &g.Lease.MaxHorizonMS},
		{"unbonding", "from unbond to payout; longer than the check window", &g.Provider.UnbondingMS},
	} {
		f.Var((*milliseconds)(w.ms), w.name, w.text)
	}
	f.Uint64Var(&g.Lease.MaxOfferBlocks, "max-offer-blocks", g.Lease.MaxOfferBlocks, "blocks that an offer may look ahead")
	f.Uint64Var(&g.Lease.DepositSeconds, "deposit-seconds", g.Lease.DepositSeconds, "seconds of its price that a service locks")
	f.Uint64Var((*uint64)(&g.Provider.MinBond), "min-bond", uint64(g.Provider.MinBond), "least bond of a provider, in ufal")
	f.Uint64Var(&g.Provider.BondPrice, "bond-price", g.Provider.BondPrice, "pico-credits that one ufal of bond stands for")
}

// milliseconds is a flag that takes a duration, as 90s or 24h.
type milliseconds uint64

// String is the duration.
func (m *milliseconds) String() string { return (time.Duration(*m) * time.Millisecond).String() }

// Type names the value in help.
func (m *milliseconds) Type() string { return "duration" }

// Set reads the duration.
func (m *milliseconds) Set(s string) error {
	d, err := time.ParseDuration(s)
	if err != nil {
		return err
	}
	if d < 0 || d%time.Millisecond != 0 {
		return fmt.Errorf("%s: want whole milliseconds", s)
	}
	*m = milliseconds(d / time.Millisecond)
	return nil
}
