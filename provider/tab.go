package provider

import (
	"time"

	"fallow.network"
	"fallow.network/market"
	"fallow.network/receipt"
)

// tab is what one lease has come to, and every rule of the provider about
// money on it: whether work waits, which voucher is taken, when one is worth a
// transaction, when the lease is over. It knows no clock, disk or network, so
// the daemon and a Twin keep it alike; where several use it, a lock is held.
type tab struct {
	id    fallow.LeaseID
	terms market.Terms
	// over is why the lease takes no more work; empty while it does.
	over     fallow.Reason
	closing  bool          // on the ledger
	left     bool          // the ledger took this provider's own close, which ends a lease at once
	release  market.Signed // not yet on the ledger; empty when there is none
	deadline time.Time     // end of the claim window, once closing
	charged  fallow.Pico   // by receipts
	unsigned fallow.Pico   // by results whose receipts are on their way to the disk
	voucher  market.Signed
	paid     fallow.Pico // the voucher's amount
	vouched  uint32      // receipts under the voucher
	redeemed fallow.Pico
	since    time.Time      // of the oldest word that is worth more than redeemed
	funded   fallow.Credits // the lease's reserve on the ledger
	lastWord time.Time
	freed    bool // a release of all but owed is signed
	owed     fallow.Pico
}

// unpaid is what results come to beyond the voucher. What a voucher names
// beyond the lease's reserve is worth nothing yet; after a restart the reserve
// may not be known, but what was redeemed is paid.
func (t *tab) unpaid() fallow.Pico {
	paid := t.paid
	if f := t.funded.Pico(); paid.Cmp(f) > 0 {
		paid = f
	}
	if paid.Cmp(t.redeemed) < 0 {
		paid = t.redeemed
	}
	u, err := sum(t.charged, t.unsigned).Sub(paid)
	if err != nil {
		return fallow.Pico{}
	}
	return u
}

// waits says whether no task may start before a voucher comes.
func (t *tab) waits() bool { return t.unpaid().Cmp(t.terms.UnpaidCeiling.Pico()) >= 0 }

// tooDear refuses a task of that gas limit where it alone would come to more
// than the ceiling: what is not paid is at most what the ceiling lets start.
func (t *tab) tooDear(limit fallow.Gas) *Decline {
	most, err := receipt.Charge(t.terms, limit)
	if err != nil || most.Cmp(t.terms.UnpaidCeiling.Pico()) > 0 {
		return decline(fallow.ReasonUnsupported, "the task may come to %s credits, and at most %s are worked ahead of payment here: lower its gas limit", most, t.terms.UnpaidCeiling)
	}
	return nil
}

// weigh says whether a voucher, whose signature was verified, is known
// already, or why it is not taken. Whether the reserve covers it is asked of
// the ledger afterwards.
func (t *tab) weigh(v receipt.Voucher, s market.Signed) (known bool, no *Decline) {
	most, err := t.charged.Add(t.terms.UnpaidCeiling.Pico())
	switch {
	case v.Lease != t.id:
		return false, decline(fallow.ReasonMalformed, "voucher for lease %d on the connection of lease %d", v.Lease, t.id)
	case string(s.Message) == string(t.voucher.Message):
		return true, nil
	case v.Amount.Cmp(t.paid) < 0 || v.Receipts < t.vouched:
		return false, decline(fallow.ReasonVoucherDown, "voucher over %s credits after one over %s", v.Amount, t.paid)
	case v.Amount == t.paid && v.Receipts == t.vouched:
		return false, decline(fallow.ReasonVoucherReplayed, "another voucher over the same %s credits", t.paid)
	case t.freed && v.Amount.Cmp(t.owed) > 0:
		return false, decline(fallow.ReasonVoucherBeyond, "voucher over %s credits, and all above %s is released", v.Amount, t.owed)
	case err != nil || v.Amount.Cmp(most) > 0:
		return false, decline(fallow.ReasonMalformed, "voucher over %s credits for work of %s; at most the unpaid ceiling is taken ahead", v.Amount, t.charged)
	}
	return false, nil
}

// take keeps a voucher that was weighed.
func (t *tab) take(v receipt.Voucher, s market.Signed, now time.Time) {
	t.voucher, t.paid, t.vouched = s, v.Amount, v.Receipts
	if t.since.IsZero() {
		t.since = now
	}
}

// claims is what the voucher is worth beyond what was redeemed, whether that
// is worth a transaction now, and if not, after how long.
func (t *tab) claims(r Redeem, now time.Time) (worth fallow.Pico, due bool, after time.Duration) {
	worth, _ = t.paid.Sub(t.redeemed) // nothing when it does not
	after = ripe(time.Duration(r.Age), worth, t.redeemed) - now.Sub(t.since)
	return worth, worth.Cmp(r.Amount) >= 0 || after <= 0 || t.over != "", after
}

// redeem notes what the ledger did with a voucher over amount.
func (t *tab) redeem(amount fallow.Pico, r fallow.Reason, now time.Time) {
	switch r {
	case "", fallow.ReasonVoucherReplayed, fallow.ReasonVoucherDown:
		// Paid now, or by a settlement whose answer was lost.
		if amount.Cmp(t.redeemed) > 0 {
			t.redeemed = amount
		}
		t.since = time.Time{}
		if t.paid.Cmp(t.redeemed) > 0 {
			t.since = now
		}
	case fallow.ReasonLeaseClosed, fallow.ReasonUnknownLease:
		t.redeemed = t.paid
	default:
		t.since = now
		if t.over != "" {
			t.redeemed = t.paid // a lease that ends has no next time
		}
	}
}

// free bounds what can still be paid by what is owed, for a release; nothing
// runs any more.
func (t *tab) free() {
	if t.freed {
		return
	}
	t.freed, t.owed = true, t.charged
	if t.paid.Cmp(t.owed) > 0 {
		t.owed = t.paid
	}
}

// closed notes that the lease's end is on the ledger.
func (t *tab) closed(now time.Time) {
	if !t.closing {
		t.closing, t.deadline = true, now.Add(time.Duration(t.terms.ClaimWindowMS)*time.Millisecond)
	}
}

// settled says whether nothing more can come of an ending lease: what was
// vouched for is redeemed, and this provider has closed it or its claim window is
// over.
func (t *tab) settled(now time.Time) (fallow.Reason, bool) {
	if t.over == "" || !t.closing || t.paid.Cmp(t.redeemed) > 0 || len(t.release.Message) > 0 {
		return "", false
	}
	return t.over, t.left || now.After(t.deadline)
}

// quits says whether a lease that its tenant closed has nothing more for this
// provider. Closed by it too, it ends at once, and the tenant need not wait
// for the end of the claim window.
func (t *tab) quits() bool {
	return !t.left && t.charged.Cmp(t.paid) <= 0 && t.paid.Cmp(t.redeemed) <= 0 && len(t.release.Message) == 0
}

// silentAt is when a lease without work ends by itself. A tenant that is
// connected but idle is waited for longer.
func (t *tab) silentAt(connected bool) time.Time {
	silence := time.Duration(t.terms.IdleMS) * time.Millisecond
	if connected {
		silence *= 4
	}
	return t.lastWord.Add(silence)
}
