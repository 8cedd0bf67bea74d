package settle

import (
	"fmt"

	"fallow.network"
	"fallow.network/market"
)

// OpenLeases opens a lease for each offer that holds, in order; the others are
// skipped with their reason. signer is the tenant or one of its client keys. A
// pause of the provider does not void what it signed.
func (b Books) OpenLeases(at Block, signer, tenant fallow.Account, entries []OpenEntry) ([]Result, []Effect, error) {
	t, err := b.begin(at)
	if err != nil {
		return nil, nil, err
	}
	if err := t.entries(len(entries)); err != nil {
		return nil, nil, fmt.Errorf("open leases: %w", err)
	}
	e, err := t.touch(tenant)
	if err != nil {
		return nil, nil, fmt.Errorf("open leases: %w", err)
	}
	results := make([]Result, 0, len(entries))
	for _, entry := range entries {
		l, err := t.open(e, signer, entry)
		r, err := refused(l.ID, l.Reserve, err)
		if err != nil {
			return nil, nil, fmt.Errorf("open leases: %w", err)
		}
		if r.Reason != "" {
			t.emit(Skipped{Tenant: tenant, Provider: l.Provider, Reason: r.Reason, Offer: l.Offer})
			r.Lease = 0
		}
		results = append(results, r)
	}
	effects, err := t.commit()
	return results, effects, err
}

// open checks one entry and opens its lease. Nothing is written before all is
// checked. What is known of a refused one comes back for its event.
func (t *tx) open(e *escrow, signer fallow.Account, entry OpenEntry) (Lease, error) {
	l := Lease{
		Tenant:     e.Owner,
		Client:     signer,
		State:      Open,
		SessionKey: entry.SessionKey,
		Offer:      entry.Offer.ID(),
		Opened:     t.at,
		Reserve:    entry.Reserve,
	}
	if !e.acts(t.at, signer) {
		return l, fmt.Errorf("signer %s: %w", signer, ErrClientKey)
	}
	offer, err := t.Decode.Offer(entry.Offer.Message)
	if err != nil || entry.SessionKey == (fallow.Key{}) {
		return l, fmt.Errorf("offer %s: %w", l.Offer.Short(), ErrMalformed)
	}
	l.Provider = offer.Provider
	if err := t.checkOffer(e, l.Offer, offer, entry.Offer); err != nil {
		return l, fmt.Errorf("offer %s: %w", l.Offer.Short(), err)
	}
	l.Kind = offer.Kind
	l.NodeKey, l.KeyEpoch = offer.NodeKey, offer.KeyEpoch
	l.Workload = offer.Workload
	l.MaxReserve = offer.Terms.MaxReserve
	l.ClaimWindowMS, l.IdleMS = offer.Terms.ClaimWindowMS, offer.Terms.IdleMS
	if l.Kind == market.KindService {
		if err := t.serviceTerms(e, &l, offer.Terms); err != nil {
			return l, fmt.Errorf("offer %s: %w", l.Offer.Short(), err)
		}
	}
	switch {
	case l.Reserve > l.MaxReserve, l.Kind == market.KindBatch && l.Reserve == 0:
		return l, fmt.Errorf("reserve of %s credits: the offer allows up to %s: %w", l.Reserve, l.MaxReserve, ErrReserve)
	case e.Free.Cmp(l.Reserve.Pico()) < 0:
		return l, fmt.Errorf("reserve of %s credits of %s free: %w", l.Reserve, e.Free, ErrFunds)
	}
	if err := t.expose(l.Provider, l.Reserve); err != nil {
		return l, err
	}
	// The last check: it counts the reserve under the client key's limit.
	if err := e.spend(t.at, signer, l.Reserve); err != nil {
		return l, err
	}
	return l, t.write(e, &l, offer)
}

// checkOffer says why an offer does not hold for a tenant now.
func (t *tx) checkOffer(e *escrow, id fallow.Digest, o market.Offer, s market.Signed) error {
	switch {
	case o.Tenant != e.Owner:
		return ErrOtherTenant
	case o.LastHeight < t.at.Height:
		return ErrExpired
	case uint64(o.LastHeight-t.at.Height) > t.params.MaxOfferBlocks:
		return ErrFarAhead
	case o.Terms.ClaimWindowMS > t.params.MaxClaimWindowMS:
		return ErrTerms
	}
	used, err := t.o.Get(usedKey(o.LastHeight, id))
	if err != nil {
		return err
	}
	if used != nil {
		return ErrOfferUsed
	}
	epoch, ok, err := t.Bonds.NodeEpoch(o.Provider, o.NodeKey)
	switch {
	case err != nil:
		return err
	case !ok:
		return ErrSignature
	case epoch != o.KeyEpoch:
		return ErrKeyEpoch
	case !t.Verify(market.SignsOffer, o.NodeKey, s.Message, s.Signature):
		return ErrSignature
	}
	return nil
}

// serviceTerms sets what a service costs and locks: a deposit of so many
// seconds of its price, and its disk's price for the grace period.
func (t *tx) serviceTerms(e *escrow, l *Lease, terms market.Terms) error {
	if len(e.services) >= int(t.params.MaxServices) {
		return ErrServices
	}
	lock, err := terms.SecondPrice.Mul(t.params.DepositSeconds)
	if err != nil {
		return ErrTerms
	}
	disk, err := terms.DiskPrice.MulDiv(t.params.GraceMS, 1000)
	if err != nil {
		return ErrTerms
	}
	if err := add(&lock, disk); err != nil {
		return ErrTerms
	}
	deposit, err := lock.Ceil()
	if err != nil {
		return ErrTerms
	}
	if l.Reserve != 0 && deposit > l.Reserve {
		return fmt.Errorf("a deposit of %s credits is needed: %w", deposit, ErrReserve)
	}
	l.Rate, l.DiskRate = terms.SecondPrice, terms.DiskPrice
	l.GraceMS = t.params.GraceMS
	l.Reserve, l.MaxReserve = deposit, deposit
	l.Deadline = t.at.Time + fallow.Time(t.params.StartWindowMS)
	return nil
}

// write books a lease that was checked.
func (t *tx) write(e *escrow, l *Lease, o market.Offer) error {
	id, err := t.nextID()
	if err != nil {
		return err
	}
	l.ID = id
	if l.Client != l.Tenant {
		l.Granted = l.Reserve
	}
	if err := take(&e.Free, l.Reserve.Pico()); err != nil {
		return err
	}
	if err := add(&e.Reserved, l.Reserve.Pico()); err != nil {
		return err
	}
	if err := t.hold(l.Provider, l.Reserve, 0); err != nil {
		return err
	}
	e.Open++
	keys := [][]byte{
		usedKey(o.LastHeight, l.Offer),
		indexKey(atTenant, l.Tenant, id),
		indexKey(atProvider, l.Provider, id),
		indexKey(atTenantOpen, l.Tenant, id),
		indexKey(atProviderOpen, l.Provider, id),
	}
	if l.Kind == market.KindService {
		keys = append(keys,
			indexKey(atService, l.Tenant, id),
			timedKey(atEnd, l.Provider, l.Deadline, id))
		kept := *l
		e.services = append(e.services, &kept)
	}
	for _, k := range keys {
		if err := t.o.Set(k, mark); err != nil {
			return err
		}
	}
	if err := t.saveLease(*l); err != nil {
		return err
	}
	t.emit(Opened{Lease: id, Tenant: l.Tenant, Provider: l.Provider, Reserve: l.Reserve, Offer: l.Offer})
	return nil
}

func (t *tx) nextID() (fallow.LeaseID, error) {
	id, err := t.peekID()
	if err != nil {
		return 0, err
	}
	return id, t.o.Set(key(atNext), encodeCredits(fallow.Credits(id)+1))
}

// peekID is the number that the next lease gets.
func (t *tx) peekID() (fallow.LeaseID, error) {
	v, err := t.o.Get(key(atNext))
	if err != nil || v == nil {
		return 1, err
	}
	id, err := decodeCredits(v)
	return fallow.LeaseID(id), err
}
