package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	sdkslog "cosmossdk.io/log/v2/slog"
	"github.com/cosmos/cosmos-sdk/server"
	sdkversion "github.com/cosmos/cosmos-sdk/version"
	"github.com/gofrs/flock"
	"github.com/spf13/cobra"

	"fallow.network"
	"fallow.network/chain/app"
	"fallow.network/footprint"
	"fallow.network/trace"
)

// readyFacts is the line that start prints once the node answers.
type readyFacts struct {
	Ready       bool          `json:"ready"`
	Height      int64         `json:"height"`
	ChainID     string        `json:"chain_id"`
	GenesisHash fallow.Digest `json:"genesis_hash"`
	Protocol    string        `json:"protocol"`
	RPC         string        `json:"rpc"`
	GRPC        string        `json:"grpc"`
	API         string        `json:"api"`
	P2P         string        `json:"p2p"`
	Metrics     string        `json:"metrics"`
	NodeID      string        `json:"node_id"`
	PID         int           `json:"pid"`
}

func newStartCommand() *cobra.Command {
	var (
		asJSON   bool
		endpoint string
		from     app.StateSync
	)
	c := &cobra.Command{
		Use: "start", Short: "Run the node until it is told to stop", Args: cobra.NoArgs,
		Long: `Runs the node of --home in this process: consensus, RPC, gRPC and REST, on
loopback unless config.toml and app.toml say otherwise. SIGTERM or ctrl-C ends
it cleanly; after a crash it goes on from the last block.

A home without state begins from a snapshot where --sync-from and --trust are
given, here or to init: its peers' latest, which has to come to what two nodes
and the block that you believe say. fallowd trust prints such a block. A home
that has state leaves both aside.

Queries at a block whose state was pruned fail and say so; --pruning,
--min-retain-blocks and --snapshot-interval change for this start what app.toml
keeps of the past.`,
		Example: `  fallowd start --home node-1
  fallowd start --home node-5 --sync-from A:26657,B:26657 --trust 120000:9F86D081…
  fallowd start --pruning nothing --snapshot-interval 500`,
		RunE: func(c *cobra.Command, _ []string) error {
			dir, _ := c.Flags().GetString("home")
			return start(c.Context(), dir, c, from, asJSON, endpoint)
		},
	}
	f := c.Flags()
	f.BoolVar(&asJSON, "ready-json", false, "print one line of JSON on standard output when the node answers")
	f.StringVar(&endpoint, "trace-endpoint", "", "collector of traces (OTLP over HTTP), as http://127.0.0.1:4318; default $"+trace.Variable)
	f.String("rpc.laddr", "", "listen address of CometBFT's RPC, as tcp://127.0.0.1:26657")
	f.String("p2p.laddr", "", "listen address for other nodes, as tcp://127.0.0.1:26656")
	f.String("p2p.persistent_peers", "", "nodes to dial, as id@host:port,…")
	f.String("grpc.address", "", "listen address of gRPC, as 127.0.0.1:9090")
	f.String("api.address", "", "listen address of REST, as tcp://127.0.0.1:1317")
	f.String("instrumentation.prometheus_listen_addr", "", "listen address of metrics, as 127.0.0.1:26660")
	f.String("minimum-gas-prices", "", "least price of gas that this node takes, as 0.001ufal")
	f.String("pruning", "", "states to keep: default, nothing, everything or custom")
	f.Uint64("pruning-keep-recent", 0, "states that custom pruning keeps")
	f.Uint64("pruning-interval", 0, "blocks from one custom pruning to the next")
	f.Uint64("min-retain-blocks", 0, "blocks to keep at least; 0 keeps all, which an audit needs")
	f.Uint64("snapshot-interval", 0, "blocks from one snapshot for state sync to the next; 0 takes none")
	f.Uint32("snapshot-keep-recent", 0, "snapshots to keep; 0 keeps all")
	f.StringSliceVar(&from.Servers, "sync-from", nil, "`RPC` addresses of two nodes or more, to begin from a snapshot; needs --trust")
	f.StringVar(&from.Trust, "trust", "", "block that you believe, as HEIGHT:HASH")
	f.String("log_level", "", "debug, info, warn or error")
	f.Uint64("halt-height", 0, "stop after this block")
	f.IntSlice("unsafe-skip-upgrades", nil, "heights whose upgrade is left out")
	return c
}

func start(ctx context.Context, dir string, c *cobra.Command, from app.StateSync, asJSON bool, endpoint string) error {
	cfg, srv, settings, err := app.ReadHome(dir, c.Flags())
	if err != nil {
		return &failure{exitUsage, err}
	}
	if err := from.Set(cfg); err != nil {
		return &failure{exitUsage, err}
	}
	release, err := hold(dir)
	if err != nil {
		return err
	}
	defer release()
	garbage := newCollector()
	logger, err := newLogger(ctx, c.ErrOrStderr(), cfg.LogLevel)
	if err != nil {
		return &failure{exitUsage, err}
	}
	sdkversion.Name, sdkversion.AppName, sdkversion.Version, sdkversion.BuildTags = "fallow", app.Name, version, fallow.Protocol
	tracer, err := trace.Open(ctx, trace.Config{Endpoint: trace.Endpoint(endpoint, ""), Party: "node", Version: version, Log: logger})
	if err != nil {
		return &failure{exitUsage, err}
	}
	defer func() {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), trace.LastWait)
		defer cancel()
		_ = tracer.Close(last) // a collector that is away keeps nobody
	}()
	node, err := app.Start(trace.Carry(ctx, tracer), sdkslog.NewCustomLogger(logger), cfg, srv, settings, server.DefaultBaseappOptions(settings)...)
	if err != nil {
		return err
	}
	height, err := node.Ready(ctx)
	switch {
	case ctx.Err() != nil: // told to stop before it was ready
		return node.Stop()
	case err != nil:
		return errors.Join(err, node.Stop())
	}
	footprint.Shrink()
	doc, err := node.RPC.Genesis(ctx)
	if err != nil {
		return errors.Join(fmt.Errorf("read genesis: %w", err), node.Stop())
	}
	hash, err := app.GenesisHash(doc.Genesis)
	if err != nil {
		return errors.Join(err, node.Stop())
	}
	facts := readyFacts{
		Ready: true, Height: height, ChainID: doc.Genesis.ChainID, GenesisHash: hash, Protocol: fallow.Protocol,
		RPC: node.RPCAddress, GRPC: node.GRPCAddress, API: node.APIAddress, P2P: node.P2PAddress, Metrics: node.MetricsAddress, NodeID: node.ID, PID: os.Getpid(),
	}
	if asJSON {
		err = json.NewEncoder(c.OutOrStdout()).Encode(facts)
	} else {
		_, err = fmt.Fprintf(c.OutOrStdout(), "%s answers at height %d: rpc %s, grpc %s, rest %s\n", facts.ChainID, height, facts.RPC, facts.GRPC, facts.API)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("say that the node answers: %w", err), node.Stop())
	}
	collecting, enough := context.WithCancel(ctx)
	var work sync.WaitGroup
	defer work.Wait()
	defer enough()
	work.Go(func() { garbage.run(collecting) })
	select {
	case <-ctx.Done():
	case <-node.Failed():
	}
	return node.Stop()
}

// hold takes the home for this process alone.
func hold(dir string) (release func(), err error) {
	lock := flock.New(filepath.Join(dir, "fallowd.lock"))
	ok, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock home %s: %w", dir, err)
	}
	if !ok {
		return nil, &failure{exitBusy, fmt.Errorf("another fallowd runs on home %s; stop it, or choose another --home", dir)}
	}
	return func() { _ = lock.Unlock() }, nil
}

// newLogger writes for people until run ends: what CometBFT's servers say while
// they are being closed is no error.
func newLogger(run context.Context, w io.Writer, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("log level %.40q: want debug, info, warn or error", level)
	}
	text := slog.NewTextHandler(w, &slog.HandlerOptions{Level: l})
	return slog.New(quietly{Handler: text, ended: run.Done()}), nil
}

// quietly drops records once ended is closed.
type quietly struct {
	slog.Handler
	ended <-chan struct{}
}

func (q quietly) Handle(ctx context.Context, r slog.Record) error {
	select {
	case <-q.ended:
		return nil
	default:
		return q.Handler.Handle(ctx, r)
	}
}

func (q quietly) WithAttrs(attrs []slog.Attr) slog.Handler {
	return quietly{q.Handler.WithAttrs(attrs), q.ended}
}

func (q quietly) WithGroup(name string) slog.Handler {
	return quietly{q.Handler.WithGroup(name), q.ended}
}
