package client

import "time"

// ahead is how many tasks wait at a bench beyond its slots: as many as slots
// while there is plenty or tasks are short, so that the way to and fro is
// hidden, and of very short ones as many as share a sync of the disk there;
// none towards the end, so that nobody sits on the last ones.
func (b *board) ahead(w *bench) int {
	slots := 0
	for _, o := range b.benches {
		slots += o.slots
	}
	e := b.expect(w)
	if w.gas == 0 {
		return 0 // it has yet to show what it does
	}
	if e > 0 && e < 10*time.Millisecond && len(b.pending) > 32*slots {
		return min(16*w.slots, 64)
	}
	if e > 0 && e < 200*time.Millisecond {
		return min(4*w.slots, 32)
	}
	if len(b.pending) > 3*slots && e < 10*time.Second {
		return w.slots
	}
	return 0
}

// expect is how long the next task takes on one slot of w, 0 when unknown.
func (b *board) expect(w *bench) time.Duration {
	if b.results == 0 {
		return 0
	}
	mean := b.gas / float64(b.results)
	if w.gas > 0 && w.time > 0 {
		return time.Duration(mean / w.gas * float64(w.time))
	}
	// Nothing is known of this one: as the others on average.
	var gas float64
	var took time.Duration
	for _, lease := range b.order {
		gas += b.benches[lease].gas
		took += b.benches[lease].time
	}
	if gas == 0 {
		return 0
	}
	return time.Duration(mean / gas * float64(took))
}

// leave says whether the tasks that are left end sooner when w takes none:
// faster benches will be free in time for all of them.
func (b *board) leave(w *bench, now time.Time) bool {
	mine := b.expect(w)
	if mine == 0 || w.gas == 0 {
		return false
	}
	sooner := 0
	for _, lease := range b.order {
		f := b.benches[lease]
		e := b.expect(f)
		if f == w || f.gas == 0 || e == 0 || len(f.out) < f.slots || !b.may(lease) {
			continue
		}
		for i := range min(len(f.out), f.slots) {
			left := max(e-now.Sub(f.out[i].started), 0)
			// Half a task's grace: a slot that is late is no sooner slot.
			if late := now.Sub(f.out[i].started) - e; late > e/2 {
				continue
			}
			if left+e < mine {
				sooner++
			}
		}
	}
	return sooner >= len(b.pending)
}

// lagging is a task that w should run beside the bench that has it.
func (b *board) lagging(w *bench, now time.Time) (uint32, bool) {
	mine := b.expect(w)
	var worst *attempt
	var worstBy time.Duration
	for _, lease := range b.order {
		v := b.benches[lease]
		if v == w {
			continue
		}
		for i, a := range v.out {
			e := b.tasks[a.task]
			if !a.kind.counts() || e.done || e.live > 1 || w.refused[a.task] || w.has(a.task) {
				continue
			}
			if late := b.late(v, i, mine, now); late > 0 && (worst == nil || late > worstBy) {
				worst, worstBy = a, late
			}
		}
	}
	if worst == nil {
		return 0, false
	}
	return worst.task, true
}

// late is by how much the i-th attempt on v is overdue, for a bench that would
// need mine.
func (b *board) late(v *bench, i int, mine time.Duration, now time.Time) time.Duration {
	since := now.Sub(v.out[i].issued)
	theirs := b.expect(v)
	switch {
	case mine == 0:
		return since - 15*b.straggler // nothing is known yet
	case v.out[i].started.IsZero() && v.gas > 0:
		// It still waits for a slot there: does it end sooner here?
		return theirs*time.Duration(1+i/v.slots) - 2*mine
	default:
		return since - max(b.straggler, theirs*5/2)
	}
}
