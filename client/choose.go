package client

import (
	"cmp"
	"slices"

	"fallow.network"
	"fallow.network/receipt"
)

// pick is an offer that is to open a lease.
type pick struct {
	offered
	reserve fallow.Credits
}

// wish is what a job wants of the market.
type wish struct {
	tasks  int
	slots  int // at once, at most
	leases int // at most
	// gas is what a task is taken to use; sure says that earlier jobs say so,
	// and that it is not just the limit.
	gas    fallow.Gas
	sure   bool
	funds  fallow.Credits // what may be reserved
	escrow bool           // funds are free escrow, not a budget
	spread uint64
}

// choose takes offers by score until there are slots enough, and shares funds
// among them. It fails with a BudgetError when nothing useful can be reserved.
func choose(offers []offered, w wish) ([]pick, error) {
	if len(offers) == 0 || w.tasks == 0 {
		return nil, nil
	}
	ranked := byScore(offers)
	cheapest := slices.MinFunc(ranked, func(a, b offered) int { return a.each(w.gas).Cmp(b.each(w.gas)) }).each(w.gas)
	most := fallow.Pico{Hi: 1<<64 - 1, Lo: 1<<64 - 1}
	if m, err := cheapest.Mul(w.spread); err == nil {
		most = m
	}
	wanted := min(w.tasks, w.slots)
	var taken []offered
	slots := 0
	for _, o := range ranked {
		if len(taken) >= w.leases || slots >= wanted {
			break
		}
		if o.each(w.gas).Cmp(most) > 0 {
			continue
		}
		taken = append(taken, o)
		slots += int(o.offer.Terms.Slots)
	}
	return share(taken, w, cheapest)
}

// byScore lists offers with the best first.
func byScore(offers []offered) []offered {
	ranked := slices.Clone(offers)
	slices.SortStableFunc(ranked, func(a, b offered) int {
		return cmp.Or(cmp.Compare(b.score.Total, a.score.Total), slices.Compare(a.offer.NodeKey[:], b.offer.NodeKey[:]))
	})
	return ranked
}

// each is what one task of that much gas costs by the offer.
func (o offered) each(gas fallow.Gas) fallow.Pico {
	c, err := receipt.Charge(o.offer.Terms, gas)
	if err != nil {
		return fallow.Pico{Hi: 1<<64 - 1, Lo: 1<<64 - 1}
	}
	return c
}

// share splits funds by slots, with half as much again as an even share needs,
// so that the faster can take over from the slower.
func share(taken []offered, w wish, cheapest fallow.Pico) ([]pick, error) {
	slots := 0
	for _, o := range taken {
		slots += int(o.offer.Terms.Slots)
	}
	if err := afford(w, cheapest, taken); err != nil {
		return nil, err
	}
	needs := make([]fallow.Pico, len(taken))
	var sum fallow.Pico
	for i, o := range taken {
		n := w.tasks*int(o.offer.Terms.Slots)*3/(2*slots) + int(o.offer.Terms.Slots) + 1
		need, err := o.each(w.gas).Mul(uint64(min(n, w.tasks+1)))
		if m := o.offer.Terms.MaxReserve.Pico(); err != nil || need.Cmp(m) > 0 {
			need = m
		}
		needs[i] = need
		sum = plus(sum, need)
	}
	var out []pick
	for i, o := range taken {
		reserve := needs[i]
		if sum.Cmp(w.funds.Pico()) > 0 {
			reserve = part(w.funds.Pico(), needs[i], sum)
		}
		// Scaled down or not, only whole micro-credits can be reserved.
		c, err := reserve.Floor()
		if err != nil {
			continue
		}
		if c == 0 && w.funds > 0 {
			c = 1
		}
		least := o.offer.Terms.TaskFee
		if w.sure {
			least = o.each(w.gas)
		}
		if c == 0 || c.Pico().Cmp(least) < 0 {
			continue // not one task could be paid
		}
		out = append(out, pick{o, min(c, o.offer.Terms.MaxReserve)})
	}
	if len(out) == 0 && len(taken) > 1 {
		// Split, it is too little for anyone: all to the cheapest.
		one := slices.MinFunc(taken, func(a, b offered) int { return a.each(w.gas).Cmp(b.each(w.gas)) })
		return share([]offered{one}, w, cheapest)
	}
	return out, nil
}

// part is funds·need/sum rounded down.
func part(funds, need, sum fallow.Pico) fallow.Pico {
	// Both are scaled to 64 bits, which loses nothing that a share shows.
	for sum.Hi > 0 {
		sum = fallow.Pico{Hi: sum.Hi >> 1, Lo: sum.Lo>>1 | sum.Hi<<63}
		need = fallow.Pico{Hi: need.Hi >> 1, Lo: need.Lo>>1 | need.Hi<<63}
	}
	if sum.Lo == 0 {
		return fallow.Pico{}
	}
	p, err := funds.MulDiv(need.Lo, sum.Lo)
	if err != nil {
		return funds
	}
	return p
}

// afford says by how much funds are too small, where that can be known before
// anything ran.
func afford(w wish, cheapest fallow.Pico, taken []offered) error {
	each, from := cheapest, "by earlier runs of this workload"
	if !w.sure {
		each, from = fallow.Pico{}, "the least fee of each task"
		for i, o := range taken {
			if i == 0 || o.offer.Terms.TaskFee.Cmp(each) < 0 {
				each = o.offer.Terms.TaskFee
			}
		}
	}
	all, err := each.Mul(uint64(w.tasks))
	if err != nil {
		return nil
	}
	need, err := all.Ceil()
	if err != nil || need <= w.funds && w.funds > 0 {
		return nil
	}
	if need == 0 {
		need = 1
	}
	return &BudgetError{Have: w.funds, Escrow: w.escrow, Need: need, From: from}
}
