package provider

import (
	"context"
	"crypto/ed25519"
	"time"

	"fallow.network"
	"fallow.network/market"
	"fallow.network/receipt"
	"fallow.network/wire"
)

// Twin is a provider's policy without a daemon around it: the same bargain,
// the same book of capacity and the same tab for each lease, driven by calls
// in whatever time the caller keeps. It holds no journal, runs nothing and
// reaches nobody, so that thousands fit one process. It is not safe for
// concurrent use.
type Twin struct {
	config   Config
	chainID  string
	key      ed25519.PrivateKey
	capacity *capacity
	limits   limits
	debts    debts
	tabs     map[fallow.LeaseID]*tab
	tenants  map[fallow.LeaseID]fallow.Account
}

// NewTwin is a twin that lends total in so many slots, and signs with key.
func NewTwin(c Config, chainID string, key ed25519.PrivateKey, total market.Resources, slots uint32) *Twin {
	return &Twin{config: c, chainID: chainID, key: key, capacity: newCapacity(total, slots), tabs: map[fallow.LeaseID]*tab{}, tenants: map[fallow.LeaseID]fallow.Account{}}
}

// Offer answers a demand, whose signature was verified: a signed offer for
// which capacity is held, or why there is none.
func (t *Twin) Offer(w World, id fallow.Digest, demand market.Demand, nonce market.Nonce, now time.Time) (market.Signed, market.Offer, *Decline) {
	o, held, no := bargain(context.Background(), w, t.config, memory{t.capacity, &t.limits, &t.debts}, id, demand, now)
	if no != nil {
		return market.Signed{}, o, no
	}
	o.Nonce = nonce
	message, err := wire.EncodeOffer(o)
	if err != nil {
		return market.Signed{}, o, decline(fallow.ReasonUnsupported, "the terms configured here are out of the market's bounds")
	}
	s := wire.Sign(t.key, market.SignsOffer, t.chainID, message)
	if !t.capacity.hold(s.ID(), held) {
		return market.Signed{}, o, decline(fallow.ReasonNoCapacity, "another demand was faster")
	}
	return s, o, nil
}

// Expire ends the holds of offers that can't open a lease any more.
func (t *Twin) Expire(height fallow.Height) { t.capacity.expire(height) }

// Adopt takes a lease that the ledger opened on an offer.
func (t *Twin) Adopt(id fallow.LeaseID, offer fallow.Digest, o market.Offer, reserve fallow.Credits, now time.Time) {
	t.capacity.lease(id, offer, claim{tenant: o.Tenant, slot: o.Terms.Slot, slots: o.Terms.Slots, reserve: o.Terms.MaxReserve})
	t.tenants[id] = o.Tenant
	t.tabs[id] = &tab{id: id, terms: o.Terms, funded: reserve, lastWord: now}
}

// Accept says why a task with that gas limit is not taken under a lease.
func (t *Twin) Accept(id fallow.LeaseID, limit fallow.Gas, now time.Time) *Decline {
	b := t.tabs[id]
	switch {
	case b == nil:
		return decline(fallow.ReasonUnknownLease, "no such lease is open here")
	case b.over != "":
		return decline(b.over, "the lease takes no more work")
	}
	b.lastWord = now
	return b.tooDear(limit)
}

// Start takes a slot for a task of a lease. It is false when work must wait;
// unpaid says that it waits for a voucher.
func (t *Twin) Start(id fallow.LeaseID) (started, unpaid bool) {
	b := t.tabs[id]
	if b == nil || b.over != "" {
		return false, false
	}
	if b.waits() {
		return false, true
	}
	return t.capacity.start(id), false
}

// Stop gives the slot of a task back.
func (t *Twin) Stop(id fallow.LeaseID) { t.capacity.stop(id) }

// Charge books a task's receipt: what it costs by the lease's terms.
func (t *Twin) Charge(id fallow.LeaseID, gas fallow.Gas, now time.Time) (fallow.Pico, error) {
	b := t.tabs[id]
	charge, err := receipt.Charge(b.terms, gas)
	b.charged, b.lastWord = sum(b.charged, charge), now
	return charge, err
}

// Voucher takes a voucher that came with the tenant's session, or says why not.
func (t *Twin) Voucher(id fallow.LeaseID, session fallow.Key, s market.Signed, now time.Time) *Decline {
	v, err := wire.OpenVoucher(t.chainID, session, s)
	if err != nil {
		return decline(wire.ReasonOf(err), "voucher: %v", err)
	}
	b := t.tabs[id]
	if b == nil {
		return decline(fallow.ReasonUnknownLease, "no such lease is open here")
	}
	b.lastWord = now
	known, no := b.weigh(v, s)
	switch {
	case known || no != nil:
		return no
	case v.Amount.Cmp(b.funded.Pico()) > 0:
		return decline(fallow.ReasonVoucherBeyond, "voucher over %s credits, and the lease's reserve is %s: raise it first", v.Amount, b.funded)
	}
	b.take(v, s, now)
	return nil
}

// End takes no more work under a lease.
func (t *Twin) End(id fallow.LeaseID, why fallow.Reason) {
	if b := t.tabs[id]; b != nil && b.over == "" {
		b.over = why
		t.capacity.end(id)
	}
}

// Silent says whether a lease that has no tasks has waited long enough for its
// tenant.
func (t *Twin) Silent(id fallow.LeaseID, now time.Time) bool {
	b := t.tabs[id]
	return b != nil && b.over == "" && now.After(b.silentAt(true))
}

// Due is the voucher that is worth a transaction now, where there is one.
func (t *Twin) Due(id fallow.LeaseID, now time.Time) (s market.Signed, amount fallow.Pico, due bool) {
	b := t.tabs[id]
	if b == nil {
		return s, amount, false
	}
	worth, due, _ := b.claims(t.config.Redeem, now)
	if worth.IsZero() {
		return s, amount, false
	}
	return b.voucher, b.paid, due
}

// Redeemed notes what the ledger did with a voucher over amount.
func (t *Twin) Redeemed(id fallow.LeaseID, amount fallow.Pico, r fallow.Reason, now time.Time) {
	if b := t.tabs[id]; b != nil {
		b.redeem(amount, r, now)
	}
}

// Closed notes that the lease's end is on the ledger, by this provider's own
// word or by another's, and says whether nothing more can come of it; then it
// is forgotten, and what stays unpaid is remembered.
func (t *Twin) Closed(id fallow.LeaseID, own bool, now time.Time) (bool, error) {
	b := t.tabs[id]
	if b == nil {
		return true, nil
	}
	b.left = b.left || own
	b.closed(now)
	if _, over := b.settled(now); !over {
		return false, nil
	}
	var err error
	if owed := b.unpaid(); !owed.IsZero() {
		_, err = t.debts.add(t.tenants[id], owed, id, now)
	}
	t.capacity.end(id)
	delete(t.tabs, id)
	delete(t.tenants, id)
	return true, err
}

// Account is what a lease's receipts came to and what its voucher pays; zero
// when the lease is not known.
func (t *Twin) Account(id fallow.LeaseID) (charged, paid fallow.Pico) {
	if b := t.tabs[id]; b != nil {
		return b.charged, b.paid
	}
	return fallow.Pico{}, fallow.Pico{}
}
