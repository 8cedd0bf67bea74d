package client

import (
	"errors"
	"testing"

	"pgregory.net/rapid"

	"fallow.network"
	"fallow.network/market"
	"fallow.network/receipt"
)

func drawOffers(t *rapid.T) []offered {
	var out []offered
	for i := range rapid.IntRange(1, 8).Draw(t, "offers") {
		var o offered
		o.offer.NodeKey[0] = byte(i)
		o.offer.Terms = market.Terms{
			GasPrice: fallow.PicoOf(rapid.Uint64Range(0, 1e9).Draw(t, "price")), TaskFee: fallow.PicoOf(rapid.Uint64Range(0, 1e9).Draw(t, "fee")),
			Slots: rapid.Uint32Range(1, 64).Draw(t, "slots"), MaxReserve: fallow.Credits(rapid.Uint64Range(1, 1e9).Draw(t, "most")),
		}
		o.score = market.Score{Total: rapid.Uint32Range(0, 1000).Draw(t, "score")}
		out = append(out, o)
	}
	return out
}

// TestSharesStayWithinFunds draws offers and wishes: reserves never exceed
// funds by more than a micro-credit a lease, nor an offer's own bound, and
// whoever is leased can be paid for a task.
func TestSharesStayWithinFunds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		offers := drawOffers(t)
		w := wish{
			tasks: rapid.IntRange(1, 1000).Draw(t, "tasks"), slots: rapid.IntRange(1, 100).Draw(t, "slots"), leases: rapid.IntRange(1, 8).Draw(t, "leases"),
			gas: fallow.Gas(rapid.Uint64Range(1, 1e12).Draw(t, "gas")), sure: rapid.Bool().Draw(t, "sure"),
			funds: fallow.Credits(rapid.Uint64Range(1, 1e8).Draw(t, "funds")), spread: 8,
		}
		picks, err := choose(offers, w)
		var budget *BudgetError
		if errors.As(err, &budget) {
			if budget.Need <= budget.Have {
				t.Fatalf("%v", err)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(picks) > w.leases {
			t.Fatalf("%d leases", len(picks))
		}
		var sum fallow.Credits
		for _, p := range picks {
			sum += p.reserve
			terms := p.offer.Terms
			if p.reserve == 0 || p.reserve > terms.MaxReserve {
				t.Fatalf("a reserve of %d, the offer allows %d", p.reserve, terms.MaxReserve)
			}
			if w.sure && p.reserve.Pico().Cmp(p.each(w.gas)) < 0 {
				t.Fatalf("a reserve of %s does not pay for a task of %s", p.reserve, p.each(w.gas))
			}
		}
		if sum > w.funds+fallow.Credits(len(picks)) {
			t.Fatalf("%s reserved of %s", sum, w.funds)
		}
	})
}

// TestThePurseNeverOverdraws plays tasks of any gas on leases of any terms:
// what is owed stays within reserves, reserves within the budget.
func TestThePurseNeverOverdraws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		budget := fallow.Credits(rapid.Uint64Range(1_000, 1e8).Draw(t, "budget"))
		limit := fallow.Gas(rapid.Uint64Range(1, 1e10).Draw(t, "limit"))
		p := newPurse(budget, limit, 0)
		left := budget
		for i := range rapid.IntRange(1, 4).Draw(t, "leases") {
			terms := drawOffers(t)[0].offer.Terms
			reserve := min(fallow.Credits(rapid.Uint64Range(0, uint64(left)).Draw(t, "reserve")), terms.MaxReserve)
			left -= reserve
			p.open(fallow.LeaseID(i+1), terms, reserve, fallow.Pico{})
		}
		probes := map[fallow.LeaseID]bool{}
		for range 200 {
			ids := p.ids()
			id := ids[rapid.IntRange(0, len(ids)-1).Draw(t, "lease")]
			a := p.accounts[id]
			if reserve, ok := p.raise(id, 10); ok {
				if reserve.Pico().Cmp(a.reserve) <= 0 || reserve > a.terms.MaxReserve {
					t.Fatalf("raised from %s to %s, at most %s", a.reserve, reserve, a.terms.MaxReserve)
				}
				a.reserve = reserve.Pico()
			}
			if p.may(id) {
				a.out++
				if after, ok := a.with(a.out, p.gas()); !ok || after.Cmp(a.reserve) > 0 {
					probes[id] = true // the first, before anybody knows what it costs
				}
			}
			if a.out > 0 && rapid.Bool().Draw(t, "done") {
				// Tasks of one job are alike: within what was seen, once seen.
				gas := fallow.Gas(rapid.Uint64Range(1, uint64(min(p.gas(), limit))).Draw(t, "gas"))
				charge, err := receipt.Charge(a.terms, gas)
				if err != nil {
					t.Fatal(err)
				}
				a.out--
				if after := plus(a.owed, charge); !probes[id] && after.Cmp(a.reserve) > 0 {
					t.Fatalf("lease %d owes %s, its reserve is %s", id, after, a.reserve)
				}
				a.owed = plus(a.owed, charge)
				delete(probes, id)
				p.learn(gas, charge)
			}
			if p.committed().Cmp(plus(budget.Pico(), overdraft(p))) > 0 {
				t.Fatalf("committed %s of %s", p.committed(), budget)
			}
		}
	})
}

// overdraft is what first results of unknown gas cost beyond their reserve:
// such a result can't be paid in full, and its provider knows the reserve.
func overdraft(p *purse) (sum fallow.Pico) {
	for _, a := range p.accounts {
		if over, err := a.owed.Sub(a.reserve); err == nil {
			sum = plus(sum, over)
		}
	}
	return sum
}
