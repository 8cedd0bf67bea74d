// Package p2p carries the market's requests between machines: Connect RPC and
// plain HTTP over libp2p streams, through NATs and relays where it must.
//
// Its one invariant: a request's sender has proved the Ed25519 key that
// PeerKey gives, on whatever path the bytes came.
//
// It knows no message of the market, and no other room knows libp2p.
package p2p

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/p2p/net/connmgr"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"

	"fallow.network"
)

// Host is one identity on the network. Its methods may be called at once
// from many goroutines. Close it.
type Host struct {
	cfg    Config
	log    *slog.Logger
	key    fallow.Key
	p2p    host.Host
	client *http.Client
	relays []*reservation
	slots  chan struct{} // a token for each relay slot that is held or tried

	bulkClient *http.Client
	bulk       bulk
	paths      [2]tally // direct, relayed
	carried    atomic.Uint64
	meet       *halfway
	prober     prober

	// spawn runs a goroutine that Close ends and waits for.
	spawn    func(func(context.Context))
	cancel   context.CancelFunc
	done     <-chan struct{} // closed when the host closes
	wg       sync.WaitGroup
	requests *gate

	mu      sync.Mutex
	closed  bool
	server  *http.Server
	changed chan struct{}
	// provenAddrs are public addresses at which hubs reached this host.
	provenAddrs []ma.Multiaddr
	announces   []ma.Multiaddr // never changed
}

// New starts a host; ctx bounds only the start.
//
// A tenant without Listen is a light host, of which one process may have
// many, one for each lease's session key: no socket until it dials, no relay,
// no NAT services. One costs about 3 ms, 16 goroutines and
// 0.4 MiB; each connection that it opens is a TLS handshake of its own.
// It reaches providers behind a NAT through their relays, and is met halfway
// only when it listens or Punch is set.
func New(ctx context.Context, cfg Config) (*Host, error) {
	p, err := cfg.parse()
	if err != nil {
		return nil, fmt.Errorf("p2p host: %w", err)
	}
	if cfg.MaxPeers == 0 {
		cfg.MaxPeers = defaultPeers
	}
	h := &Host{cfg: cfg, log: cfg.Log, key: publicOf(cfg.Identity), requests: newGate(), changed: make(chan struct{}), announces: p.announce, meet: newHalfway()}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	opts, err := h.options(p)
	if err != nil {
		return nil, fmt.Errorf("p2p host: %w", err)
	}
	if h.p2p, err = libp2p.New(opts...); err != nil {
		return nil, fmt.Errorf("p2p host: %w", err)
	}
	// Requests outlive the call that starts the host; Close ends them.
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	h.cancel, h.done = cancel, run.Done()
	h.spawn = func(f func(context.Context)) { h.wg.Go(func() { f(run) }) }
	h.client = &http.Client{Transport: h.transport(false)}
	h.bulkClient = &http.Client{Transport: h.transport(true)}
	if err := h.follow(); err != nil {
		return nil, errors.Join(fmt.Errorf("p2p host: %w", err), h.Close())
	}
	return h, nil
}

func (h *Host) options(p parsed) ([]libp2p.Option, error) {
	priv, err := crypto.UnmarshalEd25519PrivateKey(h.cfg.Identity)
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	rm, err := resources(h.cfg.Role, h.cfg.MaxPeers)
	if err != nil {
		return nil, err
	}
	low, high := 160, 192
	if h.cfg.Role == RoleHub {
		low, high = h.cfg.MaxPeers, h.cfg.MaxPeers+h.cfg.MaxPeers/8+1
	}
	cm, err := connmgr.NewConnManager(low, high)
	if err != nil {
		return nil, err
	}
	// The order of TCP's security is libp2p's: TLS first, then noise.
	opts := []libp2p.Option{
		libp2p.Identity(priv),
		libp2p.UserAgent(fallow.Protocol),
		libp2p.ResourceManager(rm),
		libp2p.ConnectionManager(cm),
		libp2p.ConnectionGater(gater{h.cfg.Elsewhere}),
		libp2p.Transport(tcp.NewTCPTransport),
		libp2p.Transport(quic.NewTransport),
		libp2p.SwarmOpts(swarm.WithDialRanker(h.rank)),
		libp2p.AddrsFactory(h.announced),
	}
	if h.cfg.Metrics == nil {
		opts = append(opts, libp2p.DisableMetrics())
	} else {
		opts = append(opts, libp2p.PrometheusRegisterer(h.cfg.Metrics))
	}
	if len(p.listen) == 0 {
		opts = append(opts, libp2p.NoListenAddrs, libp2p.DisableIdentifyAddressDiscovery())
	} else {
		opts = append(opts, libp2p.ListenAddrs(p.listen...))
	}
	opts = append(opts, libp2p.EnableRelay()) // dialing through relays, after NoListenAddrs
	switch h.cfg.Role {
	case RoleHub:
		opts = append(opts, libp2p.ForceReachabilityPublic(), libp2p.EnableNATService(), libp2p.EnableAutoNATv2(),
			libp2p.EnableRelayService(relay.WithResources(relayResources(h.cfg.MaxPeers)),
				relay.WithACL(relayACL{h.cfg.RelayAllow, &h.prober}), relay.WithMetricsTracer(carriage{&h.carried})))
	default:
		switch {
		case h.cfg.Public:
			opts = append(opts, libp2p.ForceReachabilityPublic())
		case p.wild:
			opts = append(opts, libp2p.ForceReachabilityPrivate(), libp2p.EnableAutoNATv2())
		}
		// One on loopback has no public address for others to meet it at.
		h.meet.open = p.wild && !h.cfg.Public
	}
	if h.cfg.Role == RoleProvider {
		h.slots = make(chan struct{}, relaysHeld)
		for _, info := range p.relays {
			h.relays = append(h.relays, newReservation(info))
		}
	}
	return opts, nil
}

// announced is what others are told: what libp2p knows, the announced
// addresses, and a path through each relay that keeps a reservation.
func (h *Host) announced(known []ma.Multiaddr) []ma.Multiaddr {
	out := slices.Clone(known)
	out = append(out, h.announces...)
	out = append(out, h.proven()...)
	for _, r := range h.relays {
		out = append(out, r.paths()...)
	}
	return ma.Unique(out)
}

// follow starts what a host does by itself: tells of changed addresses and
// keeps reservations.
func (h *Host) follow() error {
	if err := subscribe(h, func(context.Context, event.EvtLocalAddressesUpdated) { h.notify() }); err != nil {
		return err
	}
	h.p2p.Network().Notify(&network.NotifyBundle{
		ConnectedF: func(_ network.Network, c network.Conn) {
			if relayed(c.RemoteMultiaddr()) {
				return
			}
			if n := h.bulk.cut(c.RemotePeer()); n > 0 {
				h.log.Info("bulk moves from the relay to a direct connection", slog.String("peer", c.RemotePeer().String()))
			}
		},
		DisconnectedF: func(n network.Network, c network.Conn) {
			for _, r := range h.relays {
				if r.info.ID == c.RemotePeer() && n.Connectedness(r.info.ID) != network.Connected {
					r.lost()
				}
			}
		},
	})
	if h.meet.open {
		if err := h.observe(); err != nil {
			return err
		}
	}
	for _, r := range h.relays {
		h.spawn(func(ctx context.Context) { h.keep(ctx, r) })
	}
	return nil
}

// subscribe calls do for each event of a kind, one after the other, until the
// host closes.
func subscribe[E any](h *Host, do func(context.Context, E)) error {
	sub, err := h.p2p.EventBus().Subscribe(new(E))
	if err != nil {
		return fmt.Errorf("follow %T: %w", *new(E), err)
	}
	h.spawn(func(ctx context.Context) {
		defer func() { _ = sub.Close() }()
		for {
			select {
			case <-ctx.Done():
				return
			case e, ok := <-sub.Out():
				if !ok {
					return
				}
				do(ctx, e.(E))
			}
		}
	})
	return nil
}

func (h *Host) notify() {
	h.mu.Lock()
	defer h.mu.Unlock()
	close(h.changed)
	h.changed = make(chan struct{})
}

// Changed is closed when Addrs may give something else than before; call it
// again for the next time.
func (h *Host) Changed() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.changed
}

// Key is this host's own key.
func (h *Host) Key() fallow.Key { return h.key }

// URL is where requests to k go, as the function URL says.
func (h *Host) URL(k fallow.Key) string { return URL(k) }

// PeerID is this host's own name on the network.
func (h *Host) PeerID() string { return h.p2p.ID().String() }

// Addrs are full multiaddrs, /…/p2p/ID, at which others can reach this host,
// those through relays included; direct ones come first.
func (h *Host) Addrs() []string {
	suffix := "/p2p/" + h.p2p.ID().String()
	var direct, circuits []string
	for _, a := range h.p2p.Addrs() {
		if relayed(a) {
			circuits = append(circuits, a.String()+suffix)
		} else {
			direct = append(direct, a.String()+suffix)
		}
	}
	return append(direct, circuits...)
}

// Connect opens a connection to the peer that addrs name, or keeps the one
// there is, and remembers the addresses, so that requests dial again after a
// cut. All must end in the same /p2p/ID; at most the first 32 are tried. Where
// the peer answers through a relay and both sides can, a direct connection
// follows; see Direct and BulkClient.
func (h *Host) Connect(ctx context.Context, addrs []string) (fallow.Key, error) {
	addrs = addrs[:min(len(addrs), maxAddrs)]
	parsed, err := parseAddrs("peer", addrs, maxAddrs)
	if err != nil {
		return fallow.Key{}, fmt.Errorf("connect: %w", err)
	}
	infos, err := peer.AddrInfosFromP2pAddrs(parsed...)
	if err != nil {
		return fallow.Key{}, fmt.Errorf("connect: %w; want full addresses that end in /p2p/ID", err)
	}
	if len(infos) != 1 {
		return fallow.Key{}, fmt.Errorf("connect: the addresses name %d peers: want one", len(infos))
	}
	k, err := keyOf(infos[0].ID)
	if err != nil {
		return fallow.Key{}, fmt.Errorf("connect: %w", err)
	}
	if err := h.dial(ctx, infos[0]); err != nil {
		return fallow.Key{}, fmt.Errorf("connect to %s: %w", infos[0].ID, err)
	}
	return k, nil
}

func (h *Host) dial(ctx context.Context, info peer.AddrInfo) error {
	h.p2p.Peerstore().AddAddrs(info.ID, info.Addrs, peerstore.RecentlyConnectedAddrTTL)
	// Who asks by name wants a try now, whatever failed a moment ago.
	if s, ok := h.p2p.Network().(*swarm.Swarm); ok {
		s.Backoff().Clear(info.ID)
	}
	if err := h.p2p.Connect(ctx, info); err != nil {
		return err
	}
	if h.cfg.Punch && h.cfg.Role == RoleTenant && !h.direct(info.ID) {
		if err := h.halfway(ctx, info); err != nil {
			h.log.DebugContext(ctx, "not met halfway; the relay stays", slog.String("peer", info.ID.String()), slog.Any("error", err))
			return h.p2p.Connect(ctx, info)
		}
	}
	return nil
}

// Direct says whether a connection to k exists that leads through no relay.
func (h *Host) Direct(k fallow.Key) bool {
	id, err := idOf(k)
	return err == nil && h.direct(id)
}

func (h *Host) direct(id peer.ID) bool {
	return slices.ContainsFunc(h.p2p.Network().ConnsToPeer(id), func(c network.Conn) bool {
		return !c.IsClosed() && !relayed(c.RemoteMultiaddr())
	})
}

// Connected says whether a connection to k exists, on whatever path.
func (h *Host) Connected(k fallow.Key) bool {
	id, err := idOf(k)
	return err == nil && len(h.p2p.Network().ConnsToPeer(id)) > 0
}

// Disconnect closes all connections to k; its requests in flight fail.
func (h *Host) Disconnect(k fallow.Key) error {
	id, err := idOf(k)
	if err != nil {
		return err
	}
	return h.p2p.Network().ClosePeer(id)
}

// Peers is how many peers this host is connected to.
func (h *Host) Peers() int { return len(h.p2p.Network().Peers()) }

// Ping measures one round trip to k, connected before.
func (h *Host) Ping(ctx context.Context, k fallow.Key) (time.Duration, error) {
	id, err := idOf(k)
	if err != nil {
		return 0, fmt.Errorf("ping: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	select {
	case r, ok := <-ping.Ping(network.WithAllowLimitedConn(ctx, "ping"), h.p2p, id):
		if !ok {
			return 0, fmt.Errorf("ping %s: the peer went away", id)
		}
		if r.Error != nil {
			return 0, fmt.Errorf("ping %s: %w", id, r.Error)
		}
		return r.RTT, nil
	case <-ctx.Done():
		return 0, fmt.Errorf("ping %s: %w", id, ctx.Err())
	}
}

// Shutdown lets requests in flight finish until ctx ends, then closes.
func (h *Host) Shutdown(ctx context.Context) error {
	h.mu.Lock()
	server := h.server
	h.mu.Unlock()
	if server != nil {
		if err := server.Shutdown(ctx); err != nil && ctx.Err() == nil {
			return errors.Join(err, h.Close())
		}
	}
	return h.Close()
}

// Close cuts all connections and waits for handlers and goroutines.
func (h *Host) Close() error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil
	}
	h.closed = true
	server := h.server
	h.mu.Unlock()
	h.cancel()
	var errs []error
	if server != nil {
		if err := server.Close(); err != nil {
			errs = append(errs, err)
		}
	}
	h.client.CloseIdleConnections()
	h.bulkClient.CloseIdleConnections()
	errs = append(errs, h.meet.close(), h.prober.close())
	if err := h.p2p.Close(); err != nil {
		errs = append(errs, err)
	}
	h.requests.wait()
	h.wg.Wait()
	return errors.Join(errs...)
}
