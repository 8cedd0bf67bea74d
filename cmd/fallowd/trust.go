package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fallow.network/chain/app"
)

// trustDepth is how many blocks behind the tip a trusted block is chosen:
// behind the snapshots that nodes keep by default.
const trustDepth = 2000

// trustFacts is a block that nodes agree on.
type trustFacts struct {
	Trust   string    `json:"trust"`
	ChainID string    `json:"chain_id"`
	Height  int64     `json:"height,string"`
	Hash    string    `json:"hash"`
	Time    time.Time `json:"time"`
	Nodes   []string  `json:"nodes"`
}

func newTrustCommand() *cobra.Command {
	var (
		nodes  []string
		height int64
		asJSON bool
	)
	c := &cobra.Command{
		Use: "trust", Short: "Print a block that nodes agree on, as --trust wants it", Args: cobra.NoArgs,
		Long: `Asks nodes for one block and prints it as HEIGHT:HASH, for --trust of audit,
init and start. It fails when they don't agree. That is their word and no
proof: hold it against what somebody tells you whom you believe.`,
		Example: `  fallowd trust --rpc A:26657 --rpc B:26657
  fallowd start --sync-from A:26657,B:26657 --trust $(fallowd trust -q --rpc A:26657 --rpc B:26657)`,
		RunE: func(c *cobra.Command, _ []string) error {
			if len(nodes) == 0 {
				dir, _ := c.Flags().GetString("home")
				cfg, _, _, err := app.ReadHome(dir, nil)
				if err != nil {
					return &failure{exitUsage, fmt.Errorf("%w; or name nodes with --rpc HOST:PORT", err)}
				}
				nodes = []string{cfg.RPC.ListenAddress}
			}
			f, err := trusted(c.Context(), nodes, height)
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(f)
			}
			if quiet, _ := c.Flags().GetBool("quiet"); !quiet {
				fmt.Fprintf(c.ErrOrStderr(), "block %d of %s, %s, as told by %s\n", f.Height, f.ChainID, f.Time.Format(time.RFC3339), strings.Join(f.Nodes, " and "))
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), f.Trust)
			return err
		},
	}
	c.Flags().StringSliceVar(&nodes, "rpc", nil, "RPC of a node to ask; may be repeated; this home's when empty")
	c.Flags().Int64Var(&height, "height", 0, "block to ask for; one behind the usual snapshots when 0")
	c.Flags().BoolP("quiet", "q", false, "print nothing but HEIGHT:HASH")
	c.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return c
}

// trusted asks every node for one block, chosen where height is 0.
func trusted(ctx context.Context, nodes []string, height int64) (trustFacts, error) {
	f := trustFacts{Height: height}
	for _, n := range nodes {
		f.Nodes = append(f.Nodes, strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(n, "tcp://"), "http://"), "/"))
	}
	if height == 0 {
		first, last := int64(1), int64(1)<<62
		for _, n := range f.Nodes {
			s, err := status(ctx, n)
			if err != nil {
				return f, away(n, err)
			}
			first, last = max(first, s.Earliest), min(last, s.Height)
		}
		if f.Height = max(first, last-trustDepth); f.Height > last {
			return f, &failure{exitAway, fmt.Errorf("%s have no block in common yet: one ends at %d, another begins at %d", strings.Join(f.Nodes, " and "), last, first)}
		}
	}
	for i, n := range f.Nodes {
		var answer struct {
			Signed struct {
				Header struct {
					ChainID string    `json:"chain_id"`
					Time    time.Time `json:"time"`
				} `json:"header"`
				Commit struct {
					ID struct {
						Hash string `json:"hash"`
					} `json:"block_id"`
				} `json:"commit"`
			} `json:"signed_header"`
		}
		if err := ask(ctx, n, fmt.Sprintf("commit?height=%d", f.Height), &answer); err != nil {
			return f, away(n, err)
		}
		hash, chain := answer.Signed.Commit.ID.Hash, answer.Signed.Header.ChainID
		switch {
		case i == 0:
			f.Hash, f.ChainID, f.Time = hash, chain, answer.Signed.Header.Time
		case chain != f.ChainID:
			return f, &failure{exitBreach, fmt.Errorf("%s runs %q, and %s %q: ask nodes of one network", f.Nodes[0], f.ChainID, n, chain)}
		case hash != f.Hash:
			return f, &failure{exitBreach, fmt.Errorf("block %d is %s at %s and %s at %s: one of them is on a fork or lies; believe neither", f.Height, f.Hash, f.Nodes[0], hash, n)}
		}
	}
	f.Trust = fmt.Sprintf("%d:%s", f.Height, f.Hash)
	_, _, err := app.ParseTrust(f.Trust)
	return f, err
}

func away(rpc string, err error) error {
	return &failure{exitAway, fmt.Errorf("no answer from a node at %s (is fallowd start running?): %w", rpc, err)}
}
