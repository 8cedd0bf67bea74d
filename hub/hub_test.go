package hub_test

import (
	"context"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	"fallow.network"
	hubv1 "fallow.network/api/hub"
	marketv1 "fallow.network/api/market"
	"fallow.network/hub"
	"fallow.network/market"
	"fallow.network/p2p"
	"fallow.network/wire"
)

const chainID = "fallow-test"

func host(t *testing.T, role p2p.Role) *p2p.Host {
	t.Helper()
	_, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	h, err := p2p.New(t.Context(), p2p.Config{Identity: priv, Role: role})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Errorf("close host: %v", err)
		}
	})
	return h
}

// escrow is what tenants have; a tenant that is not there has nothing.
type escrow struct {
	mu    sync.Mutex
	free  map[fallow.Account]fallow.Credits
	away  bool
	calls int
}

func (e *escrow) Free(_ context.Context, tenant fallow.Account) (fallow.Credits, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.calls++
	if e.away {
		return 0, errors.New("the ledger is away")
	}
	return e.free[tenant], nil
}

func (e *escrow) set(tenant fallow.Account, c fallow.Credits) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.free == nil {
		e.free = map[fallow.Account]fallow.Credits{}
	}
	e.free[tenant] = c
}

type running struct {
	*hub.Server
	host *p2p.Host
}

func start(t *testing.T, limits hub.Limits, e hub.Escrow) *running {
	t.Helper()
	r := &running{host: host(t, p2p.RoleHub)}
	var err error
	if r.Server, err = hub.New(limits, hub.Deps{ChainID: chainID, Escrow: e, Addrs: r.host.Addrs}); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle(r.Handler())
	if err := r.host.Serve(mux); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		r.Server.Close(ctx)
	})
	return r
}

// kill is kill -9: no word to anybody.
func (r *running) kill(t *testing.T) {
	t.Helper()
	if err := r.host.Close(); err != nil {
		t.Error(err)
	}
}

// tenant signs demands.
type tenant struct {
	secret  []byte
	account fallow.Account
	key     market.ClientKey
	seal    *ecdh.PrivateKey
	to      market.SealingKey
}

func newTenant(t *testing.T, name string) *tenant {
	t.Helper()
	sum := sha256.Sum256([]byte(name))
	k, err := wire.ClientKey(sum[:])
	if err != nil {
		t.Fatal(err)
	}
	n := &tenant{secret: sum[:], key: k, account: wire.Address(k)}
	if n.seal, n.to, err = wire.NewSealingKey(); err != nil {
		t.Fatal(err)
	}
	return n
}

var nonce atomic.Uint64

func (n *tenant) demand(t *testing.T, life time.Duration, change func(*market.Demand)) market.Signed {
	t.Helper()
	d := market.Demand{
		Tenant: n.account, ClientKey: n.key, SessionKey: fallow.Key{1}, SealingKey: n.to,
		Kind: market.KindBatch, Class: fallow.ClassWASM, Profile: "fallow/wasm/1",
		Slot: market.Resources{MilliCPU: 1000, Memory: 1 << 20}, Slots: 1, Workload: fallow.Sum([]byte("w")), Tasks: 1,
		Expires: fallow.Time(time.Now().Add(life).UnixMilli()),
	}
	copy(d.Nonce[:], fmt.Sprintf("%016d", nonce.Add(1)))
	if change != nil {
		change(&d)
	}
	b, err := wire.EncodeDemand(d)
	if err != nil {
		t.Fatal(err)
	}
	s, err := wire.SignDemand(n.secret, chainID, b)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// asked is what came back for a demand from one hub.
type asked struct {
	number  int
	answers []market.Answer
}

func (n *tenant) ask(t *testing.T, h *p2p.Host, r *running, s market.Signed) (asked, error) {
	t.Helper()
	return n.askAs(t, h, r, s, fallow.Protocol)
}

func (n *tenant) askAs(t *testing.T, h *p2p.Host, r *running, s market.Signed, protocol string) (asked, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var a asked
	c, err := hub.Dial(ctx, h, r.host.Addrs()...)
	if err != nil {
		return a, err
	}
	stream, err := c.Ask(ctx, connect.NewRequest(&hubv1.AskRequest{Demand: wire.ToSigned(s), Protocol: protocol}))
	if err != nil {
		return a, err
	}
	defer func() { _ = stream.Close() }()
	for first := true; stream.Receive(); first = false {
		m := stream.Msg()
		if m.GetFirst() != first {
			t.Errorf("first is %v", m.GetFirst())
		}
		a.number += int(m.GetAsked())
		if m.GetAnswer() == nil {
			continue
		}
		answer, err := wire.OpenAnswer(n.seal, s.ID(), m.GetAnswer())
		if err != nil {
			t.Error(err)
		}
		a.answers = append(a.answers, answer)
	}
	return a, stream.Err()
}

// provider answers every demand with a reason, from the boards of some hubs.
type provider struct {
	*p2p.Host
	account fallow.Account
	silent  bool
	heard   atomic.Int64
	mu      sync.Mutex
	on      map[*running]bool
}

func newProvider(t *testing.T, name string) *provider {
	t.Helper()
	return &provider{Host: host(t, p2p.RoleProvider), account: newTenant(t, name).account, on: map[*running]bool{}}
}

func (p *provider) announcement() *hubv1.Announcement {
	k := p.Key()
	return &hubv1.Announcement{
		Provider: string(p.account), NodeKey: k[:], Classes: []string{"wasm"}, Profiles: []string{"fallow/wasm/1"}, Region: "eu",
		LargestSlot: &marketv1.Resources{MilliCpu: 4000, MemoryBytes: 1 << 30},
		Attributes:  []*marketv1.Attribute{{Key: "arch", Value: "amd64"}},
		Addrs:       p.Addrs(), Protocol: fallow.Protocol,
	}
}

func (p *provider) isOn(r *running) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.on[r]
}

func (p *provider) set(r *running, on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.on[r] = on
}

// once holds one stream until it breaks.
func (p *provider) once(ctx context.Context, t *testing.T, r *running) error {
	t.Helper()
	c, err := hub.Dial(ctx, p, r.host.Addrs()...)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream := c.Board(ctx)
	defer func() { _ = stream.CloseResponse() }()
	if err := stream.Send(&hubv1.BoardRequest{Announcement: p.announcement()}); err != nil {
		return err
	}
	defer p.set(r, false)
	for {
		m, err := stream.Receive()
		if err != nil {
			return err
		}
		if m.GetReason() != "" {
			return errors.New(m.GetReason())
		}
		p.set(r, true)
		if m.GetDemand() == nil {
			continue
		}
		p.heard.Add(1)
		if p.silent {
			continue
		}
		s := market.Signed{Message: m.GetDemand().GetMessage(), Signature: m.GetDemand().GetSignature()}
		d, err := wire.OpenDemand(chainID, s)
		if err != nil {
			t.Errorf("a hub passed on: %v", err)
			continue
		}
		id := s.ID()
		sealed, err := wire.SealAnswer(d.SealingKey, id, market.Answer{Provider: p.account, NodeKey: p.Key(), Reason: fallow.ReasonPaused, Protocol: fallow.Protocol})
		if err != nil {
			t.Error(err)
			continue
		}
		if err := stream.Send(&hubv1.BoardRequest{Reply: &hubv1.SealedReply{Demand: id[:], Answer: sealed}}); err != nil {
			return err
		}
	}
}

// hold stays on the boards of hubs until the test ends, as the daemon does.
func (p *provider) hold(t *testing.T, hubs ...*running) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, r := range hubs {
		wg.Go(func() {
			for ctx.Err() == nil {
				_ = p.once(ctx, t, r)
				select {
				case <-time.After(20 * time.Millisecond):
				case <-ctx.Done():
				}
			}
		})
	}
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	for _, r := range hubs {
		eventually(t, "a provider on the board", func() bool { return p.isOn(r) && r.OnBoard(p.Key()) })
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not in 15 s: %s", what)
}

// whole runs a part of a test and then waits until all its goroutines ended.
func whole(t *testing.T, part func(t *testing.T)) {
	t.Helper()
	before := runtime.NumGoroutine()
	t.Run("run", part)
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if runtime.NumGoroutine() <= before {
			return
		}
	}
	buf := make([]byte, 1<<20)
	t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
}

func TestTwoHubsOneDies(t *testing.T) {
	whole(t, func(t *testing.T) {
		n := newTenant(t, "tenant")
		e := &escrow{}
		e.set(n.account, 1_000_000)
		a, b := start(t, hub.Default(), e), start(t, hub.Default(), e)
		var ps []*provider
		for i := range 3 {
			p := newProvider(t, fmt.Sprintf("provider-%d", i))
			p.hold(t, a, b)
			ps = append(ps, p)
		}
		h := host(t, p2p.RoleTenant)
		s := n.demand(t, 5*time.Second, nil)
		for _, r := range []*running{a, b} {
			got, err := n.ask(t, h, r, s)
			if err != nil || got.number != 3 || len(got.answers) != 3 {
				t.Fatalf("asked %d, %d answers: %v", got.number, len(got.answers), err)
			}
			for _, x := range got.answers {
				if x.Reason != fallow.ReasonPaused {
					t.Errorf("answer %+v", x)
				}
			}
		}

		// One dies in the middle: those on the other are reached still.
		a.kill(t)
		if _, err := n.ask(t, h, a, n.demand(t, time.Second, nil)); err == nil {
			t.Error("a dead hub answers")
		}
		got, err := n.ask(t, h, b, n.demand(t, 5*time.Second, nil))
		if err != nil || len(got.answers) != 3 {
			t.Fatalf("%d answers: %v", len(got.answers), err)
		}
		for _, p := range ps {
			eventually(t, "the dead hub is noticed", func() bool { return !p.isOn(a) })
			if !p.isOn(b) {
				t.Error("the other stream broke")
			}
		}
		st, err := status(t, h, b)
		if err != nil || st.GetProviders() != 3 || st.GetDemands() != 2 || st.GetAnswers() != 6 || st.GetChainId() != chainID || len(st.GetAddrs()) == 0 {
			t.Errorf("status %v %v", st, err)
		}
	})
}

func status(t *testing.T, h *p2p.Host, r *running) (*hubv1.StatusResponse, error) {
	t.Helper()
	c, err := hub.Dial(t.Context(), h, r.host.Addrs()...)
	if err != nil {
		return nil, err
	}
	resp, err := c.Status(t.Context(), connect.NewRequest(&hubv1.StatusRequest{}))
	if err != nil {
		return nil, err
	}
	return resp.Msg, nil
}

func TestProviderComesBackAfterACut(t *testing.T) {
	r := start(t, hub.Default(), &escrow{})
	p := newProvider(t, "p")
	p.hold(t, r)
	for range 3 {
		if err := r.host.Disconnect(p.Key()); err != nil {
			t.Fatal(err)
		}
		eventually(t, "gone", func() bool { return !p.isOn(r) })
		eventually(t, "back", func() bool { return p.isOn(r) && r.OnBoard(p.Key()) })
	}
}

func TestDemandsThatAreRefused(t *testing.T) {
	n, other := newTenant(t, "tenant"), newTenant(t, "other")
	e := &escrow{}
	e.set(n.account, 1_000_000)
	r := start(t, hub.Default(), e)
	p := newProvider(t, "p")
	p.hold(t, r)
	h := host(t, p2p.RoleTenant)
	good := n.demand(t, 5*time.Second, nil)
	forged := n.demand(t, 5*time.Second, nil)
	forged.Signature = other.demand(t, 5*time.Second, nil).Signature
	elsewhere, err := wire.SignDemand(n.secret, "another-chain", good.Message)
	if err != nil {
		t.Fatal(err)
	}
	unknown := append(append([]byte{}, good.Message...), 0xf8, 0x07, 1) // field 127
	signedUnknown, err := wire.SignDemand(n.secret, chainID, unknown)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		s        market.Signed
		protocol string
		code     connect.Code
		reason   fallow.Reason
		says     string
	}{
		"empty":           {market.Signed{}, fallow.Protocol, connect.CodeInvalidArgument, fallow.ReasonMalformed, ""},
		"garbage":         {market.Signed{Message: []byte("hello"), Signature: make([]byte, 64)}, fallow.Protocol, connect.CodeInvalidArgument, fallow.ReasonMalformed, ""},
		"unknown field":   {signedUnknown, fallow.Protocol, connect.CodeInvalidArgument, fallow.ReasonMalformed, ""},
		"huge":            {market.Signed{Message: make([]byte, 1<<20), Signature: make([]byte, 64)}, fallow.Protocol, connect.CodeResourceExhausted, "", ""},
		"forged":          {forged, fallow.Protocol, connect.CodeInvalidArgument, fallow.ReasonSignature, ""},
		"another chain":   {elsewhere, fallow.Protocol, connect.CodeInvalidArgument, fallow.ReasonSignature, ""},
		"expired":         {n.demand(t, -time.Second, nil), fallow.Protocol, connect.CodeFailedPrecondition, fallow.ReasonExpired, "clock"},
		"older protocol":  {good, "fallow/0", connect.CodeFailedPrecondition, fallow.ReasonVersion, "upgrade your fallow"},
		"newer protocol":  {good, "fallow/99", connect.CodeFailedPrecondition, fallow.ReasonVersion, "the hub is older"},
		"foreign":         {good, "other", connect.CodeFailedPrecondition, fallow.ReasonVersion, "upgrade the older"},
		"without version": {good, "", connect.CodeFailedPrecondition, fallow.ReasonVersion, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := n.askAs(t, h, r, tc.s, tc.protocol)
			if connect.CodeOf(err) != tc.code || hub.ReasonOf(err) != tc.reason || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("error %v (%s), want %s %s %q", err, connect.CodeOf(err), tc.code, tc.reason, tc.says)
			}
		})
	}
	if p.heard.Load() != 0 {
		t.Errorf("%d refused demands reached a provider", p.heard.Load())
	}
	if got, err := n.ask(t, h, r, good); err != nil || len(got.answers) != 1 {
		t.Errorf("a good demand: %+v %v", got, err)
	}
	// It was answered: no second round of answers for the same bytes.
	if _, err := n.ask(t, h, r, good); connect.CodeOf(err) != connect.CodeAlreadyExists {
		t.Errorf("the same demand again: %v", err)
	}
	if p.heard.Load() != 1 {
		t.Errorf("the provider heard %d demands", p.heard.Load())
	}
}

func TestOneDemandAskedTwiceIsPutOnce(t *testing.T) {
	n := newTenant(t, "tenant")
	e := &escrow{}
	e.set(n.account, 1_000_000)
	r := start(t, hub.Default(), e)
	p, silent := newProvider(t, "p"), newProvider(t, "silent")
	silent.silent = true
	p.hold(t, r)
	silent.hold(t, r)
	s := n.demand(t, 1500*time.Millisecond, nil)
	begun := time.Now()
	var wg sync.WaitGroup
	for range 3 {
		h := host(t, p2p.RoleTenant)
		wg.Go(func() {
			got, err := n.ask(t, h, r, s)
			if err != nil || got.number != 2 || len(got.answers) != 1 {
				t.Errorf("%+v %v", got, err)
			}
		})
	}
	wg.Wait()
	if d := time.Since(begun); d < time.Second || d > 5*time.Second {
		t.Errorf("a silent provider was waited for %v", d)
	}
	if p.heard.Load() != 1 || silent.heard.Load() != 1 {
		t.Errorf("heard %d and %d times", p.heard.Load(), silent.heard.Load())
	}
}

func TestFilters(t *testing.T) {
	n := newTenant(t, "tenant")
	e := &escrow{}
	e.set(n.account, 1_000_000)
	r := start(t, hub.Default(), e)
	p := newProvider(t, "p")
	p.hold(t, r)
	h := host(t, p2p.RoleTenant)
	for name, tc := range map[string]struct {
		change func(*market.Demand)
		asked  int
	}{
		"as it is":      {nil, 1},
		"class":         {func(d *market.Demand) { d.Class = "oci" }, 0},
		"profile":       {func(d *market.Demand) { d.Profile = "other" }, 0},
		"too large":     {func(d *market.Demand) { d.Slot.MilliCPU = 5000 }, 0},
		"region":        {func(d *market.Demand) { d.Placement.Regions = []string{"us", "eu"} }, 1},
		"other region":  {func(d *market.Demand) { d.Placement.Regions = []string{"us"} }, 0},
		"attribute":     {func(d *market.Demand) { d.Placement.Attributes = []market.Attribute{{Key: "arch", Value: "arm64"}} }, 0},
		"named":         {func(d *market.Demand) { d.Placement.Providers = []fallow.Account{p.account} }, 1},
		"others named":  {func(d *market.Demand) { d.Placement.Providers = []fallow.Account{n.account} }, 0},
		"excluded":      {func(d *market.Demand) { d.Placement.Excluded = []fallow.Account{p.account} }, 0},
		"gpu":           {func(d *market.Demand) { d.Slot.GPUs = 1 }, 0},
		"all that fits": {func(d *market.Demand) { d.Slot = market.Resources{MilliCPU: 4000, Memory: 1 << 30} }, 1},
	} {
		got, err := n.ask(t, h, r, n.demand(t, 5*time.Second, tc.change))
		if err != nil || got.number != tc.asked || len(got.answers) != tc.asked {
			t.Errorf("%s: %+v %v", name, got, err)
		}
	}
}

func TestRates(t *testing.T) {
	limits := hub.Default()
	limits.TenantRate, limits.TenantBurst = 0.001, 6
	limits.UnfundedRate, limits.UnfundedBurst = 0.001, 2
	limits.PeerRate, limits.PeerBurst = 0.001, 12
	rich, poor, poorer, spent := newTenant(t, "rich"), newTenant(t, "poor"), newTenant(t, "poorer"), newTenant(t, "spent")
	e := &escrow{}
	e.set(rich.account, limits.Funded)
	e.set(spent.account, limits.Funded-1)
	r := start(t, limits, e)
	count := func(h *p2p.Host, n *tenant, times int, change func(*market.Demand)) (ok int, last error) {
		for range times {
			if _, err := n.ask(t, h, r, n.demand(t, 5*time.Second, change)); err == nil {
				ok++
			} else {
				last = err
			}
		}
		return ok, last
	}
	if ok, err := count(host(t, p2p.RoleTenant), rich, 8, nil); ok != 6 || hub.ReasonOf(err) != fallow.ReasonRateLimited {
		t.Errorf("a funded tenant got %d: %v", ok, err)
	}
	// Those without funds share one small rate, however many they are.
	one, err := count(host(t, p2p.RoleTenant), poor, 1, nil)
	if err != nil {
		t.Error(err)
	}
	two, _ := count(host(t, p2p.RoleTenant), spent, 1, nil)
	three, err := count(host(t, p2p.RoleTenant), poorer, 3, nil)
	if one+two+three != 2 || !strings.Contains(fmt.Sprint(err), "fallow deposit") {
		t.Errorf("unfunded tenants got %d %d %d: %v", one, two, three, err)
	}
	// Who signs for a rich tenant with a key of its own is not funded by that.
	if ok, _ := count(host(t, p2p.RoleTenant), poor, 2, func(d *market.Demand) { d.Tenant = rich.account }); ok != 0 {
		t.Errorf("a stranger asked for a rich tenant %d times", ok)
	}
	// One peer, whatever it asks.
	h := host(t, p2p.RoleTenant)
	limited := 0
	for range 15 {
		if _, err := status(t, h, r); hub.ReasonOf(err) == fallow.ReasonRateLimited {
			limited++
		}
	}
	if limited != 3 {
		t.Errorf("%d of 15 requests of a peer were refused", limited)
	}
	if e.calls > 4 {
		t.Errorf("the ledger was asked %d times for 4 accounts", e.calls)
	}
}

func TestLedgerAway(t *testing.T) {
	limits := hub.Default()
	limits.UnfundedBurst, limits.UnfundedRate, limits.FundsAgeMS = 0, 0, 0
	known, unknown := newTenant(t, "known"), newTenant(t, "unknown")
	e := &escrow{}
	e.set(known.account, 1_000_000)
	r := start(t, limits, e)
	h := host(t, p2p.RoleTenant)
	if _, err := known.ask(t, h, r, known.demand(t, 5*time.Second, nil)); err != nil {
		t.Fatal(err)
	}
	e.mu.Lock()
	e.away = true
	e.mu.Unlock()
	if _, err := known.ask(t, h, r, known.demand(t, 5*time.Second, nil)); err != nil {
		t.Errorf("a tenant known to be funded: %v", err)
	}
	if _, err := unknown.ask(t, h, r, unknown.demand(t, 5*time.Second, nil)); hub.ReasonOf(err) != fallow.ReasonRateLimited {
		t.Errorf("an unknown tenant: %v", err)
	}
}

func TestAnnouncementsThatAreRefused(t *testing.T) {
	limits := hub.Default()
	limits.PeerBurst = 1000
	r := start(t, limits, nil)
	p, q := newProvider(t, "p"), newProvider(t, "q")
	for name, tc := range map[string]struct {
		change func(*hubv1.Announcement) *hubv1.Announcement
		reason fallow.Reason
	}{
		"none":            {func(*hubv1.Announcement) *hubv1.Announcement { return nil }, fallow.ReasonMalformed},
		"version":         {func(a *hubv1.Announcement) *hubv1.Announcement { a.Protocol = "fallow/2"; return a }, fallow.ReasonVersion},
		"another's key":   {func(a *hubv1.Announcement) *hubv1.Announcement { k := q.Key(); a.NodeKey = k[:]; return a }, fallow.ReasonMalformed},
		"short key":       {func(a *hubv1.Announcement) *hubv1.Announcement { a.NodeKey = a.NodeKey[:5]; return a }, fallow.ReasonMalformed},
		"no account":      {func(a *hubv1.Announcement) *hubv1.Announcement { a.Provider = "me"; return a }, fallow.ReasonMalformed},
		"no class":        {func(a *hubv1.Announcement) *hubv1.Announcement { a.Classes = nil; return a }, fallow.ReasonMalformed},
		"many classes":    {func(a *hubv1.Announcement) *hubv1.Announcement { a.Classes = make([]string, 100); return a }, fallow.ReasonMalformed},
		"long word":       {func(a *hubv1.Announcement) *hubv1.Announcement { a.Region = strings.Repeat("x", 200); return a }, fallow.ReasonMalformed},
		"another's place": {func(a *hubv1.Announcement) *hubv1.Announcement { a.Addrs = q.Addrs(); return a }, fallow.ReasonMalformed},
		"bad resources": {func(a *hubv1.Announcement) *hubv1.Announcement {
			a.LargestSlot.MilliCpu = 1 << 31
			return a
		}, fallow.ReasonMalformed},
		"bad attribute": {func(a *hubv1.Announcement) *hubv1.Announcement { a.Attributes[0].Key = ""; return a }, fallow.ReasonMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			c, err := hub.Dial(ctx, p, r.host.Addrs()...)
			if err != nil {
				t.Fatal(err)
			}
			stream := c.Board(ctx)
			defer func() { _ = stream.CloseResponse() }()
			if err := stream.Send(&hubv1.BoardRequest{Announcement: tc.change(p.announcement())}); err != nil {
				t.Fatal(err)
			}
			m, err := stream.Receive()
			if err != nil || m.GetReason() != string(tc.reason) || m.GetProtocol() != fallow.Protocol {
				t.Errorf("got %v %v", m, err)
			}
			if _, err := stream.Receive(); hub.ReasonOf(err) != tc.reason {
				t.Errorf("stream ended with %v", err)
			}
			if r.OnBoard(p.Key()) {
				t.Error("on the board all the same")
			}
		})
	}
}

func TestBoardIsFull(t *testing.T) {
	limits := hub.Default()
	limits.Providers = 1
	r := start(t, limits, nil)
	newProvider(t, "p").hold(t, r)
	if err := newProvider(t, "q").once(t.Context(), t, r); err == nil || err.Error() != string(fallow.ReasonNoCapacity) {
		t.Errorf("a provider too many: %v", err)
	}
}

// raw opens a board stream and waits until it is on the board.
func raw(t *testing.T, p *provider, r *running) *connect.BidiStreamForClient[hubv1.BoardRequest, hubv1.BoardResponse] {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	c, err := hub.Dial(ctx, p, r.host.Addrs()...)
	if err != nil {
		t.Fatal(err)
	}
	stream := c.Board(ctx)
	if err := stream.Send(&hubv1.BoardRequest{Announcement: p.announcement()}); err != nil {
		t.Fatal(err)
	}
	if m, err := stream.Receive(); err != nil || m.GetReason() != "" {
		t.Fatal(m, err)
	}
	return stream
}

// ends reads until the hub ends the stream, and gives the reason.
func ends(t *testing.T, stream *connect.BidiStreamForClient[hubv1.BoardRequest, hubv1.BoardResponse]) fallow.Reason {
	t.Helper()
	var reason fallow.Reason
	for {
		m, err := stream.Receive()
		if err != nil {
			_ = stream.CloseResponse()
			return reason
		}
		if m.GetReason() != "" {
			reason = fallow.Reason(m.GetReason())
		}
	}
}

func TestMalformedReplies(t *testing.T) {
	whole(t, func(t *testing.T) {
		r := start(t, hub.Default(), nil)
		p := newProvider(t, "p")
		id := make([]byte, 32)
		for name, reply := range map[string]*hubv1.SealedReply{
			"no demand": {Answer: &marketv1.SealedAnswer{EncapsulatedKey: id, Ciphertext: id}},
			"no answer": {Demand: id},
			"short key": {Demand: id, Answer: &marketv1.SealedAnswer{EncapsulatedKey: id[:3], Ciphertext: id}},
			"huge":      {Demand: id, Answer: &marketv1.SealedAnswer{EncapsulatedKey: id, Ciphertext: make([]byte, 200<<10)}},
			"too huge":  {Demand: id, Answer: &marketv1.SealedAnswer{EncapsulatedKey: id, Ciphertext: make([]byte, 1<<20)}},
		} {
			stream := raw(t, p, r)
			if err := stream.Send(&hubv1.BoardRequest{Reply: reply}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if reason := ends(t, stream); reason != fallow.ReasonMalformed && name != "too huge" {
				t.Errorf("%s: ended with %q", name, reason)
			}
			eventually(t, "off the board", func() bool { return !r.OnBoard(p.Key()) })
		}
		// Replies to nothing: a few are forgiven.
		stream := raw(t, p, r)
		for range 400 {
			if err := stream.Send(&hubv1.BoardRequest{Reply: &hubv1.SealedReply{Demand: id, Answer: &marketv1.SealedAnswer{EncapsulatedKey: id, Ciphertext: id}}}); err != nil {
				break
			}
		}
		if reason := ends(t, stream); reason != fallow.ReasonMalformed {
			t.Errorf("a flood of replies ended with %q", reason)
		}
	})
}

func TestNewStreamReplacesTheOld(t *testing.T) {
	r := start(t, hub.Default(), nil)
	p := newProvider(t, "p")
	old := raw(t, p, r)
	fresh := raw(t, p, r)
	if reason := ends(t, old); reason != fallow.ReasonProviderLeft {
		t.Errorf("the old stream ended with %q", reason)
	}
	if !r.OnBoard(p.Key()) {
		t.Error("not on the board")
	}
	// An announcement replaces what stands there.
	a := p.announcement()
	a.Region = "moon"
	if err := fresh.Send(&hubv1.BoardRequest{Announcement: a}); err != nil {
		t.Fatal(err)
	}
	h := host(t, p2p.RoleTenant)
	c, err := hub.Dial(t.Context(), h, r.host.Addrs()...)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new announcement in the listing", func() bool {
		resp, err := c.Providers(t.Context(), connect.NewRequest(&hubv1.ProvidersRequest{Limit: 10}))
		return err != nil || len(resp.Msg.GetProviders()) == 1 && resp.Msg.GetProviders()[0].GetRegion() == "moon"
	})
	_ = fresh.CloseRequest()
	_ = fresh.CloseResponse()
	eventually(t, "off the board", func() bool { return !r.OnBoard(p.Key()) })
}

// TestSlowProviderIsDropped: one that does not read its stream holds nobody
// up, and goes.
func TestSlowProviderIsDropped(t *testing.T) {
	whole(t, func(t *testing.T) {
		n := newTenant(t, "tenant")
		e := &escrow{}
		e.set(n.account, 1_000_000)
		limits := hub.Default()
		limits.Queue, limits.TenantBurst, limits.PeerBurst = 2, 10_000, 10_000
		r := start(t, limits, e)
		slow, quick := newProvider(t, "slow"), newProvider(t, "quick")
		_ = raw(t, slow, r) // never read
		quick.hold(t, r)
		h := host(t, p2p.RoleTenant)
		// Large demands fill the stream's window sooner.
		large := func(d *market.Demand) {
			for i := range 1000 {
				d.Inputs = append(d.Inputs, market.Blob{Digest: fallow.Sum([]byte{byte(i), byte(i >> 8)}), Size: 1, MediaType: strings.Repeat("x", 60)})
			}
		}
		eventually(t, "the slow provider off the board", func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			c, err := hub.Dial(ctx, h, r.host.Addrs()...)
			if err != nil {
				t.Fatal(err)
			}
			s := n.demand(t, 5*time.Second, large)
			begun := time.Now()
			stream, err := c.Ask(ctx, connect.NewRequest(&hubv1.AskRequest{Demand: wire.ToSigned(s), Protocol: fallow.Protocol}))
			if err != nil {
				t.Fatal(err)
			}
			for stream.Receive() {
				if stream.Msg().GetAnswer() != nil {
					break
				}
			}
			if d := time.Since(begun); d > 2*time.Second {
				t.Errorf("the quick provider's answer took %v", d)
			}
			cancel()
			_ = stream.Close()
			return !r.OnBoard(slow.Key())
		})
		if !r.OnBoard(quick.Key()) {
			t.Error("the quick provider was dropped")
		}
	})
}

func TestGracefulClose(t *testing.T) {
	whole(t, func(t *testing.T) {
		n := newTenant(t, "tenant")
		e := &escrow{}
		e.set(n.account, 1_000_000)
		r := start(t, hub.Default(), e)
		p, silent := newProvider(t, "p"), newProvider(t, "silent")
		stream := raw(t, silent, r)
		p.hold(t, r)
		h := host(t, p2p.RoleTenant)
		got := make(chan int, 1)
		go func() {
			a, _ := n.ask(t, h, r, n.demand(t, 30*time.Second, nil))
			got <- len(a.answers)
		}()
		eventually(t, "the demand with the provider", func() bool { return p.heard.Load() == 1 })
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		begun := time.Now()
		r.Server.Close(ctx)
		if d := time.Since(begun); d > 5*time.Second {
			t.Errorf("closing took %v", d)
		}
		if n := <-got; n != 1 {
			t.Errorf("%d answers before the end", n)
		}
		if reason := ends(t, stream); reason != fallow.ReasonDraining {
			t.Errorf("the provider's stream ended with %q", reason)
		}
		if _, err := n.ask(t, h, r, n.demand(t, time.Second, nil)); connect.CodeOf(err) != connect.CodeUnavailable || hub.ReasonOf(err) != fallow.ReasonDraining {
			t.Errorf("a closed hub answers %v", err)
		}
	})
}

func TestLimitsAreChecked(t *testing.T) {
	for _, change := range []func(*hub.Limits){
		func(l *hub.Limits) { l.Providers = 0 },
		func(l *hub.Limits) { l.Queue = 1 << 20 },
		func(l *hub.Limits) { l.PeerRate = 0 },
		func(l *hub.Limits) { l.UnfundedRate = -1 },
	} {
		l := hub.Default()
		change(&l)
		if _, err := hub.New(l, hub.Deps{ChainID: chainID}); err == nil {
			t.Errorf("accepted %+v", l)
		}
	}
	if _, err := hub.New(hub.Default(), hub.Deps{}); err == nil {
		t.Error("accepted without a chain id")
	}
}

func TestMetrics(t *testing.T) {
	r := start(t, hub.Default(), nil)
	newProvider(t, "p").hold(t, r)
	families, err := r.Metrics().Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			found[f.GetName()] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	if found["fallow_hub_providers"] != 1 {
		t.Errorf("metrics %v", found)
	}
	if _, ok := found["fallow_hub_demands_total"]; !ok {
		t.Errorf("metrics %v", found)
	}
}

var _ hub.Peer = (*p2p.Host)(nil)
