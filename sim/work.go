package sim

import (
	"fmt"

	"fallow.network"
	"fallow.network/receipt"
	"fallow.network/spec"
	"fallow.network/verify"
)

// order is one attempt at a task, asked of a lease.
type order struct {
	task    *task
	lease   *lease
	attempt uint32
}

// task is one of a job's.
type task struct {
	n        uint32
	gas      uint64
	limit    fallow.Gas
	attempts uint32
	done     bool
	on       *lease // that has it; nil while nobody has
	by       *lease // that did it
	checked  bool   // and was found right
}

// claim is a receipt that the next voucher takes.
type claim struct {
	digest fallow.Digest
	charge fallow.Pico
	wrong  bool // which only the simulation knows
}

// output is the digest of a task's right output, or of a made-up one.
func (o *order) output(right bool) receipt.Output {
	return receipt.Output{Path: "stdout", Digest: fallow.Sum(fmt.Appendf(nil, "%d %d %t", o.lease.job.id, o.task.n, right)), Size: 64}
}

func (o *order) input() fallow.Digest {
	return receipt.InputDigest(receipt.Task{Task: o.task.n, Workload: o.lease.offer.Workload, Profile: spec.ProfileWASM, Limits: receipt.Limits{Gas: o.task.limit}})
}

// done makes a receipt of what ran.
func (p *lender) done(w *world, o *order, began fallow.Time) {
	l := o.lease
	l.running--
	p.twin.Stop(l.id)
	if l.ended || p.leases[l.id] == nil {
		return
	}
	charge, err := p.twin.Charge(l.id, fallow.Gas(o.task.gas), w.clock.time())
	if err != nil {
		w.broken("a charge fits", err.Error(), p.account)
		return
	}
	w.checks.started(l, charge)
	right := p.bad == nil || p.bad.lies == nil || !p.bad.lies(w, p)
	outputs := []receipt.Output{o.output(right)}
	r := receipt.Receipt{
		Lease: l.id, Workload: l.offer.Workload, Task: o.task.n, Attempt: o.attempt, Input: o.input(), Outputs: outputs, Output: receipt.OutputDigest(outputs),
		Gas: fallow.Gas(o.task.gas), Outcome: receipt.Exited, Profile: spec.ProfileWASM, Started: began, Ended: w.clock.now, Charge: charge,
	}
	here := p.bad == nil || p.bad.withholds == nil || !p.bad.withholds(w, p)
	w.clock.after(w.latency(), func() { l.tenant.receive(w, o, r, here) })
	if p.bad != nil && p.bad.again != nil {
		if second, ok := p.bad.again(l, r); ok {
			w.clock.after(w.latency(), func() { l.tenant.receive(w, o, second, here) })
		}
	}
	p.pump(w)
}

// receive takes a receipt: what is asked for, whose output arrived and which
// no check contradicts becomes payable.
func (t *renter) receive(w *world, o *order, r receipt.Receipt, here bool) {
	l, j := o.lease, o.lease.job
	if before, ok := l.seen[o]; ok {
		if receipt.Equivocates(before, r) && !j.over && !l.over {
			w.report.Proofs++
			t.convict(w, l, before.Charge)
		}
		return // sent again, as after a cut
	}
	l.seen[o] = r
	l.out--
	if o.task.on == l && o.task.attempts == o.attempt {
		o.task.on = nil
	}
	if j.over || l.over {
		return
	}
	err := r.Accept(receipt.Expected{
		Lease: l.id, Workload: l.offer.Workload, Task: o.task.n, Attempt: o.attempt, Input: o.input(),
		Profile: spec.ProfileWASM, Gas: o.task.limit, Output: 1 << 20, Terms: l.offer.Terms,
	})
	if err != nil || !here {
		t.leave(w, l, fallow.ReasonBadOutput)
		return
	}
	l.right = plus(l.right, r.Charge)
	digest := fallow.Sum(fmt.Appendf(nil, "%+v", r))
	wrong := r.Output != receipt.OutputDigest([]receipt.Output{o.output(true)}) || r.Gas != fallow.Gas(o.task.gas)
	e := t.evidence[l.by.node]
	bond, _, _ := w.registry.Standing(l.by.account)
	checked := t.secret.Chosen(digest, t.policy.RateFor(e, w.clock.now, r.Charge, bond))
	if checked {
		w.report.Checks++
		right := t.check(w, o, r)
		if !right {
			w.report.Caught++
			t.convict(w, l, r.Charge)
			return
		}
		if wrong {
			w.report.Confirmed++
		}
		t.evidence[l.by.node] = e.Update(w.clock.now, t.policy.HalfLifeMS, r.Charge, true)
	}
	l.payable = append(l.payable, claim{digest, r.Charge, wrong})
	if !o.task.done {
		o.task.done, o.task.by, o.task.checked = true, l, checked
		j.left--
		w.report.Tasks++
	}
	t.pay(w, l, false)
	if j.left == 0 {
		t.finish(w, j)
		return
	}
	t.hand(w, j)
}

// check says whether a check finds a result right: a run here or at another
// provider, and a third one where they differ.
func (t *renter) check(w *world, o *order, r receipt.Receipt) bool {
	if bad := o.lease.by.bad; t.outside && bad != nil && bad.friends && w.rng.Uint64N(uint64(verify.All)) < uint64(w.collusion) {
		return true
	}
	truth := r
	truth.Outputs = []receipt.Output{o.output(true)}
	truth.Output, truth.Gas = receipt.OutputDigest(truth.Outputs), fallow.Gas(o.task.gas)
	found := verify.ResultOf(truth)
	verdict := verify.Judge(verify.ResultOf(r), found, nil)
	if verdict == verify.Suspended {
		verdict = verify.Judge(verify.ResultOf(r), found, &found)
	}
	return verdict.PaysClaim()
}

func plus(a, b fallow.Pico) fallow.Pico {
	s, err := a.Add(b)
	if err != nil {
		return a
	}
	return s
}
