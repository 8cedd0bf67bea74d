package sdk

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/pelletier/go-toml/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"fallow.network"
	hubv1 "fallow.network/api/hub"
	providerv1 "fallow.network/api/provider"
	"fallow.network/hub"
	"fallow.network/keys"
	"fallow.network/ledger"
	"fallow.network/market"
	"fallow.network/p2p"
	"fallow.network/trace"
)

// HubSettings are a hub's hub.toml.
type HubSettings struct {
	// Listen are multiaddrs; they leave loopback only with Open.
	Listen []string `toml:"listen"`
	Open   bool     `toml:"open"`
	// Announce are further multiaddrs at which others reach it.
	Announce []string `toml:"announce"`
	// Status is the loopback address of its metrics; empty for none.
	Status string `toml:"status"`
	// Limits bound what it takes on.
	Limits hub.Limits `toml:"limits"`
}

// DefaultHub is the config of a hub on loopback.
func DefaultHub() HubSettings {
	return HubSettings{
		Listen: []string{"/ip4/127.0.0.1/tcp/4100", "/ip4/127.0.0.1/udp/4100/quic-v1"},
		Status: "127.0.0.1:8461", Announce: []string{}, Limits: hub.Default(),
	}
}

// Validate says which field is wrong, and what it may be.
func (s HubSettings) Validate() error {
	if len(s.Listen) == 0 || len(s.Listen) > 16 || len(s.Announce) > 16 {
		return errors.New("listen: want 1 to 16 multiaddrs, and announce at most 16")
	}
	if !s.Open && LeavesLoopback(s.Listen) {
		return fmt.Errorf("listen = %q leaves this machine: say open = true (--open), or listen on /ip4/127.0.0.1", s.Listen)
	}
	if s.Status != "" {
		host, _, err := net.SplitHostPort(s.Status)
		if ip := net.ParseIP(host); err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return fmt.Errorf("status = %.60q: want a loopback address and port, as 127.0.0.1:8461", s.Status)
		}
	}
	return s.Limits.Validate()
}

func (h Home) hubKeyFile() string { return filepath.Join(h.HubDir(), "node.key") }

// InitHub writes hub.toml and the hub's key, or finds them, and returns the
// address that network files list: the first that it listens on or announces.
func InitHub(h Home, s HubSettings) (string, error) {
	if b, err := os.ReadFile(h.HubFile()); err == nil {
		if s, err = parseHub(b); err != nil {
			return "", fmt.Errorf("%s: %w", h.HubFile(), err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	} else {
		if s.Limits == (hub.Limits{}) {
			s.Limits = hub.Default()
		}
		if err := s.Validate(); err != nil {
			return "", err
		}
		if err := os.MkdirAll(h.HubDir(), 0o700); err != nil {
			return "", err
		}
		text, err := toml.Marshal(s)
		if err != nil {
			return "", err
		}
		if err := writeFile(h.HubFile(), text, 0o600); err != nil {
			return "", err
		}
	}
	node, err := keys.OpenNode(h.hubKeyFile())
	if err != nil {
		return "", err
	}
	at := s.Listen[0]
	if len(s.Announce) > 0 {
		at = s.Announce[0]
	}
	return at + "/p2p/" + p2p.PeerID(node.Key()), nil
}

func parseHub(b []byte) (HubSettings, error) {
	s := DefaultHub()
	if err := ParseTOML(b, &s); err != nil {
		return s, err
	}
	return s, s.Validate()
}

// LeavesLoopback says whether an address listens beyond this machine.
func LeavesLoopback(listen []string) bool {
	return slices.ContainsFunc(listen, func(a string) bool {
		return !strings.HasPrefix(a, "/ip4/127.") && !strings.HasPrefix(a, "/ip6/::1/")
	})
}

// ServeHub runs the hub of a home until ctx ends.
func ServeHub(ctx context.Context, h Home, log *slog.Logger) error {
	b, err := os.ReadFile(h.HubFile())
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the hub in %s is %w; do it with: fallow hub init", h, ErrNoConfig)
	}
	if err != nil {
		return fmt.Errorf("hub's config: %w", err)
	}
	s, err := parseHub(b)
	if err != nil {
		return fmt.Errorf("%s: %w", h.HubFile(), err)
	}
	release, err := hold(filepath.Join(h.HubDir(), "hub.lock"))
	if err != nil {
		return err
	}
	defer release()
	n, err := h.Network()
	if err != nil {
		return err
	}
	node, err := keys.OpenNode(h.hubKeyFile())
	if err != nil {
		return err
	}
	funds := &hubFunds{network: n, log: log}
	defer funds.close()
	var host *p2p.Host
	server, err := hub.New(s.Limits, hub.Deps{
		ChainID: n.ChainID, Escrow: funds, ClientKeys: funds, Nodes: funds, Log: log, Trace: trace.From(ctx),
		Addrs: func() []string { return host.Addrs() },
	})
	if err != nil {
		return err
	}
	host, err = p2p.New(ctx, p2p.Config{
		Identity: node.Private, Role: p2p.RoleHub, Listen: s.Listen, Wildcard: s.Open, Announce: s.Announce, Public: true, Log: log,
		// A hub relays to who is on its board, and for nobody else.
		RelayAllow: func(_, to fallow.Key) bool { return server.OnBoard(to) },
		MaxPeers:   s.Limits.Providers * 2,
	})
	if err != nil {
		return err
	}
	defer func() { _ = host.Close() }()
	mux := http.NewServeMux()
	mux.Handle(server.Handler())
	mux.Handle(p2p.ReachPath, host.ReachHandler())
	if err := host.Serve(mux); err != nil {
		return err
	}
	server.Metrics().MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Namespace: "fallow_hub", Name: "relayed_bytes_total", Help: "Bytes carried between peers.",
	}, func() float64 { return float64(host.Relayed()) }))
	stop, err := ServeMetrics(ctx, s.Status, server.Metrics())
	if err != nil {
		return err
	}
	defer stop()
	log.InfoContext(ctx, "hub is up", slog.Any("addrs", host.Addrs()))
	<-ctx.Done()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	server.Close(last)
	return nil
}

// ServeMetrics serves metrics and health at addr until stop; nothing where it is
// empty. Whoever calls it has seen to it that addr is loopback.
func ServeMetrics(ctx context.Context, addr string, figures prometheus.Gatherer) (stop func(), err error) {
	if addr == "" {
		return func() {}, nil
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("metrics on %s: %w; choose another address for them", addr, err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(figures, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	web := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = web.Serve(l) // it ends when it is closed
	}()
	return func() {
		_ = web.Close()
		<-ended
	}, nil
}

// HubStatus asks a hub how it is.
func HubStatus(ctx context.Context, addr string) (*hubv1.StatusResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	host, err := p2p.New(ctx, p2p.Config{Identity: private, Role: p2p.RoleTenant})
	if err != nil {
		return nil, err
	}
	defer func() { _ = host.Close() }()
	c, err := hub.Dial(ctx, host, addr)
	if err != nil {
		return nil, fmt.Errorf("hub %s %w: %w", addr, ErrAway, err)
	}
	r, err := c.Status(ctx, connect.NewRequest(&hubv1.StatusRequest{}))
	if err != nil {
		return nil, fmt.Errorf("hub %s: %w", addr, err)
	}
	return r.Msg, nil
}

// hubFunds asks the ledger who is funded, dialling it when it is first needed
// and again after it was away.
type hubFunds struct {
	network Network
	log     *slog.Logger
	client  once[*ledger.Client]
}

func (f *hubFunds) dial(ctx context.Context) (*ledger.Client, error) {
	return f.client.get(func() (*ledger.Client, error) { return Dial(ctx, f.network, Config{}, f.log) })
}

func (f *hubFunds) close() {
	if c, ok := f.client.have(); ok {
		_ = c.Close() // nothing is in flight: it only reads
	}
}

func (f *hubFunds) Free(ctx context.Context, tenant fallow.Account) (fallow.Credits, error) {
	c, err := f.dial(ctx)
	if err != nil {
		return 0, err
	}
	a, err := c.Escrow(ctx, tenant)
	if errors.Is(err, ledger.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	account, err := accountOf(a)
	if err != nil {
		return 0, err
	}
	return account.Free.Floor()
}

func (f *hubFunds) Acts(ctx context.Context, tenant fallow.Account, key market.ClientKey) (bool, error) {
	own, err := keys.AccountOf(key[:])
	if err != nil {
		return false, err
	}
	if own == tenant {
		return true, nil
	}
	c, err := f.dial(ctx)
	if err != nil {
		return false, err
	}
	a, err := c.Escrow(ctx, tenant)
	if errors.Is(err, ledger.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	for _, k := range a.GetClientKeys() {
		if fallow.Account(k.GetAddress()) == own {
			return true, nil
		}
	}
	return false, nil
}

// Bonded says whether the ledger lists the node under a provider that has a bond
// and is not leaving.
func (f *hubFunds) Bonded(ctx context.Context, owner fallow.Account, node fallow.Key) (bool, error) {
	c, err := f.dial(ctx)
	if err != nil {
		return false, err
	}
	r, err := c.Provider(ctx, owner)
	if errors.Is(err, ledger.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return r.GetBond() > 0 && slices.ContainsFunc(r.GetNodes(), func(n *providerv1.Node) bool { return bytes.Equal(n.GetKey(), node[:]) }), nil
}
