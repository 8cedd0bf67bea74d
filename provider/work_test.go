package provider

import (
	"context"
	"net/http"
	"testing"
	"time"

	"fallow.network"
	nodev1 "fallow.network/api/node"
	"fallow.network/market"
	"fallow.network/receipt"
	"fallow.network/settle"
	"fallow.network/wire"
)

func TestWorkFromDemandToMoney(t *testing.T) {
	w := newWorld(t, nil)
	c := w.tenant("anna", 10_000_000)
	c.rent(1_000_000, nil)
	if c.offer.Terms.Slots != 2 || c.offer.LastHeight != 100+30 {
		t.Errorf("offer %+v", c.offer)
	}
	k := c.connect()
	defer k.close()
	for n := range uint32(6) {
		k.task(n, "small")
	}
	k.task(6, "trap")
	k.until(7)
	if k.hello == nil || k.hello.GetSlots() != 2 || k.hello.GetReceipts() != 0 {
		t.Errorf("hello %v", k.hello)
	}
	for _, r := range k.receipts {
		want, err := receipt.Charge(c.offer.Terms, r.Gas)
		if err != nil || r.Charge != want || r.Lease != c.lease {
			t.Errorf("receipt %+v", r)
		}
		if r.Task == 6 {
			if r.Outcome != receipt.Trapped || r.Trap != "out_of_gas" {
				t.Errorf("a trap is a result: %+v", r)
			}
			continue
		}
		if in := k.inline[r.Task]; len(in) != 1 || fallow.Sum(in[0]) != r.Outputs[0].Digest {
			t.Errorf("inline outputs %q", in)
		}
	}
	if w.runner.most > 2 {
		t.Errorf("%d tasks at once in 2 slots", w.runner.most)
	}
	// Small outputs can be had by digest, too, and by nobody else.
	d := fallow.Sum([]byte("task 0"))
	if status, b, err := c.request(http.MethodGet, d, nil); err != nil || status != http.StatusOK || fallow.Sum(b) != d {
		t.Errorf("get: %d %q %v", status, b, err)
	}
	other := w.tenant("berta", 10_000_000)
	if status, _, err := other.request(http.MethodGet, d, nil); err != nil || status != http.StatusForbidden {
		t.Errorf("a stranger gets %d %v", status, err)
	}
	k.pay()
	k.send(&nodev1.WorkRequest{Finish: true})
	m := k.next("a release", func(m *nodev1.WorkResponse) bool { return m.GetRelease() != nil })
	s, err := wire.Signed(m.GetRelease())
	if err != nil {
		t.Fatal(err)
	}
	rel, err := wire.OpenRelease(testChain, c.offer.NodeKey, s)
	if err != nil || rel.Lease != c.lease || rel.Amount != k.charged {
		t.Errorf("release %+v %v, want %s", rel, err, k.charged)
	}
	want, _ := k.charged.Floor()
	w.until("the voucher is redeemed and the lease forgotten", func() bool {
		w.ledger.mu.Lock()
		defer w.ledger.mu.Unlock()
		return w.ledger.paid == want && w.ledger.leases[c.lease].State == settle.Closing && len(w.d.all()) == 0
	})
	if len(w.ledger.settled) != 1 || len(w.ledger.settled[0].Releases) != 1 || w.ledger.settled[0].Closes[0].Reason != fallow.ReasonCompleted {
		t.Errorf("settled by %+v", w.ledger.settled)
	}
	if u := w.d.capacity.usage(); u.SlotsHeld+u.SlotsLeased+u.Running != 0 {
		t.Errorf("capacity left: %+v", u)
	}
	if w.runner.boxes != 0 || len(w.store.Holders()) != 0 {
		t.Errorf("%d sandboxes, pins %q left", w.runner.boxes, w.store.Holders())
	}
	st, err := w.d.Status(t.Context())
	if err != nil || st.Earned != want.Pico() {
		t.Errorf("earned %s %v, want %s", st.Earned, err, want)
	}
}

func TestWorkWaitsAtTheUnpaidCeiling(t *testing.T) {
	w := newWorld(t, func(w *world) { w.config.Offers.UnpaidCeiling = fallow.Credits(200).Pico() })
	c := w.tenant("anna", 10_000_000)
	c.rent(1_000_000, func(d *market.Demand) { d.Slots = 1 })
	k := c.connect()
	defer k.close()
	for n := range uint32(8) {
		k.task(n, "dear") // 80.01 ucredit each
	}
	k.next("a wait for a voucher", (*nodev1.WorkResponse).GetWaitingForVoucher)
	k.until(3)
	time.Sleep(50 * time.Millisecond)
	ran := 0 // whichever: one that is taken in as the module arrives may be first
	for n := range uint32(8) {
		ran += w.runner.ran(n)
	}
	if ran != 3 || len(k.receipts) != 3 {
		t.Errorf("%d receipts, %d runs before a voucher", len(k.receipts), ran)
	}
	for len(k.receipts) < 8 {
		k.pay()
		k.until(min(8, len(k.receipts)+3))
	}
}

func TestBadVouchers(t *testing.T) {
	for _, c := range []struct {
		name string
		say  func(k *work) market.Signed
		want fallow.Reason
	}{
		{"goes down", func(k *work) market.Signed {
			k.pay()
			half, _ := k.charged.MulDiv(1, 2)
			return k.t.voucher(k.t.lease, half, 1)
		}, fallow.ReasonVoucherDown},
		{"fewer receipts", func(k *work) market.Signed {
			k.pay()
			more, _ := k.charged.Add(fallow.PicoOf(5))
			return k.t.voucher(k.t.lease, more, 1)
		}, fallow.ReasonVoucherDown},
		{"the same amount anew", func(k *work) market.Signed {
			k.pay()
			b, _ := wire.EncodeVoucher(receipt.Voucher{Lease: k.t.lease, Amount: k.charged, Receipts: 2, ReceiptsRoot: fallow.Sum([]byte("other"))})
			return wire.Sign(k.t.session, market.SignsVoucher, testChain, b)
		}, fallow.ReasonVoucherReplayed},
		{"another lease", func(k *work) market.Signed { return k.t.voucher(99, k.charged, 2) }, fallow.ReasonMalformed},
		{"forged", func(k *work) market.Signed {
			s := k.t.voucher(k.t.lease, k.charged, 2)
			s.Signature[3] ^= 1
			return s
		}, fallow.ReasonSignature},
		{"another chain", func(k *work) market.Signed {
			s := k.t.voucher(k.t.lease, k.charged, 2)
			return wire.Sign(k.t.session, market.SignsVoucher, "another-1", s.Message)
		}, fallow.ReasonSignature},
		{"not a voucher", func(k *work) market.Signed {
			return wire.Sign(k.t.session, market.SignsVoucher, testChain, []byte("hello"))
		}, fallow.ReasonMalformed},
		{"far ahead of the work", func(k *work) market.Signed { return k.t.voucher(k.t.lease, fallow.Credits(900_000).Pico(), 2) }, fallow.ReasonMalformed},
		{"beyond the reserve", func(k *work) market.Signed {
			return k.t.voucher(k.t.lease, fallow.Credits(200).Pico(), 2)
		}, fallow.ReasonVoucherBeyond},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			a := w.tenant("anna", 10_000_000)
			a.rent(100, nil)
			k := a.connect()
			defer k.close()
			k.task(0, "noop")
			k.task(1, "noop")
			k.until(2)
			bad := c.say(k)
			k.send(&nodev1.WorkRequest{Voucher: wire.ToSigned(bad)})
			if got := reasonIn(k.ended()); got != string(c.want) {
				t.Errorf("ended by %q, want %q", got, c.want)
			}
			// The lease stands, and so does the best voucher.
			again := a.connect(0, 1)
			defer again.close()
			again.next("hello", func(m *nodev1.WorkResponse) bool { return m.GetHello() != nil })
			if v := again.hello.GetVoucher(); v != nil && string(v.GetMessage()) == string(bad.Message) {
				t.Error("the bad voucher was kept")
			}
		})
	}
}

func TestResumeSendsWhatIsMissing(t *testing.T) {
	w := newWorld(t, nil)
	c := w.tenant("anna", 10_000_000)
	c.rent(1_000_000, nil)
	k := c.connect()
	for n := range uint32(4) {
		k.task(n, "small")
	}
	k.until(4)
	k.pay()
	first := map[uint32]string{}
	for i, r := range k.receipts {
		first[r.Task] = string(k.signed[i].Message)
	}
	// A replayed task gets the same receipt, and does not run again.
	k.task(2, "small")
	k.until(5)
	if string(k.signed[4].Message) != first[2] || w.runner.ran(2) != 1 {
		t.Errorf("task 2 ran %d times", w.runner.ran(2))
	}
	// The same attempt with other inputs is refused.
	k.task(3, "noop")
	m := k.next("a refusal", func(m *nodev1.WorkResponse) bool { return m.GetFailed() != nil })
	if m.GetFailed().GetReason() != string(fallow.ReasonMalformed) {
		t.Errorf("%v", m)
	}
	k.close()

	w.restart()
	k = c.connect(0, 3)
	defer k.close()
	k.until(2)
	if k.hello.GetReceipts() != 4 || k.hello.GetVoucher() == nil {
		t.Errorf("hello %v", k.hello)
	}
	for i, r := range k.receipts {
		if string(k.signed[i].Message) != first[r.Task] || len(k.inline[r.Task]) != 1 {
			t.Errorf("task %d came back changed", r.Task)
		}
	}
	// A further attempt is another run and another receipt.
	k.send(&nodev1.WorkRequest{Task: c.task(2, 2, "small")})
	k.until(3)
	if w.runner.ran(2) != 2 {
		t.Errorf("task 2 ran %d times", w.runner.ran(2))
	}
}

func TestRestartRunsWhatWasAccepted(t *testing.T) {
	w := newWorld(t, nil)
	c := w.tenant("anna", 10_000_000)
	c.rent(1_000_000, nil)
	k := c.connect()
	for n := range uint32(5) {
		k.task(n, "wait")
	}
	k.next("a wish for the module", func(m *nodev1.WorkResponse) bool { return len(m.GetWants()) > 0 })
	w.until("two tasks run", func() bool { return w.d.capacity.usage().Running == 2 })
	// Two may run before the rest has arrived: what counts is what was written down.
	w.until("all are in the journal", func() bool {
		tasks, err := w.d.journal.tasksOf(t.Context(), c.lease)
		if err != nil {
			t.Fatal(err)
		}
		return len(tasks) == 5
	})
	k.close()
	w.restart()
	close(w.runner.hold)
	// Nobody asks again: the journal knows.
	w.until("all have run", func() bool {
		l := w.d.all()
		if len(l) != 1 {
			return false
		}
		s, _, _ := l[0].status()
		return s.Receipts == 5
	})
	k = c.connect()
	defer k.close()
	k.until(5)
}

func TestFailuresAreTyped(t *testing.T) {
	w := newWorld(t, nil)
	c := w.tenant("anna", 10_000_000)
	c.rent(1_000_000, nil)
	k := c.connect()
	defer k.close()
	fails := func(what string, n uint32, want fallow.Reason) {
		t.Helper()
		m := k.next(what, func(m *nodev1.WorkResponse) bool { return m.GetFailed() != nil })
		if f := m.GetFailed(); f.GetTask() != n || f.GetReason() != string(want) || f.GetDetail() == "" {
			t.Errorf("%s: %v, want %s", what, f, want)
		}
	}
	k.task(0, "refused")
	fails("a refused module", 0, fallow.ReasonModuleRefused)
	k.task(1, "crash")
	fails("a crash", 1, fallow.ReasonAborted)
	k.task(2, "noop") // in a new sandbox
	k.until(1)
	if w.runner.started != 2 {
		t.Errorf("%d sandboxes started", w.runner.started)
	}
	big := c.task(3, 1, "noop")
	big.Limits.MemoryBytes = 1 << 40
	k.send(&nodev1.WorkRequest{Task: big})
	fails("too much memory", 3, fallow.ReasonTooLarge)
	bad := c.task(4, 1, "noop")
	bad.Workload = []byte("short")
	k.send(&nodev1.WorkRequest{Task: bad})
	fails("a malformed task", 4, fallow.ReasonMalformed)
	k.task(5, "wait")
	k.task(6, "wait")
	k.task(7, "wait")
	w.until("two run", func() bool { return w.d.capacity.usage().Running == 2 })
	k.send(&nodev1.WorkRequest{Cancel: &nodev1.Cancel{Task: 7, Attempt: 1}})
	fails("a cancelled task that waits", 7, fallow.ReasonCancelled)
	k.send(&nodev1.WorkRequest{Cancel: &nodev1.Cancel{Task: 5, Attempt: 1}})
	fails("a cancelled task that runs", 5, fallow.ReasonCancelled)
	// An attempt that failed may be asked again.
	k.task(0, "noop")
	k.until(2)
}

func TestWhoMayWork(t *testing.T) {
	w := newWorld(t, nil)
	c := w.tenant("anna", 10_000_000)
	c.rent(1_000_000, nil)
	thief := w.tenant("berta", 10_000_000)
	thief.lease, thief.offer = c.lease, c.offer
	if got := reasonIn(thief.connect().ended()); got != string(fallow.ReasonNotParty) {
		t.Errorf("a thief before: %s", got)
	}
	k := c.connect()
	k.task(0, "noop")
	k.until(1)
	if got := reasonIn(thief.connect().ended()); got != string(fallow.ReasonNotParty) {
		t.Errorf("a thief after: %s", got)
	}
	if err := thief.put([]byte("mine")); err == nil {
		t.Error("a stranger may not put")
	}
	old := *c
	old.lease = 77
	if got := reasonIn(old.connect().ended()); got != string(fallow.ReasonUnknownLease) {
		t.Errorf("no such lease: %s", got)
	}
	// A newer connection takes over.
	newer := c.connect(0)
	defer newer.close()
	if got := reasonIn(k.ended()); got != string(fallow.ReasonBusy) {
		t.Errorf("the older connection: %s", got)
	}
	newer.task(1, "noop")
	newer.until(1)
	// A message of another version.
	s := c.connect()
	s.close()
	m := &nodev1.WorkRequest{Lease: uint64(c.lease), Protocol: "fallow/0"}
	if err := sameProtocol(m.GetProtocol()); reasonIn(err) != string(fallow.ReasonVersion) {
		t.Error("another protocol is let in")
	}
}

func TestDiskShare(t *testing.T) {
	w := newWorld(t, nil)
	c := w.tenant("anna", 10_000_000)
	c.rent(1_000_000, func(d *market.Demand) { d.Slot.Disk = 1000; d.Slots = 1 })
	k := c.connect()
	defer k.close()
	small := c.task(0, 1, "noop")
	small.Limits.OutputBytes = 1000
	k.send(&nodev1.WorkRequest{Task: small})
	k.until(1)
	if err := c.put(make([]byte, 900)); err != nil {
		t.Error(err)
	}
	if err := c.put(make([]byte, 500)); err == nil {
		t.Error("more than the slot's disk was taken")
	}
}

func TestDiskFull(t *testing.T) {
	w := newWorld(t, func(w *world) { w.quota = 100 })
	c := w.tenant("anna", 10_000_000)
	c.rent(1_000_000, nil)
	k := c.connect()
	defer k.close()
	k.task(0, "small")
	k.until(1)
	// The store: an input finds no room, and says so.
	big := make([]byte, 200)
	if status, text, err := c.request(http.MethodPut, fallow.Sum(big), big); err != nil || status != http.StatusInsufficientStorage {
		t.Errorf("put: %d %s %v", status, text, err)
	}
	// The journal: no receipt, so no result; and no offer.
	grow := func(pages string) {
		t.Helper()
		err := w.d.journal.do(t.Context(), func(w *writer) error {
			rows, err := w.conn.QueryContext(w.ctx, "PRAGMA max_page_count = "+pages)
			if err != nil {
				return err
			}
			return rows.Close()
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	grow("1") // no more than it has
	var m *nodev1.WorkResponse
	for n := uint32(1); m == nil && n < 500; n++ {
		k.task(n, "small")
		got := k.next("a receipt or a failure", func(m *nodev1.WorkResponse) bool { return m.GetReceipt() != nil || m.GetFailed() != nil })
		if got.GetFailed() != nil {
			m = got
		}
	}
	if m.GetFailed().GetReason() != string(fallow.ReasonDiskFull) {
		t.Errorf("%v", m)
	}
	other := w.tenant("berta", 10_000_000)
	for range 20 {
		if a := other.ask(func(d *market.Demand) { d.Slots = 1 }); a.Reason != "" {
			if a.Reason != fallow.ReasonDiskFull {
				t.Errorf("%s %s", a.Reason, a.Detail)
			}
			break
		}
		w.d.capacity.expire(1 << 40)
	}
	// With room again, the attempt runs again.
	grow("1000000")
	k.send(&nodev1.WorkRequest{Task: c.task(m.GetFailed().GetTask(), 1, "small")})
	k.next("the receipt", hasReceipt)
}

func TestTenantThatDoesNotListen(t *testing.T) {
	k := newLink()
	ctx, cancel := context.WithCancel(t.Context())
	for range maxQueued {
		if !k.await(ctx) {
			t.Fatal("no room")
		}
		k.send(&nodev1.WorkResponse{})
	}
	done := make(chan bool)
	go func() { done <- k.await(ctx) }()
	select {
	case <-done:
		t.Fatal("a full queue takes more")
	case <-time.After(20 * time.Millisecond):
	}
	k.mu.Lock()
	k.out = nil
	wake(k.space)
	k.mu.Unlock()
	if !<-done {
		t.Error("an empty queue takes nothing")
	}
	cancel()
	k.close(nil)
	if k.await(ctx) {
		t.Error("a closed connection takes more")
	}
}
