package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fallow.network"
	"fallow.network/chain/app"
)

type statusFacts struct {
	ChainID     string        `json:"chain_id"`
	GenesisHash fallow.Digest `json:"genesis_hash"`
	Height      int64         `json:"height,string"`
	Earliest    int64         `json:"earliest_height,string"`
	BlockTime   time.Time     `json:"block_time"`
	BlockHash   string        `json:"block_hash"`
	CatchingUp  bool          `json:"catching_up"`
	Peers       int           `json:"peers,string"`
	Validator   bool          `json:"validator"`
	Moniker     string        `json:"moniker"`
	NodeID      string        `json:"node_id"`
	RPC         string        `json:"rpc"`
}

func newStatusCommand() *cobra.Command {
	var (
		asJSON bool
		rpc    string
	)
	c := &cobra.Command{
		Use: "status", Short: "Ask the node of this home where it stands", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if rpc == "" {
				dir, _ := c.Flags().GetString("home")
				cfg, _, _, err := app.ReadHome(dir, nil)
				if err != nil {
					return &failure{exitUsage, err}
				}
				rpc = strings.TrimPrefix(cfg.RPC.ListenAddress, "tcp://")
				if strings.HasSuffix(rpc, ":0") {
					return &failure{exitUsage, fmt.Errorf("this home takes a free port at each start; say where it listens with --rpc HOST:PORT")}
				}
			}
			f, err := status(c.Context(), rpc)
			if err != nil {
				return away(rpc, err)
			}
			if asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(f)
			}
			w := c.OutOrStdout()
			fmt.Fprintf(w, "network   %s (genesis %s)\nheight    %d at %s", f.ChainID, f.GenesisHash, f.Height, f.BlockTime.Format(time.RFC3339))
			if f.Earliest > 1 {
				fmt.Fprintf(w, ", from %d on", f.Earliest)
			}
			if f.CatchingUp {
				fmt.Fprint(w, ", catching up: it answers from the past, so send nothing through it yet")
			}
			role := "follows"
			if f.Validator {
				role = "validates"
			}
			fmt.Fprintf(w, "\nnode      %s, %s, %d peers\nrpc       %s\n", f.Moniker, role, f.Peers, f.RPC)
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	c.Flags().StringVar(&rpc, "rpc", "", "address of the node's RPC, as 127.0.0.1:26657")
	return c
}

// status asks over plain HTTP: no client of the chain needs to be built.
func status(ctx context.Context, rpc string) (statusFacts, error) {
	var s struct {
		NodeInfo struct {
			ID      string `json:"id"`
			Network string `json:"network"`
			Moniker string `json:"moniker"`
		} `json:"node_info"`
		SyncInfo struct {
			Hash       string    `json:"latest_block_hash"`
			Height     int64     `json:"latest_block_height,string"`
			Time       time.Time `json:"latest_block_time"`
			Earliest   int64     `json:"earliest_block_height,string"`
			CatchingUp bool      `json:"catching_up"`
		} `json:"sync_info"`
		ValidatorInfo struct {
			Power int64 `json:"voting_power,string"`
		} `json:"validator_info"`
	}
	if err := ask(ctx, rpc, "status", &s); err != nil {
		return statusFacts{}, err
	}
	var net struct {
		Peers int `json:"n_peers,string"`
	}
	if err := ask(ctx, rpc, "net_info", &net); err != nil {
		return statusFacts{}, err
	}
	var genesis []byte
	for i, total := 0, 1; i < total; i++ {
		var chunk struct {
			Total int    `json:"total,string"`
			Data  string `json:"data"`
		}
		if err := ask(ctx, rpc, fmt.Sprintf("genesis_chunked?chunk=%d", i), &chunk); err != nil {
			return statusFacts{}, err
		}
		part, err := base64.StdEncoding.DecodeString(chunk.Data)
		if err != nil {
			return statusFacts{}, fmt.Errorf("read genesis: %w", err)
		}
		genesis, total = append(genesis, part...), min(chunk.Total, 64)
	}
	return statusFacts{
		ChainID: s.NodeInfo.Network, GenesisHash: fallow.Sum(genesis), Height: s.SyncInfo.Height, Earliest: s.SyncInfo.Earliest, BlockTime: s.SyncInfo.Time,
		BlockHash: s.SyncInfo.Hash, CatchingUp: s.SyncInfo.CatchingUp, Peers: net.Peers, Validator: s.ValidatorInfo.Power > 0,
		Moniker: s.NodeInfo.Moniker, NodeID: s.NodeInfo.ID, RPC: rpc,
	}, nil
}

func ask(ctx context.Context, rpc, what string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+rpc+"/"+what, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // it was read
	var answer struct {
		Result json.RawMessage `json:"result"`
		Error  *struct {
			Message string `json:"message"`
			Data    string `json:"data"`
		} `json:"error"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 64<<20)).Decode(&answer); err != nil {
		return fmt.Errorf("read the answer to %s: %w", what, err)
	}
	if answer.Error != nil {
		return fmt.Errorf("%s: %s %s", what, answer.Error.Message, answer.Error.Data)
	}
	return json.Unmarshal(answer.Result, into)
}
