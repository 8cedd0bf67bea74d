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
	return startWith(t, limits, hub.Deps{Escrow: e})
}

func startWith(t *testing.T, limits hub.Limits, deps hub.Deps) *running {
	t.Helper()
	r := &running{host: host(t, p2p.RoleHub)}
	deps.ChainID, deps.Addrs = chainID, r.host.Addrs
	var err error
	if r.Server, err = hub.New(limits, deps); err != nil {
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
		r.Close(ctx)
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

// keep answers from the board of a hub in another process until ctx ends.
func (p *provider) keep(ctx context.Context, addrs []string) {
	for ctx.Err() == nil {
		_ = p.onBoard(ctx, addrs, func(bool) {})
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// once holds one stream until it breaks.
func (p *provider) once(ctx context.Context, t *testing.T, r *running) error {
	t.Helper()
	return p.onBoard(ctx, r.host.Addrs(), func(on bool) { p.set(r, on) })
}

func (p *provider) onBoard(ctx context.Context, addrs []string, tell func(on bool)) error {
	c, err := hub.Dial(ctx, p, addrs...)
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
	defer tell(false)
	for {
		m, err := stream.Receive()
		if err != nil {
			return err
		}
		if m.GetReason() != "" {
			return errors.New(m.GetReason())
		}
		tell(true)
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
			return fmt.Errorf("a hub passed on: %w", err)
		}
		id := s.ID()
		sealed, err := wire.SealAnswer(d.SealingKey, id, market.Answer{Provider: p.account, NodeKey: p.Key(), Reason: fallow.ReasonPaused, Protocol: fallow.Protocol})
		if err != nil {
			return err
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

var _ hub.Peer = (*p2p.Host)(nil)

// askAddrs puts a demand to a hub and reads until its end.
func askAddrs(ctx context.Context, h *p2p.Host, addrs []string, s market.Signed) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	c, err := hub.Dial(ctx, h, addrs...)
	if err != nil {
		return err
	}
	stream, err := c.Ask(ctx, connect.NewRequest(&hubv1.AskRequest{Demand: wire.ToSigned(s), Protocol: fallow.Protocol}))
	if err != nil {
		return err
	}
	defer func() { _ = stream.Close() }()
	for stream.Receive() {
	}
	return stream.Err()
}
