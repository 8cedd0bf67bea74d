package p2p

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

const (
	// seenWait is how long a hub may take to say where it saw this host.
	seenWait = 3 * time.Second
	// punchDial bounds one try of a direct dial.
	punchDial = 3 * time.Second
)

// wildcard is what a tenant opens to be met halfway; free ports, until it
// closes.
var wildcard = []string{"/ip4/0.0.0.0/udp/0/quic-v1", "/ip4/0.0.0.0/tcp/0"}

// halfway is how a host is met through NATs: it tells peers, through a relay,
// at which addresses hubs saw its sockets, and both dial at once. The
// library's own service looks for such addresses every few seconds; this one
// starts the moment that a hub has said one.
type halfway struct {
	ready chan struct{} // closed once peers can meet this host

	mu      sync.Mutex
	open    bool                    // sockets beyond loopback stand
	seen    map[string]ma.Multiaddr // by transport and IP version: where hubs saw it
	service *holepunch.Service
	closed  bool
}

func newHalfway() *halfway {
	return &halfway{ready: make(chan struct{}), seen: map[string]ma.Multiaddr{}}
}

func (m *halfway) isOpen() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.open
}

func (m *halfway) close() error {
	m.mu.Lock()
	s := m.service
	m.closed = true
	m.mu.Unlock()
	if s == nil {
		return nil
	}
	return s.Close()
}

// observe listens to what hubs say of this host's address.
func (h *Host) observe() error {
	return subscribe(h, func(ctx context.Context, e event.EvtPeerIdentificationCompleted) {
		if err := h.noteSeen(e); err != nil {
			h.log.WarnContext(ctx, "peers can't meet this host halfway", slog.Any("error", err))
		}
	})
}

// noteSeen takes a word of a peer that this host dialled from one of its
// listening sockets: only such a mapping is of use to others.
func (h *Host) noteSeen(e event.EvtPeerIdentificationCompleted) error {
	at := e.ObservedAddr
	if at == nil || e.Conn == nil || e.Conn.Stat().Direction != network.DirOutbound || relayed(e.Conn.RemoteMultiaddr()) || relayed(at) ||
		!manet.IsPublicAddr(at) || !h.fromListener(e.Conn) {
		return nil
	}
	kind := at.Protocols()[0].Name
	for _, p := range at.Protocols()[1:] {
		kind += "/" + p.Name
	}
	h.meet.mu.Lock()
	h.meet.seen[kind] = at
	start := h.meet.service == nil && !h.meet.closed
	h.meet.mu.Unlock()
	if !start {
		return nil
	}
	ids, ok := h.p2p.(interface{ IDService() identify.IDService })
	if !ok {
		return errors.New("the host has no identify service")
	}
	s, err := holepunch.NewService(h.p2p, ids.IDService(), h.meetingPoints, holepunch.DirectDialTimeout(punchDial))
	if err != nil {
		return err
	}
	// The service has found an address at once, so this does not wait.
	h.meet.mu.Lock()
	closed := h.meet.closed
	if !closed {
		h.meet.service = s
		close(h.meet.ready)
	}
	h.meet.mu.Unlock()
	if closed {
		return s.Close()
	}
	return nil
}

// meetingPoints are the public addresses at which peers may dial this host
// while it dials them.
func (h *Host) meetingPoints() []ma.Multiaddr {
	var out []ma.Multiaddr
	h.meet.mu.Lock()
	for _, a := range h.meet.seen {
		out = append(out, a)
	}
	h.meet.mu.Unlock()
	if own, err := h.p2p.Network().InterfaceListenAddresses(); err == nil {
		for _, a := range own {
			if manet.IsPublicAddr(a) {
				out = append(out, a)
			}
		}
	}
	slices.SortFunc(out, ma.Multiaddr.Compare)
	return ma.Unique(out)
}

// fromListener says whether a connection leaves from a listening socket.
func (h *Host) fromListener(c network.Conn) bool {
	kind, port := portOf(c.LocalMultiaddr())
	return slices.ContainsFunc(h.p2p.Network().ListenAddresses(), func(a ma.Multiaddr) bool {
		k, p := portOf(a)
		return k == kind && p == port
	})
}

// portOf is an address' transport, as a protocol code, and its port.
func portOf(a ma.Multiaddr) (kind int, port string) {
	for _, kind := range []int{ma.P_UDP, ma.P_TCP} {
		if port, err := a.ValueForProtocol(kind); err == nil {
			return kind, port
		}
	}
	return 0, ""
}

// halfway opens sockets, if they are not open yet, sees that the hub which
// relays to a peer knows them, and dials the peer anew, who then comes to meet
// this host.
func (h *Host) halfway(ctx context.Context, info peer.AddrInfo) error {
	meets := slices.ContainsFunc(h.p2p.Network().ConnsToPeer(info.ID), func(c network.Conn) bool {
		return relayed(c.RemoteMultiaddr()) && manet.IsPublicAddr(c.RemoteMultiaddr())
	})
	if !meets {
		return nil // the relay is on this machine or in this house, as is the peer
	}
	if err := h.openSockets(); err != nil {
		return err
	}
	for _, c := range h.p2p.Network().ConnsToPeer(info.ID) {
		hub, ok := hubOf(c.RemoteMultiaddr())
		if !ok {
			continue
		}
		if slices.ContainsFunc(h.p2p.Network().ConnsToPeer(hub), h.fromListener) {
			continue // the peer was told already
		}
		if err := errors.Join(h.p2p.Network().ClosePeer(info.ID), h.p2p.Network().ClosePeer(hub)); err != nil {
			return err
		}
		if err := h.p2p.Connect(ctx, peer.AddrInfo{ID: hub}); err != nil {
			return err
		}
		t := time.NewTimer(seenWait)
		defer t.Stop()
		select {
		case <-h.meet.ready:
		case <-t.C: // on a network without public addresses none is ever seen
		case <-ctx.Done():
			return ctx.Err()
		}
		return h.p2p.Connect(ctx, info)
	}
	return nil
}

// openSockets opens a tenant's sockets, once.
func (h *Host) openSockets() error {
	h.meet.mu.Lock()
	if h.meet.open {
		h.meet.mu.Unlock()
		return nil
	}
	h.meet.open = true
	h.meet.mu.Unlock()
	if err := h.observe(); err != nil {
		return err
	}
	addrs, err := parseAddrs("listen", wildcard, maxListen)
	if err != nil {
		return err
	}
	if err := h.p2p.Network().Listen(addrs...); err != nil {
		return fmt.Errorf("open sockets to be met at: %w", err)
	}
	h.log.Info("opened sockets, to meet a peer behind a NAT halfway", slog.Any("listen", h.p2p.Network().ListenAddresses()))
	return nil
}

// overUDP moves the connection with a relay to QUIC, once and where it can, for
// who is met halfway: network files name one address of a hub, the hub itself
// tells the others, and only over UDP does it see where UDP leaves the NAT.
func (h *Host) overUDP(ctx context.Context, r *reservation) error {
	r.mu.Lock()
	tried := r.asked
	r.asked = true
	r.mu.Unlock()
	conns := h.p2p.Network().ConnsToPeer(r.info.ID)
	ids, ok := h.p2p.(interface{ IDService() identify.IDService })
	if tried || !ok || !h.meet.isOpen() || len(conns) == 0 || slices.ContainsFunc(conns, func(c network.Conn) bool { return udp(c.RemoteMultiaddr()) }) {
		return nil
	}
	select {
	case <-ids.IDService().IdentifyWait(conns[0]):
	case <-ctx.Done():
		return ctx.Err()
	}
	if !slices.ContainsFunc(h.p2p.Peerstore().Addrs(r.info.ID), udp) {
		return nil
	}
	if err := h.p2p.Network().ClosePeer(r.info.ID); err != nil {
		return err
	}
	select { // what was lost was meant to be
	case <-r.gone:
	default:
	}
	return h.dial(ctx, r.info)
}

func udp(a ma.Multiaddr) bool {
	kind, _ := portOf(a)
	return kind == ma.P_UDP
}

// hubOf is the relay in a relayed address.
func hubOf(a ma.Multiaddr) (peer.ID, bool) {
	if !relayed(a) {
		return "", false
	}
	s, err := a.ValueForProtocol(ma.P_P2P) // the first, which is the relay's
	if err != nil {
		return "", false
	}
	id, err := peer.Decode(s)
	return id, err == nil
}
