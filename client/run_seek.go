package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"slices"
	"time"

	"fallow.network"
	"fallow.network/market"
	"fallow.network/spec"
)

// live is the slots that can take work, and of how many leases.
func (r *run) live() (slots, leases int) {
	for _, id := range r.stationIDs() {
		st := r.stations[id]
		if st.shut || st.gone {
			continue
		}
		leases++
		slots += int(max(st.lease.offer.Terms.Slots, 1))
	}
	return slots, leases
}

// leased is what became of asking the market and opening leases.
type leased struct {
	asked  asked
	picks  []pick
	opened []lease
	stands map[fallow.Account]Standing
	err    error
	sent   time.Time // when offers went to the ledger; zero when none did
	done   time.Time
}

// provide asks the market when there is too little to work with, and raises
// reserves that run out.
func (r *run) provide(now time.Time) {
	slots, leases := r.live()
	starved := r.board.left() > 0 && (leases == 0 || r.board.starved() && r.board.outstanding() == 0)
	few := leases > 0 && r.fewer(slots, now)
	if leases > 0 && r.broke() {
		need := r.purse.needs(r.board.left())
		have := r.rec.Options.Budget
		if have == 0 {
			have, _ = r.purse.committed().Floor()
		}
		r.stop(&BudgetError{Have: have, Need: max(need, have+1), From: fmt.Sprintf("by %d results, and the reserves that leases allow", r.purse.count)})
		return
	}
	if len(r.rec.Options.Leases) > 0 {
		if starved {
			r.stop(fmt.Errorf("no lease of the job can go on: %s", r.why()))
		}
		return
	}
	if (starved || few) && !r.asking && now.After(r.nextAsk) {
		r.asking, r.asked = true, now
		if few {
			r.extra++
		}
		if r.firstAsk.IsZero() {
			r.firstAsk = now
		}
		q := r.question(slots)
		w := wish{
			tasks: r.board.left(), slots: int(q.slots), leases: r.c.config.MaxLeases - leases,
			gas: r.purse.gas(), sure: r.purse.known(), spread: r.c.config.Spread,
		}
		free, limited := r.purse.free(), r.rec.Options.Budget > 0
		r.work.run(func(ctx context.Context) { r.tell(r.seek(ctx, q, w, free, limited)) })
	}
	for _, id := range r.stationIDs() {
		b := r.board.benches[id]
		if b == nil || r.raising[id] || !r.stations[id].up {
			continue
		}
		if reserve, ok := r.purse.raise(id, r.board.left()+len(b.must)); ok {
			r.raising[id] = true
			r.work.run(func(ctx context.Context) {
				m := raised{lease: id, reserve: reserve}
				m.err = r.c.patient(ctx, r.told, func() error {
					tx, err := r.c.ledger.Raise(ctx, id, reserve)
					if err != nil {
						return err
					}
					return errors.Join(r.c.store.setReserve(ctx, id, reserve), r.c.store.addTransaction(ctx, r.rec.ID, "raise", tx, time.Now()))
				})
				r.tell(m)
			})
		}
	}
}

// How often, and how many times, the market is asked again beside leases that
// work, because more of them would end the job sooner.
const (
	extraEvery = 15 * time.Second
	extraAsks  = 4
)

// fewer says that more slots would be worth their asking: others were lost or
// none were free before, and there is work for a good while.
func (r *run) fewer(slots int, now time.Time) bool {
	waits := len(r.board.pending)
	if most := int(r.rec.Options.Slots); most > 0 && slots >= most {
		return false
	}
	if r.extra >= extraAsks || now.Sub(r.asked) < extraEvery || waits <= 2*slots || r.purse.free() == 0 {
		return false
	}
	var each time.Duration
	for _, id := range r.board.order {
		each = max(each, r.board.expect(r.board.benches[id]))
	}
	return each*time.Duration(waits) > extraEvery*time.Duration(max(slots, 1))
}

// broke says that nothing is out and no lease can pay for another task, nor be
// raised to.
func (r *run) broke() bool {
	if r.board.left() == 0 || r.board.outstanding() > 0 || len(r.fetching) > 0 || len(r.raising) > 0 || r.asking || len(r.active) > 0 {
		return false
	}
	for _, id := range r.stationIDs() {
		st := r.stations[id]
		if st.shut || st.gone {
			continue
		}
		if !st.up || !st.waiting.IsZero() || r.purse.may(id) {
			return false
		}
		if _, ok := r.purse.raise(id, r.board.left()); ok {
			return false
		}
	}
	return true
}

// why tells of leases that ended, for people.
func (r *run) why() string {
	s := "all have ended"
	for _, id := range r.stationIDs() {
		if st := r.stations[id]; st.reason != "" {
			s += fmt.Sprintf("; lease %d: %s", id, st.reason.Text())
		}
	}
	return s
}

// told passes events of a goroutine beside the loop on.
func (r *run) told(e Event) { r.tell(notice{e}) }

func (r *run) question(slots int) question {
	o := r.rec.Options
	most := r.board.left()
	if o.Slots > 0 {
		most = min(most, int(o.Slots))
	}
	p := o.Placement
	p.Excluded = slices.Clone(p.Excluded)
	for _, id := range r.stationIDs() {
		st := r.stations[id]
		if a := st.lease.offer.Provider; (r.wrong[a] || !st.gone) && !slices.Contains(p.Excluded, a) && len(p.Excluded) < market.MaxPlaced {
			p.Excluded = append(p.Excluded, a)
		}
	}
	return question{
		job: r.rec.ID, workload: r.rec.workload, commit: spec.Commitment(r.rec.salt, r.rec.Workload),
		tasks: r.board.left(), slots: uint32(max(min(most-slots, market.MaxSlots), 1)), placement: p,
		gas: r.rec.workload.Limits.Gas, seconds: uint32(min(r.rec.workload.Limits.WallMillis/1000+1, 3600)),
	}
}

// seek asks, chooses and opens. It runs beside the loop.
func (r *run) seek(ctx context.Context, q question, w wish, free fallow.Credits, limited bool) (m leased) {
	var escrow Escrow
	m.err = r.c.patient(ctx, r.told, func() (err error) {
		escrow, err = r.c.books.Escrow(ctx, r.c.config.Tenant)
		return err
	})
	if m.err != nil {
		return m
	}
	have, err := escrow.Free.Floor()
	if err != nil {
		have = 1<<63 - 1
	}
	if have == 0 {
		m.err = &BudgetError{Have: 0, Escrow: true, Need: max(r.rec.Options.Budget, 1), From: "nothing is left to reserve"}
		return m
	}
	var late []lease
	m.err = r.c.patient(ctx, r.told, func() (err error) {
		late, err = r.late(ctx)
		return err
	})
	if m.err != nil || len(late) > 0 {
		m.opened, m.stands = late, map[fallow.Account]Standing{}
		for _, l := range late {
			p := l.offer.Provider
			if m.stands[p], err = r.c.books.Standing(ctx, p); err != nil {
				r.c.log.DebugContext(ctx, "a provider's standing could not be read", slog.String("provider", string(p)), slog.Any("error", err))
			}
		}
		return m
	}
	switch {
	case limited:
		w.funds = min(free, have)
		w.escrow = have < free
	case w.sure:
		w.funds, w.escrow = have, true
	default:
		w.funds, w.escrow = max(have/2, 1), true // the rest is for raising
	}
	q.at = market.Block{Height: escrow.Height, Time: escrow.Time}
	m.asked = r.c.ask(ctx, q, r.told)
	if m.asked.err != nil {
		m.err = m.asked.err
		return m
	}
	m.stands = r.c.standings(ctx, &m.asked)
	r.c.rank(ctx, m.asked.offers, w, q.workload.Blobs())
	if m.picks, m.err = choose(m.asked.offers, w); m.err != nil || len(m.picks) == 0 {
		return m
	}
	m.sent = time.Now()
	m.opened, m.err = r.c.open(ctx, r.rec.ID, m.picks, r.told)
	m.done = time.Now()
	return m
}

// onLeased takes new leases in.
func (r *run) onLeased(ctx context.Context, m leased, now time.Time) {
	r.asking = false
	r.noteLeased(ctx, m)
	for _, o := range m.asked.offers {
		t := o.offer.Terms
		r.emit(OfferSeen{
			Provider: o.offer.Provider, NodeKey: o.offer.NodeKey, Region: o.answer.Region, GasPrice: t.GasPrice, TaskFee: t.TaskFee,
			Slots: t.Slots, Score: o.score, Latency: o.latency,
		})
	}
	for _, d := range m.asked.declines {
		r.emit(Declined{Provider: d.provider, Reason: d.reason, Detail: d.detail})
	}
	if m.asked.peer != nil {
		r.peers[string(m.asked.nonce)] = m.asked.peer
	}
	got := 0
	for _, l := range m.opened {
		if l.id == 0 {
			r.emit(LeaseSkipped{Provider: l.offer.Provider, Reason: l.reason})
			m.asked.declines = append(m.asked.declines, decline{l.offer.Provider, l.reason, "the ledger opened no lease"})
			continue
		}
		if r.stations[l.id] == nil {
			r.stop(r.take(ctx, l, m.stands[l.offer.Provider], false))
			got++
		}
	}
	_, leases := r.live()
	switch {
	case got > 0:
		r.asks = 0
		r.nextAsk = now.Add(time.Second)
		return
	case ctx.Err() != nil:
		return
	}
	r.asks++
	r.nextAsk = now.Add(min(time.Duration(r.asks)*time.Second, 5*time.Second))
	var budget *BudgetError
	away := errors.Is(m.err, ErrAway) || m.err == nil && len(m.asked.declines) == 0 && len(m.asked.offers) == 0 && len(m.asked.hubs) > 0
	switch {
	case leases > 0 && r.board.outstanding() > 0:
		// Others work on; the market is asked again later.
	case errors.As(m.err, &budget):
		r.stop(m.err)
	case away && now.Sub(r.firstAsk) < r.c.config.Patience:
		r.emit(Away{What: "the market", For: now.Sub(r.firstAsk)})
	case m.err != nil:
		r.stop(m.err)
	case away || r.asks >= patientAsks || !m.asked.mayPass():
		r.stop(m.asked.noOffers())
	}
}

// patientAsks is how often the market is asked while nobody offers for reasons
// that pass.
const patientAsks = 6

// mayPass says whether anybody declined for a reason that passes by itself,
// or nobody answered.
func (a asked) mayPass() bool {
	for _, d := range a.declines {
		switch d.reason {
		case fallow.ReasonNoCapacity, fallow.ReasonRateLimited, fallow.ReasonChainAway, fallow.ReasonExposure, fallow.ReasonExpired, fallow.ReasonBusy, fallow.ReasonDraining:
			return true
		default:
		}
	}
	return len(a.declines) == 0
}

// take makes a station of a lease and opens its link.
func (r *run) take(ctx context.Context, l lease, s Standing, resumed bool) error {
	evidence, err := r.c.store.evidence(ctx, l.offer.NodeKey, r.rec.workload.Class)
	if err != nil {
		return err
	}
	v, err := r.c.store.voucher(ctx, l.id)
	if err != nil {
		return err
	}
	st := &station{lease: l, bond: s.Bond, evidence: evidence, voucher: v, shared: l.job == ""}
	r.stations[l.id] = st
	r.purse.open(l.id, l.offer.Terms, l.reserve, fallow.Pico{})
	r.emit(LeaseOpened{Lease: l.id, Provider: l.offer.Provider, NodeKey: l.offer.NodeKey, Reserve: l.reserve, Slots: l.offer.Terms.Slots, Resumed: resumed})
	r.board.seat(l.id, l.offer.Provider, int(l.offer.Terms.Slots))
	return r.join(ctx, st)
}

// raised is what became of a reserve.
type raised struct {
	lease   fallow.LeaseID
	reserve fallow.Credits
	err     error
}

func (r *run) onRaised(_ context.Context, m raised) {
	if m.err != nil {
		// It goes on with what it has; another try may do better later.
		r.emit(Warning{Text: fmt.Sprintf("the reserve of lease %d could not be raised: %s", m.lease, firstLine(m.err))})
		time.AfterFunc(2*time.Second, func() { r.tell(raised{lease: m.lease}) })
		return
	}
	delete(r.raising, m.lease)
	if a := r.purse.accounts[m.lease]; a != nil && m.reserve > 0 {
		a.reserve = m.reserve.Pico()
		r.stations[m.lease].lease.reserve = m.reserve
	}
}

// watchBudget stops a job whose results so far say that the budget will not do.
func (r *run) watchBudget() {
	budget := r.rec.Options.Budget
	if budget == 0 || r.board.left() == 0 {
		return
	}
	need, ok := r.purse.project(r.board.left(), len(r.board.tasks))
	if ok && need > budget && need-budget > budget/50 {
		r.stop(&BudgetError{Have: budget, Need: need, From: fmt.Sprintf("by the first %d results", r.purse.count)})
	}
}

// maxStandings is how many providers the ledger is asked about for one demand.
const maxStandings = 256

// standings asks the ledger for bonds, and drops offers that it would not take:
// anybody may make one in a provider's name, and would be chosen for its price.
func (c *Client) standings(ctx context.Context, a *asked) map[fallow.Account]Standing {
	out := map[fallow.Account]Standing{}
	away := map[fallow.Account]bool{}
	if len(a.offers) > maxStandings {
		// Whoever answers first must not be all that is looked at.
		mathrand.Shuffle(len(a.offers), func(i, j int) { a.offers[i], a.offers[j] = a.offers[j], a.offers[i] })
	}
	a.offers = slices.DeleteFunc(a.offers, func(o offered) bool {
		p := o.offer.Provider
		s, known := out[p]
		if !known && len(out) >= maxStandings {
			return true // there are more than enough to choose from
		}
		if !known {
			var err error
			if s, err = c.books.Standing(ctx, p); err != nil {
				c.log.DebugContext(ctx, "a provider's standing could not be read", slog.String("provider", string(p)), slog.Any("error", err))
				away[p] = true
			}
			out[p] = s
		}
		reason := fallow.Reason("")
		switch {
		case away[p]: // the ledger will say
		case s.Bond == 0:
			reason = fallow.ReasonUnbonded
		case !slices.Contains(s.Nodes, o.offer.NodeKey):
			reason = fallow.ReasonKeyEpoch
		}
		if reason != "" {
			a.declines = append(a.declines, decline{p, reason, "its offer is worth nothing"})
		}
		return reason != ""
	})
	return out
}
