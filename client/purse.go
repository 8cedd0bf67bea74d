package client

import (
	"fmt"
	"math"
	"slices"

	"fallow.network"
	"fallow.network/market"
	"fallow.network/receipt"
)

// BudgetError is a job that cannot be paid for.
type BudgetError struct {
	// Have is the budget, or free escrow where Escrow is true.
	Have   fallow.Credits
	Escrow bool
	// Need is the estimate of what the whole job costs.
	Need fallow.Credits
	// From says what the estimate rests on.
	From string
}

func (e *BudgetError) Error() string {
	short := e.Need - min(e.Have, e.Need)
	if e.Escrow {
		return fmt.Sprintf("free escrow of %s credits is too small by %s: the job needs about %s (%s); deposit with: fallow deposit %s", e.Have, short, e.Need, e.From, short)
	}
	return fmt.Sprintf("the budget of %s credits is too small by %s: the job needs about %s (%s); raise it with: --budget %s", e.Have, short, e.Need, e.From, e.Need)
}

// purse keeps a job within its budget: what leases reserve, what their
// receipts cost, and what the tasks that are out may cost.
type purse struct {
	// budget is what all leases may reserve together.
	budget fallow.Pico
	// limit is the gas that a task may use at most; guess is what tasks of
	// this workload took before, 0 when unknown.
	limit, guess fallow.Gas
	accounts     map[fallow.LeaseID]*account
	// shared are leases that others use too: their reserves are not the job's
	// to bound it by, so own, what its own receipts cost, is.
	shared bool
	own    fallow.Pico
	// Of results so far.
	most  fallow.Gas
	sum   float64
	count int
}

// account is one lease's side of the purse.
type account struct {
	terms   market.Terms
	reserve fallow.Pico
	// owed is what all receipts cost that are not refused, paid ones included.
	owed fallow.Pico
	out  int
	// shut is a lease that gets no more tasks; its reserve beyond owed is free
	// again.
	shut bool
}

func newPurse(budget fallow.Credits, limit, guess fallow.Gas) *purse {
	return &purse{budget: budget.Pico(), limit: limit, guess: guess, accounts: map[fallow.LeaseID]*account{}}
}

func (p *purse) open(id fallow.LeaseID, terms market.Terms, reserve fallow.Credits, owed fallow.Pico) {
	p.accounts[id] = &account{terms: terms, reserve: reserve.Pico(), owed: owed}
}

// learn takes a result into the estimate.
func (p *purse) learn(gas fallow.Gas, charge fallow.Pico) {
	p.own = plus(p.own, charge)
	p.most = max(p.most, gas)
	p.sum += float64(gas)
	p.count++
}

// gas is what the next task is taken to use: the most that was seen, else what
// earlier jobs say, else the limit.
func (p *purse) gas() fallow.Gas {
	switch {
	case p.count > 0:
		return p.most
	case p.guess > 0:
		return p.guess
	default:
		return p.limit
	}
}

func (p *purse) known() bool { return p.count > 0 || p.guess > 0 }

// may says whether a lease's reserve carries one more task. Until a first
// result says what tasks cost, one at a time is tried.
func (p *purse) may(id fallow.LeaseID) bool {
	a := p.accounts[id]
	if a == nil || a.shut || p.shared && !p.within(a) {
		return false
	}
	after, ok := a.with(a.out+1, p.gas())
	if ok && after.Cmp(a.reserve) <= 0 {
		return true
	}
	return !p.known() && a.out == 0 && plus(a.owed, a.terms.TaskFee).Cmp(a.reserve) <= 0 && !a.reserve.IsZero()
}

// within says whether one more task, at this lease's price, stays within the
// budget on leases that are shared.
func (p *purse) within(a *account) bool {
	n := 1
	for _, o := range p.accounts {
		n += o.out
	}
	each, err := receipt.Charge(a.terms, p.gas())
	if err != nil {
		return false
	}
	all, err := each.Mul(uint64(n))
	return err == nil && plus(p.own, all).Cmp(p.budget) <= 0 || !p.known() && n == 1
}

// with is what is owed when n more tasks of that much gas have results.
func (a *account) with(n int, gas fallow.Gas) (fallow.Pico, bool) {
	each, err := receipt.Charge(a.terms, gas)
	if err != nil {
		return fallow.Pico{}, false
	}
	all, err := each.Mul(uint64(max(n, 0)))
	if err != nil {
		return fallow.Pico{}, false
	}
	sum, err := a.owed.Add(all)
	return sum, err == nil
}

// committed is what leases may take of the budget: reserves of those that
// work, what is owed on others.
func (p *purse) committed() (sum fallow.Pico) {
	for _, a := range p.accounts {
		add := a.reserve
		if a.shut {
			add = a.owed
		}
		sum = plus(sum, add)
	}
	return sum
}

// spent is what all receipts cost.
func (p *purse) spent() (sum fallow.Pico) {
	for _, a := range p.accounts {
		sum = plus(sum, a.owed)
	}
	return sum
}

// free is what of the budget no lease holds.
func (p *purse) free() fallow.Credits {
	left, err := p.budget.Sub(p.committed())
	if err != nil {
		return 0
	}
	c, err := left.Floor()
	if err != nil {
		return fallow.Credits(1<<63 - 1)
	}
	return c
}

// raise is what a lease's reserve must become to carry on: slots and as many
// again. It is false when the budget, the offer or the reserve leaves no room.
func (p *purse) raise(id fallow.LeaseID, tasks int) (fallow.Credits, bool) {
	a := p.accounts[id]
	if a == nil || a.shut || p.may(id) || tasks == 0 {
		return 0, false
	}
	want, ok := a.with(a.out+min(tasks, 4*int(max(a.terms.Slots, 1))), p.gas())
	if !ok {
		return 0, false
	}
	least, ok := a.with(a.out+1, p.gas())
	if !ok {
		return 0, false
	}
	most := plus(a.reserve, p.free().Pico())
	if m := a.terms.MaxReserve.Pico(); m.Cmp(most) < 0 {
		most = m
	}
	if least.Cmp(most) > 0 {
		return 0, false
	}
	if want.Cmp(most) > 0 {
		want = most
	}
	c, err := want.Ceil()
	if err != nil || c.Pico().Cmp(a.reserve) <= 0 {
		return 0, false
	}
	return min(c, a.terms.MaxReserve), true
}

// project is what the job will have cost when left more tasks are done, from
// results so far; false until there are enough of them.
func (p *purse) project(left, tasks int) (fallow.Credits, bool) {
	if p.count < min(3, tasks) {
		return 0, false
	}
	mean := fallow.Gas(p.sum / float64(p.count))
	var slots uint64
	var all fallow.Pico
	for _, id := range p.ids() {
		a := p.accounts[id]
		if a.shut {
			continue
		}
		each, err := receipt.Charge(a.terms, mean)
		if err != nil {
			return 0, false
		}
		n := uint64(max(a.terms.Slots, 1))
		share, err := each.Mul(n)
		if err != nil {
			return 0, false
		}
		slots += n
		all = plus(all, share)
	}
	if slots == 0 {
		return 0, false
	}
	rest, err := all.MulDiv(uint64(left), slots)
	if err != nil {
		return 0, false
	}
	c, err := plus(p.spent(), rest).Ceil()
	return c, err == nil
}

// needs is what the job costs when left more tasks cost what the next one is
// taken to, at the best of its leases' prices.
func (p *purse) needs(left int) fallow.Credits {
	var best fallow.Pico
	for i, id := range p.ids() {
		each, err := receipt.Charge(p.accounts[id].terms, p.gas())
		if err == nil && (i == 0 || each.Cmp(best) < 0) {
			best = each
		}
	}
	rest, err := best.Mul(uint64(left))
	if err != nil {
		return math.MaxInt64
	}
	c, err := plus(p.spent(), rest).Ceil()
	if err != nil {
		return math.MaxInt64
	}
	return c
}

func (p *purse) ids() []fallow.LeaseID {
	var out []fallow.LeaseID
	for id := range p.accounts {
		out = append(out, id)
	}
	slices.Sort(out)
	return out
}

// plus adds amounts and stays at the most that fits.
func plus(a, b fallow.Pico) fallow.Pico {
	s, err := a.Add(b)
	if err != nil {
		return fallow.Pico{Hi: 1<<64 - 1, Lo: 1<<64 - 1}
	}
	return s
}
