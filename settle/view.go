package settle

import (
	"fmt"

	"fallow.network"
	"fallow.network/market"
)

// MaxPage bounds how many leases or payouts one view returns.
const MaxPage = 1000

// view begins to look ahead; nothing of it is committed.
func (b Books) view(at Block) (*tx, error) {
	t, err := b.begin(at)
	if err == nil {
		t.events = eventsPerView
	}
	return t, err
}

// Account is an escrow account as it stands at a block.
func (b Books) Account(at Block, owner fallow.Account) (View, bool, error) {
	v, err := b.Store.Get(accountKey(owner))
	if err != nil || v == nil {
		return View{}, false, err
	}
	t, err := b.view(at)
	if err != nil {
		return View{}, false, err
	}
	e, err := t.touch(owner)
	if err != nil {
		return View{}, false, err
	}
	rate, err := e.rate()
	if err != nil {
		return View{}, false, err
	}
	if rate, err = rate.Mul(1000); err != nil {
		return View{}, false, err
	}
	dry, err := e.dry()
	if err != nil {
		return View{}, false, err
	}
	if dry == never {
		dry = 0
	}
	return View{Account: e.Account, Rate: rate, Dry: dry}, true, nil
}

// Lease is a lease as it stands at a block.
func (b Books) Lease(at Block, id fallow.LeaseID) (Lease, bool, error) {
	v, err := b.Store.Get(leaseKey(id))
	if err != nil || v == nil {
		return Lease{}, false, err
	}
	t, err := b.view(at)
	if err != nil {
		return Lease{}, false, err
	}
	l, err := t.seen(id)
	return l, err == nil, err
}

// seen is a lease as time has made it. A batch's state follows from its own
// window, whatever else is due on its account; a service's account is advanced.
func (t *tx) seen(id fallow.LeaseID) (Lease, error) {
	l, err := t.stored(id)
	if err != nil || l.State == Closed {
		return l, err
	}
	if l.Kind == market.KindBatch {
		if l.State == Closing && l.Deadline <= t.at.Time {
			l.State, l.Deadline, l.Granted = Closed, 0, min(l.Granted, l.Paid)
		}
		return l, nil
	}
	if _, err := t.touch(l.Tenant); err != nil {
		return Lease{}, err
	}
	at, _, err := t.lease(id)
	if err != nil {
		return Lease{}, err
	}
	return *at, nil
}

// Leases are those that pass the filter, ascending by id from the one behind
// after, at most limit, as they stand at a block.
func (b Books) Leases(at Block, f Filter, after fallow.LeaseID, limit int) ([]Lease, error) {
	t, err := b.view(at)
	if err != nil {
		return nil, err
	}
	prefix := key(atLease)
	switch {
	case f.Tenant != "" && f.Open:
		prefix = withAccount(key(atTenantOpen), f.Tenant)
	case f.Tenant != "":
		prefix = withAccount(key(atTenant), f.Tenant)
	case f.Provider != "" && f.Open:
		prefix = withAccount(key(atProviderOpen), f.Provider)
	case f.Provider != "":
		prefix = withAccount(key(atProvider), f.Provider)
	}
	limit = min(max(limit, 0), MaxPage)
	list := []Lease{}
	for len(list) < limit {
		ids, err := b.page(prefix, after, limit-len(list))
		if err != nil || len(ids) == 0 {
			return list, err
		}
		for _, id := range ids {
			l, err := t.seen(id)
			if err != nil {
				return nil, fmt.Errorf("list leases: %w", err)
			}
			if f.passes(l) {
				list = append(list, l)
			}
		}
		after = ids[len(ids)-1]
	}
	return list, nil
}

// page is at most limit ids below prefix, from the one behind after.
func (b Books) page(prefix []byte, after fallow.LeaseID, limit int) ([]fallow.LeaseID, error) {
	var ids []fallow.LeaseID
	start := withNumber(prefix[:len(prefix):len(prefix)], uint64(after)+1)
	err := b.Store.Scan(start, afterPrefix(prefix), func(k, _ []byte) bool {
		ids = append(ids, fallow.LeaseID(lastNumber(k)))
		return len(ids) < limit
	})
	return ids, err
}

func (f Filter) passes(l Lease) bool {
	return (f.Tenant == "" || f.Tenant == l.Tenant) &&
		(f.Provider == "" || f.Provider == l.Provider) &&
		(!f.Open || l.State != Closed)
}

// Payouts are a provider's, ascending by time from the one behind after, at
// most limit. Those whose time has come are paid with the next touch.
func (b Books) Payouts(provider fallow.Account, after fallow.Time, limit int) ([]Payout, error) {
	limit = min(max(limit, 0), MaxPage)
	list := []Payout{}
	err := payouts(b.Store, provider, after+1, never, func(p Payout) bool {
		if len(list) >= limit {
			return false
		}
		list = append(list, p)
		return true
	})
	return list, err
}

// Exposure is what a provider's open leases hold and what has not matured, at
// a block.
func (b Books) Exposure(at Block, provider fallow.Account) (fallow.Credits, error) {
	t, err := b.view(at)
	if err != nil {
		return 0, err
	}
	return t.exposure(provider)
}

// Ceiling is what a provider may be exposed to: half its bond, or nothing when
// it is not bonded.
func (b Books) Ceiling(provider fallow.Account) (fallow.Credits, error) {
	bond, bonded, err := b.Bonds.Standing(provider)
	if err != nil || !bonded {
		return 0, err
	}
	return bond / 2, nil
}

// Held is what a lease that is not closed still holds, in ucredit: what its
// provider can claim of a batch, the deposit of a service.
func (l Lease) Held() fallow.Credits {
	if l.State == Closed {
		return 0
	}
	return l.holds()
}

// Service says whether the lease is paid by the second.
func (l Lease) Service() bool { return l.Kind == market.KindService }
