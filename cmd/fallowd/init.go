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
the network that the file describes.`,
		Example: `  fallowd init --chain-id fallow-local-1 --block-time 250ms \
    --account fal1…=1000000000ufal,500000000ucredit`,
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
	f.StringVar(&g.ChainID, "chain-id", g.ChainID, "name of the network")
	f.StringVar(&h.Moniker, "moniker", h.Moniker, "name of this node")
	f.DurationVar(&h.BlockTime, "block-time", h.BlockTime, "wait from one block to the next, 250ms to 1m")
	f.StringVar(&h.RPC, "rpc", h.RPC, "listen address of CometBFT's RPC; port 0 takes a free one at each start")
	f.StringVar(&h.P2P, "p2p", h.P2P, "listen address for other nodes")
	f.StringVar(&h.GRPC, "grpc", h.GRPC, "listen address of gRPC")
	f.StringVar(&h.API, "api", h.API, "listen address of REST")
	f.StringVar(&h.Peers, "peers", "", "nodes to dial, as id@host:port,…")
	f.StringVar(&h.GasPrice, "min-gas-price", h.GasPrice, "least price of gas that this node takes")
	f.BoolVar(&h.AnyOrigin, "any-origin", false, "let pages of any web site read RPC and REST")
	f.StringVar(&genesis, "genesis", "", "join the network of this genesis file")
	f.StringArrayVar(&accounts, "account", nil, "ADDRESS=COINS at genesis; may be repeated")
	f.Uint64Var(&g.Stake, "stake", g.Stake, "the validator's stake in ufal")
	f.DurationVar(&g.VotingPeriod, "voting-period", g.VotingPeriod, "how long a governance vote lasts")
	f.BoolVar(&asJSON, "json", false, "print what was written as JSON")
	return c
}
