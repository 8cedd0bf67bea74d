package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"fallow.network"
	nodev1 "fallow.network/api/node"
	"fallow.network/blob"
	"fallow.network/fault"
	"fallow.network/market"
	"fallow.network/receipt"
	"fallow.network/wire"
)

// fetched is a receipt whose outputs are here, or are not to be had.
type fetched struct {
	id     attemptID
	signed market.Signed
	r      receipt.Receipt
	parcel parcel
	took   time.Duration // to fetch the outputs; 0 when there were none
	err    error
}

// onReceipt checks what a receipt claims and fetches its outputs. Whether the
// result is right is another matter: checks are.
func (r *run) onReceipt(ctx context.Context, m linkReceipt, now time.Time) {
	st := r.stations[m.lease]
	if st == nil {
		return
	}
	rc, err := m.r, m.err
	if err != nil {
		r.c.log.WarnContext(ctx, "a receipt is not the provider's", slog.Uint64("lease", uint64(m.lease)), slog.Any("error", err))
		r.onEnding(ctx, m.lease, wire.ReasonOf(err), firstLine(err), now)
		return
	}
	id := attemptID{m.lease, rc.Task, rc.Attempt}
	fault.Point("client/receipt-got")
	if old := r.receipts[id]; old != nil {
		if before, err := old.open(); err == nil && receipt.Equivocates(before, rc) {
			r.convict(ctx, st, rc.Task, "it signed two different receipts for one attempt", now)
		}
		return // sent again, as after a cut
	}
	p := r.past[id]
	if p == nil || r.fetching[id] || st.reason == fallow.ReasonMismatch {
		return // another job's on a standing lease, or one on its way
	}
	err = rc.Accept(receipt.Expected{
		Lease: m.lease, Workload: r.rec.Workload, Task: id.task, Attempt: id.attempt,
		Input: receipt.InputDigest(r.task(id)), Profile: r.rec.workload.Profile,
		Gas: r.rec.workload.Limits.Gas, Output: r.rec.workload.Limits.OutputBytes, Terms: st.lease.offer.Terms,
	})
	if err != nil {
		r.lose(ctx, id, fallow.ReasonMalformed, firstLine(err), now)
		r.onEnding(ctx, m.lease, fallow.ReasonMalformed, firstLine(err), now)
		return
	}
	r.fetching[id] = true
	f := fetched{id: id, signed: m.signed, r: rc}
	if !p.kind.counts() || r.board.tasks[id.task].done {
		r.onFetched(ctx, f, now) // only its digest is of interest
		return
	}
	spare, moves, base := r.rec.workload.Tasks[id.task], st.link.moves, st.link.base()
	if len(wanted(spare, rc.Outputs)) == 0 {
		r.onFetched(ctx, f, now)
		return
	}
	span := r.spans[id]
	r.work.run(func(ctx context.Context) {
		select {
		case r.fetches <- struct{}{}:
			defer func() { <-r.fetches }()
		case <-ctx.Done():
			return
		}
		began := time.Now()
		_, got := r.c.trace.Begin(span.In(ctx), "task.outputs")
		f.parcel, f.err = r.shelf.fetch(ctx, moves, base, id, spare, rc, m.inline)
		f.took = time.Since(began)
		got.Int("fallow.files", int64(len(f.parcel.files))).Done(f.err)
		r.tell(f)
	})
}

// onFetched makes a receipt count.
func (r *run) onFetched(ctx context.Context, f fetched, now time.Time) {
	delete(r.fetching, f.id)
	r.noteFetched(f)
	st := r.stations[f.id.lease]
	if f.err != nil {
		r.stop(r.shelf.drop(f.parcel))
		switch {
		case ctx.Err() != nil:
		case errors.Is(f.err, errLocal), errors.Is(f.err, blob.ErrFull) && !errors.Is(f.err, blob.ErrRefused):
			r.stop(f.err)
		case errors.Is(f.err, blob.ErrDigest), errors.Is(f.err, blob.ErrRefused):
			r.lose(ctx, f.id, fallow.ReasonBadOutput, firstLine(f.err), now)
			r.onEnding(ctx, f.id.lease, fallow.ReasonBadOutput, firstLine(f.err), now)
		default:
			r.lose(ctx, f.id, fallow.ReasonProviderGone, firstLine(f.err), now)
		}
		return
	}
	fault.Point("client/outputs-fetched")
	// Found wrong meanwhile, or ended because it delivered other bytes than it
	// signed for: then only what did arrive is paid.
	if st.reason == fallow.ReasonMismatch || st.reason == fallow.ReasonBadOutput && len(f.parcel.files) == 0 {
		r.stop(r.shelf.drop(f.parcel))
		return
	}
	r.admit(ctx, st, f, now)
}

// admit keeps a receipt, and its outputs if it is the task's first.
func (r *run) admit(ctx context.Context, st *station, f fetched, now time.Time) {
	p := r.past[f.id]
	wasOut := p.state == attemptOut
	kind, first, others := r.board.received(f.id, f.r.Gas, now)
	if kind == "" {
		// It was given up or cancelled, and is here all the same: it was asked
		// for and done, so it is paid; it may still be the first.
		kind, first = p.kind, p.kind.counts() && !r.board.tasks[f.id.task].done
		if first {
			others = r.board.finish(f.id.task)
		}
	}
	if wasOut {
		r.returned(f.id.lease)
	}
	p.state = attemptReceipt
	r.unfollow(f.id, "")
	account := r.purse.accounts[f.id.lease]
	account.owed = plus(account.owed, f.r.Charge)
	r.purse.learn(f.r.Gas, f.r.Charge)

	h := &held{attemptID: f.id, kind: kind, job: r.rec.ID, signed: f.signed, state: receiptPayable, charge: f.r.Charge, gas: f.r.Gas}
	chosen := kind.counts() && r.active[f.id.task] == nil && r.drawn(st, h, now)
	if chosen || !kind.counts() || !first && kind.counts() {
		h.state = receiptHeld // until it has been compared
	}
	var own *result
	var outputs []Output
	if first {
		var err error
		if outputs, err = r.shelf.put(f.id.task, f.parcel); err != nil {
			r.stop(err)
			return
		}
		own = &result{task: f.id.task, lease: f.id.lease, attempt: f.id.attempt, exit: exitOf(f.r), took: time.Duration(f.r.Ended-f.r.Started) * time.Millisecond}
		if r.rec.FirstOutput.IsZero() {
			own.opens, r.rec.FirstOutput = true, now
		}
		r.results[f.id.task] = *own
		st.failures = 0
	} else {
		r.stop(r.shelf.drop(f.parcel))
	}
	fault.Point("client/outputs-placed")
	if err := r.store.addReceipt(ctx, *h, outputs, own, now); err != nil {
		r.stop(err)
		return
	}
	r.wrote = true
	r.receipts[f.id] = h
	if h.state == receiptPayable {
		r.payable(st, h, now)
	}
	for _, id := range others {
		r.cancel(ctx, id, now)
	}
	if first {
		r.emit(TaskDone{
			Task: f.id.task, Label: r.label(f.id.task), Lease: f.id.lease, Provider: st.lease.offer.Provider,
			Gas: f.r.Gas, Charge: f.r.Charge, Took: own.took, Exit: own.exit, Done: r.board.done, Of: len(r.board.tasks),
		})
	}
	switch {
	case !kind.counts():
		r.onChecked(ctx, h, f.r, now)
	case !first:
		r.onTwin(ctx, h, f.r, now)
	case chosen:
		r.startCheck(ctx, h, now)
	}
}

// exitOf is how a guest ended, empty for exit code 0.
func exitOf(r receipt.Receipt) string {
	switch {
	case r.Outcome == receipt.Trapped:
		return "trap: " + r.Trap
	case r.ExitCode != 0:
		return fmt.Sprintf("exit code %d", r.ExitCode)
	default:
		return ""
	}
}

// cancel tells a provider that an attempt is not wanted any more.
func (r *run) cancel(ctx context.Context, id attemptID, now time.Time) {
	r.board.dropped(id, now)
	r.returned(id.lease)
	r.ended(ctx, id, attemptCancelled, fallow.ReasonStraggler, now)
	if st := r.stations[id.lease]; st != nil && st.link != nil {
		st.link.send(&nodev1.WorkRequest{Cancel: &nodev1.Cancel{Task: id.task, Attempt: id.attempt}})
	}
}

// ended notes what became of an attempt without a receipt.
func (r *run) ended(ctx context.Context, id attemptID, state string, reason fallow.Reason, now time.Time) {
	if p := r.past[id]; p != nil {
		p.state, p.reason = state, reason
	}
	r.unfollow(id, reason)
	if err := r.store.endAttempt(ctx, id, state, reason, now); err != nil {
		r.stop(err)
	}
}

// onFailed takes a provider's word that an attempt gives no result.
func (r *run) onFailed(ctx context.Context, m linkFailed, now time.Time) {
	st := r.stations[m.id.lease]
	if p := r.past[m.id]; st == nil || p == nil || p.state != attemptOut {
		return
	}
	r.lose(ctx, m.id, m.reason, m.detail, now)
	switch m.reason {
	case fallow.ReasonDiskFull, fallow.ReasonNoCapacity, fallow.ReasonDraining, fallow.ReasonPaused, fallow.ReasonUnsupported, fallow.ReasonChainAway, fallow.ReasonVersion:
		// The machine's trouble and not the task's: it gets no more of them.
		r.onEnding(ctx, m.id.lease, m.reason, m.detail, now)
	case fallow.ReasonModuleRefused:
		// This machine took it before anybody was asked: one alone may be wrong.
		r.onEnding(ctx, m.id.lease, m.reason, m.detail, now)
		r.refused[st.lease.offer.Provider] = m.detail
		if len(r.refused) > 1 {
			r.stop(&TaskError{Task: m.id.task, Label: "the module", Tries: len(r.refused), Reason: m.reason, Detail: m.detail})
		}
	default:
	}
}

// lose ends an attempt without a result; its task goes elsewhere.
func (r *run) lose(ctx context.Context, id attemptID, reason fallow.Reason, detail string, now time.Time) {
	p := r.past[id]
	if p == nil || p.state != attemptOut {
		return
	}
	st := r.stations[id.lease]
	kind, failures := r.board.failed(id, now)
	r.returned(id.lease)
	r.ended(ctx, id, attemptFailed, reason, now)
	st.failures++
	again := failures < r.c.config.Attempts
	r.emit(TaskFailed{Task: id.task, Label: r.label(id.task), Provider: st.lease.offer.Provider, Reason: reason, Detail: detail, Again: again})
	switch {
	case kind != "" && !kind.counts():
		r.findChecker(ctx, id.task, now)
	case !again:
		r.stop(&TaskError{Task: id.task, Label: r.label(id.task), Tries: failures, Reason: reason, Detail: detail})
	}
	if st.failures >= 2*r.c.config.Attempts {
		r.onEnding(ctx, id.lease, reason, "it failed too often in a row", now)
	}
}
