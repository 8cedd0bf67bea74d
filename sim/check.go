package sim

import (
	"fmt"
	"slices"
	"time"

	"fallow.network"
	"fallow.network/market"
	"fallow.network/settle"
)

// Breach is an invariant that did not hold.
//
//nolint:errname // it is a fact about a market before it is an error
type Breach struct {
	Invariant string           `json:"invariant"`
	Detail    string           `json:"detail"`
	At        time.Duration    `json:"at"` // virtual, since the start
	Parties   []fallow.Account `json:"parties"`
	Command   string           `json:"command"` // that shows it again
}

// Error is the whole story in one line.
func (b *Breach) Error() string {
	return fmt.Sprintf("invariant broken after %s: %s: %s; parties %v; replay with: %s", b.At, b.Invariant, b.Detail, b.Parties, b.Command)
}

// checks is an account of the world that shares nothing with the rules.
type checks struct {
	supply  uint64                            // ucredit in all
	due     map[fallow.Account]fallow.Credits // redeemed, not yet paid out
	claimed map[fallow.LeaseID]fallow.Credits
	vouch   map[fallow.LeaseID]fallow.Pico // highest voucher signed
	ran     map[fallow.LeaseID]fallow.Pico // dearest task
	held    map[fallow.LeaseID]fallow.Credits
	open    map[fallow.Account]fallow.Credits // held by leases, of a tenant's and of a provider's
	funds   map[fallow.Account]fallow.Credits // a tenant's deposits less what was redeemed of them
	touched map[fallow.Account]bool           // since the last block
}

func newChecks() checks {
	return checks{
		due: map[fallow.Account]fallow.Credits{}, claimed: map[fallow.LeaseID]fallow.Credits{}, vouch: map[fallow.LeaseID]fallow.Pico{},
		ran: map[fallow.LeaseID]fallow.Pico{}, held: map[fallow.LeaseID]fallow.Credits{}, open: map[fallow.Account]fallow.Credits{},
		funds: map[fallow.Account]fallow.Credits{}, touched: map[fallow.Account]bool{},
	}
}

func (w *world) broken(invariant, detail string, parties ...fallow.Account) {
	if w.breach == nil {
		w.breach = &Breach{invariant, detail, time.Duration(w.clock.now-start) * time.Millisecond, parties, w.o.Command()}
	}
}

func (c *checks) vouched(w *world, l *lease) {
	c.vouch[l.id] = l.amount
	if l.tenant.bad == nil && l.amount.Cmp(l.right) > 0 {
		w.broken("an honest tenant pays only for outputs that it has", fmt.Sprintf("lease %d: voucher over %s, outputs worth %s", l.id, l.amount, l.right), l.tenant.account, l.by.account)
	}
}

func (c *checks) started(l *lease, charge fallow.Pico) {
	if charge.Cmp(c.ran[l.id]) > 0 {
		c.ran[l.id] = charge
	}
}

func (c *checks) opened(e settle.Opened) {
	c.held[e.Lease] = e.Reserve
	for _, a := range []fallow.Account{e.Tenant, e.Provider} {
		c.open[a] += e.Reserve
		c.touched[a] = true
	}
}

// let counts what a provider has let with a new lease. One that either side
// has ended may hold its slots a moment longer and isn't counted.
func (c *checks) let(w *world, p *lender, l *lease) {
	p.opened++
	slots := uint32(0)
	for _, o := range p.leases {
		if !o.over && !o.ended {
			slots += o.offer.Terms.Slots
		}
	}
	if slots <= p.slots {
		return
	}
	p.beyond++
	if p.bad == nil {
		w.broken("an honest provider lets a slot once", fmt.Sprintf("lease %d: %d slots let of %d", l.id, slots, p.slots), p.account)
	}
}

// freed takes so much out of what a lease holds.
func (c *checks) freed(id fallow.LeaseID, tenant, provider fallow.Account, amount fallow.Credits) {
	amount = min(amount, c.held[id])
	c.held[id] -= amount
	c.open[tenant] -= amount
	c.open[provider] -= amount
}

func (c *checks) redeemed(w *world, e settle.Redeemed) {
	c.claimed[e.Lease] += e.Amount
	c.due[e.Provider] += e.Amount
	c.touched[e.Provider] = true
	if l := w.leases[e.Lease]; l != nil {
		c.freed(e.Lease, l.tenant.account, e.Provider, e.Amount)
		c.funds[l.tenant.account] -= min(e.Amount, c.funds[l.tenant.account])
		c.touched[l.tenant.account] = true
	}
	if c.claimed[e.Lease].Pico().Cmp(c.vouch[e.Lease]) > 0 {
		w.broken("no provider is paid above its voucher", fmt.Sprintf("lease %d: %s redeemed, voucher over %s", e.Lease, c.claimed[e.Lease], c.vouch[e.Lease]), e.Provider)
	}
}

func (c *checks) moved(w *world, m market.Move) {
	p := w.by[m.To]
	if p == nil {
		return
	}
	if c.due[m.To] < fallow.Credits(m.Amount) {
		w.broken("no provider is paid twice", fmt.Sprintf("%d ucredit come and %d are due", m.Amount, uint64(c.due[m.To])), m.To)
		return
	}
	c.due[m.To] -= fallow.Credits(m.Amount)
	p.earned += m.Amount
}

func (c *checks) changed(w *world, e settle.Changed) {
	c.touched[e.Provider] = true
	if e.State != settle.Closed {
		return
	}
	if !e.Reason.Known() {
		w.broken("every lease ends with a reason", fmt.Sprintf("lease %d ended with %q", e.Lease, e.Reason), e.Tenant, e.Provider)
	}
	c.freed(e.Lease, e.Tenant, e.Provider, c.held[e.Lease])
	delete(c.held, e.Lease)
	if l := w.leases[e.Lease]; l != nil {
		l.closed = true
	}
	w.report.ended(e.Reason)
}

// left looks at what a provider loses by a lease that has ended: at most the
// ceiling, below which each slot may have started one more task.
func (c *checks) left(w *world, p *lender, l *lease, charged, paid fallow.Pico) {
	lost, err := charged.Sub(paid)
	if err != nil {
		return
	}
	p.lost = plus(p.lost, lost)
	l.tenant.gained = plus(l.tenant.gained, lost)
	most, err := c.ran[l.id].Mul(uint64(l.offer.Terms.Slots))
	if err != nil {
		return
	}
	if most = plus(most, l.offer.Terms.UnpaidCeiling.Pico()); p.bad == nil && lost.Cmp(most) > 0 {
		w.broken("an honest provider loses at most its unpaid ceiling and what ran below it", fmt.Sprintf("lease %d: %s lost, bound %s", l.id, lost, most), p.account, l.tenant.account)
	}
	if ceiling := l.offer.Terms.UnpaidCeiling.Pico(); p.bad == nil && lost.Cmp(ceiling) > 0 {
		w.report.OverCeiling++
	}
	delete(c.ran, l.id)
	delete(w.leases, l.id)
}

// inspect looks at a block's end; each virtual hour at everything.
func (w *world) inspect() {
	var sum uint64
	for _, c := range w.bank {
		sum += c
	}
	if sum != w.checks.supply {
		w.broken("coins are conserved", fmt.Sprintf("%d ucredit of %d", sum, w.checks.supply))
	}
	for _, p := range w.lenders {
		if !w.checks.touched[p.account] {
			continue
		}
		e := w.checks.open[p.account] + w.checks.due[p.account]
		bond, _, err := w.registry.Standing(p.account)
		if err != nil || e > bond/2 {
			w.broken("exposure stays below half the bond", fmt.Sprintf("%s of a bond of %s", e, bond), p.account)
		}
	}
	for _, t := range w.renters {
		if a := t.account; w.checks.touched[a] && w.checks.open[a] > w.checks.funds[a] {
			w.broken("no lease without funds", fmt.Sprintf("leases hold %s, the account %s", w.checks.open[a], w.checks.funds[a]), a)
		}
	}
	clear(w.checks.touched)
	if w.height%(3600_000/blockMS) == 0 {
		w.audit()
	}
}

// audit proves the books by their own invariants.
func (w *world) audit() {
	if err := w.books.Invariants(fallow.Credits(w.bank[settle.EscrowPool])); err != nil {
		w.broken("the books add up", err.Error())
	}
}

// finish looks at the end.
func (w *world) finish() {
	w.audit()
	for _, t := range w.renters {
		if t.bad == nil && t.running > 0 {
			w.broken("honest jobs finish", fmt.Sprintf("%d jobs still run %s after the last began", t.running, drain), t.account)
		}
	}
	for _, p := range w.lenders {
		for _, id := range sortedLeases(p.leases) {
			charged, paid := p.twin.Account(id)
			if lost, err := charged.Sub(paid); err == nil {
				p.lost = plus(p.lost, lost)
			}
		}
	}
}

func sortedLeases(m map[fallow.LeaseID]*lease) []fallow.LeaseID {
	out := make([]fallow.LeaseID, 0, len(m))
	for id := range m {
		out = append(out, id)
	}
	slices.Sort(out)
	return out
}
