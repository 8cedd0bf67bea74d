package p2p_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"

	"fallow.network"
	"fallow.network/p2p"
)

// circuits are a host's addresses through relays, others the rest.
func circuits(h *p2p.Host) (relayed, others []string) {
	for _, a := range h.Addrs() {
		if strings.Contains(a, "/p2p-circuit/") {
			relayed = append(relayed, a)
		} else {
			others = append(others, a)
		}
	}
	return relayed, others
}

// A hub dials back on every path, on loopback as anywhere.
func TestReach(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("hosts", func(t *testing.T) {
		var hubs []*p2p.Host
		var addrs []string
		for range 3 {
			// Nobody is on a board yet: the test's own dial must get through.
			h := start(t, p2p.Config{Role: p2p.RoleHub, RelayAllow: func(_, _ fallow.Key) bool { return false }})
			mux := http.NewServeMux()
			mux.Handle(p2p.ReachPath, h.ReachHandler())
			if err := h.Serve(mux); err != nil {
				t.Fatal(err)
			}
			hubs = append(hubs, h)
			addrs = append(addrs, h.Addrs()...)
		}
		provider := start(t, p2p.Config{Role: p2p.RoleProvider, Relays: addrs})
		r := provider.Reach(t.Context())
		if r.Asked != 3 || r.Answered != 3 || len(r.Direct) != 2 || len(r.Relays) != 2 || len(r.Errors) > 0 {
			t.Errorf("on loopback: %+v; want both sockets, and two slots at three relays", r)
		}
		for _, d := range r.Direct {
			if !slices.ContainsFunc(provider.Addrs(), func(a string) bool { return strings.HasPrefix(a, d) }) {
				t.Errorf("reached at %s, where nothing listens", d)
			}
		}
		// Of two that held slots at least one goes away: the third takes over.
		for _, h := range hubs[:2] {
			if err := h.Close(); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "a slot at the last relay", func() bool {
			c, _ := circuits(provider)
			return len(c) > 0 && slices.ContainsFunc(c, func(a string) bool { return strings.Contains(a, hubs[2].PeerID()) })
		})
		if r := provider.Reach(t.Context()); r.Answered != 1 || len(r.Relays) != 1 || r.Relays[0] != hubs[2].PeerID() {
			t.Errorf("with one hub left: %+v", r)
		}
	})
	settled(t, before)
}

// A hub dials nothing for who asks for more than it may, and says so.
func TestReachIsBounded(t *testing.T) {
	hub := start(t, p2p.Config{Role: p2p.RoleHub})
	mux := http.NewServeMux()
	mux.Handle(p2p.ReachPath, hub.ReachHandler())
	if err := hub.Serve(mux); err != nil {
		t.Fatal(err)
	}
	peer := start(t, p2p.Config{})
	link(t, peer, hub)
	ask := func(body string) int {
		resp, err := peer.HTTPClient().Post(p2p.URL(hub.Key())+p2p.ReachPath, "", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	many := `{"ports":[` + strings.Repeat(`{"transport":"tcp","port":1},`, 4) + `{"transport":"tcp","port":2}]}`
	for _, body := range []string{many, "", "[", strings.Repeat(" ", 1<<20)} {
		if got := ask(body); got != http.StatusBadRequest {
			t.Errorf("%.40q: status %d", body, got)
		}
	}
	var refused bool
	for range 32 {
		refused = refused || ask(`{}`) == http.StatusTooManyRequests
	}
	if !refused {
		t.Error("32 tests at once were made for one peer")
	}
}

// flushing leaves nothing in a buffer.
type flushing struct{ http.ResponseWriter }

func (f flushing) Write(p []byte) (int, error) {
	n, err := f.ResponseWriter.Write(p)
	return n, errors.Join(err, http.NewResponseController(f.ResponseWriter).Flush())
}

// Bulk begins on the relay, is cut when a direct connection stands, goes on
// there, and may not come through the relay any more.
func TestBulkMovesToTheBetterPath(t *testing.T) {
	hub := start(t, p2p.Config{Role: p2p.RoleHub})
	provider := start(t, p2p.Config{Role: p2p.RoleProvider, Relays: hub.Addrs(), Bulk: []string{"/blob/"}})
	mux := http.NewServeMux()
	mux.HandleFunc("/blob/", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(flushing{w}, r.Body)
	})
	if err := provider.Serve(mux); err != nil {
		t.Fatal(err)
	}
	eventually(t, "an address through the relay", func() bool { c, _ := circuits(provider); return len(c) > 0 })
	through, direct := circuits(provider)
	tenant := start(t, p2p.Config{})
	if _, err := tenant.Connect(t.Context(), through); err != nil {
		t.Fatal(err)
	}

	body, feed := io.Pipe()
	first := make([]byte, 64<<10)
	fed := make(chan error, 1)
	go func() {
		_, err := feed.Write(make([]byte, len(first)))
		fed <- err
	}()
	resp, err := tenant.BulkClient().Post(p2p.URL(provider.Key())+"/blob/x", "", body)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if err := <-fed; err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(resp.Body, first); err != nil {
		t.Fatal(err)
	}
	if got := provider.Traffic(); got.RelayedIn < 64<<10 || got.DirectIn > 0 {
		t.Errorf("before: %+v", got)
	}
	if got := hub.Relayed(); got < 64<<10 {
		t.Errorf("the hub counts %d relayed bytes", got)
	}
	// One on the streams of requests goes on. They are on the relay before there
	// is anything else.
	early, err := tenant.HTTPClient().Get(p2p.URL(provider.Key()) + "/other")
	if err != nil {
		t.Fatal(err)
	}
	if err := early.Body.Close(); err != nil {
		t.Fatal(err)
	}
	hung, stillOpen := io.Pipe()
	kept := make(chan error, 1)
	go func() {
		r, err := tenant.HTTPClient().Post(p2p.URL(provider.Key())+"/other", "", hung)
		if err == nil {
			err = r.Body.Close()
		}
		kept <- err
	}()

	if err := tenant.DialDirect(t.Context(), direct[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("bulk on the relay was not cut: %v", err)
	}
	_ = feed.Close()
	if err := stillOpen.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-kept; err != nil {
		t.Errorf("a request that is no bulk was cut: %v", err)
	}

	before := provider.Traffic()
	post := func(c *http.Client) int {
		resp, err := c.Post(p2p.URL(provider.Key())+"/blob/x", "", strings.NewReader(strings.Repeat("x", 64<<10)))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	if got := post(tenant.BulkClient()); got != http.StatusOK {
		t.Errorf("bulk on the direct connection: status %d", got)
	}
	after := provider.Traffic()
	if after.DirectIn-before.DirectIn < 64<<10 || after.RelayedIn-before.RelayedIn > 16<<10 {
		t.Errorf("went over the relay: %+v, then %+v", before, after)
	}
	// The other client's stream is the relayed one still.
	if got := post(tenant.HTTPClient()); got != http.StatusServiceUnavailable {
		t.Errorf("bulk through the relay, in spite of a direct connection: status %d", got)
	}
}

// A tenant opens nothing where nobody can meet it: the relay's address is not
// a public one.
func TestNoMeetingPointOnLoopback(t *testing.T) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	hub := start(t, p2p.Config{Role: p2p.RoleHub})
	provider := start(t, p2p.Config{Role: p2p.RoleProvider, Relays: hub.Addrs(), Identity: private})
	serve(t, provider)
	eventually(t, "an address through the relay", func() bool { c, _ := circuits(provider); return len(c) > 0 })
	through, _ := circuits(provider)
	tenant := start(t, p2p.Config{Punch: true})
	if _, err := tenant.Connect(t.Context(), through); err != nil {
		t.Fatal(err)
	}
	mustAsk(t, tenant, provider)
	if tenant.Direct(provider.Key()) {
		t.Error("direct, without a public address")
	}
	if a := tenant.Addrs(); len(a) > 0 {
		t.Errorf("opened %q for a relay on this machine", a)
	}
}
