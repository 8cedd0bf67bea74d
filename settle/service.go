package settle

import (
	"fmt"

	"fallow.network"
	"fallow.network/market"
	"fallow.network/receipt"
)

// Start begins or extends services by horizons that the session keys signed;
// anyone may bring them. A later horizon may also be a nearer one.
func (b Books) Start(at Block, horizons []market.Signed) ([]Result, []Effect, error) {
	t, err := b.begin(at)
	if err != nil {
		return nil, nil, err
	}
	if err := t.entries(len(horizons)); err != nil {
		return nil, nil, fmt.Errorf("start: %w", err)
	}
	results := make([]Result, 0, len(horizons))
	for _, s := range horizons {
		id, err := t.start(s)
		r, err := refused(id, 0, err)
		if err != nil {
			return nil, nil, fmt.Errorf("start: %w", err)
		}
		results = append(results, r)
	}
	effects, err := t.commit()
	return results, effects, err
}

func (t *tx) start(s market.Signed) (fallow.LeaseID, error) {
	m, err := t.Decode.Horizon(s.Message)
	if err != nil {
		return 0, ErrMalformed
	}
	l, e, err := t.lease(m.Lease)
	if err != nil {
		return m.Lease, err
	}
	switch {
	case l.Kind != market.KindService:
		return l.ID, ErrLeaseKind
	case l.State == Closed:
		return l.ID, ErrLeaseClosed
	case !t.Verify(market.SignsHorizon, l.SessionKey, s.Message, s.Signature):
		return l.ID, ErrSignature
	case m.Sequence <= l.Sequence:
		return l.ID, ErrHorizonOld
	case m.Until <= t.at.Time:
		return l.ID, ErrExpired
	case uint64(m.Until-t.at.Time) > t.params.MaxHorizonMS:
		return l.ID, ErrFarAhead
	}
	if err := t.grant(e, l, m); err != nil {
		return l.ID, err
	}
	l.Horizon, l.Sequence = m.Until, m.Sequence
	switch l.State {
	case Open:
		if err := t.o.Delete(timedKey(atEnd, l.Provider, l.Deadline, l.ID)); err != nil {
			return l.ID, err
		}
		l.State, l.Deadline = Running, 0
		t.changed(l)
	case Running:
		l.Deadline = 0 // it goes on if its horizon had passed
	case Paused, Closing, Closed:
		// A paused one goes on when the account is funded again.
	}
	return l.ID, nil
}

// grant counts what a horizon can cost at most under the limit of the client
// key that opened the service.
func (t *tx) grant(e *escrow, l *Lease, m receipt.Horizon) error {
	from := max(t.at.Time, l.Horizon)
	if l.Client == l.Tenant || m.Until <= from {
		return nil
	}
	cost, err := l.Rate.MulDiv(uint64(m.Until-from), 1000)
	if err != nil {
		return err
	}
	most, err := cost.Ceil()
	if err != nil {
		return err
	}
	sum, err := addCredits(l.Granted, most)
	if err != nil {
		return err
	}
	if err := e.spend(t.at, l.Client, most); err != nil {
		return err
	}
	l.Granted = sum
	return nil
}

// redeemService lets what a service accrued mature for its provider.
func (t *tx) redeemService(signer fallow.Account, id fallow.LeaseID) (fallow.Credits, error) {
	l, e, err := t.lease(id)
	if err != nil {
		return 0, err
	}
	switch {
	case l.Provider != signer:
		return 0, ErrNotParty
	case l.Kind != market.KindService:
		return 0, ErrLeaseKind
	case l.State == Closed:
		return 0, ErrLeaseClosed
	}
	return t.payAccrued(e, l)
}
