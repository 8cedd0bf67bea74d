package sim

import (
	"container/heap"

	"fallow.network"
)

// event is something that happens at a moment.
type event struct {
	at  fallow.Time
	seq uint64 // of its making: equal moments keep their order
	do  func()
}

// clock is virtual time: a heap of events.
type clock struct {
	now    fallow.Time
	seq    uint64
	events events
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := len(*e) - 1
	x := (*e)[last]
	(*e)[last] = event{}
	*e = (*e)[:last]
	return x
}

// after has something happen in so many milliseconds.
func (c *clock) after(ms uint64, do func()) {
	c.seq++
	heap.Push(&c.events, event{c.now + fallow.Time(ms), c.seq, do})
}

// next lets the next event happen; false when there is none up to a moment.
func (c *clock) next(until fallow.Time) bool {
	if len(c.events) == 0 || c.events[0].at > until {
		return false
	}
	e := heap.Pop(&c.events).(event)
	c.now = e.at
	e.do()
	return true
}
