package settle

import (
	"fmt"

	"fallow.network"
	"fallow.network/market"
)

// Close ends leases by either side with a reason; without one the tenant
// cancels and the provider leaves. A service ends at once and is paid for what
// it accrued. A batch that the tenant closes can still be claimed until its
// window ends; one that its provider closes ends at once, since nobody else
// claims. A second close changes nothing and succeeds.
func (b Books) Close(at Block, signer fallow.Account, ids []fallow.LeaseID, reason fallow.Reason) ([]Result, []Effect, error) {
	t, err := b.begin(at)
	if err != nil {
		return nil, nil, err
	}
	if err := t.entries(len(ids)); err != nil {
		return nil, nil, fmt.Errorf("close: %w", err)
	}
	if reason != "" && !reason.Known() {
		return nil, nil, fmt.Errorf("close for %.40q: %w", string(reason), ErrReason)
	}
	results := make([]Result, 0, len(ids))
	for _, id := range ids {
		freed, err := t.close(signer, id, reason)
		r, err := refused(id, freed, err)
		if err != nil {
			return nil, nil, fmt.Errorf("close: %w", err)
		}
		results = append(results, r)
	}
	effects, err := t.commit()
	return results, effects, err
}

// close ends one lease and says what of its reserve is free at once.
func (t *tx) close(signer fallow.Account, id fallow.LeaseID, reason fallow.Reason) (fallow.Credits, error) {
	l, err := t.stored(id)
	if err != nil {
		return 0, err
	}
	e, err := t.touch(l.Tenant)
	if err != nil {
		return 0, err
	}
	// Advanced, it may have ended by itself.
	at, _, err := t.lease(id)
	if err != nil {
		return 0, err
	}
	provider := signer == at.Provider
	if !provider && !e.acts(t.at, signer) {
		return 0, ErrNotParty
	}
	if reason == "" {
		reason = fallow.ReasonCancelled
		if provider {
			reason = fallow.ReasonProviderLeft
		}
	}
	switch at.State {
	case Open, Running, Paused:
		at.Reason, at.ClosedBy = reason, signer
	case Closing:
		if !provider {
			return 0, nil
		}
	case Closed:
		return 0, nil
	}
	if at.Kind == market.KindBatch && !provider && at.ClaimWindowMS > 0 {
		return 0, t.closing(at)
	}
	freed := at.holds()
	if at.Kind == market.KindService {
		held, err := freed.Pico().Sub(at.DiskUsed)
		if err != nil {
			return 0, err
		}
		if freed, err = held.Floor(); err != nil {
			return 0, err
		}
	}
	return freed, t.finish(e, at)
}

// closing begins a batch's claim window.
func (t *tx) closing(l *Lease) error {
	l.State, l.Deadline = Closing, t.at.Time+fallow.Time(l.ClaimWindowMS)
	for _, k := range [][]byte{
		timedKey(atClaim, l.Tenant, l.Deadline, l.ID),
		timedKey(atEnd, l.Provider, l.Deadline, l.ID),
	} {
		if err := t.o.Set(k, mark); err != nil {
			return err
		}
	}
	t.changed(l)
	return t.saveLease(*l)
}
