package hub_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	"fallow.network"
	hubv1 "fallow.network/api/hub"
	"fallow.network/api/hub/hubv1connect"
	"fallow.network/hub"
	"fallow.network/market"
	"fallow.network/p2p"
	"fallow.network/wire"
)

// long says that floods have their full size: FALLOW_LONG, as in make test-all.
func long() bool { return os.Getenv("FALLOW_LONG") != "" }

// middle is the median of some times.
func middle(all []time.Duration) time.Duration {
	all = slices.Clone(all)
	slices.Sort(all)
	return all[len(all)/2]
}

// asks puts demands one after the other, as an honest tenant does, each of
// which must be answered by so many providers.
func (n *tenant) asks(t *testing.T, h *p2p.Host, r *running, times, providers int) (took []time.Duration) {
	t.Helper()
	for range times {
		s := n.demand(t, 10*time.Second, nil)
		begun := time.Now()
		a, err := n.ask(t, h, r, s)
		took = append(took, time.Since(begun))
		if err != nil || len(a.answers) != providers {
			t.Errorf("an honest demand: %d answers, %v", len(a.answers), err)
		}
		time.Sleep(200 * time.Millisecond) // within a tenant's rate
	}
	return took
}

// flood is what became of demands that came too fast.
type flood struct {
	mu       sync.Mutex
	sent     int
	answered int
	refused  map[fallow.Reason]int
	untyped  error
}

// run sends demands at a rate, each from the next peer.
func (f *flood) run(ctx context.Context, demands []market.Signed, peers []hubv1connect.HubServiceClient, perSecond int) time.Duration {
	f.refused = map[fallow.Reason]int{}
	work := make(chan int, len(demands))
	var wg sync.WaitGroup
	for range 128 {
		wg.Go(func() {
			for i := range work {
				f.one(ctx, demands[i], peers[i%len(peers)])
			}
		})
	}
	begun := time.Now()
	for i := range demands {
		work <- i
		time.Sleep(time.Until(begun.Add(time.Duration(i+1) * time.Second / time.Duration(perSecond))))
	}
	close(work)
	wg.Wait()
	return time.Since(begun)
}

func (f *flood) one(ctx context.Context, s market.Signed, c hubv1connect.HubServiceClient) {
	stream, err := c.Ask(ctx, connect.NewRequest(&hubv1.AskRequest{Demand: wire.ToSigned(s), Protocol: fallow.Protocol}))
	if err == nil {
		for stream.Receive() {
		}
		err = stream.Err()
		_ = stream.Close()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sent++
	switch reason := hub.ReasonOf(err); {
	case err == nil:
		f.answered++
	case reason != "":
		f.refused[reason]++
	case ctx.Err() == nil:
		f.untyped = err
	}
}

// flooded runs a flood beside an honest tenant and says what it did to it.
func flooded(t *testing.T, keys, peers int) {
	t.Helper()
	seconds := 1
	if long() {
		seconds = 5
	}
	const perSecond, providers = 1000, 3
	honest := newTenant(t, "honest")
	e := &escrow{}
	e.set(honest.account, 1_000_000)
	limits := hub.Default()
	r := start(t, limits, e)
	for i := range providers {
		newProvider(t, fmt.Sprintf("p%d", i)).hold(t, r)
	}
	h := host(t, p2p.RoleTenant)
	calm := honest.asks(t, h, r, 8, providers)

	var clients []hubv1connect.HubServiceClient
	for range peers {
		c, err := hub.Dial(t.Context(), host(t, p2p.RoleTenant), r.host.Addrs()...)
		if err != nil {
			t.Fatal(err)
		}
		clients = append(clients, c)
	}
	var from []*tenant
	for i := range keys {
		from = append(from, newTenant(t, fmt.Sprintf("flooder %d", i)))
	}
	var demands []market.Signed
	for i := range seconds * perSecond {
		demands = append(demands, from[i%keys].demand(t, time.Minute, nil))
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var f flood
	var took time.Duration
	var wg sync.WaitGroup
	wg.Go(func() { took = f.run(ctx, demands, clients, perSecond) })
	during := honest.asks(t, h, r, 4*seconds, providers)
	wg.Wait()
	runtime.GC()
	runtime.ReadMemStats(&after)
	grown := int64(after.HeapAlloc) - int64(before.HeapAlloc)
	e.mu.Lock()
	asked := e.calls
	e.mu.Unlock()
	t.Logf("%d demands by %d keys from %d peers in %s: %d answered, refused %v; %d questions to the ledger; heap of all parties %+d KiB; an honest demand took %s before and %s meanwhile, %.1fx",
		f.sent, keys, peers, took.Round(time.Millisecond), f.answered, f.refused, asked, grown>>10,
		middle(calm).Round(10*time.Microsecond), middle(during).Round(10*time.Microsecond), float64(middle(during))/float64(middle(calm)))
	if f.untyped != nil {
		t.Errorf("refused without a reason: %v", f.untyped)
	}
	allowed := limits.UnfundedBurst + int(limits.UnfundedRate*(took.Seconds()+1)) + 1
	if f.answered > allowed {
		t.Errorf("%d of the flood were put on the board, at most %d may be", f.answered, allowed)
	}
	if most := limits.LookupBurst + int(limits.LookupRate*(took.Seconds()+5)) + 40; asked > most {
		t.Errorf("the ledger was asked %d times, at most %d are allowed", asked, most)
	}
	if grown > 64<<20 {
		t.Errorf("%d bytes of heap stay", grown)
	}
}

func TestFloodFromOnePeer(t *testing.T) { flooded(t, 1, 1) }

func TestFloodOfUnfundedKeys(t *testing.T) {
	if long() {
		flooded(t, 1000, 100)
		return
	}
	flooded(t, 200, 20)
}

// TestNodesWithoutABond: the ledger is asked about who comes on the board.
func TestNodesWithoutABond(t *testing.T) {
	good, bad := newProvider(t, "good"), newProvider(t, "bad")
	known := bonds{good.account: good.Key()}
	r := startWith(t, hub.Default(), hub.Deps{Nodes: known})
	good.hold(t, r)
	if err := bad.once(t.Context(), t, r); err == nil || err.Error() != string(fallow.ReasonUnbonded) {
		t.Errorf("without a bond: %v", err)
	}
	// Nor may one speak for another.
	bad.account = good.account
	if err := bad.once(t.Context(), t, r); err == nil || err.Error() != string(fallow.ReasonUnbonded) {
		t.Errorf("for another: %v", err)
	}
}

// bonds are nodes by provider, and nobody when the ledger is away.
type bonds map[fallow.Account]fallow.Key

func (b bonds) Bonded(_ context.Context, provider fallow.Account, node fallow.Key) (bool, error) {
	return b[provider] == node, nil
}

// TestCompressedRequests: nothing that is compressed is unpacked.
func TestCompressedRequests(t *testing.T) {
	r := start(t, hub.Default(), nil)
	h := host(t, p2p.RoleTenant)
	if _, err := h.Connect(t.Context(), r.host.Addrs()); err != nil {
		t.Fatal(err)
	}
	c := hubv1connect.NewHubServiceClient(h.HTTPClient(), h.URL(r.host.Key()), connect.WithSendGzip())
	bomb := &hubv1.AskRequest{Protocol: strings.Repeat("0", 8<<20)}
	stream, err := c.Ask(t.Context(), connect.NewRequest(bomb))
	if err == nil {
		stream.Receive()
		err = stream.Err()
		_ = stream.Close()
	}
	if connect.CodeOf(err) != connect.CodeUnimplemented {
		t.Errorf("got %v, want it refused for its compression", err)
	}
}

// TestHalfRequests has a peer that begins many requests and ends none.
func TestHalfRequests(t *testing.T) {
	honest := newTenant(t, "honest")
	e := &escrow{}
	e.set(honest.account, 1_000_000)
	r := start(t, hub.Default(), e)
	newProvider(t, "p").hold(t, r)
	bad := host(t, p2p.RoleTenant)
	if _, err := bad.Connect(t.Context(), r.host.Addrs()); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var refused, ended atomic.Int64
	const n = 200
	for range n {
		wg.Go(func() {
			body, end := io.Pipe()
			defer func() { _ = end.Close() }()
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, bad.URL(r.host.Key())+hubv1connect.HubServiceAskProcedure, body)
			if err != nil {
				t.Error(err)
				return
			}
			req.Header.Set("Content-Type", "application/connect+proto")
			resp, err := bad.HTTPClient().Do(req)
			if err != nil {
				return
			}
			b, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if strings.Contains(string(b), string(fallow.ReasonRateLimited)) {
				refused.Add(1)
			} else {
				ended.Add(1)
			}
		})
	}
	eventually(t, "most are refused", func() bool { return refused.Load() >= n-64 })
	took := honest.asks(t, host(t, p2p.RoleTenant), r, 5, 1)
	t.Logf("%d of %d half requests were refused; an honest demand took %s", refused.Load(), n, middle(took).Round(10*time.Microsecond))
	if long() {
		eventually(t, "the hub ends the others by itself", func() bool { return refused.Load()+ended.Load() == n })
	}
	stop()
	wg.Wait()
	eventually(t, "the peer may ask again", func() bool {
		_, err := status(t, bad, r)
		return err == nil
	})
}
