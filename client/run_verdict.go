package client

import (
	"context"
	"fmt"
	"slices"
	"time"

	"fallow.network"
	"fallow.network/verify"
)

// decide ends a check by its verdict.
func (r *run) decide(ctx context.Context, c *check, v verify.Verdict, detail string, now time.Time) {
	task := c.subject.task
	claimant := r.stations[c.subject.lease]
	var checker *station
	if c.with.lease != 0 {
		checker = r.stations[c.with.lease]
	}
	c.detail = detail
	price := r.receipts[c.subject].charge
	switch v {
	case verify.Agreed:
		c.state = checkAgreed
		r.closeCheck(ctx, c, now)
		r.release(c.subject, now)
		r.learn(ctx, claimant, price, true, now)
		if checker != nil {
			r.release(c.with, now)
			r.learn(ctx, checker, r.receipts[c.with].charge, true, now)
		}
		r.emit(CheckDone{Task: task, Provider: claimant.lease.offer.Provider, By: c.by, Agreed: true})
	case verify.ClaimWrong:
		c.state = checkWrong
		r.closeCheck(ctx, c, now)
		if checker != nil {
			r.release(c.with, now)
			r.learn(ctx, checker, r.receipts[c.with].charge, true, now)
		}
		r.convict(ctx, claimant, task, detail, now)
	case verify.CheckWrong:
		c.state = checkCleared
		r.closeCheck(ctx, c, now)
		r.release(c.subject, now)
		if checker != nil {
			r.convict(ctx, checker, task, detail, now)
		} else {
			r.emit(Warning{Text: fmt.Sprintf("this machine gave a wrong result for %s: its memory or processor may be faulty", r.label(task))})
			r.emit(Verdict{Task: task, Detail: detail})
		}
	case verify.Unresolved, verify.Suspended:
		c.state = checkOpen
		r.closeCheck(ctx, c, now)
		for _, id := range []attemptID{c.subject, c.with} {
			if h := r.receipts[id]; h != nil {
				r.refuse(ctx, h)
				if b := r.board.benches[id.lease]; b != nil {
					b.refused[task] = true
				}
			}
		}
		r.emit(Verdict{Task: task, Detail: detail, Reopened: 1})
		r.reopen(ctx, []uint32{task})
		if e := r.board.tasks[task]; true {
			e.failures++
			if e.failures >= r.c.config.Attempts {
				r.stop(&TaskError{Task: task, Label: r.label(task), Tries: e.failures, Reason: fallow.ReasonMismatch, Detail: "its results do not repeat"})
			}
		}
	}
}

// learn keeps what a check says about a node.
func (r *run) learn(ctx context.Context, st *station, price fallow.Pico, right bool, now time.Time) {
	st.evidence = st.evidence.Update(fallow.Time(now.UnixMilli()), r.policy.HalfLifeMS, price, right)
	if err := r.store.keepEvidence(ctx, st.lease.offer.NodeKey, r.rec.workload.Class, st.evidence); err != nil {
		r.stop(err)
	}
}

// refuse takes a receipt out of all pay to come.
func (r *run) refuse(ctx context.Context, h *held) {
	if h.state == receiptPaid || h.state == receiptRefused {
		return
	}
	st := r.stations[h.lease]
	st.payable = slices.DeleteFunc(st.payable, func(o *held) bool { return o == h })
	h.state = receiptRefused
	if a := r.purse.accounts[h.lease]; a != nil {
		if left, err := a.owed.Sub(h.charge); err == nil {
			a.owed = left
		}
	}
	if err := r.store.setReceipt(ctx, h.attemptID, receiptRefused); err != nil {
		r.stop(err)
	}
}

// convict stops dealing with a lease whose provider was found wrong: it is not
// paid any more, and what it did unchecked is done again elsewhere.
func (r *run) convict(ctx context.Context, st *station, task uint32, detail string, now time.Time) {
	if st.reason == fallow.ReasonMismatch {
		return
	}
	provider := st.lease.offer.Provider
	r.wrong[provider] = true
	price := fallow.Pico{}
	for id, h := range r.receipts {
		if id.lease == st.lease.id && id.task == task {
			price = h.charge
		}
	}
	r.learn(ctx, st, price, false, now)
	r.onEnding(ctx, st.lease.id, fallow.ReasonMismatch, detail, now)
	var again []uint32
	for _, id := range r.receiptIDs() {
		if id.lease != st.lease.id {
			continue
		}
		h := r.receipts[id]
		c := r.checks[id]
		if c != nil && (c.state == checkAgreed || c.state == checkCleared) {
			continue // it was right here
		}
		r.refuse(ctx, h)
		if c != nil && !c.ended() {
			c.state, c.detail = checkSkipped, "its provider was found wrong by another check"
			r.closeCheck(ctx, c, now)
			if other := r.receipts[c.with]; other != nil {
				r.release(c.with, now)
			}
		}
		if own, ok := r.results[id.task]; ok && own.lease == id.lease && own.attempt == id.attempt {
			again = append(again, id.task)
		}
	}
	r.reopen(ctx, again)
	r.emit(Verdict{Task: task, Wrong: provider, Detail: detail, Reopened: len(again)})
}

// receiptIDs lists receipts in a fixed order.
func (r *run) receiptIDs() []attemptID {
	var out []attemptID
	for id := range r.receipts {
		out = append(out, id)
	}
	slices.SortFunc(out, compareAttempts)
	return out
}

// reopen has tasks done again whose results are not believed.
func (r *run) reopen(ctx context.Context, tasks []uint32) {
	if len(tasks) == 0 {
		return
	}
	r.commit(ctx) // before it is read
	outputs, err := r.store.outputs(ctx, r.rec.Job)
	if err != nil {
		r.stop(err)
		return
	}
	outputs = slices.DeleteFunc(outputs, func(o Output) bool { return !slices.Contains(tasks, o.Task) })
	if err := r.store.reopen(ctx, r.rec.ID, tasks); err != nil {
		r.stop(err)
		return
	}
	if r.commit(ctx); r.fatal != nil {
		return // no file goes while its result stands
	}
	r.stop(r.shelf.remove(outputs))
	for _, t := range tasks {
		delete(r.results, t)
		r.board.reopen(t)
	}
}

// difference says in a few words where two results differ.
func difference(a, b verify.Result) string {
	switch {
	case a.Outcome != b.Outcome || a.ExitCode != b.ExitCode || a.Trap != b.Trap:
		return fmt.Sprintf("it ended otherwise (%s %d %s, the check %s %d %s)", a.Outcome, a.ExitCode, a.Trap, b.Outcome, b.ExitCode, b.Trap)
	case a.Output != b.Output:
		return fmt.Sprintf("its outputs are %s, the check's %s", a.Output.Short(), b.Output.Short())
	default:
		return fmt.Sprintf("it claims %d gas, the check used %d", a.Gas, b.Gas)
	}
}
