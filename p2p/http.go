package p2p

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/net/gostream"

	"fallow.network"
)

// rpcProtocol carries unencrypted HTTP/2: the connection below it is already
// encrypted and both ends have proved their keys.
const rpcProtocol = protocol.ID("/fallow/rpc/h2c/1")

// HTTP/2 flow control. A hub has many peers and small messages; the others
// move blobs.
func frames(role Role) *http.HTTP2Config {
	c := &http.HTTP2Config{
		MaxConcurrentStreams:          256,
		MaxReceiveBufferPerStream:     4 << 20,
		MaxReceiveBufferPerConnection: 16 << 20,
		MaxReadFrameSize:              256 << 10,
		SendPingTimeout:               15 * time.Second,
		PingTimeout:                   15 * time.Second,
		WriteByteTimeout:              30 * time.Second,
	}
	if role == RoleHub {
		c.MaxReceiveBufferPerStream = 256 << 10
		c.MaxReceiveBufferPerConnection = 1 << 20
		c.MaxReadFrameSize = 64 << 10
	}
	return c
}

func unencrypted() *http.Protocols {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	return p
}

// ErrServing is a second Serve on one host.
var ErrServing = errors.New("this host already serves a handler")

// Serve answers requests of peers with handler until the host closes; it
// returns at once. Inside handler PeerKey gives who asks.
func (h *Host) Serve(handler http.Handler) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return net.ErrClosed
	}
	if h.server != nil {
		return ErrServing
	}
	l, err := gostream.Listen(h.p2p, rpcProtocol)
	if err != nil {
		return fmt.Errorf("listen for requests: %w", err)
	}
	l = listener{l, h}
	h.server = &http.Server{
		Handler:           h.admitted(handler),
		Protocols:         unencrypted(),
		HTTP2:             frames(h.cfg.Role),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       10 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(h.log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			ctx = withPath(ctx, c)
			id, err := peer.Decode(c.RemoteAddr().String())
			if err != nil {
				return ctx
			}
			k, err := keyOf(id)
			if err != nil {
				return ctx
			}
			return WithPeerKey(ctx, k)
		},
	}
	server := h.server
	h.spawn(func(ctx context.Context) {
		server.BaseContext = func(net.Listener) context.Context { return ctx }
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) && ctx.Err() == nil {
			h.log.ErrorContext(ctx, "serving requests ended", slog.Any("error", err))
		}
	})
	return nil
}

// admitted refuses requests without a proven key and asks the Admit hook.
func (h *Host) admitted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !h.requests.enter() {
			http.Error(w, "this host is closing", http.StatusServiceUnavailable)
			return
		}
		defer h.requests.leave()
		k, ok := PeerKey(r.Context())
		if !ok {
			http.Error(w, "the connection proves no ed25519 key", http.StatusForbidden)
			return
		}
		if h.cfg.Admit != nil {
			if err := h.cfg.Admit(k, r.URL.Path); err != nil {
				w.Header().Set("Retry-After", "1")
				http.Error(w, err.Error(), http.StatusTooManyRequests)
				return
			}
		}
		if h.detour(r, k) {
			http.Error(w, "a direct connection stands: bulk goes there", http.StatusServiceUnavailable)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// detour says whether bulk came through a relay without need.
func (h *Host) detour(r *http.Request, from fallow.Key) bool {
	if !cameRelayed(r.Context()) || !slices.ContainsFunc(h.cfg.Bulk, func(p string) bool { return strings.HasPrefix(r.URL.Path, p) }) {
		return false
	}
	return h.Direct(from)
}

// HTTPClient sends requests to peers: URLs are http://<peer id>/…, as URL
// makes them. One stream to each peer carries all requests. The peer must
// have been connected to before, or its addresses be known.
func (h *Host) HTTPClient() *http.Client { return h.client }

// BulkClient sends requests as HTTPClient does, on streams of their own. One
// that goes through a relay is cut as soon as the peer is connected directly:
// who moves bulk goes on from where it stood, on the better path.
func (h *Host) BulkClient() *http.Client { return h.bulkClient }

// transport ends streams with their context. The library's own notices an
// ended context only once the request's body is sent, which a stream that both
// sides hold never is: such a stream would outlive its context.
type transport struct{ *http.Transport }

func (t transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body == nil || req.Body == http.NoBody {
		return t.Transport.RoundTrip(req)
	}
	// Closing a body twice is allowed: the transport closes it too.
	stop := context.AfterFunc(req.Context(), func() { _ = req.Body.Close() })
	resp, err := t.Transport.RoundTrip(req)
	if err != nil {
		stop()
		return nil, err
	}
	resp.Body = &watched{ReadCloser: resp.Body, stop: stop}
	return resp, nil
}

// watched lets go of the context when the response is read or closed.
type watched struct {
	io.ReadCloser
	stop func() bool
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	if err != nil {
		w.stop()
	}
	return n, err
}

func (w *watched) Close() error {
	w.stop()
	return w.ReadCloser.Close()
}

func (h *Host) transport(bulk bool) transport {
	return transport{&http.Transport{
		Protocols:          unencrypted(),
		HTTP2:              frames(h.cfg.Role),
		DisableCompression: true,
		IdleConnTimeout:    5 * time.Minute,
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			name, _, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, fmt.Errorf("dial %q: %w", addr, err)
			}
			id, err := peer.Decode(name)
			if err != nil {
				return nil, fmt.Errorf("dial %q: not a peer id: %w", name, err)
			}
			return h.request(ctx, id, bulk)
		},
	}}
}

// request opens a stream for requests on the best connection to a peer.
func (h *Host) request(ctx context.Context, id peer.ID, bulk bool) (net.Conn, error) {
	for {
		c, err := gostream.Dial(network.WithAllowLimitedConn(ctx, "rpc"), h.p2p, id, rpcProtocol)
		if err != nil {
			return nil, err
		}
		c = h.stream(c)
		s, ok := c.(*stream)
		if !ok || !bulk || !s.relayed() {
			return c, nil
		}
		h.bulk.add(id, s)
		if !h.direct(id) {
			return c, nil
		}
		s.cut() // the direct connection came meanwhile
	}
}

// gate counts requests in flight, so that closing waits for their handlers.
type gate struct {
	mu     sync.Mutex
	n      int
	shut   bool
	closed chan struct{} // once shut and empty
}

func newGate() *gate { return &gate{closed: make(chan struct{})} }

func (g *gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut {
		return false
	}
	g.n++
	return true
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.n--
	if g.shut && g.n == 0 {
		close(g.closed)
	}
}

// wait lets nobody in any more and returns when the last has left.
func (g *gate) wait() {
	g.mu.Lock()
	if !g.shut {
		g.shut = true
		if g.n == 0 {
			close(g.closed)
		}
	}
	g.mu.Unlock()
	<-g.closed
}
