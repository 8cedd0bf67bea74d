package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"fallow.network"
	"fallow.network/market"
	"fallow.network/spec"
	"fallow.network/wire"
)

func compareAttempts(a, b attemptID) int {
	return cmp.Or(cmp.Compare(a.lease, b.lease), cmp.Compare(a.task, b.task), cmp.Compare(a.attempt, b.attempt))
}

// stationIDs lists leases in a fixed order.
func (r *run) stationIDs() []fallow.LeaseID {
	var out []fallow.LeaseID
	for id := range r.stations {
		out = append(out, id)
	}
	slices.Sort(out)
	return out
}

// join opens the work stream of a lease.
func (r *run) join(ctx context.Context, st *station) error {
	peer := r.peers[string(st.lease.nonce)]
	if peer == nil {
		session, err := r.c.identity.Session(st.lease.nonce)
		if err != nil {
			return err
		}
		if peer, err = r.c.network.Join(ctx, session); err != nil {
			return fmt.Errorf("join the network: %w", err)
		}
		r.peers[string(st.lease.nonce)] = peer
	}
	id := st.lease.id
	have := func() []uint32 {
		list, err := r.c.store.tasksHad(ctx, id)
		if err != nil {
			r.c.log.Warn("reading receipts failed", slog.Any("error", err))
		}
		return list
	}
	st.link = newLink(r.c, st.lease, peer, r.c.moves(peer), r.may, have, r.tell)
	st.joined, st.down = true, time.Now()
	inner, stop := context.WithCancel(ctx)
	st.stop = stop
	r.work.run(func(context.Context) { st.link.run(inner) })
	return nil
}

// onUp begins or goes on with the work on a lease.
func (r *run) onUp(ctx context.Context, m linkUp, now time.Time) {
	st := r.stations[m.lease]
	if st == nil {
		return
	}
	back := st.gone
	st.up, st.gone, st.waiting = true, false, time.Time{}
	if err := r.agree(st, m.voucher); err != nil {
		r.onEnding(ctx, m.lease, fallow.ReasonSignature, firstLine(err), now)
		return
	}
	if st.shut {
		r.sendVoucher(st)
		return
	}
	slots := int(min(max(m.slots, 1), max(st.lease.offer.Terms.Slots, 1)))
	b := r.board.seat(m.lease, st.lease.offer.Provider, slots)
	for _, a := range b.out {
		st.link.send(r.message(a.attemptID))
	}
	if back {
		r.emit(ProviderBack{Lease: m.lease, Provider: st.lease.offer.Provider})
	}
}

// agree brings both sides to the highest voucher.
func (r *run) agree(st *station, theirs market.Signed) error {
	if len(theirs.Message) == 0 {
		r.sendVoucher(st)
		return nil
	}
	session, err := r.c.sessionKey(st.lease.nonce)
	if err != nil {
		return err
	}
	v, err := wire.OpenVoucher(r.c.config.ChainID, session, theirs)
	if err != nil {
		return fmt.Errorf("the voucher that the provider shows: %w", err)
	}
	switch v.Amount.Cmp(st.voucher.Amount) {
	case -1:
		r.sendVoucher(st)
	case 1:
		// Only a home that was set back from a copy comes here.
		return fmt.Errorf("the provider shows a voucher over %s credits that this home has no record of (its own is over %s): restore tenant.db", v.Amount, st.voucher.Amount)
	}
	return nil
}

func (r *run) onDown(m linkDown, now time.Time) {
	st := r.stations[m.lease]
	if st == nil {
		return
	}
	if st.up || st.down.IsZero() {
		st.down = now
		r.emit(ProviderLost{Lease: m.lease, Provider: st.lease.offer.Provider, Detail: firstLine(m.err)})
	}
	st.up = false
}

// overdue gives up on what did not come back in time.
func (r *run) overdue(ctx context.Context, now time.Time) {
	wall := time.Duration(r.rec.workload.Limits.WallMillis) * time.Millisecond
	for _, id := range r.stationIDs() {
		st := r.stations[id]
		patience := r.c.config.GoneAfter
		if st.lease.opened.Add(r.c.config.DialTimeout).After(now) {
			patience = max(patience, r.c.config.DialTimeout) // it may not have seen the lease yet
		}
		if !st.up && !st.gone && !st.shut && st.joined && now.Sub(st.down) > patience {
			st.gone = true
			r.emit(ProviderLost{Lease: id, Provider: st.lease.offer.Provider, Detail: "it did not come back", Gone: true})
			r.unseat(ctx, st, fallow.ReasonProviderGone, now)
		}
		b := r.board.benches[id]
		if b == nil || !st.up {
			continue
		}
		for _, a := range slices.Clone(b.out) {
			if !a.started.IsZero() && now.Sub(a.started) > wall+r.c.config.DialTimeout {
				r.lose(ctx, a.attemptID, fallow.ReasonTimeout, "", now)
			}
		}
	}
}

// unseat takes a lease's tasks back.
func (r *run) unseat(ctx context.Context, st *station, reason fallow.Reason, now time.Time) {
	id := st.lease.id
	for _, aid := range r.pastIDs(id) {
		if p := r.past[aid]; p.state == attemptOut {
			r.returned(id)
			r.ended(ctx, aid, attemptFailed, reason, now)
			if p.kind.counts() && !r.board.tasks[aid.task].done {
				r.emit(TaskFailed{Task: aid.task, Label: r.label(aid.task), Provider: st.lease.offer.Provider, Reason: reason, Again: true})
			}
		}
	}
	for _, e := range r.board.unseat(id) {
		r.findChecker(ctx, e.task, now)
	}
}

func (r *run) pastIDs(lease fallow.LeaseID) []attemptID {
	var out []attemptID
	for id := range r.past {
		if id.lease == lease {
			out = append(out, id)
		}
	}
	slices.SortFunc(out, compareAttempts)
	return out
}

// onEnding ends the work on a lease, for the provider's or our own reason.
// What is owed is still paid, unless it was found wrong.
func (r *run) onEnding(ctx context.Context, id fallow.LeaseID, reason fallow.Reason, detail string, now time.Time) {
	st := r.stations[id]
	if st == nil || st.shut {
		return
	}
	st.shut, st.reason = true, reason
	r.unseat(ctx, st, reason, now)
	if a := r.purse.accounts[id]; a != nil {
		a.shut = true
	}
	if !st.shared {
		if err := r.c.store.endLease(ctx, id, leaseEnding, reason, now); err != nil {
			r.stop(err)
		}
	}
	r.emit(LeaseEnded{Lease: id, Provider: st.lease.offer.Provider, Reason: reason, Paid: st.voucher.Amount})
	r.c.log.Info("a lease ends", slog.Uint64("lease", uint64(id)), slog.String("reason", string(reason)), slog.String("detail", detail))
}

func (r *run) onRelease(ctx context.Context, m linkRelease) {
	st := r.stations[m.lease]
	if st == nil {
		return
	}
	if _, err := wire.OpenRelease(r.c.config.ChainID, st.lease.offer.NodeKey, m.signed); err != nil {
		r.c.log.Warn("a release is not the provider's", slog.Uint64("lease", uint64(m.lease)), slog.Any("error", err))
		return
	}
	st.released, st.lease.release = true, m.signed
	if err := r.c.store.setRelease(ctx, m.lease, m.signed); err != nil {
		r.stop(err)
	}
}

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
}

// provide asks the market when there is too little to work with, and raises
// reserves that run out.
func (r *run) provide(ctx context.Context, now time.Time) {
	slots, leases := r.live()
	waits := len(r.board.pending)
	starved := r.board.left() > 0 && (leases == 0 || r.board.starved() && r.board.outstanding() == 0)
	few := leases > 0 && waits > 3*slots && leases < 2 && len(r.stations) > 1
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
		r.asking = true
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
				m.err = r.c.patient(ctx, "the ledger", r.told, func() error {
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
		seconds: uint32(min(r.rec.workload.Limits.WallMillis/1000+1, 3600)),
	}
}

// seek asks, chooses and opens. It runs beside the loop.
func (r *run) seek(ctx context.Context, q question, w wish, free fallow.Credits, limited bool) (m leased) {
	var escrow Escrow
	m.err = r.c.patient(ctx, "the ledger", r.told, func() (err error) {
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
	m.stands = r.c.standings(ctx, m.asked.offers)
	r.c.rank(ctx, m.asked.offers, w, q.workload.Blobs())
	if m.picks, m.err = choose(m.asked.offers, w); m.err != nil || len(m.picks) == 0 {
		return m
	}
	m.opened, m.err = r.c.open(ctx, r.rec.ID, m.picks, r.told)
	return m
}

// onLeased takes new leases in.
func (r *run) onLeased(ctx context.Context, m leased, now time.Time) {
	r.asking = false
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
		r.nextAsk = now.Add(5 * time.Second)
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
	case away || r.asks >= 3:
		r.stop(m.asked.noOffers())
	}
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
	st := &station{lease: l, bond: s.Bond, secured: s.Slashable, evidence: evidence, voucher: v, shared: l.job == ""}
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

// standings asks the ledger for bonds; who is unknown there has none.
func (c *Client) standings(ctx context.Context, offers []offered) map[fallow.Account]Standing {
	out := map[fallow.Account]Standing{}
	for _, o := range offers {
		if _, known := out[o.offer.Provider]; known {
			continue
		}
		s, err := c.books.Standing(ctx, o.offer.Provider)
		if err != nil {
			c.log.Debug("a provider's standing could not be read", slog.String("provider", string(o.offer.Provider)), slog.Any("error", err))
		}
		out[o.offer.Provider] = s
	}
	return out
}
