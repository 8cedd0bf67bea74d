package provider

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"fallow.network"
	"fallow.network/hardware"
	"fallow.network/market"
	"fallow.network/receipt"
	"fallow.network/settle"
	"fallow.network/wire"
)

const testChain = "fallow-test-1"

var errAway = errors.New("the ledger is away")

// fakeLedger is a ledger in memory: leases open from signed offers, vouchers
// pay up to the reserve, and it can go away.
type fakeLedger struct {
	mu       sync.Mutex
	away     bool
	stuck    bool // nothing settles
	busy     int  // vouchers for which it has no time
	height   fallow.Height
	block    chan struct{}
	leases   map[fallow.LeaseID]*settle.Lease
	used     map[fallow.Digest]bool
	escrows  map[fallow.Account]settle.Account
	standing Standing
	settled  []Settlement
	paid     fallow.Credits
	asked    int // calls of any kind
}

func newFakeLedger() *fakeLedger {
	return &fakeLedger{
		height: 100, block: make(chan struct{}), leases: map[fallow.LeaseID]*settle.Lease{}, used: map[fallow.Digest]bool{},
		escrows: map[fallow.Account]settle.Account{}, standing: Standing{Epoch: 1, Ceiling: 1_000_000_000},
	}
}

// mine adds blocks.
func (f *fakeLedger) mine(n int) {
	for range n {
		f.mu.Lock()
		f.height++
		close(f.block)
		f.block = make(chan struct{})
		f.mu.Unlock()
	}
}

func (f *fakeLedger) set(change func(*fakeLedger)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
	close(f.block)
	f.block = make(chan struct{})
}

func (f *fakeLedger) reach() error {
	f.asked++
	if f.away {
		return errAway
	}
	return nil
}

func (f *fakeLedger) Follow(ctx context.Context, seen func(fallow.Height, fallow.Time)) error {
	for {
		f.mu.Lock()
		next, height, err := f.block, f.height, f.reach()
		f.mu.Unlock()
		if err != nil {
			return err
		}
		seen(height, fallow.Time(time.Now().UnixMilli()))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-next:
		}
	}
}

func (f *fakeLedger) Lease(_ context.Context, id fallow.LeaseID) (settle.Lease, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.reach(); err != nil {
		return settle.Lease{}, err
	}
	if l := f.leases[id]; l != nil {
		return *l, nil
	}
	return settle.Lease{}, ErrNoLease
}

func (f *fakeLedger) Leases(_ context.Context, provider fallow.Account) ([]settle.Lease, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.reach(); err != nil {
		return nil, err
	}
	var list []settle.Lease
	for _, l := range f.leases {
		if l.Provider == provider && l.State != settle.Closed {
			list = append(list, *l)
		}
	}
	return list, nil
}

func (f *fakeLedger) Escrow(_ context.Context, tenant fallow.Account) (settle.Account, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.escrows[tenant], f.reach()
}

func (f *fakeLedger) Standing(context.Context, fallow.Account, fallow.Key) (Standing, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.standing, f.reach()
}

// open opens a lease as the ledger's rules do.
func (f *fakeLedger) open(s market.Signed, session fallow.Key, reserve fallow.Credits) (fallow.LeaseID, error) {
	o, err := wire.OpenOffer(testChain, s)
	if err != nil {
		return 0, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.used[s.ID()]:
		return 0, errors.New("offer used")
	case o.LastHeight < f.height:
		return 0, errors.New("offer expired")
	case reserve > o.Terms.MaxReserve:
		return 0, errors.New("reserve above the terms")
	}
	f.used[s.ID()] = true
	id := fallow.LeaseID(len(f.leases) + 1)
	f.leases[id] = &settle.Lease{
		ID: id, Tenant: o.Tenant, Provider: o.Provider, NodeKey: o.NodeKey, KeyEpoch: o.KeyEpoch, SessionKey: session,
		Kind: o.Kind, State: settle.Open, Offer: s.ID(), Workload: o.Workload, Reserve: reserve, MaxReserve: o.Terms.MaxReserve,
		ClaimWindowMS: o.Terms.ClaimWindowMS, Opened: settle.Block{Height: f.height, Time: fallow.Time(time.Now().UnixMilli())},
	}
	return id, nil
}

func (f *fakeLedger) Settle(_ context.Context, s Settlement) ([]settle.Result, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.reach(); err != nil {
		return nil, err
	}
	if f.stuck {
		return nil, errAway
	}
	f.settled = append(f.settled, s)
	var results []settle.Result
	waits := map[fallow.LeaseID]bool{}
	for _, v := range s.Vouchers {
		r := f.redeem(v)
		waits[r.Lease] = r.Reason == fallow.ReasonBusy
		results = append(results, r)
	}
	for _, c := range s.Closes {
		if waits[c.Lease] {
			continue
		}
		if l := f.leases[c.Lease]; l != nil && l.State == settle.Open {
			l.State, l.Reason = settle.Closing, c.Reason
			l.Deadline = fallow.Time(time.Now().UnixMilli() + int64(l.ClaimWindowMS))
		} else if l != nil && l.State == settle.Closing {
			l.State = settle.Closed
		}
	}
	return results, nil
}

func (f *fakeLedger) redeem(s market.Signed) settle.Result {
	v, err := wire.Voucher(s.Message)
	l := f.leases[v.Lease]
	switch {
	case err != nil || l == nil:
		return settle.Result{Lease: v.Lease, Reason: fallow.ReasonUnknownLease}
	case wire.Verify(testChain, market.SignsVoucher, l.SessionKey, s) != nil:
		return settle.Result{Lease: v.Lease, Reason: fallow.ReasonSignature}
	case l.State == settle.Closed:
		return settle.Result{Lease: v.Lease, Reason: fallow.ReasonLeaseClosed}
	case f.busy > 0:
		f.busy--
		return settle.Result{Lease: v.Lease, Reason: fallow.ReasonBusy}
	case v.Amount.Cmp(l.Reserve.Pico()) > 0:
		return settle.Result{Lease: v.Lease, Reason: fallow.ReasonVoucherBeyond}
	case v.Amount == l.Claimed:
		return settle.Result{Lease: v.Lease, Reason: fallow.ReasonVoucherReplayed}
	case v.Amount.Cmp(l.Claimed) < 0:
		return settle.Result{Lease: v.Lease, Reason: fallow.ReasonVoucherDown}
	}
	total, _ := v.Amount.Floor()
	paid := total - l.Paid
	l.Claimed, l.Paid = v.Amount, total
	f.paid += paid
	return settle.Result{Lease: v.Lease, Amount: paid}
}

// fakeRunner runs "guests" whose first argument says what they do.
type fakeRunner struct {
	mu      sync.Mutex
	boxes   int // running
	started int
	runs    map[uint32]int // by task
	most    int            // tasks at once
	now     int
	hold    chan struct{} // what "wait" waits for
}

func newFakeRunner() *fakeRunner {
	return &fakeRunner{runs: map[uint32]int{}, hold: make(chan struct{})}
}

func (r *fakeRunner) Start(context.Context, fallow.LeaseID, uint32) (Sandbox, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.boxes++
	r.started++
	return &fakeBox{r: r}, nil
}

func (r *fakeRunner) ran(task uint32) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.runs[task]
}

type fakeBox struct {
	r      *fakeRunner
	closed sync.Once
}

func (b *fakeBox) Close() error {
	b.closed.Do(func() {
		b.r.mu.Lock()
		defer b.r.mu.Unlock()
		b.r.boxes--
	})
	return nil
}

func (b *fakeBox) Run(ctx context.Context, j Job) (Result, error) {
	b.r.mu.Lock()
	b.r.runs[j.Task.Task]++
	b.r.now++
	b.r.most = max(b.r.most, b.r.now)
	b.r.mu.Unlock()
	defer func() {
		b.r.mu.Lock()
		b.r.now--
		b.r.mu.Unlock()
	}()
	res := Result{Gas: 1_000_000, Outcome: receipt.Exited}
	verb := "noop"
	if len(j.Task.Args) > 0 {
		verb = j.Task.Args[0]
	}
	switch verb {
	case "noop":
	case "wait":
		select {
		case <-b.r.hold:
		case <-ctx.Done():
			return Result{}, ctx.Err()
		}
	case "small":
		out := fmt.Appendf(nil, "task %d", j.Task.Task)
		res.Outputs = []Output{{receipt.Output{Path: "out", Digest: fallow.Sum(out), Size: uint64(len(out))}, out}}
	case "trap":
		res.Outcome, res.Trap = receipt.Trapped, "out_of_gas"
	case "dear":
		res.Gas = 20_000_000_000 // 0.00008 credits at the test's price
	case "refused":
		return Result{}, &Failure{fallow.ReasonModuleRefused, "imports env.hack"}
	case "crash":
		return Result{}, errors.New("child died")
	default:
		return Result{}, fmt.Errorf("unknown verb %q", verb)
	}
	return res, nil
}

// fakeWatcher says what the test wants of the owner's use.
type fakeWatcher struct {
	mu sync.Mutex
	a  hardware.Activity
}

func (w *fakeWatcher) Sample(context.Context) hardware.Activity {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.a
}

func (w *fakeWatcher) set(a hardware.Activity) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.a = a
}
