package client

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"

	"fallow.network"
	marketv1 "fallow.network/api/market"
	nodev1 "fallow.network/api/node"
	"fallow.network/api/node/nodev1connect"
	"fallow.network/blob"
	"fallow.network/market"
	"fallow.network/receipt"
	"fallow.network/wire"
)

func signDoc(secret, doc []byte) ([]byte, error) {
	var s secp256k1.ModNScalar
	if s.SetByteSlice(secret) {
		return nil, errors.New("overflow")
	}
	sum := sha256.Sum256(doc)
	return ecdsa.SignCompact(secp256k1.NewPrivateKey(&s), sum[:], true)[1:], nil
}

// testProvider is a provider over real HTTP, with faults to choose from. Its
// journal survives a restart.
type testProvider struct {
	nodev1connect.UnimplementedNodeServiceHandler
	t       *testing.T
	net     *testNet
	ledger  *testLedger
	key     ed25519.PrivateKey
	account fallow.Account
	store   *blob.Store
	server  *httptest.Server
	addr    string

	terms market.Terms
	took  time.Duration
	// Faults.
	decline    fallow.Reason
	mute       bool                               // answers no demand
	lies       func(task uint32) bool             // gives wrong outputs
	fails      func(task uint32) fallow.Reason    // gives no result
	silent     func(task, attempt uint32) bool    // takes a task and says nothing
	garbles    bool                               // sends other bytes than it signed for
	dies       int                                // is killed after so many receipts; 0 is never
	onTask     func(p *testProvider, task uint32) // told of each task
	noInline   bool                               // small outputs don't come with receipts
	overcharge bool
	waits      bool          // says that it waits for a voucher where nothing is owed
	ending     string        // said at the first task
	bloats     bool          // claims an output that no disk could take
	late       chan struct{} // until it is closed, connections are taken and nothing said

	mu       sync.Mutex
	dead     bool
	receipts map[fallow.LeaseID][]testReceipt
	vouchers map[fallow.LeaseID]receipt.Voucher
	signed   map[fallow.LeaseID]market.Signed
	running  map[testAttempt]bool
	ran      map[uint32]int
	finished map[fallow.LeaseID]bool
	slots    chan struct{}
}

type testAttempt struct {
	lease         fallow.LeaseID
	task, attempt uint32
}

type testReceipt struct {
	at     testAttempt
	signed market.Signed
	inline [][]byte
	r      receipt.Receipt
}

func startProvider(t *testing.T, n *testNet, l *testLedger, name string, gasPrice uint64) *testProvider {
	t.Helper()
	seed := sha256.Sum256([]byte(name))
	id := newTestIdentity(name)
	p := &testProvider{
		t: t, net: n, ledger: l, key: ed25519.NewKeyFromSeed(seed[:]), account: id.account(), took: 5 * time.Millisecond,
		receipts: map[fallow.LeaseID][]testReceipt{}, vouchers: map[fallow.LeaseID]receipt.Voucher{}, signed: map[fallow.LeaseID]market.Signed{},
		running: map[testAttempt]bool{}, ran: map[uint32]int{}, finished: map[fallow.LeaseID]bool{},
		terms: market.Terms{
			GasPrice: fallow.PicoOf(gasPrice), TaskFee: fallow.PicoOf(1_000_000_000), Slots: 2,
			Slot:       market.Resources{MilliCPU: 1000, Memory: 8 << 30, Disk: 64 << 30},
			LeastSpeed: 1, UnpaidCeiling: 1_000_000, MaxReserve: 100_000_000, ClaimWindowMS: 5000, IdleMS: 60_000,
		},
	}
	var err error
	if p.store, err = blob.Open(t.Context(), blob.Config{Dir: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	l.mu.Lock()
	l.listing = append(l.listing, Listing{Provider: p.account, NodeKeys: []fallow.Key{p.node()}, Addrs: []string{p.node().String()}})
	l.bonds[p.account] = Standing{Bond: 1_000_000_000, Nodes: []fallow.Key{p.node()}}
	l.mu.Unlock()
	p.start()
	t.Cleanup(func() { p.kill() })
	return p
}

func (p *testProvider) node() fallow.Key { return wire.PublicKey(p.key) }

// start serves, at the same port as before.
func (p *testProvider) start() {
	mux := http.NewServeMux()
	mux.Handle(nodev1connect.NewNodeServiceHandler(p))
	mux.Handle(blob.PathPrefix, &blob.Handler{Store: p.store, Authorize: func(*http.Request, fallow.Digest, int64) error { return nil }})
	p.mu.Lock()
	p.dead, p.running = false, map[testAttempt]bool{}
	p.slots = make(chan struct{}, p.terms.Slots)
	p.mu.Unlock()
	server := listen(p.t, mux, p.addr)
	p.mu.Lock()
	p.server, p.addr = server, server.Listener.Addr().String()
	p.mu.Unlock()
	p.net.at(p.node(), server.URL)
}

// kill is kill -9: connections break, what was not signed is lost.
func (p *testProvider) kill() {
	p.mu.Lock()
	if p.dead {
		p.mu.Unlock()
		return
	}
	p.dead = true
	server := p.server
	p.mu.Unlock()
	server.CloseClientConnections()
	_ = server.Listener.Close()
	go server.Close()
}

func (p *testProvider) declines() fallow.Reason {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.decline
}

func (p *testProvider) isDead() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dead
}

func (p *testProvider) answer(_ context.Context, m *marketv1.Signed) *marketv1.SealedAnswer {
	if p.mute || p.isDead() {
		return nil
	}
	s, err := wire.Signed(m)
	if err != nil {
		return nil
	}
	d, err := wire.OpenDemand(testChain, s)
	if err != nil {
		p.t.Errorf("demand: %v", err)
		return nil
	}
	a := market.Answer{Provider: p.account, NodeKey: p.node(), Addrs: []string{p.node().String()}, Protocol: fallow.Protocol, Region: "eu"}
	if !d.Placement.Names(p.account) {
		a.Reason = fallow.ReasonPlacement
	} else if reason := p.declines(); reason != "" {
		a.Reason, a.Detail = reason, "by the schedule"
	} else {
		o := market.Offer{
			Demand: s.ID(), Tenant: d.Tenant, Provider: p.account, NodeKey: p.node(), KeyEpoch: 1, Kind: d.Kind, Workload: d.Workload,
			Terms: p.terms, LastHeight: 1_000_000, Profile: d.Profile,
		}
		o.Terms.Slots = min(o.Terms.Slots, d.Slots)
		_, _ = rand.Read(o.Nonce[:])
		b, err := wire.EncodeOffer(o)
		if err != nil {
			p.t.Errorf("offer: %v", err)
			return nil
		}
		a.Offer = wire.Sign(p.key, market.SignsOffer, testChain, b)
	}
	sealed, err := wire.SealAnswer(d.SealingKey, s.ID(), a)
	if err != nil {
		p.t.Errorf("seal: %v", err)
	}
	return sealed
}

// Ask answers a direct demand.
func (p *testProvider) Ask(ctx context.Context, r *connect.Request[nodev1.AskRequest]) (*connect.Response[nodev1.AskResponse], error) {
	a := p.answer(ctx, r.Msg.GetDemand())
	if a == nil {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return connect.NewResponse(&nodev1.AskResponse{Answer: a}), nil
}

// Work serves a lease.
func (p *testProvider) Work(ctx context.Context, s *connect.BidiStream[nodev1.WorkRequest, nodev1.WorkResponse]) error {
	first, err := s.Receive()
	if err != nil {
		return err
	}
	id := fallow.LeaseID(first.GetLease())
	lease := p.ledger.get(id)
	if !lease.open || lease.SessionKey != peerOf(s.RequestHeader()) || lease.NodeKey != p.node() {
		return connect.NewError(connect.CodePermissionDenied, errors.New("not your lease"))
	}
	if p.late != nil {
		select {
		case <-p.late:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	out := make(chan *nodev1.WorkResponse, 1024)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		for {
			select {
			case m := <-out:
				if err := s.Send(m); err != nil {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	})
	p.mu.Lock()
	hello := &nodev1.Hello{Protocol: fallow.Protocol, Slots: lease.offer.Terms.Slots}
	if v, ok := p.signed[id]; ok {
		hello.Voucher = wire.ToSigned(v)
	}
	out <- &nodev1.WorkResponse{Hello: hello}
	have := map[uint32]bool{}
	for _, t := range first.GetHaveReceipts() {
		have[t] = true
	}
	for _, r := range p.receipts[id] {
		if !have[r.at.task] {
			out <- &nodev1.WorkResponse{Receipt: &nodev1.TaskReceipt{Receipt: wire.ToSigned(r.signed), Inline: r.inline}}
		}
	}
	if p.waits {
		out <- &nodev1.WorkResponse{WaitingForVoucher: true}
	}
	p.mu.Unlock()
	for {
		m, err := s.Receive()
		if err != nil {
			return nil
		}
		if v := m.GetVoucher(); v != nil {
			if err := p.takeVoucher(lease, v); err != nil {
				return connect.NewError(connect.CodeInvalidArgument, err)
			}
		}
		if t := m.GetTask(); t != nil {
			if p.ending != "" {
				out <- &nodev1.WorkResponse{Failed: &nodev1.TaskFailed{Task: t.GetTask(), Attempt: t.GetAttempt(), Reason: p.ending, Detail: "\x1b[2J" + p.ending}}
				out <- &nodev1.WorkResponse{Ending: p.ending}
				continue
			}
			if p.onTask != nil {
				p.onTask(p, t.GetTask())
			}
			wg.Go(func() { p.run(ctx, lease, t, out) })
		}
		if m.GetFinish() {
			p.mu.Lock()
			p.finished[id] = true
			amount := p.vouchers[id].Amount
			p.mu.Unlock()
			b, err := wire.EncodeRelease(receipt.Release{Lease: id, Amount: amount})
			if err != nil {
				return err
			}
			out <- &nodev1.WorkResponse{Release: wire.ToSigned(wire.Sign(p.key, market.SignsRelease, testChain, b))}
		}
	}
}

func (p *testProvider) takeVoucher(lease testLease, m *marketv1.Signed) error {
	s, err := wire.Signed(m)
	if err != nil {
		return err
	}
	v, err := wire.OpenVoucher(testChain, lease.SessionKey, s)
	if err != nil {
		p.t.Errorf("voucher: %v", err)
		return err
	}
	now := p.ledger.get(lease.ID)
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.vouchers[lease.ID]
	var charged fallow.Pico
	for _, r := range p.receipts[lease.ID] {
		charged = plus(charged, r.r.Charge)
	}
	switch {
	case v.Amount.Cmp(old.Amount) < 0:
		p.t.Errorf("voucher of lease %d goes down: %s after %s", lease.ID, v.Amount, old.Amount)
	case v.Amount.Cmp(charged) > 0:
		p.t.Errorf("voucher of lease %d pays twice: %s for work of %s", lease.ID, v.Amount, charged)
	case v.Amount.Cmp(now.Reserve.Pico()) > 0:
		p.t.Errorf("voucher of lease %d is beyond the reserve: %s over %s", lease.ID, v.Amount, now.Reserve)
	}
	p.vouchers[lease.ID], p.signed[lease.ID] = v, s
	return nil
}

// run does one task, asking for what is missing first.
func (p *testProvider) run(ctx context.Context, lease testLease, m *nodev1.Task, out chan<- *nodev1.WorkResponse) {
	at := testAttempt{lease.ID, m.GetTask(), m.GetAttempt()}
	send := func(m *nodev1.WorkResponse) {
		if p.isDead() {
			return
		}
		select {
		case out <- m:
		case <-ctx.Done():
		}
	}
	p.mu.Lock()
	for _, r := range p.receipts[lease.ID] {
		if r.at == at {
			p.mu.Unlock()
			send(&nodev1.WorkResponse{Receipt: &nodev1.TaskReceipt{Receipt: wire.ToSigned(r.signed), Inline: r.inline}})
			return
		}
	}
	if p.running[at] {
		p.mu.Unlock()
		return
	}
	p.running[at] = true
	p.mu.Unlock()
	// A task that had not begun when its connection was cut is taken again.
	leave := func() {
		p.mu.Lock()
		delete(p.running, at)
		p.mu.Unlock()
	}
	if p.silent != nil && p.silent(at.task, at.attempt) {
		return
	}
	t, err := wire.Task(m)
	if err != nil {
		p.t.Errorf("task: %v", err)
		return
	}
	var wants []*marketv1.Blob
	need := []*marketv1.Blob{m.GetModule()}
	if m.GetStdin() != nil {
		need = append(need, m.GetStdin())
	}
	for _, in := range m.GetInputs() {
		need = append(need, in.GetBlob())
	}
	for _, b := range need {
		d, _ := fallow.DigestFrom(b.GetDigest())
		if _, ok := p.store.Has(d); !ok {
			wants = append(wants, b)
		}
	}
	if len(wants) > 0 {
		send(&nodev1.WorkResponse{Wants: wants})
	}
	for _, b := range wants {
		d, _ := fallow.DigestFrom(b.GetDigest())
		for {
			if _, ok := p.store.Has(d); ok {
				break
			}
			select {
			case <-ctx.Done():
				leave()
				return
			case <-time.After(2 * time.Millisecond):
			}
		}
	}
	p.mu.Lock()
	slots := p.slots
	p.mu.Unlock()
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	case <-ctx.Done():
		leave()
		return
	}
	started := time.Now()
	time.Sleep(p.took)
	if p.isDead() {
		return
	}
	if p.fails != nil {
		if reason := p.fails(at.task); reason != "" {
			send(&nodev1.WorkResponse{Failed: &nodev1.TaskFailed{Task: at.task, Attempt: at.attempt, Reason: string(reason), Detail: "as the test says"}})
			return
		}
	}
	p.finish(ctx, lease, at, t, started, send)
}

func (p *testProvider) finish(ctx context.Context, lease testLease, at testAttempt, t receipt.Task, started time.Time, send func(*nodev1.WorkResponse)) {
	files, gas := guest(t)
	if p.lies != nil && p.lies(at.task) {
		files["out.txt"] = []byte("something cheaper")
	}
	outputs := outputsOf(files)
	var inline [][]byte
	for _, o := range outputs {
		b := files[o.Path]
		if _, err := p.store.Add(ctx, b); err != nil && p.t.Context().Err() == nil && ctx.Err() == nil {
			p.t.Errorf("keep an output: %v", err)
		}
		switch {
		case p.garbles:
			inline = append(inline, []byte("not what was signed for"))
		case p.noInline || o.Size > 4096:
			inline = append(inline, nil)
		default:
			inline = append(inline, b)
		}
	}
	if p.bloats {
		outputs = append(outputs, receipt.Output{Path: "zz", Digest: fallow.Sum([]byte("zz")), Size: market.MaxBytes})
		inline = append(inline, nil)
	}
	charge, err := receipt.Charge(lease.offer.Terms, gas)
	if err != nil {
		p.t.Errorf("charge: %v", err)
		return
	}
	if p.overcharge {
		charge = plus(charge, charge)
	}
	r := receipt.Receipt{
		Lease: lease.ID, Workload: t.Workload, Task: at.task, Attempt: at.attempt, Input: receipt.InputDigest(t),
		Output: receipt.OutputDigest(outputs), Outputs: outputs, Gas: gas, Outcome: receipt.Exited, Profile: t.Profile,
		Started: fallow.Time(started.UnixMilli()), Ended: fallow.Time(time.Now().UnixMilli()), Charge: charge,
	}
	b, err := wire.EncodeReceipt(r)
	if err != nil {
		p.t.Errorf("receipt: %v", err)
		return
	}
	signed := wire.Sign(p.key, market.SignsReceipt, testChain, b)
	p.mu.Lock()
	if p.dead {
		p.mu.Unlock()
		return
	}
	p.receipts[lease.ID] = append(p.receipts[lease.ID], testReceipt{at, signed, inline, r})
	p.ran[at.task]++
	total := 0
	for _, list := range p.receipts {
		total += len(list)
	}
	dies := p.dies > 0 && total >= p.dies
	if dies {
		p.dies = 0
	}
	p.mu.Unlock()
	if dies {
		p.kill()
		return
	}
	send(&nodev1.WorkResponse{Receipt: &nodev1.TaskReceipt{Receipt: wire.ToSigned(signed), Inline: inline}})
}

// paid is what the provider holds vouchers for, over all leases.
func (p *testProvider) paid() (sum fallow.Pico) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, v := range p.vouchers {
		sum = plus(sum, v.Amount)
	}
	return sum
}

func (p *testProvider) runs() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, list := range p.receipts {
		n += len(list)
	}
	return n
}
