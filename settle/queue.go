package settle

import (
	"fmt"
	"slices"

	"fallow.network"
)

// EndBlock works off what is due: payouts, accounts' events and offers that
// can't open any more, together at most Params.MaxQueuePerBlock. Nothing
// depends on it but that providers are paid, and events told, without anybody
// asking.
func (b Books) EndBlock(at Block) ([]Effect, error) {
	t, err := b.begin(at)
	if err != nil {
		return nil, err
	}
	share := int(t.params.MaxQueuePerBlock) / 3
	if err := t.payDue(share); err != nil {
		return nil, fmt.Errorf("pay what is due: %w", err)
	}
	if err := t.advanceDue(share); err != nil {
		return nil, fmt.Errorf("advance accounts: %w", err)
	}
	if err := t.pruneOffers(share); err != nil {
		return nil, fmt.Errorf("prune offers: %w", err)
	}
	return t.commit()
}

// payDue pays at most limit payouts, in order of time, one move a provider.
func (t *tx) payDue(limit int) error {
	due, err := t.due(atDue, limit)
	if err != nil {
		return err
	}
	for len(due) > 0 {
		to := due[0].account
		var payouts []Payout
		for _, d := range due {
			if d.account != to {
				continue
			}
			v, err := t.o.Get(payoutKey(to, d.time))
			if err != nil {
				return err
			}
			amount, err := decodeCredits(v)
			if err != nil {
				return err
			}
			payouts = append(payouts, Payout{Provider: to, Matures: d.time, Amount: amount})
		}
		due = slices.DeleteFunc(due, func(d queued) bool { return d.account == to })
		if err := t.payOut(payouts); err != nil {
			return err
		}
	}
	return nil
}

// advanceDue advances accounts by at most limit events in all.
func (t *tx) advanceDue(limit int) error {
	due, err := t.due(atQueue, limit)
	if err != nil {
		return err
	}
	for _, d := range due {
		if limit <= 0 {
			break
		}
		e, err := t.load(d.account)
		if err != nil {
			return err
		}
		if e.advanced, err = t.advance(e, t.at.Time, &limit); err != nil {
			return err
		}
	}
	return nil
}

// pruneOffers forgets at most limit offers whose last height has passed.
func (t *tx) pruneOffers(limit int) error {
	var old [][]byte
	end := withNumber(key(atUsed), uint64(max(t.at.Height, 0)))
	err := t.o.Scan(key(atUsed), end, func(k, _ []byte) bool {
		if len(old) >= limit {
			return false
		}
		old = append(old, slices.Clone(k))
		return true
	})
	if err != nil {
		return err
	}
	for _, k := range old {
		if err := t.o.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

type queued struct {
	time    fallow.Time
	account fallow.Account
}

// due is at most limit entries of a queue whose time has come.
func (t *tx) due(queue byte, limit int) ([]queued, error) {
	var list []queued
	end := withNumber(key(queue), uint64(t.at.Time+1))
	err := t.o.Scan(key(queue), end, func(k, _ []byte) bool {
		if len(list) >= limit {
			return false
		}
		list = append(list, queued{fallow.Time(numberAt(k, 1)), fallow.Account(k[10:])})
		return true
	})
	return list, err
}
