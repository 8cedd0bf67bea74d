package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"fallow.network"
	nodev1 "fallow.network/api/node"
	"fallow.network/fault"
	"fallow.network/market"
)

// releaseWait is how long providers have to sign releases at the end.
const releaseWait = 3 * time.Second

// lastTick is how often it is looked whether the last words are out: most are
// within a few milliseconds, and then nothing else is left to wait for.
const lastTick = 3 * time.Millisecond

// settle ends a job, whatever came of the work: it pays what is owed, says
// that it is done, and closes the leases. What cannot be done now is left for
// another Run of the same job.
func (r *run) settle(ctx, inner context.Context, cause error) error {
	ctx, span := r.c.trace.Begin(ctx, "job.settle")
	defer span.End("")
	r.fatal = nil
	// What a step could not write down comes first: nothing is signed for a
	// receipt that isn't on disk.
	if err := r.store.commit(ctx); err != nil {
		return errors.Join(cause, fmt.Errorf("job %s is not settled yet; go on with: fallow job resume %s: %w", r.rec.ID, r.rec.ID, err))
	}
	r.store = r.c.store
	state, reason, why := StateDone, fallow.ReasonCompleted, ""
	if cause != nil {
		state, reason, why = StateFailed, fallow.ReasonCancelled, cause.Error()
		if errors.Is(cause, ErrCancelled) {
			state = StateCancelled
		}
	}
	if err := r.setState(ctx, StateSettling, why); err != nil {
		return errors.Join(cause, err)
	}
	now := time.Now()
	if cause != nil {
		r.abandon(ctx, now)
	}
	r.lastVouchers(ctx, inner, now)
	r.noteOutputs(ctx, now)
	ending := time.Now()
	r.note(ctx, step{kind: stepSettle, at: now, until: ending})
	leave := state == StateDone && r.rec.Options.Leave
	closed := r.close(ctx, reason, leave)
	r.note(ctx, step{kind: stepClose, at: ending, until: time.Now()})
	if err := errors.Join(closed, r.fatal); err != nil {
		// The job is as good as over, but its leases are not: say so, and
		// leave it to be taken up again.
		return errors.Join(cause, fmt.Errorf("job %s is not settled yet; go on with: fallow job resume %s: %w", r.rec.ID, r.rec.ID, err))
	}
	if state == StateDone {
		if err := r.store.learnGas(ctx, r.rec.ID, r.rec.Workload); err != nil {
			return err
		}
	}
	if err := r.c.blobs.Unpin("job-" + string(r.rec.ID)); err != nil {
		r.c.log.WarnContext(ctx, "unpinning a job's blobs failed", slog.Any("error", err))
	}
	return errors.Join(cause, r.setState(ctx, state, why))
}

// abandon stops what is out; what is held for a check alone is paid, what two
// runs differ about is not.
func (r *run) abandon(ctx context.Context, now time.Time) {
	for _, id := range r.stationIDs() {
		st := r.stations[id]
		for _, aid := range r.pastIDs(id) {
			if r.past[aid].state != attemptOut {
				continue
			}
			r.ended(ctx, aid, attemptCancelled, fallow.ReasonCancelled, now)
			if st.link != nil {
				st.link.send(&nodev1.WorkRequest{Cancel: &nodev1.Cancel{Task: aid.task, Attempt: aid.attempt}})
			}
		}
	}
	for _, c := range r.checks {
		if c.ended() {
			continue
		}
		if c.state == checkChosen {
			r.release(c.subject, now)
			r.release(c.with, now)
			c.state = checkSkipped
		} else {
			c.state = checkOpen
		}
		c.detail += "the job ended before it was done"
		r.closeCheck(ctx, c, now)
	}
}

// lastVouchers pays all that is owed and waits a little for releases, so that
// reserves are free at once.
func (r *run) lastVouchers(ctx, inner context.Context, now time.Time) {
	r.raiseForDebts(ctx)
	r.pay(inner, now, true)
	for _, st := range r.stations {
		if st.up && !st.shared && st.link != nil {
			st.link.send(&nodev1.WorkRequest{Finish: true})
		}
	}
	ticker := time.NewTicker(lastTick)
	defer ticker.Stop()
	until, last, warned := now.Add(releaseWait), now.Add(r.c.config.DebtWait), false
	again := until
	for t := now; t.Before(until) && r.awaitsRelease(t) || t.Before(last) && r.indebted(t); t = time.Now() {
		if !t.Before(until) && !warned {
			warned = true
			r.emit(Warning{Text: fmt.Sprintf("waiting up to %s for a provider that went away before it had its last voucher", r.c.config.DebtWait)})
		}
		if t.After(again) {
			again = t.Add(releaseWait)
			r.payAgain(t)
		}
		select {
		case m := <-r.inbox:
			if _, back := m.(linkUp); back && t.Before(last) {
				until = t.Add(releaseWait)
			}
			r.atTheEnd(inner, m)
		case <-ticker.C:
		}
	}
}

// owed says whether a provider took no word of the highest voucher that was
// signed for it. Its daemon may have died with a receipt just sent: once the lease
// is closed, its claim window runs, and nobody else will bring the voucher. That
// its connection stands is no proof: over QUIC nothing tells of a kill -9 for half
// a minute. One that went away longer ago than patience is not waited for.
func (st *station) owed(now time.Time, patience time.Duration) bool {
	if !st.up && !st.down.IsZero() && now.Sub(st.down) >= patience {
		return false
	}
	return st.joined && !st.shared && !st.over && !st.released && st.voucher.Amount.Cmp(st.shown) > 0
}

// indebted says whether any provider is owed word of a voucher.
func (r *run) indebted(now time.Time) bool {
	for _, st := range r.stations {
		if st.owed(now, r.c.config.DebtWait) {
			return true
		}
	}
	return false
}

// payAgain says once more what was not answered: a daemon that is back meanwhile
// resets a connection that it does not know, and it is dialled anew.
func (r *run) payAgain(now time.Time) {
	for _, st := range r.stations {
		if st.up && st.owed(now, r.c.config.DebtWait) {
			r.sendVoucher(st)
			st.link.send(&nodev1.WorkRequest{Finish: true})
		}
	}
}

// raiseForDebts lifts reserves that do not cover what was done.
func (r *run) raiseForDebts(ctx context.Context) {
	for _, id := range r.stationIDs() {
		a := r.purse.accounts[id]
		if a.owed.Cmp(a.reserve) <= 0 || r.stations[id].reason == fallow.ReasonMismatch {
			continue
		}
		want, err := a.owed.Ceil()
		if err != nil || want > a.terms.MaxReserve || plus(r.purse.committed(), a.owed).Cmp(r.purse.budget) > 0 {
			continue
		}
		tx, err := r.c.ledger.Raise(ctx, id, want)
		if err != nil {
			r.c.log.WarnContext(ctx, "raising a reserve failed", slog.Uint64("lease", uint64(id)), slog.Any("error", err))
			continue
		}
		a.reserve = want.Pico()
		r.stop(errors.Join(r.store.setReserve(ctx, id, want), r.store.addTransaction(ctx, r.rec.ID, "raise", tx, time.Now())))
	}
}

// awaitsRelease says whether a provider that is there, or may be back any
// moment, has not let go yet.
func (r *run) awaitsRelease(now time.Time) bool {
	for _, st := range r.stations {
		coming := st.joined && !st.gone && now.Sub(st.down) < r.c.config.GoneAfter
		switch {
		case !st.up && !coming || st.reason != "":
		case st.shared && !st.link.flushed():
			return true // the last voucher is on its way
		case !st.shared && !st.released:
			return true
		}
	}
	return false
}

// atTheEnd takes only what still matters.
func (r *run) atTheEnd(ctx context.Context, m any) {
	switch m := m.(type) {
	case linkRelease:
		r.onRelease(ctx, m)
	case linkDown:
		r.onDown(m, time.Now())
	case linkEnding:
		if st := r.stations[m.lease]; st != nil {
			st.released = true // it has ended the lease by itself
		}
	case linkUp:
		if st := r.stations[m.lease]; st != nil {
			st.up, st.gone = true, false
			r.note(ctx, step{kind: stepUp, lease: m.lease})
			if err := r.agree(st, m.voucher); err == nil && !st.shared {
				st.link.send(&nodev1.WorkRequest{Finish: true})
			}
		}
	case notice:
		r.emit(m.Event)
	case step:
		r.note(ctx, m)
	case leased:
		// Opened too late: closed with the rest.
		if m.asked.peer != nil {
			r.peers[string(m.asked.nonce)] = m.asked.peer
		}
	}
}

// close ends the job's leases on the ledger, by reason.
func (r *run) close(ctx context.Context, reason fallow.Reason, leave bool) error {
	list, err := r.store.leasesOf(ctx, r.rec.ID)
	if err != nil {
		return err
	}
	list, err = r.c.settleFates(ctx, list, r.emit)
	if err != nil {
		return err
	}
	return r.c.closeLeases(ctx, r.rec.ID, list, reason, leave, r.emit)
}

// settleFates finds out what became of offers whose opening was never
// answered.
func (c *Client) settleFates(ctx context.Context, list []lease, emit func(Event)) ([]lease, error) {
	dark := false
	for _, l := range list {
		dark = dark || l.state == leaseOpening
	}
	if !dark {
		return list, nil
	}
	err := c.patient(ctx, emit, func() error {
		_, err := c.adopt(ctx, list)
		return err
	})
	return list, err
}

// closeLeases closes what is open of a list, each for its own reason or else
// for the given one. With leave it waits for no block where that is safe.
func (c *Client) closeLeases(ctx context.Context, job JobID, list []lease, reason fallow.Reason, leave bool, emit func(Event)) error {
	byReason := map[fallow.Reason][]lease{}
	var order []fallow.Reason
	for _, l := range list {
		if l.id == 0 || l.state == leaseClosing || l.state == leaseClosed || l.state == leaseSkipped {
			continue
		}
		why := l.reason
		if why == "" || why == fallow.ReasonProviderGone {
			why = reason
		}
		if l.reason == fallow.ReasonProviderGone {
			why = fallow.ReasonProviderGone
		}
		if byReason[why] == nil {
			order = append(order, why)
		}
		byReason[why] = append(byReason[why], l)
	}
	for _, why := range order {
		state := leaseClosed
		if leave && c.hand(ctx, job, byReason[why], why) {
			state = leaseClosing
		} else if err := c.closeNow(ctx, job, byReason[why], why, emit); err != nil {
			return err
		}
		fault.Point("client/closed")
		for _, l := range byReason[why] {
			if err := c.store.endLease(ctx, l.id, state, why, time.Now()); err != nil {
				return err
			}
			if l.state == leaseOpen {
				v, err := c.store.voucher(ctx, l.id)
				if err != nil {
					return err
				}
				emit(LeaseEnded{Lease: l.id, Provider: l.offer.Provider, Reason: why, Paid: v.Amount})
			}
		}
	}
	return nil
}

// closing are the messages that close leases.
func closing(list []lease) (ids []fallow.LeaseID, releases []market.Signed) {
	for _, l := range list {
		ids = append(ids, l.id)
		if len(l.release.Message) > 0 {
			releases = append(releases, l.release)
		}
	}
	return ids, releases
}

// closeNow closes leases and waits until a block says so.
func (c *Client) closeNow(ctx context.Context, job JobID, list []lease, why fallow.Reason, emit func(Event)) error {
	ids, releases := closing(list)
	err := c.patient(ctx, emit, func() error {
		txs, err := c.ledger.Close(ctx, ids, releases, why)
		for _, tx := range txs {
			err = errors.Join(err, c.store.addTransaction(ctx, job, "close", tx, time.Now()))
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("close leases %v: %w", ids, err)
	}
	return nil
}

// hand gives a node the closing of leases and says whether it took it. It does
// so only where nothing hangs on the block: a provider that signed a release
// holds every voucher before it, and brings all of them to the ledger itself.
func (c *Client) hand(ctx context.Context, job JobID, list []lease, why fallow.Reason) bool {
	ids, releases := closing(list)
	if len(releases) < len(ids) {
		return false
	}
	tx, err := c.ledger.Hand(ctx, ids, releases, why)
	if err == nil {
		err = c.store.addTransaction(ctx, job, "close", tx, time.Now())
	}
	if err != nil {
		c.log.InfoContext(ctx, "leases could not be left to be closed", slog.Any("error", err))
	}
	return err == nil
}

// tidyAfter is how old a closing must be before anybody looks for it: several
// blocks.
const tidyAfter = 10 * time.Second

// tidy looks on the ledger for closings that nobody waited for, and closes
// again what is open there all the same. What fails is left to the next time.
func (c *Client) tidy(ctx context.Context) {
	err := func() error {
		list, err := c.store.leasesClosing(ctx)
		list = slices.DeleteFunc(list, func(l lease) bool { return time.Since(l.ended) < tidyAfter })
		if err != nil || len(list) == 0 {
			return err
		}
		there, err := c.books.Leases(ctx, c.config.Tenant)
		if err != nil {
			return err
		}
		open := map[fallow.LeaseID]bool{}
		for _, l := range there {
			open[l.ID] = !l.Closing
		}
		for _, l := range list {
			if open[l.id] {
				if err := c.closeNow(ctx, l.job, []lease{l}, l.reason, func(Event) {}); err != nil {
					return err
				}
			}
			if err := c.store.endLease(ctx, l.id, leaseClosed, l.reason, l.ended); err != nil {
				return err
			}
		}
		return nil
	}()
	if err != nil && ctx.Err() == nil {
		c.log.InfoContext(ctx, "closings could not be looked for", slog.Any("error", err))
	}
}
