package settle

import (
	"fmt"

	"fallow.network"
	"fallow.network/market"
)

// grains is into how many parts a check window is cut: payouts mature at the
// ends of those, so that a provider has at most that many and one waiting.
const grains = 32

// payAccrued puts what a service accrued since its last payment into a payout.
func (t *tx) payAccrued(e *escrow, l *Lease) (fallow.Credits, error) {
	all, err := l.Claimed.Floor()
	if err != nil {
		return 0, err
	}
	amount := all - l.Paid
	l.Paid = all
	return amount, t.pay(l, amount, e.Advanced)
}

// pay lets an amount mature for the lease's provider, a check window after a
// moment.
func (t *tx) pay(l *Lease, amount fallow.Credits, from fallow.Time) error {
	if amount == 0 {
		return nil
	}
	window := fallow.Time(t.params.CheckWindowMS)
	grain := max(1, window/grains)
	matures := (from + window + grain - 1) / grain * grain
	k := payoutKey(l.Provider, matures)
	v, err := t.o.Get(k)
	if err != nil {
		return err
	}
	sum := amount
	if v != nil {
		was, err := decodeCredits(v)
		if err != nil {
			return err
		}
		if sum, err = addCredits(was, amount); err != nil {
			return err
		}
	}
	if err := t.o.Set(k, encodeCredits(sum)); err != nil {
		return err
	}
	if err := t.o.Set(queueKey(atDue, matures, l.Provider), mark); err != nil {
		return err
	}
	t.emit(Redeemed{Lease: l.ID, Provider: l.Provider, Amount: amount, Matures: matures})
	return nil
}

// payouts visits a provider's payouts that mature in [from, to).
func payouts(s fallow.Store, provider fallow.Account, from, to fallow.Time, yield func(Payout) bool) error {
	var failed error
	err := s.Scan(payoutKey(provider, from), payoutKey(provider, to), func(k, v []byte) bool {
		p := Payout{Provider: provider, Matures: fallow.Time(lastNumber(k))}
		p.Amount, failed = decodeCredits(v)
		return failed == nil && yield(p)
	})
	if failed != nil {
		return failed
	}
	return err
}

// payMatured moves what has matured for a provider to its account, at most
// limit payouts.
func (t *tx) payMatured(provider fallow.Account, limit int) error {
	var due []Payout
	err := payouts(t.o, provider, 0, t.at.Time+1, func(p Payout) bool {
		due = append(due, p)
		return len(due) < limit
	})
	if err != nil {
		return err
	}
	return t.payOut(due)
}

// payOut moves payouts, all to one provider, to its account.
func (t *tx) payOut(due []Payout) error {
	var sum fallow.Credits
	for _, p := range due {
		var err error
		if sum, err = addCredits(sum, p.Amount); err != nil {
			return err
		}
		if err := t.o.Delete(payoutKey(p.Provider, p.Matures)); err != nil {
			return err
		}
		if err := t.o.Delete(queueKey(atDue, p.Matures, p.Provider)); err != nil {
			return err
		}
	}
	if sum == 0 {
		return nil
	}
	to := due[0].Provider
	t.emit(
		market.Move{From: EscrowPool, To: to, Denom: fallow.CreditDenom, Amount: uint64(sum)},
		Paid{Provider: to, Amount: sum},
	)
	return nil
}

// maxEnded bounds how many ended leases that the queue has not been to one look
// at a provider's exposure takes off it. Further ones count on: a provider that
// lets so many end at once waits for the queue.
const maxEnded = 1000

// exposure is what a provider's open leases hold and what has not matured.
// Leases whose end was known ahead and has passed don't count, whether the
// queue has been there or not. A service counts with its deposit.
func (t *tx) exposure(provider fallow.Account) (fallow.Credits, error) {
	sum, err := t.held(provider)
	if err != nil {
		return 0, err
	}
	var ended []fallow.LeaseID
	prefix := withAccount(key(atEnd), provider)
	err = t.o.Scan(prefix, withNumber(prefix[:len(prefix):len(prefix)], uint64(t.at.Time+1)), func(k, _ []byte) bool {
		ended = append(ended, fallow.LeaseID(lastNumber(k)))
		return len(ended) < maxEnded
	})
	if err != nil {
		return 0, err
	}
	for _, id := range ended {
		l, err := t.stored(id)
		if err != nil {
			return 0, err
		}
		if sum < l.holds() {
			return 0, fmt.Errorf("provider %s holds less than its lease %d: %w", provider, id, fallow.ErrOverflow)
		}
		sum -= l.holds()
	}
	var failed error
	err = payouts(t.o, provider, t.at.Time+1, never, func(p Payout) bool {
		sum, failed = addCredits(sum, p.Amount)
		return failed == nil
	})
	if failed != nil {
		return 0, failed
	}
	return sum, err
}

// expose fails when a provider can't hold more: not bonded, or half its bond
// would no longer cover it.
func (t *tx) expose(provider fallow.Account, more fallow.Credits) error {
	bond, bonded, err := t.Bonds.Standing(provider)
	if err != nil {
		return err
	}
	if !bonded {
		return fmt.Errorf("provider %s: %w", provider, ErrUnbonded)
	}
	exposed, err := t.exposure(provider)
	if err != nil {
		return err
	}
	if exposed > bond/2 || more > bond/2-exposed {
		return fmt.Errorf("provider %s: %s credits more on %s of %s: %w", provider, more, exposed, bond/2, ErrExposure)
	}
	return nil
}
