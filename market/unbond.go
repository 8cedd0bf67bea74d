package market

import (
	"fmt"

	"fallow.network"
)

// Unbond begins the way out for an amount; zero is everything. What stays must
// reach the least bond and cover the exposure, or be nothing: then no lease
// opens any more, and the bond leaves once the time is over and nothing is
// exposed. A second unbond joins the first and starts its time anew.
func (r Registry) Unbond(at Block, owner fallow.Account, amount Tokens) (fallow.Time, []Effect, error) {
	p, err := r.known(owner)
	if err != nil {
		return 0, nil, err
	}
	params, err := r.Params()
	if err != nil {
		return 0, nil, err
	}
	if amount == 0 {
		amount = p.Bond
	}
	switch {
	case amount == 0 || amount > p.Bond || p.Unbonding+amount < amount:
		return 0, nil, fmt.Errorf("unbond %d of %d ufal: %w", amount, p.Bond, ErrAmount)
	case amount < p.Bond && p.Bond-amount < params.MinBond:
		return 0, nil, fmt.Errorf("unbond %d of %d ufal: what stays: %w of %d ufal; unbond everything to leave", amount, p.Bond, ErrBond, params.MinBond)
	case amount < p.Bond:
		covered, err := r.covers(at, params, owner, p.Bond-amount)
		if err != nil {
			return 0, nil, err
		}
		if !covered {
			return 0, nil, fmt.Errorf("unbond %d of %d ufal: %w", amount, p.Bond, ErrExposed)
		}
	}
	o := fallow.NewOverlay(r.Store)
	if p.Unbonding > 0 {
		if err := o.Delete(unbondKey(p.Unbonds, owner)); err != nil {
			return 0, nil, err
		}
	}
	p.Bond -= amount
	p.Unbonding += amount
	p.Unbonds = at.Time + fallow.Time(params.UnbondingMS)
	if err := o.Set(unbondKey(p.Unbonds, owner), []byte{1}); err != nil {
		return 0, nil, err
	}
	if err := r.save(o, p); err != nil {
		return 0, nil, err
	}
	return p.Unbonds, []Effect{Unbonding{Provider: owner, Amount: amount, Unbonds: p.Unbonds}}, o.Commit()
}

// unbondRetryMS is how long bond stays behind when it is due and still covers
// something.
const unbondRetryMS = 60_000

// EndBlock pays bonds back whose time is over, at most limit a block. Bond
// that still has to cover leases or payouts stays a minute longer.
func (r Registry) EndBlock(at Block, limit int) ([]Effect, error) {
	var due []fallow.Account
	err := r.Store.Scan([]byte{3}, unbondKey(at.Time+1, ""), func(key, _ []byte) bool {
		if len(due) >= limit {
			return false
		}
		due = append(due, fallow.Account(key[9:]))
		return true
	})
	if err != nil || len(due) == 0 {
		return nil, err
	}
	params, err := r.Params()
	if err != nil {
		return nil, err
	}
	o := fallow.NewOverlay(r.Store)
	var effects []Effect
	for _, owner := range due {
		p, err := r.known(owner)
		if err != nil {
			return nil, err
		}
		if err := o.Delete(unbondKey(p.Unbonds, owner)); err != nil {
			return nil, err
		}
		covered, err := r.covers(at, params, owner, p.Bond)
		if err != nil {
			return nil, err
		}
		if covered {
			effects = append(effects,
				Move{From: BondPool, To: owner, Denom: fallow.TokenDenom, Amount: uint64(p.Unbonding)},
				Unbonded{Provider: owner, Amount: p.Unbonding})
			p.Unbonding, p.Unbonds = 0, 0
		} else {
			p.Unbonds = at.Time + unbondRetryMS
			if err := o.Set(unbondKey(p.Unbonds, owner), []byte{1}); err != nil {
				return nil, err
			}
		}
		if err := r.save(o, p); err != nil {
			return nil, err
		}
	}
	return effects, o.Commit()
}

// Bonded is the sum of all bonds and of what is on its way out: the coins
// that BondPool must hold.
func (r Registry) Bonded() (Tokens, error) {
	var sum Tokens
	err := r.Providers("", func(p Provider) bool {
		sum += p.Bond + p.Unbonding
		return true
	})
	return sum, err
}

// covers says whether half of a bond covers what the provider is exposed to.
func (r Registry) covers(at Block, params RegistryParams, owner fallow.Account, bond Tokens) (bool, error) {
	if r.Exposure == nil {
		return true, nil
	}
	exposed, err := r.Exposure(at, owner)
	if err != nil {
		return false, err
	}
	return exposed <= params.value(bond)/2, nil
}
