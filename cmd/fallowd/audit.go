package main

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"fallow.network"
	"fallow.network/chain/app"
	"fallow.network/chain/audit"
)

func newAuditCommand() *cobra.Command {
	var (
		cfg            audit.Config
		trust, genesis string
		asJSON, quiet  bool
	)
	c := &cobra.Command{
		Use: "audit", Short: "Prove the books, believing no node", Args: cobra.NoArgs,
		Long: `Links every block to one that a light client verified, replays the market's
messages by the rules, and compares what they leave with the state that the
validators signed: every entry of both modules, every credit, the bonds. What
only the node says is listed "as told by NODE".

It ends with 0 when the books are sound, with 8 and the first breach when
something is false, and with 6 when a node is away.`,
		Example: `  fallowd audit --rpc 127.0.0.1:26657 --genesis-hash sha256:…
  fallowd audit --rpc NODE --witness OTHER --trust 120000:9F86D081…`,
		RunE: func(c *cobra.Command, _ []string) error {
			if cfg.Node == "" {
				dir, _ := c.Flags().GetString("home")
				home, _, _, err := app.ReadHome(dir, nil)
				if err != nil {
					return &failure{exitUsage, err}
				}
				cfg.Node = home.RPC.ListenAddress
			}
			if err := parseTrust(trust, genesis, &cfg); err != nil {
				return &failure{exitUsage, err}
			}
			if !quiet && !asJSON {
				cfg.Progress = func(done, of int64) { fmt.Fprintf(c.ErrOrStderr(), "replayed %d of %d blocks\n", done, of) }
			}
			report, err := audit.Run(c.Context(), cfg)
			if report.ChainID != "" || report.Breach != nil {
				var written error
				if asJSON {
					written = json.NewEncoder(c.OutOrStdout()).Encode(report)
				} else {
					written = report.Write(c.OutOrStdout())
				}
				if written != nil {
					return written
				}
			}
			if _, ok := errors.AsType[*audit.Breach](err); ok {
				return &failure{exitBreach, err}
			}
			if err != nil {
				return &failure{exitAway, err}
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&cfg.Node, "rpc", "", "RPC of the node to audit; this home's when empty")
	f.StringSliceVar(&cfg.Witnesses, "witness", nil, "RPC of another node, to notice a fork; may be repeated")
	f.StringVar(&trust, "trust", "", "block to believe, as HEIGHT:HASH; the genesis' validators when empty")
	f.StringVar(&genesis, "genesis-hash", "", "the network's genesis, as sha256:…")
	f.BoolVar(&asJSON, "json", false, "print the report as JSON")
	f.BoolVarP(&quiet, "quiet", "q", false, "print no progress")
	return c
}

func parseTrust(trust, genesis string, cfg *audit.Config) error {
	if genesis != "" {
		d, err := fallow.ParseDigest(genesis)
		if err != nil {
			return fmt.Errorf("genesis hash: %w", err)
		}
		cfg.GenesisHash = d
	}
	if trust == "" {
		return nil
	}
	var err error
	cfg.TrustHeight, cfg.TrustHash, err = app.ParseTrust(trust)
	return err
}
