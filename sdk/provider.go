package sdk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"fallow.network"
	"fallow.network/api/hub/hubv1connect"
	"fallow.network/blob"
	"fallow.network/hardware"
	"fallow.network/hub"
	"fallow.network/keys"
	"fallow.network/ledger"
	"fallow.network/p2p"
	"fallow.network/provider"
	"fallow.network/trace"
)

// ProviderSettings are what `fallow provider init` asks; the rest of
// provider.toml follows the machine that was found. Empty fields do too.
type ProviderSettings struct {
	// Owner is the account that is paid; empty is the home's own.
	Owner       fallow.Account
	Slots       int
	GasPrice    string // credits for 1,000,000 gas
	TaskFee     string // credits a task
	Region      string
	Bond        uint64 // whole FAL
	ClaimWindow time.Duration
	RedeemAge   time.Duration
	// Listen is where peers come in. Empty is loopback, and every address once
	// the home has joined a network that is elsewhere: what joining is for.
	Listen   []string
	Announce []string
	Status   string
}

// openListen is where a provider of a network elsewhere listens: free ports,
// on every address, without which no NAT can be met halfway.
var openListen = []string{"/ip4/0.0.0.0/tcp/0", "/ip4/0.0.0.0/udp/0/quic-v1"}

// nodeKeyFile is where a machine's node key lies.
func (h Home) nodeKeyFile() string { return filepath.Join(h.ProviderDir(), "node.key") }

// InitProvider writes provider.toml and the node key of a home. A home that
// has a provider.toml keeps it: provider.ErrExists.
func InitProvider(ctx context.Context, h Home, s ProviderSettings) (provider.Config, error) {
	owner := s.Owner
	if owner == "" {
		config, err := h.Load()
		if err != nil {
			return provider.Config{}, err
		}
		k, err := h.Ring(config, nil, nil).Show(config.Account)
		if err != nil {
			return provider.Config{}, fmt.Errorf("the owner's account: %w; make one with: fallow init", err)
		}
		owner = k.Account
	}
	var gas, task fallow.Pico
	for _, p := range []struct {
		to   *fallow.Pico
		from string
	}{{&gas, s.GasPrice}, {&task, s.TaskFee}} {
		if p.from == "" {
			continue
		}
		var err error
		if *p.to, err = fallow.ParsePico(p.from); err != nil {
			return provider.Config{}, err
		}
	}
	c, err := provider.Init(h.ProviderFile(), h.ProviderDir(), provider.Setup{
		Provider: owner, Region: s.Region, Machine: hardware.Read(ctx, hardware.Roots{Disk: parentOf(h.ProviderDir())}),
		Change: func(c *provider.Config) {
			c.Slots = uint32(max(s.Slots, 0))
			if s.GasPrice != "" {
				c.Prices.MegaGas = gas
			}
			if s.TaskFee != "" { // 0 is a price too
				c.Prices.Task = task
			}
			override(&c.Bond, s.Bond)
			override(&c.Offers.ClaimWindow, provider.Duration(s.ClaimWindow))
			override(&c.Redeem.Age, provider.Duration(s.RedeemAge))
			override(&c.StatusAddr, s.Status)
			c.Announce = s.Announce
			if len(s.Listen) > 0 {
				c.Listen = s.Listen
			} else if n, err := h.Network(); err == nil && Elsewhere(n.Hubs) {
				c.Listen = openListen
			}
		},
	})
	if err != nil {
		return c, err
	}
	_, err = keys.OpenNode(h.nodeKeyFile())
	return c, err
}

// override sets what is not zero.
func override[T comparable](at *T, v T) {
	var zero T
	if v != zero {
		*at = v
	}
}

// parentOf is the nearest folder of path that exists.
func parentOf(path string) string {
	for {
		if _, err := os.Stat(path); err == nil || filepath.Dir(path) == path {
			return path
		}
		path = filepath.Dir(path)
	}
}

// ServeProvider runs the provider of a home until ctx ends or it has drained:
// it registers if need be, makes offers, runs what is leased and redeems what
// is paid. A value on reload makes it read its prices and hours again.
func ServeProvider(ctx context.Context, h Home, ring *keys.Ring, reload <-chan os.Signal, log *slog.Logger) error {
	load := func() (provider.Config, error) { return provider.LoadConfig(h.ProviderFile(), h.ProviderDir()) }
	config, err := load()
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the provider in %s is %w; do it with: fallow provider init", h, ErrNoConfig)
	}
	if err != nil {
		return err
	}
	purse, err := h.waitForLedger(ctx, ring, log)
	if err != nil {
		return err
	}
	defer func() { _ = purse.Close() }()
	options := ledger.Options{Window: batchWindow}
	if own := purse.Secret.Account(); own != config.Provider {
		options.Owner = config.Provider // the key here is an operator's
	}
	books := providerLedger{client: purse.Client, sender: purse.Client.Sender(purse.Secret, options)}
	node, err := keys.OpenNode(h.nodeKeyFile())
	if err != nil {
		return err
	}
	if len(config.Hubs) == 0 {
		config.Hubs = purse.Network.Hubs
	}
	store, err := blob.Open(ctx, blob.Config{Dir: filepath.Join(h.ProviderDir(), "blobs"), Quota: int64(config.Share.Disk)})
	if err != nil {
		return err
	}
	boxes, err := newSandboxes(h, store, log)
	if err != nil {
		return err
	}
	boxes.trace = trace.From(ctx)
	listen := func(ctx context.Context, handler http.Handler) (provider.Courier, error) {
		host, err := p2p.New(ctx, p2p.Config{
			Identity: node.Private, Role: p2p.RoleProvider, Listen: config.Listen, Wildcard: LeavesLoopback(config.Listen), Relays: config.Hubs,
			Announce: config.Announce, Bulk: []string{blob.PathPrefix}, Elsewhere: Elsewhere(config.Hubs), Log: log,
		})
		if err != nil {
			return nil, err
		}
		err = host.Serve(handler)
		if err == nil {
			err = books.register(ctx, config, node.Key(), host.Addrs(), ledger.Tokens(config.Bond*1_000_000))
		}
		if err != nil {
			return nil, errors.Join(err, host.Close())
		}
		return courier{host}, nil
	}
	roots := hardware.Roots{Disk: h.ProviderDir()}
	daemon, err := provider.New(ctx, config, provider.Deps{
		ChainID: purse.Network.ChainID, NodeKey: node.Private,
		Books: books, Chain: books, Listen: listen, PeerKey: p2p.PeerKey, Blobs: store, Runner: boxes,
		Machine: hardware.Read(ctx, roots), Watcher: hardware.NewSampler(roots, os.Getpid()), Log: log, Trace: trace.From(ctx),
	})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-ctx.Done():
				return
			case <-reload:
				c, err := load()
				var stale []string
				if err == nil {
					stale, err = daemon.Reload(c)
				}
				log.InfoContext(ctx, "the config was read again", slog.Any("error", err), slog.Any("needs_restart", stale))
			}
		}
	}()
	err = daemon.Run(ctx)
	stop()
	<-done
	return err
}

// waitForLedger opens the purse as soon as the ledger answers: a daemon that
// starts while it is away waits for it.
func (h Home) waitForLedger(ctx context.Context, ring *keys.Ring, log *slog.Logger) (*Purse, error) {
	said := false
	for {
		p, err := h.OpenPurse(ctx, ring, log)
		if err == nil || !ledger.Away(err) {
			return p, err
		}
		if !said {
			log.WarnContext(ctx, "the ledger does not answer; waiting for it", slog.Any("error", err))
			said = true
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// courier is a host as the provider wants it.
type courier struct{ *p2p.Host }

func (c courier) Reach(ctx context.Context) provider.Reach { return provider.Reach(c.Host.Reach(ctx)) }

func (c courier) Traffic() provider.Traffic { return provider.Traffic(c.Host.Traffic()) }

func (c courier) Hub(ctx context.Context, addr string) (hubv1connect.HubServiceClient, error) {
	return hub.Dial(ctx, c.Host, addr)
}
