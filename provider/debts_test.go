package provider

import (
	"fmt"
	"testing"
	"time"

	"fallow.network"
	"fallow.network/settle"
)

// TestWhoLeavesUnpaidGetsNoOffer has a tenant that takes results up to the
// ceiling and goes.
func TestWhoLeavesUnpaidGetsNoOffer(t *testing.T) {
	w := newWorld(t, func(w *world) {
		w.config.Offers.UnpaidCeiling, w.config.Offers.PerSecond = fallow.Credits(5).Pico(), 10_000
	})
	c, other := w.tenant("anna", 10_000_000), w.tenant("berta", 10_000_000)
	c.rent(1_000_000, nil)
	k := c.connect()
	k.task(0, "dear")
	k.until(1)
	k.close()
	if a := c.ask(nil); a.Reason != "" {
		t.Errorf("while the lease is open: %s %s", a.Reason, a.Detail)
	}
	w.ledger.set(func(f *fakeLedger) { f.leases[c.lease].State = settle.Closed })
	w.ledger.mine(1)
	w.until("no offer", func() bool { return c.ask(nil).Reason == fallow.ReasonUnpaid })
	w.restart()
	if a := c.ask(nil); a.Reason != fallow.ReasonUnpaid {
		t.Errorf("after a restart: %q", a.Reason)
	}
	// What anna was offered before the end was seen is held for some blocks.
	w.ledger.mine(100)
	w.until("an offer for another tenant", func() bool { return other.ask(nil).Reason == "" })
}

// TestADebtCountsOnce: the settler and the comparison with the ledger may find
// the end of one lease both.
func TestADebtCountsOnce(t *testing.T) {
	w := newWorld(t, func(w *world) { w.config.Offers.UnpaidCeiling = fallow.Credits(1000).Pico() })
	c := w.tenant("anna", 10_000_000)
	c.rent(1_000_000, nil)
	k := c.connect()
	k.task(0, "dear")
	k.until(1)
	k.close()
	w.ledger.set(func(f *fakeLedger) { f.stuck = true }) // else the settler ends it as well
	l := w.d.all()[0]
	w.d.forget(t.Context(), l, fallow.ReasonTenantGone)
	w.d.forget(t.Context(), l, fallow.ReasonTenantGone)
	if d := w.d.debts.owed(c.account, time.Now()); d.Owed != k.charged {
		t.Errorf("%s owed for work of %s", d.Owed, k.charged)
	}
}

func TestDebtsAreBounded(t *testing.T) {
	var b debts
	at := time.UnixMilli(1_000_000)
	one := fallow.PicoOf(7)
	for i := range maxDebts + 10 {
		if _, err := b.add(fallow.Account(fmt.Sprint("t", i)), one, 1, at.Add(time.Duration(i)*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := b.add("t500", one, 9, at.Add(time.Hour))
	if err != nil || len(b.of) != maxDebts {
		t.Fatalf("%d debts, %v", len(b.of), err)
	}
	var again debts
	if err := again.read(raw); err != nil {
		t.Fatal(err)
	}
	now := at.Add(time.Hour)
	if d := again.owed("t500", now); d.Owed != fallow.PicoOf(14) || d.Last != 9 {
		t.Errorf("t500 owes %+v", d)
	}
	if d := again.owed("t3", now); !d.Owed.IsZero() {
		t.Errorf("the oldest is remembered: %+v", d)
	}
	if d := again.owed("t500", now.Add(debtKept+time.Second)); !d.Owed.IsZero() {
		t.Errorf("remembered for ever: %+v", d)
	}
}
