package settle

import (
	"fmt"

	"fallow.network"
	"fallow.network/market"
)

// Raise lifts what a batch lease was given in all, payments included. signer
// is the tenant or one of its client keys.
func (b Books) Raise(at Block, signer fallow.Account, id fallow.LeaseID, reserve fallow.Credits) ([]Effect, error) {
	t, err := b.begin(at)
	if err != nil {
		return nil, err
	}
	if err := t.raise(signer, id, reserve); err != nil {
		return nil, fmt.Errorf("raise lease %d to %s credits: %w", id, reserve, err)
	}
	return t.commit()
}

func (t *tx) raise(signer fallow.Account, id fallow.LeaseID, reserve fallow.Credits) error {
	l, err := t.stored(id)
	if err != nil {
		return err
	}
	e, err := t.touch(l.Tenant)
	if err != nil {
		return err
	}
	switch {
	case !e.acts(t.at, signer):
		return ErrNotParty
	case l.Kind != market.KindBatch:
		return ErrLeaseKind
	case l.State != Open:
		return ErrLeaseClosed
	case reserve <= l.Reserve || reserve > l.MaxReserve:
		return fmt.Errorf("from %s credits, of at most %s: %w", l.Reserve, l.MaxReserve, ErrReserve)
	}
	more := reserve - l.Reserve
	if e.Free.Cmp(more.Pico()) < 0 {
		return fmt.Errorf("%s credits more of %s free: %w", more, e.Free, ErrFunds)
	}
	if err := t.expose(l.Provider, more); err != nil {
		return err
	}
	if err := e.spend(t.at, signer, more); err != nil {
		return err
	}
	if signer != e.Owner && signer == l.Client {
		l.Granted += more
	}
	if err := take(&e.Free, more.Pico()); err != nil {
		return err
	}
	if err := add(&e.Reserved, more.Pico()); err != nil {
		return err
	}
	if err := t.hold(l.Provider, more, 0); err != nil {
		return err
	}
	l.Reserve = reserve
	return t.saveLease(l)
}

// Release frees reserves by the providers' signatures; anyone may bring them.
// A release is the provider's last word: the lease can't be raised above it
// again, and a closing lease ends when nothing is left to claim. A lease that
// is closed already, or holds no more, succeeds and moves nothing.
func (b Books) Release(at Block, releases []market.Signed) ([]Result, []Effect, error) {
	t, err := b.begin(at)
	if err != nil {
		return nil, nil, err
	}
	if err := t.entries(len(releases)); err != nil {
		return nil, nil, fmt.Errorf("release: %w", err)
	}
	results := make([]Result, 0, len(releases))
	for _, s := range releases {
		r, err := refused(t.release(s))
		if err != nil {
			return nil, nil, fmt.Errorf("release: %w", err)
		}
		results = append(results, r)
	}
	effects, err := t.commit()
	return results, effects, err
}

func (t *tx) release(s market.Signed) (fallow.LeaseID, fallow.Credits, error) {
	m, err := t.Decode.Release(s.Message)
	if err != nil {
		return 0, 0, ErrMalformed
	}
	l, err := t.stored(m.Lease)
	if err != nil {
		return m.Lease, 0, err
	}
	keep, err := m.Amount.Ceil()
	switch {
	case err != nil:
		return l.ID, 0, ErrMalformed
	case l.Kind != market.KindBatch:
		return l.ID, 0, ErrLeaseKind
	case !t.Verify(market.SignsRelease, l.NodeKey, s.Message, s.Signature):
		return l.ID, 0, ErrSignature
	}
	e, err := t.touch(l.Tenant)
	if err != nil {
		return l.ID, 0, err
	}
	// Advanced, its claim window may have ended.
	if l, err = t.stored(l.ID); err != nil || l.State == Closed {
		return l.ID, 0, err
	}
	if m.Amount.Cmp(l.Claimed) < 0 {
		return l.ID, 0, ErrReleaseBelow
	}
	var freed fallow.Credits
	if keep < l.Reserve {
		freed = l.Reserve - keep
		if err := take(&e.Reserved, freed.Pico()); err != nil {
			return l.ID, 0, err
		}
		if err := add(&e.Free, freed.Pico()); err != nil {
			return l.ID, 0, err
		}
		if err := t.hold(l.Provider, 0, freed); err != nil {
			return l.ID, 0, err
		}
		l.Reserve = keep
		e.giveBack(&l, min(l.Granted, l.Reserve))
	}
	l.MaxReserve = min(l.MaxReserve, keep)
	if l.State == Closing && m.Amount == l.Claimed {
		freed += l.holds()
		return l.ID, freed, t.finish(e, &l)
	}
	return l.ID, freed, t.saveLease(l)
}

// Redeem pays vouchers, and what services have accrued. signer is the
// provider. Results come for the vouchers first, then for the services; their
// amounts mature after the check window. What has matured for the provider is
// paid on the way.
func (b Books) Redeem(at Block, signer fallow.Account, vouchers []market.Signed, services []fallow.LeaseID) ([]Result, []Effect, error) {
	t, err := b.begin(at)
	if err != nil {
		return nil, nil, err
	}
	if err := t.entries(len(vouchers) + len(services)); err != nil {
		return nil, nil, fmt.Errorf("redeem: %w", err)
	}
	if err := t.payMatured(signer, 2*grains); err != nil {
		return nil, nil, fmt.Errorf("redeem: %w", err)
	}
	results := make([]Result, 0, len(vouchers)+len(services))
	for _, s := range vouchers {
		r, err := refused(t.redeem(signer, s))
		if err != nil {
			return nil, nil, fmt.Errorf("redeem: %w", err)
		}
		results = append(results, r)
	}
	for _, id := range services {
		amount, err := t.redeemService(signer, id)
		r, err := refused(id, amount, err)
		if err != nil {
			return nil, nil, fmt.Errorf("redeem: %w", err)
		}
		results = append(results, r)
	}
	effects, err := t.commit()
	return results, effects, err
}

func (t *tx) redeem(signer fallow.Account, s market.Signed) (fallow.LeaseID, fallow.Credits, error) {
	m, err := t.Decode.Voucher(s.Message)
	if err != nil {
		return 0, 0, ErrMalformed
	}
	l, err := t.stored(m.Lease)
	if err != nil {
		return m.Lease, 0, err
	}
	switch {
	case l.Provider != signer:
		return l.ID, 0, ErrNotParty
	case l.Kind != market.KindBatch:
		return l.ID, 0, ErrLeaseKind
	case l.State == Closed, l.State == Closing && t.at.Time >= l.Deadline:
		return l.ID, 0, ErrLeaseClosed
	case !t.Verify(market.SignsVoucher, l.SessionKey, s.Message, s.Signature):
		return l.ID, 0, ErrSignature
	case m.Amount == l.Claimed:
		return l.ID, 0, ErrReplayed
	case m.Amount.Cmp(l.Claimed) < 0 || m.Receipts < l.Receipts:
		return l.ID, 0, ErrVoucherDown
	case m.Amount.Cmp(l.Reserve.Pico()) > 0:
		return l.ID, 0, ErrBeyond
	}
	all, err := m.Amount.Floor()
	if err != nil {
		return l.ID, 0, err
	}
	e, err := t.load(l.Tenant)
	if err != nil {
		return l.ID, 0, err
	}
	amount := all - l.Paid
	if err := take(&e.Reserved, amount.Pico()); err != nil {
		return l.ID, 0, err
	}
	if err := t.hold(l.Provider, 0, amount); err != nil {
		return l.ID, 0, err
	}
	l.Claimed, l.Paid = m.Amount, all
	l.ReceiptsRoot, l.Receipts = m.ReceiptsRoot, m.Receipts
	if err := t.pay(&l, amount, t.at.Time); err != nil {
		return l.ID, 0, err
	}
	return l.ID, amount, t.saveLease(l)
}
