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
	if err := r.store.keepCheck(ctx, r.rec.ID, *c, now); err != nil {
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
// that it is about. A dispute waits for one that is still being connected to:
// whom it is about, or this machine, can't decide it.
func (r *run) checkers(c *check) []fallow.LeaseID {
	about := []fallow.Account{r.providerOf(c.subject.lease)}
	if c.with.lease != 0 {
		about = append(about, r.providerOf(c.with.lease))
	}
	var here, coming []fallow.LeaseID
	for _, id := range r.board.order {
		st := r.stations[id]
		switch {
		case st.shut || st.gone || slices.Contains(about, st.lease.offer.Provider) || r.board.benches[id].refused[c.subject.task]:
		case st.up:
			here = append(here, id)
		default:
			coming = append(coming, id)
		}
	}
	if len(here) == 0 && c.state == checkDisputed {
		return coming
	}
	return here
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
		_, span := r.c.trace.Begin(ctx, "check")
		m.result, m.err = r.c.machine.Run(ctx, task, r.c.blobs, wall)
		span.Int("fallow.task", int64(task.Task)).Int("fallow.gas", int64(m.result.Gas)).Done(m.err)
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
		r.c.log.WarnContext(ctx, "checking on this machine failed", slog.Uint64("task", uint64(c.subject.task)), slog.Any("error", m.err))
		r.emit(Warning{Text: fmt.Sprintf("checking %s on this machine failed: %s", r.label(c.subject.task), firstLine(m.err))})
		// The market may still do it.
		switch c.state {
		case checkDisputed:
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
		if err := r.store.setReceipt(ctx, id, receiptHeld); err != nil {
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
