package provider

import (
	"testing"
	"time"

	"fallow.network"
	nodev1 "fallow.network/api/node"
	"fallow.network/market"
	"fallow.network/settle"
	"fallow.network/wire"
)

// earned is a lease with two receipts and a voucher over them.
func earnedLease(t *testing.T, w *world) (*tenant, *work) {
	t.Helper()
	c := w.tenant("anna", 10_000_000)
	c.rent(1_000_000, nil)
	k := c.connect()
	t.Cleanup(k.close)
	k.task(0, "dear")
	k.task(1, "dear")
	k.until(2)
	k.pay()
	w.until("the voucher is known", func() bool { s, _, _ := w.d.all()[0].status(); return s.Vouched == k.charged })
	return c, k
}

func (w *world) paid() fallow.Credits {
	w.ledger.mu.Lock()
	defer w.ledger.mu.Unlock()
	return w.ledger.paid
}

func (w *world) settlements() int {
	w.ledger.mu.Lock()
	defer w.ledger.mu.Unlock()
	return len(w.ledger.settled)
}

func TestRedeemByAmount(t *testing.T) {
	w := newWorld(t, func(w *world) { w.config.Redeem.Amount = fallow.Credits(150).Pico() })
	_, k := earnedLease(t, w)
	w.until("a redemption", func() bool { return w.paid() == 160 })
	// What is not worth a transaction waits.
	k.task(2, "dear")
	k.until(3)
	k.pay()
	time.Sleep(50 * time.Millisecond)
	if w.settlements() != 1 {
		t.Errorf("%d settlements", w.settlements())
	}
	k.task(3, "dear")
	k.until(4)
	k.pay()
	w.until("a further redemption", func() bool { return w.paid() == 320 && w.settlements() == 2 })
}

func TestRedeemByAge(t *testing.T) {
	w := newWorld(t, func(w *world) { w.config.Redeem.Age = Duration(time.Second) })
	began := time.Now()
	earnedLease(t, w)
	if w.settlements() != 0 {
		t.Error("redeemed at once")
	}
	w.until("a redemption", func() bool { return w.paid() == 160 })
	if time.Since(began) < time.Second {
		t.Error("redeemed before its age")
	}
}

func TestRedeemRetriesAndSurvivesARestart(t *testing.T) {
	w := newWorld(t, func(w *world) { w.config.Redeem.Amount = fallow.Credits(150).Pico() })
	w.ledger.set(func(f *fakeLedger) { f.leases[9] = &settle.Lease{ID: 9, State: settle.Closed} })
	c := w.tenant("anna", 10_000_000)
	c.rent(1_000_000, nil)
	k := c.connect()
	k.task(0, "dear")
	k.task(1, "dear")
	k.until(2)
	w.ledger.set(func(f *fakeLedger) { f.away = true })
	k.pay()
	w.until("the voucher is known", func() bool { s, _, _ := w.d.all()[0].status(); return s.Vouched == k.charged })
	// Away is no reason to stop.
	k.task(2, "noop")
	k.until(3)
	k.close()
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	w.ledger.set(func(f *fakeLedger) { f.away = false })
	w.start()
	w.until("the journal's voucher is redeemed", func() bool { return w.paid() == 160 })
}

// A daemon that comes back does not know how much of a claim window has passed.
func TestARestartRedeemsAtOnce(t *testing.T) {
	w := newWorld(t, func(w *world) { w.config.Redeem.Age = Duration(time.Hour) })
	earnedLease(t, w)
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	if w.settlements() != 0 {
		t.Error("redeemed before its age")
	}
	w.start()
	w.until("the journal's voucher is redeemed", func() bool { return w.paid() == 160 })
}

// A provider's own close ends a lease at once: a voucher for which the ledger
// had no time comes before it.
func TestABusyLedgerClosesNoLeaseBeforeItsVoucher(t *testing.T) {
	w := newWorld(t, nil)
	c, k := earnedLease(t, w)
	w.ledger.set(func(f *fakeLedger) { f.busy = 2 })
	k.send(&nodev1.WorkRequest{Finish: true})
	w.until("the voucher is redeemed and the lease closed", func() bool {
		w.ledger.mu.Lock()
		defer w.ledger.mu.Unlock()
		return w.ledger.paid == 160 && w.ledger.leases[c.lease].State != settle.Open
	})
}

// A lease that the tenant closed holds its reserve until the window ends, unless
// its provider says that it has all.
func TestProviderEndsAClaimWindowThatItDoesNotNeed(t *testing.T) {
	w := newWorld(t, nil)
	c, _ := earnedLease(t, w)
	w.ledger.set(func(f *fakeLedger) {
		l := f.leases[c.lease]
		l.State, l.Reason, l.Deadline = settle.Closing, fallow.ReasonCancelled, fallow.Time(time.Now().Add(time.Hour).UnixMilli())
	})
	wake(w.d.compare)
	w.until("closed by the provider", func() bool {
		w.ledger.mu.Lock()
		defer w.ledger.mu.Unlock()
		return w.ledger.leases[c.lease].State == settle.Closed && w.ledger.paid == 160
	})
}

func TestTenantClosesAndTheClaimWindowCounts(t *testing.T) {
	w := newWorld(t, nil)
	c, k := earnedLease(t, w)
	w.ledger.set(func(f *fakeLedger) {
		l := f.leases[c.lease]
		l.State, l.Reason, l.Deadline = settle.Closing, fallow.ReasonCancelled, fallow.Time(time.Now().Add(time.Minute).UnixMilli())
	})
	k.task(2, "wait") // runs until the lease is seen to end
	wake(w.d.compare)
	m := k.next("the end", func(m *nodev1.WorkResponse) bool { return m.GetEnding() != "" })
	if m.GetEnding() != string(fallow.ReasonCancelled) {
		t.Errorf("%v", m)
	}
	w.until("redeemed before the window's end", func() bool { return w.paid() == 160 && len(w.d.all()) == 0 })
	if u := w.d.capacity.usage(); u.SlotsLeased != 0 || u.Running != 0 {
		t.Errorf("%+v", u)
	}
}

func TestUnpaidReceiptsWaitForTheClaimWindow(t *testing.T) {
	w := newWorld(t, func(w *world) { w.config.Offers.ClaimWindow = Duration(time.Second) })
	c := w.tenant("anna", 10_000_000)
	c.rent(1_000_000, nil)
	k := c.connect()
	defer k.close()
	k.task(0, "dear")
	k.until(1)
	w.ledger.set(func(f *fakeLedger) {
		l := f.leases[c.lease]
		l.State, l.Reason, l.Deadline = settle.Closing, fallow.ReasonCompleted, fallow.Time(time.Now().Add(10*time.Second).UnixMilli())
	})
	wake(w.d.compare)
	w.until("no more work", func() bool { s, _, _ := w.d.all()[0].status(); return s.Ending != "" })
	// A late voucher is still worth something.
	k.pay()
	w.until("the late voucher is redeemed", func() bool { return w.paid() == 80 && len(w.d.all()) == 0 })
}

func TestSilentTenant(t *testing.T) {
	w := newWorld(t, func(w *world) { w.config.Offers.Silence = Duration(time.Second) })
	c := w.tenant("anna", 10_000_000)
	c.rent(1_000_000, nil)
	k := c.connect()
	k.task(0, "dear")
	k.until(1)
	k.pay()
	w.until("the voucher is known", func() bool { s, _, _ := w.d.all()[0].status(); return s.Vouched == k.charged })
	k.close()
	w.until("the lease ends and is paid", func() bool { return w.paid() == 80 })
	w.ledger.mu.Lock()
	defer w.ledger.mu.Unlock()
	if l := w.ledger.leases[c.lease]; l.Reason != fallow.ReasonTenantGone {
		t.Errorf("%+v", l)
	}
}

func TestAwayTearsNothingDown(t *testing.T) {
	w := newWorld(t, nil)
	c := w.tenant("anna", 10_000_000)
	c.rent(1_000_000, nil)
	k := c.connect()
	defer k.close()
	k.task(0, "noop")
	k.until(1)
	w.ledger.set(func(f *fakeLedger) { f.away = true })
	if err := w.d.reconcileOnce(t.Context()); err == nil {
		t.Error("the ledger is not away")
	}
	k.task(1, "noop")
	k.until(2)
	// A node that has lost its memory is no proof either.
	w.ledger.set(func(f *fakeLedger) { f.away = false; f.leases = map[fallow.LeaseID]*settle.Lease{} })
	if err := w.d.reconcileOnce(t.Context()); err != nil {
		t.Error(err)
	}
	k.task(2, "noop")
	k.until(3)
}

func TestReconcileAdoptsAndGivesBack(t *testing.T) {
	w := newWorld(t, nil)
	c := w.tenant("anna", 10_000_000)
	a := c.ask(nil)
	// The hold ends here while the ledger opens the lease all the same.
	w.ledger.mine(5)
	w.d.capacity.expire(1000)
	id, err := w.ledger.open(a.Offer, wire.PublicKey(c.session), 1000)
	if err != nil {
		t.Fatal(err)
	}
	// One that no offer of this home has opened, and one of another machine.
	w.ledger.set(func(f *fakeLedger) {
		f.leases[50] = &settle.Lease{ID: 50, Provider: w.config.Provider, NodeKey: w.d.node, State: settle.Open, Offer: fallow.Sum([]byte("x")), Kind: market.KindBatch}
		f.leases[51] = &settle.Lease{ID: 51, Provider: w.config.Provider, NodeKey: fallow.Key{9}, State: settle.Open, Offer: fallow.Sum([]byte("y"))}
	})
	wake(w.d.compare)
	w.until("the late lease is adopted", func() bool { return len(w.d.all()) == 1 && w.d.all()[0].id == id })
	w.until("the unknown one is given back", func() bool {
		w.ledger.mu.Lock()
		defer w.ledger.mu.Unlock()
		return w.ledger.leases[50].State != settle.Open && w.ledger.leases[50].Reason == fallow.ReasonProviderLeft
	})
	w.ledger.mu.Lock()
	defer w.ledger.mu.Unlock()
	if w.ledger.leases[51].State != settle.Open {
		t.Error("another machine's lease was touched")
	}
}

func TestRaisedReserve(t *testing.T) {
	w := newWorld(t, nil)
	c := w.tenant("anna", 10_000_000)
	c.rent(100, nil)
	k := c.connect()
	defer k.close()
	k.task(0, "dear")
	k.task(1, "dear")
	k.until(2)
	w.ledger.set(func(f *fakeLedger) { f.leases[c.lease].Reserve = 1000 })
	k.pay() // 160 ucredit: more than was reserved when this provider last looked
	w.until("the voucher is taken", func() bool { s, _, _ := w.d.all()[0].status(); return s.Vouched == k.charged })
}

// TestRipe: the first voucher goes by its age, a later one that adds little
// waits for more.
func TestRipe(t *testing.T) {
	t.Parallel()
	none, one, much := fallow.Pico{}, fallow.PicoOf(1), fallow.PicoOf(lingers)
	for _, c := range []struct {
		worth, redeemed fallow.Pico
		want            time.Duration
	}{{one, none, time.Minute}, {one, one, lingers * time.Minute}, {much, one, time.Minute}, {much, much, lingers * time.Minute}} {
		if got := ripe(time.Minute, c.worth, c.redeemed); got != c.want {
			t.Errorf("worth %s after %s: ripe at %s, want %s", c.worth, c.redeemed, got, c.want)
		}
	}
}
