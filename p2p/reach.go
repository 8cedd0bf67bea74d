package p2p

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"fallow.network"
)

const (
	// ReachPath is where a hub serves ReachHandler.
	ReachPath = "/reach"

	maxPorts     = 4 // that one request may have tried
	maxReach     = 4 << 10
	probeTime    = 3 * time.Second  // of one dial
	reachTime    = 10 * time.Second // of one hub
	slotWait     = 5 * time.Second  // for slots at relays, before a test
	slotMore     = 300 * time.Millisecond
	probesAtOnce = 16
	probeRate    = 0.5 // tests a second that one peer may ask for
	probeBurst   = 8
)

// Reach is what hubs found when they dialled this host anew.
type Reach struct {
	// Asked and Answered count hubs.
	Asked, Answered int
	// Direct are addresses at which a new connection from outside arrived.
	Direct []string
	// Relays are peer ids of hubs through which one arrived.
	Relays []string
	// Errors are what went wrong, one for each hub and path.
	Errors []string
}

// port is a socket to be tried; its IP is the one that the hub sees.
type port struct {
	Transport string `json:"transport"` // tcp or quic
	Port      uint16 `json:"port"`
}

type reachRequest struct {
	Ports   []port `json:"ports"`
	Relayed bool   `json:"relayed"`
}

type reachReply struct {
	Direct  []string `json:"direct"`
	Relayed bool     `json:"relayed"`
	Errors  []string `json:"errors"`
}

// prober is the identity from which a hub dials back: one without sockets, so
// that a dial is no answer to anything that a NAT has seen go out.
type prober struct {
	mu     sync.Mutex
	p2p    *swarm.Swarm
	id     peer.ID
	end    func() error
	closed bool
}

func (p *prober) is(id peer.ID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.id != "" && p.id == id
}

func (p *prober) get() (*swarm.Swarm, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errors.New("this host is closing")
	}
	if p.p2p != nil {
		return p.p2p, nil
	}
	host, err := libp2p.New(libp2p.NoListenAddrs, libp2p.DisableMetrics(), libp2p.DisableIdentifyAddressDiscovery(), libp2p.UserAgent(fallow.Protocol),
		libp2p.Transport(tcp.NewTCPTransport), libp2p.Transport(quic.NewTransport), libp2p.EnableRelay())
	if err != nil {
		return nil, err
	}
	s, ok := host.Network().(*swarm.Swarm)
	if !ok {
		return nil, errors.Join(errors.New("the host has no swarm"), host.Close())
	}
	p.p2p, p.id, p.end = s, host.ID(), host.Close
	return s, nil
}

func (p *prober) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if p.end == nil {
		return nil
	}
	return p.end()
}

// ReachHandler tells peers whether new connections reach them. It dials only
// the IP address that a peer itself comes from, and that peer through this
// host's own relay.
func (h *Host) ReachHandler() http.Handler {
	limits := NewRate[fallow.Key](probeRate, probeBurst, 4096)
	slots := make(chan struct{}, probesAtOnce)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		k, ok := PeerKey(r.Context())
		if !ok || r.Method != http.MethodPost {
			http.Error(w, "want a POST of a peer", http.StatusBadRequest)
			return
		}
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(reachTime)) // a server that can't waits
		var ask reachRequest
		if err := json.NewDecoder(io.LimitReader(r.Body, maxReach)).Decode(&ask); err != nil || len(ask.Ports) > maxPorts {
			http.Error(w, fmt.Sprintf("want JSON of at most %d ports", maxPorts), http.StatusBadRequest)
			return
		}
		if !limits.Allow(k, time.Now()) {
			http.Error(w, "too many tests of this peer; wait a moment", http.StatusTooManyRequests)
			return
		}
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		default:
			http.Error(w, "too many tests at once; wait a moment", http.StatusTooManyRequests)
			return
		}
		out, err := h.probe(r.Context(), k, ask)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(out)
	})
}

// probe dials a peer on every path that it asks for.
func (h *Host) probe(ctx context.Context, k fallow.Key, ask reachRequest) (reachReply, error) {
	var out reachReply
	id, err := idOf(k)
	if err != nil {
		return out, err
	}
	s, err := h.prober.get()
	if err != nil {
		return out, err
	}
	var (
		wg sync.WaitGroup
		mu sync.Mutex
	)
	try := func(at ma.Multiaddr, circuit bool) {
		wg.Go(func() {
			err := dialOnce(ctx, s, at, id)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				out.Errors = append(out.Errors, fmt.Sprintf("%s: %.200s", at, err))
			case circuit:
				out.Relayed = true
			default:
				out.Direct = append(out.Direct, at.String())
			}
		})
	}
	for _, ip := range h.sources(id) {
		for _, p := range ask.Ports {
			at, err := p.at(ip)
			if err != nil {
				return out, err
			}
			try(at, false)
		}
	}
	if at := h.circuit(); ask.Relayed && at != nil {
		try(at, true)
	}
	wg.Wait()
	slices.Sort(out.Direct)
	slices.Sort(out.Errors)
	return out, nil
}

// dialOnce proves that the peer answers at an address, and hangs up.
func dialOnce(ctx context.Context, s *swarm.Swarm, at ma.Multiaddr, id peer.ID) error {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	t := s.TransportForDialing(at)
	if t == nil {
		return errors.New("no transport")
	}
	c, err := t.Dial(network.WithForceDirectDial(ctx, "probe"), at, id)
	if err != nil {
		return err
	}
	return c.Close()
}

// sources are the IP addresses, as multiaddrs, that a peer comes from.
func (h *Host) sources(id peer.ID) []ma.Multiaddr {
	var out []ma.Multiaddr
	for _, c := range h.p2p.Network().ConnsToPeer(id) {
		at := c.RemoteMultiaddr()
		if relayed(at) {
			continue
		}
		ip, err := manet.ToIP(at)
		if err != nil {
			continue
		}
		a, err := manet.FromIP(ip)
		if err == nil && len(out) < 2 {
			out = append(out, a)
		}
	}
	return ma.Unique(out)
}

// circuit is the way through this host's own relay, from this machine.
func (h *Host) circuit() ma.Multiaddr {
	own, err := h.p2p.Network().InterfaceListenAddresses()
	if err != nil {
		return nil
	}
	var best ma.Multiaddr
	for _, a := range own {
		if relayed(a) {
			continue // what relays give is among them
		}
		if best == nil || manet.IsIPLoopback(a) && !manet.IsIPLoopback(best) {
			best = a
		}
	}
	if best == nil {
		return nil
	}
	tail, err := ma.NewMultiaddr("/p2p/" + h.p2p.ID().String() + "/p2p-circuit")
	if err != nil {
		return nil
	}
	return best.Encapsulate(tail)
}

func (p port) at(ip ma.Multiaddr) (ma.Multiaddr, error) {
	tail := "/tcp/" + strconv.Itoa(int(p.Port))
	if p.Transport == "quic" {
		tail = "/udp/" + strconv.Itoa(int(p.Port)) + "/quic-v1"
	}
	a, err := ma.NewMultiaddr(tail)
	if err != nil {
		return nil, err
	}
	return ip.Encapsulate(a), nil
}

// Reach asks every hub of this host's config to dial it, and takes the
// addresses at which it was reached among those that it tells others.
func (h *Host) Reach(ctx context.Context) Reach {
	h.awaitSlots(ctx)
	ask := reachRequest{}
	for _, a := range slices.Concat(h.p2p.Network().ListenAddresses(), h.announces) {
		kind, number := portOf(a)
		n, err := strconv.ParseUint(number, 10, 16)
		if err != nil || n == 0 {
			continue
		}
		p := port{"tcp", uint16(n)}
		if kind == ma.P_UDP {
			p.Transport = "quic"
		}
		if !slices.Contains(ask.Ports, p) && len(ask.Ports) < maxPorts {
			ask.Ports = append(ask.Ports, p)
		}
	}
	out := Reach{Asked: len(h.relays)}
	var (
		wg sync.WaitGroup
		mu sync.Mutex
	)
	for _, r := range h.relays {
		wg.Go(func() {
			ask := ask
			ask.Relayed = r.isHeld()
			reply, err := h.askReach(ctx, r.info, ask)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				out.Errors = append(out.Errors, fmt.Sprintf("hub %s: %s", r.info.ID, err))
				return
			}
			out.Answered++
			for _, d := range reply.Direct[:min(len(reply.Direct), 2*maxPorts)] {
				if !slices.Contains(out.Direct, d) {
					out.Direct = append(out.Direct, d)
				}
			}
			if reply.Relayed {
				out.Relays = append(out.Relays, r.info.ID.String())
			}
			for _, e := range reply.Errors[:min(len(reply.Errors), 2*maxPorts+1)] {
				out.Errors = append(out.Errors, fmt.Sprintf("hub %s: %.300s", r.info.ID, e))
			}
		})
	}
	wg.Wait()
	slices.Sort(out.Direct)
	slices.Sort(out.Relays)
	slices.Sort(out.Errors)
	if out.Answered > 0 {
		h.prove(out.Direct)
	}
	return out
}

// awaitSlots gives slots at relays a moment, as after a start: some time for
// the first, and little for one more.
func (h *Host) awaitSlots(ctx context.Context) {
	t := time.NewTimer(slotWait)
	defer t.Stop()
	some := false
	for {
		changed, held := h.Changed(), 0
		for _, r := range h.relays {
			if r.isHeld() {
				held++
			}
		}
		if held >= min(relaysHeld, len(h.relays)) {
			return
		}
		if held > 0 && !some {
			some = true
			t.Reset(slotMore)
		}
		select {
		case <-changed:
		case <-t.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (h *Host) askReach(ctx context.Context, hub peer.AddrInfo, ask reachRequest) (reachReply, error) {
	var out reachReply
	ctx, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	if err := h.dial(ctx, hub); err != nil {
		return out, err
	}
	body, err := json.Marshal(ask)
	if err != nil {
		return out, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+hub.ID.String()+ReachPath, bytes.NewReader(body))
	if err != nil {
		return out, err
	}
	resp, err := h.client.Do(req)
	if err != nil {
		return out, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 4*maxReach))
	if err != nil {
		return out, err
	}
	if resp.StatusCode != http.StatusOK {
		return out, fmt.Errorf("it answers %d: %.200s", resp.StatusCode, bytes.TrimSpace(text))
	}
	return out, json.Unmarshal(text, &out)
}

// prove keeps the public addresses at which this host was reached.
func (h *Host) prove(direct []string) {
	addrs, err := parseAddrs("own", direct, maxAddrs)
	if err != nil {
		return // a hub's nonsense
	}
	addrs = slices.DeleteFunc(addrs, func(a ma.Multiaddr) bool { return !manet.IsPublicAddr(a) || relayed(a) })
	h.mu.Lock()
	same := slices.EqualFunc(h.provenAddrs, addrs, func(a, b ma.Multiaddr) bool { return a.Equal(b) })
	h.provenAddrs = addrs
	h.mu.Unlock()
	if !same {
		h.notify()
	}
}

// proven are the addresses at which hubs reached this host.
func (h *Host) proven() []ma.Multiaddr {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.provenAddrs)
}
