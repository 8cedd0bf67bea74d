package p2p_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"fallow.network"
	hubv1 "fallow.network/api/hub"
	"fallow.network/api/hub/hubv1connect"
	"fallow.network/p2p"
)

func start(t *testing.T, cfg p2p.Config) *p2p.Host {
	t.Helper()
	if cfg.Identity == nil {
		_, priv, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Identity = priv
	}
	h, err := p2p.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return h
}

func link(t *testing.T, from, to *p2p.Host) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	k, err := from.Connect(ctx, to.Addrs())
	if err != nil {
		t.Fatal(err)
	}
	if k != to.Key() {
		t.Fatalf("connected to %s, want %s", k, to.Key())
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not in 15 s: %s", what)
}

// settled waits until no more goroutines run than before.
func settled(t *testing.T, before int) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if runtime.NumGoroutine() <= before {
			return
		}
	}
	buf := make([]byte, 1<<20)
	t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
}

type status struct {
	hubv1connect.UnimplementedHubServiceHandler
}

func (status) Status(ctx context.Context, _ *connect.Request[hubv1.StatusRequest]) (*connect.Response[hubv1.StatusResponse], error) {
	k, ok := p2p.PeerKey(ctx)
	if !ok {
		return nil, connect.NewError(connect.CodeUnauthenticated, errors.New("no key"))
	}
	return connect.NewResponse(&hubv1.StatusResponse{ChainId: k.String()}), nil
}

func serve(t *testing.T, h *p2p.Host) {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle(hubv1connect.NewHubServiceHandler(status{}))
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	mux.HandleFunc("/hang", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	if err := h.Serve(mux); err != nil {
		t.Fatal(err)
	}
}

// asked is whom the server saw.
func asked(ctx context.Context, from, to *p2p.Host) (string, error) {
	c := hubv1connect.NewHubServiceClient(from.HTTPClient(), p2p.URL(to.Key()))
	r, err := c.Status(ctx, connect.NewRequest(&hubv1.StatusRequest{}))
	if err != nil {
		return "", err
	}
	return r.Msg.GetChainId(), nil
}

func mustAsk(t *testing.T, from, to *p2p.Host) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	got, err := asked(ctx, from, to)
	if err != nil {
		t.Fatal(err)
	}
	if got != from.Key().String() {
		t.Fatalf("the server saw %s, want %s", got, from.Key())
	}
}

func TestRequestsCarryTheSendersKey(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("hosts", func(t *testing.T) {
		server := start(t, p2p.Config{Role: p2p.RoleProvider})
		serve(t, server)
		if err := server.Serve(http.NotFoundHandler()); !errors.Is(err, p2p.ErrServing) {
			t.Errorf("second Serve: %v", err)
		}
		for range 3 { // several identities of one tenant
			light := start(t, p2p.Config{})
			if a := light.Addrs(); len(a) != 0 {
				t.Errorf("a light host listens at %v", a)
			}
			link(t, light, server)
			mustAsk(t, light, server)
			if !light.Direct(server.Key()) {
				t.Error("not direct on loopback")
			}
			body := bytes.Repeat([]byte("fallow"), 1<<19)
			resp, err := light.HTTPClient().Post(p2p.URL(server.Key())+"/echo", "", bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil || !bytes.Equal(got, body) {
				t.Errorf("echo of %d bytes gave %d: %v", len(body), len(got), err)
			}
			if rtt, err := light.Ping(t.Context(), server.Key()); err != nil || rtt <= 0 {
				t.Errorf("ping: %v %v", rtt, err)
			}
		}
	})
	settled(t, before)
}

func TestRedialAfterACut(t *testing.T) {
	_, priv, _ := ed25519.GenerateKey(rand.Reader)
	server := start(t, p2p.Config{Role: p2p.RoleHub, Identity: priv})
	serve(t, server)
	light := start(t, p2p.Config{})
	link(t, light, server)
	mustAsk(t, light, server)

	// A request in flight fails when the connection goes, the next one dials.
	resp, err := light.HTTPClient().Get(p2p.URL(server.Key()) + "/hang")
	if err != nil {
		t.Fatal(err)
	}
	if err := light.Disconnect(server.Key()); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("a cut went unnoticed")
	}
	_ = resp.Body.Close()
	mustAsk(t, light, server)

	// The same key comes back at the same address.
	addrs := server.Addrs()
	var listen []string
	for _, a := range addrs {
		listen = append(listen, strings.Split(a, "/p2p/")[0])
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	// QUIC to a closed port fails by time alone.
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := light.Connect(ctx, addrs); err == nil {
		eventually(t, "the old connection is noticed as gone", func() bool { return !light.Connected(server.Key()) })
	}
	again := start(t, p2p.Config{Role: p2p.RoleHub, Identity: priv, Listen: listen})
	serve(t, again)
	eventually(t, "connect to the restarted hub", func() bool {
		_, err := light.Connect(t.Context(), addrs)
		return err == nil
	})
	mustAsk(t, light, again)
}

func TestRelay(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("hosts", func(t *testing.T) {
		_, priv, _ := ed25519.GenerateKey(rand.Reader)
		var refuse fallow.Key
		allow := func(from, _ fallow.Key) bool { return from != refuse }
		hub := start(t, p2p.Config{Role: p2p.RoleHub, Identity: priv, RelayAllow: allow})
		provider := start(t, p2p.Config{Role: p2p.RoleProvider, Relays: hub.Addrs()})
		serve(t, provider)
		circuits := func() []string {
			return slices.DeleteFunc(provider.Addrs(), func(a string) bool { return !strings.Contains(a, "/p2p-circuit/") })
		}
		eventually(t, "an address through the relay", func() bool { return len(circuits()) > 0 })
		if k, err := p2p.AddrKey(circuits()[0]); err != nil || k != provider.Key() {
			t.Errorf("key of a relayed address: %s %v", k, err)
		}

		tenant := start(t, p2p.Config{})
		if _, err := tenant.Connect(t.Context(), circuits()); err != nil {
			t.Fatal(err)
		}
		if tenant.Direct(provider.Key()) {
			t.Error("direct through a relay")
		}
		mustAsk(t, tenant, provider)
		// More than a limited circuit would carry.
		body := make([]byte, 4<<20)
		resp, err := tenant.HTTPClient().Post(p2p.URL(provider.Key())+"/echo", "", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if n != int64(len(body)) || err != nil {
			t.Errorf("%d of %d bytes through the relay: %v", n, len(body), err)
		}

		other := start(t, p2p.Config{})
		refuse = other.Key()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if _, err := other.Connect(ctx, circuits()); err == nil {
			t.Error("the relay served a peer that its hook refuses")
		}

		// The relay restarts with its key and address: the slot comes back.
		var listen []string
		for _, a := range hub.Addrs() {
			listen = append(listen, strings.Split(a, "/p2p/")[0])
		}
		if err := hub.Close(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the lost slot is no longer told", func() bool { return len(circuits()) == 0 })
		again := start(t, p2p.Config{Role: p2p.RoleHub, Identity: priv, Listen: listen})
		eventually(t, "the slot comes back", func() bool { return len(circuits()) > 0 && again.Peers() > 0 })
	})
	settled(t, before)
}

// TestStreamsEndWithTheirContext: a stream that both sides hold open.
func TestStreamsEndWithTheirContext(t *testing.T) {
	server := start(t, p2p.Config{Role: p2p.RoleHub})
	left := make(chan struct{})
	if err := server.Serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(left)
		_, _ = io.WriteString(w, "x")
		_ = http.NewResponseController(w).Flush()
		_, _ = io.Copy(io.Discard, r.Body)
	})); err != nil {
		t.Fatal(err)
	}
	light := start(t, p2p.Config{})
	link(t, light, server)
	ctx, cancel := context.WithCancel(t.Context())
	body, feed := io.Pipe()
	defer func() { _ = feed.Close() }()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p2p.URL(server.Key()), body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := light.HTTPClient().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("the stream ended well")
	}
	select {
	case <-left:
	case <-time.After(5 * time.Second):
		t.Error("the server's side goes on")
	}
}

func TestAdmit(t *testing.T) {
	limit := p2p.NewRate[fallow.Key](1, 3, 100)
	server := start(t, p2p.Config{Role: p2p.RoleHub, Admit: func(k fallow.Key, _ string) error {
		if !limit.Allow(k, time.Unix(0, 0)) {
			return errors.New("too many requests")
		}
		return nil
	}})
	serve(t, server)
	light, other := start(t, p2p.Config{}), start(t, p2p.Config{})
	link(t, light, server)
	link(t, other, server)
	for range 3 {
		mustAsk(t, light, server)
	}
	if _, err := asked(t.Context(), light, server); err == nil || connect.CodeOf(err) != connect.CodeUnavailable && connect.CodeOf(err) != connect.CodeResourceExhausted {
		t.Errorf("fourth request at once: %v", err)
	}
	mustAsk(t, other, server)
}

func TestShutdownWaitsForRequests(t *testing.T) {
	server := start(t, p2p.Config{Role: p2p.RoleHub})
	entered, leave := make(chan struct{}), make(chan struct{})
	if err := server.Serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-leave
		_, _ = io.WriteString(w, "done")
	})); err != nil {
		t.Fatal(err)
	}
	light := start(t, p2p.Config{})
	link(t, light, server)
	got := make(chan string, 1)
	go func() {
		resp, err := light.HTTPClient().Get(p2p.URL(server.Key()))
		if err != nil {
			got <- err.Error()
			return
		}
		defer func() { _ = resp.Body.Close() }()
		b, _ := io.ReadAll(resp.Body)
		got <- string(b)
	}()
	<-entered
	down := make(chan error, 1)
	go func() { down <- server.Shutdown(t.Context()) }()
	time.Sleep(20 * time.Millisecond)
	close(leave)
	if s := <-got; s != "done" {
		t.Errorf("request during shutdown: %q", s)
	}
	if err := <-down; err != nil {
		t.Errorf("shutdown: %v", err)
	}
	if err := server.Serve(http.NotFoundHandler()); err == nil {
		t.Error("a closed host serves")
	}
}

func TestConfigIsChecked(t *testing.T) {
	_, priv, _ := ed25519.GenerateKey(rand.Reader)
	many := slices.Repeat([]string{"/ip4/127.0.0.1/tcp/0"}, 17)
	for name, tc := range map[string]struct {
		cfg  p2p.Config
		want string
	}{
		"no identity":        {p2p.Config{}, "identity"},
		"short identity":     {p2p.Config{Identity: priv[:20]}, "identity of 20 bytes"},
		"role":               {p2p.Config{Identity: priv, Role: 9}, "role(9)"},
		"wildcard unasked":   {p2p.Config{Identity: priv, Listen: []string{"/ip4/0.0.0.0/tcp/0"}}, "set wildcard"},
		"wildcard6 unasked":  {p2p.Config{Identity: priv, Listen: []string{"/ip6/::/tcp/0"}}, "set wildcard"},
		"not an address":     {p2p.Config{Identity: priv, Listen: []string{"127.0.0.1:0"}}, "listen address"},
		"too many listeners": {p2p.Config{Identity: priv, Listen: many}, "at most 16"},
		"long address":       {p2p.Config{Identity: priv, Announce: []string{"/dns4/" + strings.Repeat("a", 2000)}}, "at most 1024"},
		"relay without id":   {p2p.Config{Identity: priv, Relays: []string{"/ip4/127.0.0.1/tcp/1"}}, "/p2p/ID"},
		"negative peers":     {p2p.Config{Identity: priv, MaxPeers: -1}, "negative"},
	} {
		t.Run(name, func(t *testing.T) {
			h, err := p2p.New(t.Context(), tc.cfg)
			if err == nil {
				_ = h.Close()
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %q does not say %q", err, tc.want)
			}
		})
	}
}

func TestBadAddresses(t *testing.T) {
	light := start(t, p2p.Config{})
	a, b := start(t, p2p.Config{Role: p2p.RoleProvider}), start(t, p2p.Config{Role: p2p.RoleProvider})
	for name, addrs := range map[string][]string{
		"none":      {},
		"garbage":   {"hello"},
		"no id":     {"/ip4/127.0.0.1/tcp/1"},
		"two peers": {a.Addrs()[0], b.Addrs()[0]},
		// A secp256k1 peer id.
		"other kind of key": {"/ip4/127.0.0.1/tcp/1/p2p/16Uiu2HAmSoA2HVpMLEYMwN7zSwYvWAv4yrSNbRM1MRPjjFCkjaFG"},
	} {
		if k, err := light.Connect(t.Context(), addrs); err == nil {
			t.Errorf("%s: connected to %s", name, k)
		}
	}
	// Another key at a known address is refused: the handshake proves keys.
	wrong := strings.Split(a.Addrs()[0], "/p2p/")[0] + "/p2p/" + b.PeerID()
	if _, err := light.Connect(t.Context(), []string{wrong}); err == nil {
		t.Error("connected to the wrong key")
	}
	if resp, err := light.HTTPClient().Get("http://example/"); err == nil {
		_ = resp.Body.Close()
		t.Error("a request to a name that is no peer id")
	}
}

// TestAddressesThatStrangersMustNotName: who announces an address has others
// dial it, so it must not lead to what only this machine reaches.
func TestAddressesThatStrangersMustNotName(t *testing.T) {
	there := start(t, p2p.Config{Role: p2p.RoleProvider})
	id := there.Addrs()[0][strings.LastIndex(there.Addrs()[0], "/p2p/"):]
	for name, c := range map[string]struct {
		elsewhere bool
		addrs     []string
		refused   bool
	}{
		"loopback":              {false, there.Addrs(), false},
		"loopback from outside": {true, there.Addrs(), true},
		"metadata":              {false, []string{"/ip4/169.254.169.254/tcp/80" + id}, true},
		"link-local":            {false, []string{"/ip6/fe80::1/tcp/80" + id}, true},
		"nowhere":               {false, []string{"/ip4/0.0.0.0/tcp/80" + id}, true},
		"multicast":             {false, []string{"/ip4/224.0.0.1/udp/80/quic-v1" + id}, true},
		"by name":               {true, []string{"/dns4/localhost/tcp/80" + id}, true},
	} {
		h := start(t, p2p.Config{Role: p2p.RoleTenant, Elsewhere: c.elsewhere})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		_, err := h.Connect(ctx, c.addrs)
		cancel()
		dialed := err == nil || !strings.Contains(err.Error(), "gater") && !strings.Contains(err.Error(), "no good addresses")
		if dialed == c.refused {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPeerIDs(t *testing.T) {
	for range 20 {
		pub, _, _ := ed25519.GenerateKey(rand.Reader)
		k, _ := fallow.KeyFrom(pub)
		id := p2p.PeerID(k)
		if !strings.HasPrefix(id, "12D3Koo") {
			t.Fatalf("peer id %q", id)
		}
		if back, err := p2p.ParsePeerID(id); err != nil || back != k {
			t.Fatalf("%s back: %s %v", k, back, err)
		}
	}
	for _, s := range []string{"", "x", strings.Repeat("1", 500), "16Uiu2HAmSoA2HVpMLEYMwN7zSwYvWAv4yrSNbRM1MRPjjFCkjaFG"} {
		if k, err := p2p.ParsePeerID(s); err == nil {
			t.Errorf("%q gave %s", s, k)
		}
	}
}
