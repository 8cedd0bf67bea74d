package p2p

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
)

// Traffic is what requests and answers have moved since the host began, in
// bytes, by the path that they took.
type Traffic struct {
	DirectIn   uint64 `json:"direct_in"`
	DirectOut  uint64 `json:"direct_out"`
	RelayedIn  uint64 `json:"relayed_in"`
	RelayedOut uint64 `json:"relayed_out"`
}

// Traffic is what this host's requests and answers have moved.
func (h *Host) Traffic() Traffic {
	return Traffic{h.paths[0].in.Load(), h.paths[0].out.Load(), h.paths[1].in.Load(), h.paths[1].out.Load()}
}

// Relayed is how many bytes this host has carried between others.
func (h *Host) Relayed() uint64 { return h.carried.Load() }

// tally counts the bytes of one kind of path.
type tally struct{ in, out atomic.Uint64 }

// stream is one request stream's connection. It counts, and knows its path.
type stream struct {
	net.Conn
	network network.Stream
	tally   *tally
	end     func()
	once    sync.Once
}

// stream makes a stream of what gostream gives, in whose connections the
// stream is embedded.
func (h *Host) stream(c net.Conn) net.Conn {
	s, ok := c.(network.Stream)
	if !ok {
		return c
	}
	kind := 0
	if relayed(s.Conn().RemoteMultiaddr()) {
		kind = 1
	}
	return &stream{Conn: c, network: s, tally: &h.paths[kind]}
}

func (s *stream) relayed() bool { return relayed(s.network.Conn().RemoteMultiaddr()) }

func (s *stream) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	s.tally.in.Add(uint64(n))
	return n, err
}

func (s *stream) Write(p []byte) (int, error) {
	n, err := s.Conn.Write(p)
	s.tally.out.Add(uint64(n))
	return n, err
}

func (s *stream) Close() error {
	s.once.Do(func() {
		if s.end != nil {
			s.end()
		}
	})
	return s.Conn.Close()
}

// cut ends the stream at once; what is on its way is lost.
func (s *stream) cut() {
	_ = s.network.Reset()
	_ = s.Close()
}

// listener gives streams.
type listener struct {
	net.Listener
	h *Host
}

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.h.stream(c), nil
}

type pathKey struct{}

func withPath(ctx context.Context, c net.Conn) context.Context {
	s, ok := c.(*stream)
	return context.WithValue(ctx, pathKey{}, ok && s.relayed())
}

// cameRelayed says whether a request came through a relay.
func cameRelayed(ctx context.Context) bool {
	v, _ := ctx.Value(pathKey{}).(bool)
	return v
}

// bulk are the streams that carry bulk to each peer through a relay: they are
// cut when a direct connection stands, and go on there.
type bulk struct {
	mu      sync.Mutex
	relayed map[peer.ID]map[*stream]bool
}

func (b *bulk) add(id peer.ID, s *stream) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.relayed == nil {
		b.relayed = map[peer.ID]map[*stream]bool{}
	}
	if b.relayed[id] == nil {
		b.relayed[id] = map[*stream]bool{}
	}
	b.relayed[id][s] = true
	s.end = func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.relayed[id], s)
		if len(b.relayed[id]) == 0 {
			delete(b.relayed, id)
		}
	}
}

// cut ends all relayed streams to a peer.
func (b *bulk) cut(id peer.ID) int {
	b.mu.Lock()
	list := make([]*stream, 0, len(b.relayed[id]))
	for s := range b.relayed[id] {
		list = append(list, s)
	}
	b.mu.Unlock()
	for _, s := range list {
		s.cut()
	}
	return len(list)
}

// carriage counts what a relay carries, and nothing else of it.
type carriage struct{ bytes *atomic.Uint64 }

func (c carriage) BytesTransferred(n int)            { c.bytes.Add(uint64(max(n, 0))) }
func (carriage) RelayStatus(bool)                    {}
func (carriage) ConnectionOpened()                   {}
func (carriage) ConnectionClosed(time.Duration)      {}
func (carriage) ConnectionRequestHandled(pb.Status)  {}
func (carriage) ReservationAllowed(bool)             {}
func (carriage) ReservationClosed(int)               {}
func (carriage) ReservationRequestHandled(pb.Status) {}
