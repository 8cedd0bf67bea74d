package client

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"fallow.network"
	"fallow.network/market"
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
			r.c.log.WarnContext(ctx, "reading receipts failed", slog.Any("error", err))
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
	r.note(ctx, step{kind: stepUp, lease: m.lease, at: now})
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
	st.shown = v.Amount
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
	if st.released || st.over {
		st.up = false
		return // it has let go of the lease, and hung up
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
		if err := r.store.endLease(ctx, id, leaseEnding, reason, now); err != nil {
			r.stop(err)
		}
	}
	r.emit(LeaseEnded{Lease: id, Provider: st.lease.offer.Provider, Reason: reason, Paid: st.voucher.Amount})
	r.c.log.InfoContext(ctx, "a lease ends", slog.Uint64("lease", uint64(id)), slog.String("reason", string(reason)), slog.String("detail", detail))
}

func (r *run) onRelease(ctx context.Context, m linkRelease) {
	st := r.stations[m.lease]
	if st == nil {
		return
	}
	if _, err := wire.OpenRelease(r.c.config.ChainID, st.lease.offer.NodeKey, m.signed); err != nil {
		r.c.log.WarnContext(ctx, "a release is not the provider's", slog.Uint64("lease", uint64(m.lease)), slog.Any("error", err))
		return
	}
	st.released, st.lease.release = true, m.signed
	if err := r.store.setRelease(ctx, m.lease, m.signed); err != nil {
		r.stop(err)
	}
}
