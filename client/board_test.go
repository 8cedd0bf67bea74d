package client

import (
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"

	"fallow.network"
)

func always(fallow.LeaseID) bool { return true }

// world plays providers of different speeds against a board, in virtual time.
type world struct {
	t       *testing.T
	b       *board
	now     time.Time
	speed   map[fallow.LeaseID]float64 // gas a second of one slot; 0 never answers
	gas     []float64
	running map[fallow.LeaseID][]*attempt
	ends    map[*attempt]time.Time
	ran     map[fallow.LeaseID]int
	copies  int
}

func (w *world) start() {
	for lease, list := range w.running {
		for i, a := range list {
			if i >= w.b.benches[lease].slots || !w.ends[a].IsZero() || w.speed[lease] == 0 {
				continue
			}
			w.ends[a] = w.now.Add(time.Duration(w.gas[a.task] / w.speed[lease] * 1e9))
		}
	}
}

// step deals, then goes to the next end of a run or a quarter second on.
func (w *world) step() {
	for _, a := range w.b.deal(w.now) {
		for _, other := range w.running[a.lease] {
			if other.task == a.task && other.kind == a.kind {
				w.t.Fatalf("task %d twice on lease %d", a.task, a.lease)
			}
		}
		if a.kind == KindStraggler {
			w.copies++
		}
		w.running[a.lease] = append(w.running[a.lease], a)
	}
	w.start()
	next := w.now.Add(250 * time.Millisecond)
	var first *attempt
	for _, lease := range w.b.order {
		for _, a := range w.running[lease] {
			if end := w.ends[a]; !end.IsZero() && !end.After(next) {
				first, next = a, end
			}
		}
	}
	w.now = next
	if first == nil {
		return
	}
	w.remove(first)
	w.ran[first.lease]++
	_, _, others := w.b.received(first.attemptID, fallow.Gas(w.gas[first.task]), w.now)
	for _, id := range others {
		for _, a := range w.running[id.lease] {
			if a.attemptID == id {
				w.remove(a)
				w.b.dropped(id, w.now)
				break
			}
		}
	}
}

func (w *world) remove(a *attempt) {
	list := w.running[a.lease]
	for i, o := range list {
		if o == a {
			w.running[a.lease] = append(list[:i:i], list[i+1:]...)
			return
		}
	}
}

func newWorld(t *testing.T, gas []float64, speeds ...float64) *world {
	t.Helper()
	w := &world{
		t: t, b: newBoard(len(gas), 2*time.Second, always), now: time.Unix(1e9, 0), gas: gas,
		speed: map[fallow.LeaseID]float64{}, running: map[fallow.LeaseID][]*attempt{}, ends: map[*attempt]time.Time{}, ran: map[fallow.LeaseID]int{},
	}
	for i, s := range speeds {
		lease := fallow.LeaseID(i + 1)
		w.b.seat(lease, fallow.Account("p"), 1)
		w.speed[lease] = s
	}
	return w
}

func same(n int, gas float64) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = gas
	}
	return out
}

func TestSpeedSplitsTheWork(t *testing.T) {
	w := newWorld(t, same(60, 1e9), 1e9, 2e9, 3e9)
	start := w.now
	for w.b.left() > 0 {
		w.step()
	}
	if w.ran[1] < 6 || w.ran[1] > 14 || w.ran[3] < 26 || w.ran[3] > 34 {
		t.Errorf("runs: %v", w.ran)
	}
	// 60 tasks at 6 a second would take 10 s.
	if took := w.now.Sub(start); took > 12*time.Second {
		t.Errorf("took %s", took)
	}
	if w.copies > 2 {
		t.Errorf("%d tasks went out twice", w.copies)
	}
}

func TestStragglersGoElsewhere(t *testing.T) {
	for name, speeds := range map[string][]float64{
		"silent": {1e9, 1e9, 0},
		"slow":   {1e9, 1e9, 1e7},
	} {
		w := newWorld(t, same(30, 1e9), speeds...)
		start := w.now
		for w.b.left() > 0 {
			w.step()
			if w.now.Sub(start) > time.Minute {
				t.Fatalf("%s: %d tasks left after a minute", name, w.b.left())
			}
		}
		if took := w.now.Sub(start); took > 25*time.Second {
			t.Errorf("%s: took %s", name, took)
		}
		if w.copies == 0 {
			t.Errorf("%s: nothing went elsewhere", name)
		}
	}
}

func TestTheLastTasksGoToTheFast(t *testing.T) {
	// The slow one needs 20 s for a task, the fast one 1 s.
	w := newWorld(t, same(20, 1e9), 1e9, 0.05e9)
	start := w.now
	for w.b.left() > 0 {
		w.step()
	}
	if took := w.now.Sub(start); took > 25*time.Second {
		t.Errorf("took %s, runs %v", took, w.ran)
	}
}

func TestErrandsGoFirst(t *testing.T) {
	b := newBoard(3, time.Second, always)
	b.seat(1, "p", 1)
	now := time.Unix(1e9, 0)
	if !b.assign(1, errand{2, KindCheck}) || b.assign(9, errand{2, KindCheck}) {
		t.Fatal("assign")
	}
	out := b.deal(now)
	if len(out) != 1 || out[0].kind != KindCheck || out[0].task != 2 {
		t.Fatalf("%+v", out)
	}
	if kind, first, _ := b.received(out[0].attemptID, 1, now); kind != KindCheck || first || b.left() != 3 {
		t.Errorf("a check's result must not be the task's own")
	}
	out = b.deal(now)
	b.failed(out[0].attemptID, now)
	if !b.benches[1].refused[out[0].task] {
		t.Error("a task that failed goes back to the same bench")
	}
	if lost := b.unseat(1); len(lost) != 0 {
		t.Errorf("%v", lost)
	}
	b.seat(2, "q", 1)
	b.assign(2, errand{0, KindThird})
	if lost := b.unseat(2); len(lost) != 1 || lost[0].kind != KindThird {
		t.Errorf("%v", lost)
	}
}

func TestNumbersNeverRepeat(t *testing.T) {
	b := newBoard(1, time.Second, always)
	b.number(1, 0, 41)
	b.seat(1, "p", 1)
	if out := b.deal(time.Unix(1e9, 0)); out[0].attempt != 42 {
		t.Errorf("attempt %d", out[0].attempt)
	}
}

// TestEveryTaskEndsOnce plays random providers that come, go, fail and lag.
func TestEveryTaskEndsOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 40).Draw(t, "tasks")
		seed := rapid.Uint64().Draw(t, "seed")
		r := rand.New(rand.NewPCG(seed, 1))
		b := newBoard(n, 2*time.Second, always)
		now := time.Unix(1e9, 0)
		done := make([]int, n)
		next := fallow.LeaseID(1)
		for range rapid.IntRange(1, 4).Draw(t, "benches") {
			b.seat(next, "p", 1+r.IntN(3))
			next++
		}
		for range 20_000 {
			if b.left() == 0 {
				break
			}
			b.deal(now)
			for _, lease := range b.order {
				w := b.benches[lease]
				if len(w.out) > w.slots+max(b.ahead(w), 4*w.slots) {
					t.Fatalf("%d out on %d slots", len(w.out), w.slots)
				}
				seen := map[uint32]bool{}
				for _, a := range w.out {
					if seen[a.task] {
						t.Fatalf("task %d twice on one lease", a.task)
					}
					seen[a.task] = true
				}
			}
			now = now.Add(time.Duration(r.IntN(3000)) * time.Millisecond)
			if len(b.order) == 0 || b.starved() {
				b.seat(next, "p", 1+r.IntN(3))
				next++
				continue
			}
			lease := b.order[r.IntN(len(b.order))]
			w := b.benches[lease]
			switch k := r.IntN(20); {
			case k == 0:
				b.unseat(lease)
			case k < 3 && len(w.out) > 0:
				b.failed(w.out[r.IntN(len(w.out))].attemptID, now)
			case len(w.out) > 0:
				id := w.out[r.IntN(len(w.out))].attemptID
				_, first, others := b.received(id, fallow.Gas(1+r.IntN(1e9)), now)
				if first {
					done[id.task]++
				}
				for _, o := range others {
					b.dropped(o, now)
				}
			}
			live := map[uint32]int{}
			for _, w := range b.benches {
				for _, a := range w.out {
					live[a.task]++
				}
			}
			for i, e := range b.tasks {
				if e.live != live[uint32(i)] {
					t.Fatalf("task %d: %d live, counted %d", i, live[uint32(i)], e.live)
				}
			}
		}
		if b.left() != 0 {
			t.Fatalf("%d tasks never ended", b.left())
		}
		for i, d := range done {
			if d != 1 {
				t.Fatalf("task %d ended %d times", i, d)
			}
		}
	})
}
