package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"fallow.network"
	"fallow.network/formats"
	"fallow.network/receipt"
	"fallow.network/verify"
)

// byOwn is who checks when this machine does.
const byOwn = "own"

// tested is what this machine found.
type tested struct {
	subject attemptID
	result  Result
	err     error
}

// collusion is the chance that a checker from the market colludes with the one
// it checks: it is drawn by chance and isn't told whom or what it checks.
const collusion verify.PPM = 100_000

// drawn says whether a receipt is to be checked, by coins that nobody else
// sees.
func (r *run) drawn(st *station, h *held, now time.Time) bool {
	o := r.rec.Options.Checks
	switch o.Mode {
	case formats.CheckNever:
		return false
	case formats.CheckAlways:
		return true
	case formats.CheckAuto:
	}
	p := r.policy
	if o.Where != formats.WhereOwn || r.c.machine == nil {
		p.Collusion = collusion
	}
	rate := max(p.RateFor(st.evidence, fallow.Time(now.UnixMilli()), h.charge, st.bond), verify.PPM(o.MinimumPPM))
	return r.secret.Chosen(h.digest(), rate)
}

// startCheck has a receipt's task run again.
func (r *run) startCheck(ctx context.Context, h *held, now time.Time) {
	c := &check{subject: h.attemptID, state: checkChosen}
	r.checks[c.subject], r.active[h.task] = c, c
	r.findChecker(ctx, h.task, now)
}

// findChecker gives a task's open check to whoever can run it next: the second
// run where the job wants it, the third on this machine first.
func (r *run) findChecker(ctx context.Context, task uint32, now time.Time) {
	c := r.active[task]
	if c == nil {
		return
	}
	if c.state == checkChosen {
		c.with = attemptID{} // whoever had it before has given it up
	}
	own := r.c.machine != nil && (c.state == checkDisputed || r.rec.Options.Checks.Where != formats.WhereMarket)
	if c.state == checkDisputed && c.own != nil {
		own = false // it was the second already
	}
	others := r.checkers(c)
	kind := KindCheck
	if c.state == checkDisputed {
		kind = KindThird
	}
	market := len(others) > 0 && (c.state == checkDisputed || r.rec.Options.Checks.Where != formats.WhereOwn)
	if own && market && c.state == checkChosen && r.tests >= r.c.config.OwnSlots {
		own = false // busy: the other may as well
	}
	switch {
	case own:
		r.checkHere(c)
	case market:
		h := r.receipts[c.subject]
		lease := others[r.secret.Checker(h.digest(), len(others))]
		r.board.assign(lease, errand{task, kind})
		if c.state == checkChosen {
			c.by = string(r.stations[lease].lease.offer.Provider)
		}
	case c.state == checkDisputed && c.own != nil:
		// Nobody else is here: once more on this machine, which at least finds
		// out whether it repeats.
		r.checkHere(c)
	case c.state == checkDisputed:
		r.decide(ctx, c, verify.Unresolved, "no third provider could run it", now)
		return
	default:
		c.state, c.detail = checkSkipped, "no other provider and no runner on this machine"
		r.closeCheck(ctx, c, now)
		r.release(c.subject, now)
		r.emit(CheckDone{Task: task, Provider: r.providerOf(c.subject.lease), Skipped: c.detail})
		return
	}
	r.keepCheck(ctx, c, now)
	if c.state == checkChosen {
		r.emit(CheckChosen{Task: task, Provider: r.providerOf(c.subject.lease), By: c.by})
	}
}

func (r *run) keepCheck(ctx context.Context, c *check, now time.Time) {
	if err := r.c.store.keepCheck(ctx, r.rec.ID, *c, now); err != nil {
		r.stop(err)
	}
}

// closeCheck ends a check; its task may be checked again later.
func (r *run) closeCheck(ctx context.Context, c *check, now time.Time) {
	if r.active[c.subject.task] == c {
		delete(r.active, c.subject.task)
	}
	r.keepCheck(ctx, c, now)
}

// checkers are the leases that may run a check: of providers other than those
// that it is about.
func (r *run) checkers(c *check) (out []fallow.LeaseID) {
	about := []fallow.Account{r.providerOf(c.subject.lease)}
	if c.with.lease != 0 {
		about = append(about, r.providerOf(c.with.lease))
	}
	for _, id := range r.board.order {
		st := r.stations[id]
		if st.up && !st.shut && !st.gone && !slices.Contains(about, st.lease.offer.Provider) && !r.board.benches[id].refused[c.subject.task] {
			out = append(out, id)
		}
	}
	return out
}

func (r *run) providerOf(id fallow.LeaseID) fallow.Account {
	if st := r.stations[id]; st != nil {
		return st.lease.offer.Provider
	}
	return ""
}

// checkHere runs the task on this machine.
func (r *run) checkHere(c *check) {
	if c.state == checkChosen {
		c.by = byOwn
	}
	r.tests++
	subject, task := c.subject, r.task(c.subject)
	wall := time.Duration(r.rec.workload.Limits.WallMillis) * time.Millisecond
	r.work.run(func(ctx context.Context) {
		select {
		case r.room <- struct{}{}:
			defer func() { <-r.room }()
		case <-ctx.Done():
			return
		}
		m := tested{subject: subject}
		m.result, m.err = r.c.machine.Run(ctx, task, r.c.blobs, wall)
		r.tell(m)
	})
}

// onIssued notes which attempt checks.
func (r *run) onIssued(ctx context.Context, c *check, a *attempt, now time.Time) {
	if a.kind == KindCheck {
		c.with = a.attemptID
		c.by = string(r.providerOf(a.lease))
	}
	r.keepCheck(ctx, c, now)
}

// onTested takes what this machine found.
func (r *run) onTested(ctx context.Context, m tested, now time.Time) {
	r.tests--
	c := r.checks[m.subject]
	if c == nil || c.ended() {
		return
	}
	if m.err != nil {
		if errors.Is(m.err, context.Canceled) {
			return
		}
		r.c.log.Warn("checking on this machine failed", slog.Uint64("task", uint64(c.subject.task)), slog.Any("error", m.err))
		r.emit(Warning{Text: fmt.Sprintf("checking %s on this machine failed: %s", r.label(c.subject.task), firstLine(m.err))})
		// The market may still do it.
		switch {
		case c.state == checkDisputed:
			r.decide(ctx, c, verify.Unresolved, "this machine could not run it: "+firstLine(m.err), now)
		default:
			c.state, c.detail = checkSkipped, "this machine could not run it: "+firstLine(m.err)
			r.closeCheck(ctx, c, now)
			r.release(c.subject, now)
			r.emit(CheckDone{Task: c.subject.task, Provider: r.providerOf(c.subject.lease), By: byOwn, Skipped: c.detail})
		}
		return
	}
	found := verify.Result{
		Output: receipt.OutputDigest(m.result.Outputs), Gas: m.result.Gas, Outcome: m.result.Outcome, ExitCode: m.result.ExitCode, Trap: m.result.Trap,
	}
	if c.state == checkDisputed && c.own != nil && c.with.lease == 0 {
		// Once more on this machine, for want of another: it decides only if
		// it repeats.
		second := c.own.comparable()
		if found == second {
			r.third(ctx, c, found, byOwn, now)
		} else {
			r.decide(ctx, c, verify.Unresolved, "this machine's own runs differ", now)
		}
		return
	}
	c.own = &m.result
	if c.state == checkDisputed {
		r.third(ctx, c, found, byOwn, now)
		return
	}
	r.second(ctx, c, found, now)
}

func (r Result) comparable() verify.Result {
	return verify.Result{Output: receipt.OutputDigest(r.Outputs), Gas: r.Gas, Outcome: r.Outcome, ExitCode: r.ExitCode, Trap: r.Trap}
}

// onChecked takes the receipt of a checking attempt.
func (r *run) onChecked(ctx context.Context, h *held, rc receipt.Receipt, now time.Time) {
	c := r.active[h.task]
	found := verify.ResultOf(rc)
	switch {
	case c == nil || c.ended():
		// The check was settled otherwise meanwhile; the work was asked for.
		r.release(h.attemptID, now)
	case h.kind == KindThird && c.state == checkDisputed:
		r.third(ctx, c, found, string(r.providerOf(h.lease)), now)
		if c.state != checkOpen {
			r.settleThird(ctx, c, h, found, now)
		}
	case h.kind == KindCheck && c.state == checkChosen:
		c.with = h.attemptID
		c.by = string(r.providerOf(h.lease))
		r.second(ctx, c, found, now)
	default:
		r.release(h.attemptID, now)
	}
}

// onTwin takes a second result of a task that was handed out twice: it is as
// good as a check.
func (r *run) onTwin(ctx context.Context, h *held, rc receipt.Receipt, now time.Time) {
	own, ok := r.results[h.task]
	if c := r.active[h.task]; !ok || c != nil {
		r.release(h.attemptID, now)
		return
	}
	subject := attemptID{own.lease, own.task, own.attempt}
	if r.checks[subject] != nil || r.providerOf(subject.lease) == r.providerOf(h.lease) {
		r.release(h.attemptID, now)
		return
	}
	c := &check{subject: subject, state: checkChosen, by: string(r.providerOf(h.lease)), with: h.attemptID}
	r.checks[subject], r.active[h.task] = c, c
	r.second(ctx, c, verify.ResultOf(rc), now)
}

// claim is what the checked receipt says.
func (r *run) claim(c *check) verify.Result {
	rc, err := r.receipts[c.subject].open()
	if err != nil {
		r.stop(err)
	}
	return verify.ResultOf(rc)
}

// second compares a claim with its check.
func (r *run) second(ctx context.Context, c *check, found verify.Result, now time.Time) {
	claim := r.claim(c)
	if verify.Judge(claim, found, nil) == verify.Agreed {
		r.decide(ctx, c, verify.Agreed, "", now)
		return
	}
	c.state, c.detail = checkDisputed, difference(claim, found)
	r.suspend(ctx, c)
	r.keepCheck(ctx, c, now)
	r.emit(CheckDone{Task: c.subject.task, Provider: r.providerOf(c.subject.lease), By: c.by, Detail: c.detail})
	r.findChecker(ctx, c.subject.task, now)
}

// suspend holds the pay of both sides back, as far as it was not signed yet.
func (r *run) suspend(ctx context.Context, c *check) {
	for _, id := range []attemptID{c.subject, c.with} {
		h := r.receipts[id]
		if h == nil || h.state != receiptPayable {
			continue
		}
		h.state = receiptHeld
		st := r.stations[id.lease]
		st.payable = slices.DeleteFunc(st.payable, func(o *held) bool { return o == h })
		if err := r.c.store.setReceipt(ctx, id, receiptHeld); err != nil {
			r.stop(err)
		}
	}
}

// third decides between two by a run of somebody else.
func (r *run) third(ctx context.Context, c *check, found verify.Result, by string, now time.Time) {
	claim := r.claim(c)
	var second verify.Result
	switch {
	case c.with.lease != 0:
		rc, err := r.receipts[c.with].open()
		if err != nil {
			r.stop(err)
			return
		}
		second = verify.ResultOf(rc)
	case c.own != nil:
		second = c.own.comparable()
	}
	r.decide(ctx, c, verify.Judge(claim, second, &found), fmt.Sprintf("%s; third run by %s", c.detail, by), now)
}

// settleThird pays a third run of the market when it stood with either side.
func (r *run) settleThird(ctx context.Context, c *check, h *held, found verify.Result, now time.Time) {
	if found == r.claim(c) || c.state == checkWrong {
		r.release(h.attemptID, now)
		r.learn(ctx, r.stations[h.lease], h.charge, true, now)
		return
	}
	r.refuse(ctx, h)
}

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
	if err := r.c.store.keepEvidence(ctx, st.lease.offer.NodeKey, r.rec.workload.Class, st.evidence); err != nil {
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
	if err := r.c.store.setReceipt(ctx, h.attemptID, receiptRefused); err != nil {
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
	outputs, err := r.c.store.outputs(ctx, r.rec.Job)
	if err != nil {
		r.stop(err)
		return
	}
	outputs = slices.DeleteFunc(outputs, func(o Output) bool { return !slices.Contains(tasks, o.Task) })
	if err := r.c.store.reopen(ctx, r.rec.ID, tasks); err != nil {
		r.stop(err)
		return
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
