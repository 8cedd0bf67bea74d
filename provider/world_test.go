package provider

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"fallow.network"
	hubv1 "fallow.network/api/hub"
	"fallow.network/api/hub/hubv1connect"
	nodev1 "fallow.network/api/node"
	"fallow.network/blob"
	"fallow.network/hardware"
	"fallow.network/market"
	"fallow.network/wire"
)

// peerHeader stands for the key that a connection proves.
const peerHeader = "Test-Peer"

type peerCtx struct{}

func testPeerKey(ctx context.Context) (fallow.Key, bool) {
	k, ok := ctx.Value(peerCtx{}).(fallow.Key)
	return k, ok
}

// h2c serves handler to clients that name their key in a header.
func h2c(tb testing.TB, handler http.Handler) *httptest.Server {
	tb.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var k fallow.Key
		if err := k.UnmarshalText([]byte(r.Header.Get(peerHeader))); err == nil {
			r = r.WithContext(context.WithValue(r.Context(), peerCtx{}, k))
		}
		handler.ServeHTTP(w, r)
	}))
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	s.Config.Protocols = p
	s.Start()
	return s
}

// caller is an HTTP/2 client that names its key.
type caller struct {
	key fallow.Key
	t   *http.Transport
}

func newCaller(key fallow.Key) *http.Client {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	return &http.Client{Transport: caller{key, &http.Transport{Protocols: p}}}
}

func (c caller) RoundTrip(r *http.Request) (*http.Response, error) {
	r.Header.Set(peerHeader, c.key.String())
	return c.t.RoundTrip(r)
}

// CloseIdleConnections lets http.Client close what nobody uses.
func (c caller) CloseIdleConnections() { c.t.CloseIdleConnections() }

// fakeCourier is a network of one loopback port and one hub.
type fakeCourier struct {
	server *httptest.Server
	hub    string
	node   fallow.Key
	moved  chan struct{}
	reach  func() Reach
}

func (c *fakeCourier) Hub(context.Context, string) (hubv1connect.HubServiceClient, error) {
	if c.hub == "" {
		return nil, errors.New("no hub")
	}
	return hubv1connect.NewHubServiceClient(newCaller(c.node), c.hub), nil
}
func (c *fakeCourier) Addrs() []string          { return []string{"/ip4/127.0.0.1/tcp/1"} }
func (c *fakeCourier) Changed() <-chan struct{} { return c.moved }
func (c *fakeCourier) Traffic() Traffic         { return Traffic{} }
func (c *fakeCourier) Reach(context.Context) Reach {
	if c.reach != nil {
		return c.reach()
	}
	return Reach{Asked: 1, Answered: 1, Direct: c.Addrs()}
}

func (c *fakeCourier) Close() error {
	c.server.CloseClientConnections()
	c.server.Close()
	return nil
}

// world is one provider and what it needs, in this process.
type world struct {
	t      testing.TB
	dir    string
	config Config
	ledger *fakeLedger
	runner *fakeRunner
	watch  *fakeWatcher
	store  *blob.Store
	node   ed25519.PrivateKey
	hub    string
	boxes  func() Runner // in place of runner
	quota  int64         // of the store
	reach  func() Reach  // what hubs find; nil is the node itself
	moved  chan struct{} // closed when its addresses have changed

	d    *Daemon
	url  string
	stop func() error
	// ended is closed when the daemon has ended.
	ended chan struct{}
}

func secret(seed string) []byte { d := fallow.Sum([]byte(seed)); return d[:] }

func mustClientKey(seed string) market.ClientKey {
	k, err := wire.ClientKey(secret(seed))
	if err != nil {
		panic(err)
	}
	return k
}

func accountOf(seed string) fallow.Account { return wire.Address(mustClientKey(seed)) }

func testNode() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(secret("node")) }

// taskRequest asks for a no-op task.
func taskRequest(c *tenant, n uint32) *nodev1.WorkRequest {
	return &nodev1.WorkRequest{Task: c.task(n, 1, "noop")}
}

func newWorld(tb testing.TB, edit func(*world)) *world {
	tb.Helper()
	w := &world{t: tb, dir: tb.TempDir(), ledger: newFakeLedger(), runner: newFakeRunner(), watch: &fakeWatcher{}, node: testNode(), moved: make(chan struct{})}
	w.config = Default()
	w.config.Home = filepath.Join(w.dir, "provider")
	w.config.Provider = accountOf("owner")
	w.config.Region = "eu"
	w.config.StatusAddr = "127.0.0.1:0"
	w.config.Slots = 4
	w.config.Redeem.Age = Duration(time.Hour)
	if edit != nil {
		edit(w)
	}
	var err error
	if w.store, err = blob.Open(tb.Context(), blob.Config{Dir: filepath.Join(w.dir, "blobs"), Quota: w.quota}); err != nil {
		tb.Fatal(err)
	}
	w.start()
	tb.Cleanup(func() {
		if w.stop != nil {
			if err := w.stop(); err != nil {
				tb.Error(err)
			}
		}
	})
	return w
}

func testLog(tb testing.TB) *slog.Logger {
	tb.Helper()
	if os.Getenv("PROVIDER_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(tb.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (w *world) deps(up func(url string)) Deps {
	var boxes Runner = w.runner
	if w.boxes != nil {
		boxes = w.boxes()
	}
	return Deps{
		ChainID: testChain, NodeKey: w.node, Books: w.ledger, Chain: w.ledger, Runner: boxes, Blobs: w.store,
		Listen: func(_ context.Context, handler http.Handler) (Courier, error) {
			s := h2c(w.t, handler)
			up(s.URL)
			return &fakeCourier{server: s, hub: w.hub, node: wire.PublicKey(w.node), moved: w.moved, reach: w.reach}, nil
		},
		PeerKey: testPeerKey,
		Machine: hardware.Machine{CPU: hardware.CPU{UsableMilli: 8000}, Memory: hardware.Memory{UsableBytes: 16 << 30}, Disk: hardware.Disk{FreeBytes: 64 << 30}},
		Watcher: w.watch, Log: testLog(w.t), patience: 200 * time.Millisecond,
	}
}

// start runs the daemon; stop ends it as a signal would.
func (w *world) start() {
	w.t.Helper()
	urls := make(chan string, 1)
	d, err := New(w.t.Context(), w.config, w.deps(func(u string) { urls <- u }))
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done, ended := make(chan error, 1), make(chan struct{})
	go func() { done <- d.Run(ctx); close(ended) }()
	w.ended = ended
	w.d, w.url = d, <-urls
	w.stop = sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(20 * time.Second):
			return errors.New("the daemon does not end")
		}
	})
	w.until("the daemon knows its standing, and who reaches it", func() bool {
		_, ok := d.standing()
		h, _ := d.head()
		return ok && h > 0 && d.reach().Path != PathTesting
	})
}

func (w *world) restart() {
	w.t.Helper()
	if err := w.stop(); err != nil {
		w.t.Fatal(err)
	}
	w.start()
}

func (w *world) until(what string, ok func() bool) {
	w.t.Helper()
	for end := time.Now().Add(15 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("not in time: %s", what)
		}
	}
}

// fakeHub is a hub that passes demands to one board and answers back.
type fakeHub struct {
	hubv1connect.UnimplementedHubServiceHandler
	announced chan *hubv1.Announcement
	replies   chan *hubv1.SealedReply
	send      chan *hubv1.BoardResponse
	cut       chan struct{} // each token ends a stream
}

func (h *fakeHub) Board(ctx context.Context, s *connect.BidiStream[hubv1.BoardRequest, hubv1.BoardResponse]) error {
	first, err := s.Receive()
	if err != nil {
		return err
	}
	h.announced <- first.GetAnnouncement()
	if err := s.Send(&hubv1.BoardResponse{Protocol: fallow.Protocol}); err != nil {
		return err
	}
	go func() {
		for {
			m, err := s.Receive()
			if err != nil {
				return
			}
			if a := m.GetAnnouncement(); a != nil {
				h.announced <- a
			}
			if r := m.GetReply(); r != nil {
				h.replies <- r
			}
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-h.cut:
			return connect.NewError(connect.CodeUnavailable, errors.New("the hub ends"))
		case m := <-h.send:
			if err := s.Send(m); err != nil {
				return err
			}
		}
	}
}

func reasonIn(err error) string {
	var ce *connect.Error
	if errors.As(err, &ce) {
		return ce.Meta().Get(reasonHeader)
	}
	return fmt.Sprintf("%v", err)
}
