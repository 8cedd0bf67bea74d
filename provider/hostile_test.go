package provider

import (
	"net/http"
	"strings"
	"testing"

	"fallow.network"
	nodev1 "fallow.network/api/node"
	"fallow.network/market"
	"fallow.network/wire"
)

// refusedVoucher sends a voucher that ends the connection and says why.
func refusedVoucher(k *work, amount fallow.Pico, receipts uint32) string {
	k.send(&nodev1.WorkRequest{Voucher: wire.ToSigned(k.t.voucher(k.t.lease, amount, receipts))})
	return reasonIn(k.ended())
}

// finished works a lease of two dear tasks, pays the first, and has the rest
// released.
func finished(t *testing.T, c *tenant) *work {
	t.Helper()
	c.rent(1_000_000, nil)
	k := c.connect()
	k.task(0, "dear")
	k.until(1)
	k.pay()
	k.task(1, "dear")
	k.until(2)
	k.send(&nodev1.WorkRequest{Finish: true})
	k.next("a release", func(m *nodev1.WorkResponse) bool { return m.GetRelease() != nil })
	return k
}

// TestVouchersEndAtTheRelease has a tenant that holds a release and replaces
// the voucher that it covers with one that the reserve no longer will.
func TestVouchersEndAtTheRelease(t *testing.T) {
	for _, restart := range []bool{false, true} {
		w := newWorld(t, nil)
		c := w.tenant("anna", 10_000_000)
		w.ledger.set(func(f *fakeLedger) { f.stuck = true })
		k := finished(t, c)
		owed, n := k.charged, uint32(len(k.receipts))
		if restart {
			k.close()
			w.restart()
			k = c.connect(0, 1)
		}
		more, _ := owed.Add(fallow.PicoOf(1))
		if got := refusedVoucher(k, more, n+1); got != string(fallow.ReasonVoucherBeyond) {
			t.Errorf("restarted %v: a voucher above the release: %s", restart, got)
		}
		k = c.connect(0, 1)
		k.send(&nodev1.WorkRequest{Voucher: wire.ToSigned(c.voucher(c.lease, owed, n))})
		w.ledger.set(func(f *fakeLedger) { f.stuck = false })
		want, _ := owed.Floor()
		w.until("all that is owed is paid", func() bool {
			w.ledger.mu.Lock()
			defer w.ledger.mu.Unlock()
			return w.ledger.paid == want
		})
		k.close()
	}
}

// TestTasksDearerThanTheCeiling has a tenant that takes one result and leaves:
// no task may come to more than is done ahead of payment.
func TestTasksDearerThanTheCeiling(t *testing.T) {
	w := newWorld(t, func(w *world) { w.config.Offers.UnpaidCeiling = fallow.Credits(200).Pico() })
	c := w.tenant("anna", 10_000_000)
	c.rent(1_000_000, func(d *market.Demand) { d.Slot.Disk = 4 << 20 })
	k := c.connect()
	defer k.close()
	try := func(n uint32, edit func(*nodev1.Task)) *nodev1.TaskFailed {
		m := c.task(n, 1, "noop")
		edit(m)
		k.send(&nodev1.WorkRequest{Task: m})
		return k.next("a failure", func(m *nodev1.WorkResponse) bool { return m.GetFailed() != nil }).GetFailed()
	}
	most, err := c.offer.Terms.UnpaidCeiling.Pico().MulDiv(1_000_000, 1)
	if err != nil {
		t.Fatal(err)
	}
	gas := uint64(1)
	for fallow.PicoOf(gas).Cmp(most) < 0 && gas < 1<<59 {
		gas *= 2
	}
	if f := try(0, func(m *nodev1.Task) { m.Limits.Gas = gas }); f.GetReason() != string(fallow.ReasonUnsupported) || !strings.Contains(f.GetDetail(), "0.0002") {
		t.Errorf("too much gas: %v", f)
	}
	if f := try(1, func(m *nodev1.Task) { m.Limits.OutputBytes, m.Limits.ScratchBytes = 3<<20, 2<<20 }); f.GetReason() != string(fallow.ReasonTooLarge) {
		t.Errorf("too much disk: %v", f)
	}
	if f := try(2, func(m *nodev1.Task) { m.Limits.OutputBytes, m.Limits.ScratchBytes = 1, 1<<63 }); f.GetReason() != string(fallow.ReasonTooLarge) && f.GetReason() != string(fallow.ReasonMalformed) {
		t.Errorf("far too much disk: %v", f)
	}
	k.task(3, "noop")
	k.until(1)
}

// TestPutsThatNeverEndCount has a tenant that begins many inputs and finishes
// none, to hold more of the disk than it rents.
func TestPutsThatNeverEndCount(t *testing.T) {
	w := newWorld(t, nil)
	c := w.tenant("anna", 10_000_000)
	c.rent(1_000_000, func(d *market.Demand) { d.Slots, d.Slot.Disk = 1, 1<<20 })
	k := c.connect()
	defer k.close()
	k.task(0, "noop")
	k.until(1)
	begin := func(name string) int {
		// The sum is wrong, so that the blob never comes to be.
		status, _, err := c.request(http.MethodPut, fallow.Sum([]byte(name)), make([]byte, 600<<10))
		if err != nil {
			t.Fatal(err)
		}
		return status
	}
	if s := begin("a"); s == http.StatusForbidden {
		t.Fatalf("the first: %d", s)
	}
	if s := begin("a"); s == http.StatusForbidden {
		t.Errorf("the first again: %d", s)
	}
	if s := begin("b"); s != http.StatusForbidden {
		t.Errorf("beyond the slot's disk: %d", s)
	}
}

// TestNobodySpendsAnothersQuestions has a stranger who names a tenant as its
// own: the tenant's questions are answered all the same.
func TestNobodySpendsAnothersQuestions(t *testing.T) {
	w := newWorld(t, func(w *world) { w.config.Offers.PerSecond = 2 })
	victim, thief := w.tenant("anna", 10_000_000), w.tenant("berta", 10_000_000)
	for range 6 {
		thief.ask(func(d *market.Demand) { d.Tenant = victim.account })
	}
	if a := victim.ask(nil); a.Reason != "" {
		t.Errorf("no offer: %s %s", a.Reason, a.Detail)
	}
}
