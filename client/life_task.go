package client

import (
	"slices"
	"time"

	"fallow.network"
)

// timed is a result with what it took.
type timed struct {
	result
	took, ran time.Duration
	gas       fallow.Gas
	tries     int
}

// slowest finds the task that took longest, and what sets it apart.
func (l *Life) slowest(v lived) {
	first, tries := map[uint32]time.Time{}, map[uint32]int{}
	for _, a := range v.attempts {
		if !a.kind.counts() {
			continue
		}
		tries[a.task]++
		if issued := v.spans[a.attemptID].issued; first[a.task].IsZero() || issued.Before(first[a.task]) {
			first[a.task] = issued
		}
	}
	receipts := make(map[attemptID]held, len(v.receipts))
	for _, h := range v.receipts {
		receipts[h.attemptID] = h
	}
	var all []timed
	for _, r := range v.results {
		id := attemptID{r.lease, r.task, r.attempt}
		ended := v.spans[id].ended
		if ended.IsZero() || first[r.task].IsZero() {
			continue
		}
		t := timed{result: r, took: ended.Sub(first[r.task]), ran: r.took, gas: receipts[id].gas, tries: tries[r.task]}
		all = append(all, t)
	}
	if len(all) == 0 {
		return
	}
	worst := all[0]
	for _, t := range all[1:] {
		if t.took > worst.took {
			worst = t
		}
	}
	s := &LifeTask{
		Task: worst.task, Label: v.job.Options.label(worst.task), Lease: worst.lease, Took: worst.took, Ran: worst.ran,
		Gas: worst.gas, Tries: worst.tries, Middle: middle(all, func(t timed) time.Duration { return t.took }),
	}
	for _, p := range l.Providers {
		if p.Lease == worst.lease {
			s.Provider = p.Provider
		}
	}
	s.Why, s.Times = why(worst, all)
	l.Slowest = s
}

// middle is the median of a figure.
func middle[T int64 | uint64 | float64 | time.Duration | fallow.Gas](all []timed, of func(timed) T) T {
	list := make([]T, len(all))
	for i, t := range all {
		list[i] = of(t)
	}
	slices.Sort(list)
	return list[len(list)/2]
}

// apart is how many times the middle something must be to stand out.
const apart = 1.5

// why says what sets a task apart from the middle of all, by what explains most.
func why(t timed, all []timed) (string, float64) {
	gas := middle(all, func(t timed) fallow.Gas { return t.gas })
	pace := middle(all, func(t timed) float64 { return perGas(t) })
	more, slower := 0.0, 0.0
	if gas > 0 {
		more = float64(t.gas) / float64(gas)
	}
	if pace > 0 {
		slower = perGas(t) / pace
	}
	switch {
	case t.tries > 1:
		return SlowRetried, float64(t.tries)
	case t.took-t.ran > t.ran && t.took-t.ran > 20*time.Millisecond:
		return SlowWaited, float64(t.took) / float64(max(t.ran, time.Millisecond))
	case more >= apart && more >= slower:
		return SlowGas, more
	case slower >= apart && t.ran > 20*time.Millisecond: // receipts' times are in milliseconds
		return SlowSpeed, slower
	default:
		return SlowNone, 1
	}
}

// perGas is nanoseconds a gas.
func perGas(t timed) float64 {
	if t.gas == 0 {
		return 0
	}
	return float64(t.ran) / float64(t.gas)
}

// money sums up charges by what they were for.
func (l *Life) money(v lived) {
	stands := map[attemptID]bool{}
	for _, r := range v.results {
		stands[attemptID{r.lease, r.task, r.attempt}] = true
	}
	m := &l.Money
	m.Paid, m.Refused, m.Fees = v.bill.Paid, v.bill.Refused, v.bill.ChainFees
	for _, h := range v.receipts {
		switch {
		case h.state == receiptRefused:
		case stands[h.attemptID]:
			m.Tasks = plus(m.Tasks, h.charge)
		case !h.kind.counts():
			m.Checks = plus(m.Checks, h.charge)
		default:
			m.Copies = plus(m.Copies, h.charge)
		}
	}
	for _, x := range v.leases {
		if x.job == "" {
			continue // a standing lease's reserve is not this job's
		}
		m.Reserved += x.reserve
		for _, b := range v.bill.Providers {
			if b.Lease != x.id || x.state != leaseClosed && x.state != leaseClosing {
				continue
			}
			if back, err := x.reserve.Pico().Sub(b.Paid); err == nil {
				m.Back = plus(m.Back, back)
			}
		}
	}
}
