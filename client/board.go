package client

import (
	"slices"
	"time"

	"fallow.network"
)

// AttemptKind says why a task was handed out.
type AttemptKind string

// Kinds of attempts.
const (
	KindWork      AttemptKind = "work"      // the first, or one after a failure
	KindStraggler AttemptKind = "straggler" // beside one that lags
	KindCheck     AttemptKind = "check"     // to compare with a receipt
	KindThird     AttemptKind = "third"     // to decide between two
)

// counts says whether a result of this kind may be the task's own.
func (k AttemptKind) counts() bool { return k == KindWork || k == KindStraggler }

// attemptID names one attempt. Attempts of a task are numbered over all jobs
// of a lease, since a receipt is one for (lease, task, attempt).
type attemptID struct {
	lease   fallow.LeaseID
	task    uint32
	attempt uint32
}

// attempt is one that has no result yet.
type attempt struct {
	attemptID
	kind    AttemptKind
	issued  time.Time
	started time.Time // by our own reckoning; zero while it waits for a slot
}

// bench is one lease's slots.
type bench struct {
	lease    fallow.LeaseID
	provider fallow.Account
	slots    int
	out      []*attempt // in the order in which they were handed out
	must     []errand   // checks that were given to this bench
	refused  map[uint32]bool
	// Gas and time of attempts that gave a result.
	gas  float64
	time time.Duration
}

// errand is a task that a bench must run again.
type errand struct {
	task uint32
	kind AttemptKind
}

// board hands out tasks to benches: short queues for each slot, so that
// measured speed splits the work, and stragglers a second time.
type board struct {
	tasks   []*entry
	pending []uint32 // in the order in which they are handed out
	benches map[fallow.LeaseID]*bench
	order   []fallow.LeaseID
	done    int
	// Gas and number of results.
	gas     float64
	results int
	// straggler is the least time after which a task is tried elsewhere.
	straggler time.Duration
	numbers   map[numbered]uint32
	may       func(fallow.LeaseID) bool // whether a lease can carry one more
	taken     func(fallow.LeaseID)      // told of each that is handed out; may be nil
}

type numbered struct {
	lease fallow.LeaseID
	task  uint32
}

// entry is what the board knows of a task.
type entry struct {
	done     bool
	queued   bool // in pending
	live     int  // attempts whose result would count
	failures int
}

func newBoard(tasks int, straggler time.Duration, may func(fallow.LeaseID) bool) *board {
	b := &board{benches: map[fallow.LeaseID]*bench{}, numbers: map[numbered]uint32{}, straggler: straggler, may: may}
	for i := range tasks {
		b.tasks = append(b.tasks, &entry{queued: true})
		b.pending = append(b.pending, uint32(i))
	}
	return b
}

// finish marks a task as done. What is returned are attempts at it that are
// not wanted any more.
func (b *board) finish(task uint32) (others []attemptID) {
	e := b.tasks[task]
	if e.done {
		return nil
	}
	e.done = true
	b.done++
	b.unqueue(task)
	for _, lease := range b.order {
		for _, a := range b.benches[lease].out {
			if a.task == task && a.kind.counts() {
				others = append(others, a.attemptID)
			}
		}
	}
	return others
}

// seat adds a bench, or gives one that came back its slots.
func (b *board) seat(lease fallow.LeaseID, provider fallow.Account, slots int) *bench {
	w := b.benches[lease]
	if w == nil {
		w = &bench{lease: lease, provider: provider, refused: map[uint32]bool{}}
		b.benches[lease] = w
		b.order = append(b.order, lease)
		slices.Sort(b.order)
	}
	w.slots = max(slots, 1)
	return w
}

// restore puts back an attempt that was out when the client stopped.
func (b *board) restore(id attemptID, kind AttemptKind, now time.Time) {
	w := b.benches[id.lease]
	if w == nil {
		return
	}
	w.out = append(w.out, &attempt{attemptID: id, kind: kind, issued: now, started: now})
	if kind.counts() {
		b.tasks[id.task].live++
		b.unqueue(id.task)
	}
}

// number notes that attempts up to n of a task were used on a lease.
func (b *board) number(lease fallow.LeaseID, task, n uint32) {
	k := numbered{lease, task}
	b.numbers[k] = max(b.numbers[k], n)
}

// unseat removes a bench. Its tasks go back to be handed out; errands that
// were on it are returned.
func (b *board) unseat(lease fallow.LeaseID) (lost []errand) {
	w := b.benches[lease]
	if w == nil {
		return nil
	}
	delete(b.benches, lease)
	b.order = slices.DeleteFunc(b.order, func(l fallow.LeaseID) bool { return l == lease })
	lost = w.must
	for _, a := range w.out {
		if a.kind.counts() {
			b.back(a.task)
		} else {
			lost = append(lost, errand{a.task, a.kind})
		}
	}
	return lost
}

// back takes one live attempt off a task, and queues it first if none is left.
func (b *board) back(task uint32) {
	e := b.tasks[task]
	e.live = max(e.live-1, 0)
	if !e.done && e.live == 0 && !e.queued {
		b.pending, e.queued = slices.Insert(b.pending, 0, task), true
	}
}

func (b *board) unqueue(task uint32) {
	if b.tasks[task].queued {
		b.pull(slices.Index(b.pending, task))
	}
}

// pull takes the i-th pending task out; the first, which most are, at no cost
// however many wait.
func (b *board) pull(i int) {
	b.tasks[b.pending[i]].queued = false
	if i == 0 {
		b.pending = b.pending[1:]
		return
	}
	b.pending = slices.Delete(b.pending, i, i+1)
}

// assign gives an errand to a bench; it goes before other tasks.
func (b *board) assign(lease fallow.LeaseID, e errand) bool {
	w := b.benches[lease]
	if w == nil {
		return false
	}
	w.must = append(w.must, e)
	return true
}

// deal hands out what there is to free slots, bench by bench, one each round,
// so that the first tasks spread over all.
func (b *board) deal(now time.Time) (out []*attempt) {
	for again := true; again; {
		again = false
		for _, lease := range b.order {
			w := b.benches[lease]
			if a := b.next(w, now); a != nil {
				out = append(out, a)
				again = true
			}
		}
	}
	return out
}

func (b *board) next(w *bench, now time.Time) *attempt {
	if len(w.out) >= w.slots+b.ahead(w) || !b.may(w.lease) {
		return nil
	}
	if len(w.must) > 0 {
		e := w.must[0]
		w.must = w.must[1:]
		return b.issue(w, e.task, e.kind, now)
	}
	for i, task := range b.pending {
		if w.refused[task] {
			continue
		}
		if b.leave(w, now) {
			return nil
		}
		b.pull(i)
		return b.issue(w, task, KindWork, now)
	}
	if len(w.out) < w.slots {
		if task, ok := b.lagging(w, now); ok {
			return b.issue(w, task, KindStraggler, now)
		}
	}
	return nil
}

func (b *board) issue(w *bench, task uint32, kind AttemptKind, now time.Time) *attempt {
	k := numbered{w.lease, task}
	b.numbers[k]++
	a := &attempt{attemptID: attemptID{w.lease, task, b.numbers[k]}, kind: kind, issued: now}
	if len(w.out) < w.slots {
		a.started = now
	}
	w.out = append(w.out, a)
	if kind.counts() {
		b.tasks[task].live++
	}
	if b.taken != nil {
		b.taken(w.lease)
	}
	return a
}

func (w *bench) has(task uint32) bool {
	return slices.ContainsFunc(w.out, func(a *attempt) bool { return a.task == task })
}

// take removes an attempt from its bench and starts the next one's clock.
func (b *board) take(id attemptID, now time.Time) *attempt {
	w := b.benches[id.lease]
	if w == nil {
		return nil
	}
	i := slices.IndexFunc(w.out, func(a *attempt) bool { return a.attemptID == id })
	if i < 0 {
		return nil
	}
	a := w.out[i]
	w.out = slices.Delete(w.out, i, i+1)
	for k := range min(len(w.out), w.slots) {
		if w.out[k].started.IsZero() {
			w.out[k].started = now
		}
	}
	return a
}

// received notes a result. first says that it is the task's own; others are
// attempts that are no longer wanted.
func (b *board) received(id attemptID, gas fallow.Gas, now time.Time) (kind AttemptKind, first bool, others []attemptID) {
	a := b.take(id, now)
	if a == nil {
		return "", false, nil
	}
	w := b.benches[id.lease]
	if took := now.Sub(a.started); !a.started.IsZero() && gas > 0 {
		// Half of what was known before counts, so that a change shows.
		w.gas, w.time = w.gas/2+float64(gas), w.time/2+max(took, 1)
	}
	b.gas += float64(gas)
	b.results++
	if !a.kind.counts() {
		return a.kind, false, nil
	}
	e := b.tasks[id.task]
	e.live = max(e.live-1, 0)
	if e.done {
		return a.kind, false, nil
	}
	return a.kind, true, b.finish(id.task)
}

// failed notes an attempt without a result; the task goes elsewhere.
func (b *board) failed(id attemptID, now time.Time) (kind AttemptKind, failures int) {
	a := b.take(id, now)
	if a == nil {
		return "", 0
	}
	b.benches[id.lease].refused[id.task] = true
	e := b.tasks[id.task]
	if a.kind.counts() {
		e.failures++
		b.back(id.task)
	}
	return a.kind, e.failures
}

// dropped notes an attempt that was cancelled: nobody's fault.
func (b *board) dropped(id attemptID, now time.Time) {
	if a := b.take(id, now); a != nil && a.kind.counts() {
		b.back(id.task)
	}
}

// reopen makes a task pending again whose result is not believed.
func (b *board) reopen(task uint32) {
	e := b.tasks[task]
	if !e.done {
		return
	}
	e.done = false
	b.done--
	if e.live == 0 && !e.queued {
		b.pending, e.queued = append(b.pending, task), true
	}
}

// left is how many tasks are not done.
func (b *board) left() int { return len(b.tasks) - b.done }

// outstanding is how many attempts are out or must go out.
func (b *board) outstanding() (n int) {
	for _, w := range b.benches {
		n += len(w.out) + len(w.must)
	}
	return n
}

// starved says that tasks are pending and no bench will ever take one.
func (b *board) starved() bool {
	if len(b.pending) == 0 {
		return false
	}
	for _, w := range b.benches {
		for _, task := range b.pending {
			if !w.refused[task] {
				return false
			}
		}
	}
	return true
}
