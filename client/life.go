package client

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"fallow.network"
)

// Life is what a job went through: where its time and its money went. All of it
// comes from this home's own records; nobody is asked. Times are offsets from
// the job's start; those within a run are the provider's word.
type Life struct {
	Wall time.Duration `json:"wall_ns"`
	// Phases follow each other and add up to Wall.
	Phases []Phase `json:"phases"`
	// Moments are what happened, in order.
	Moments   []Moment       `json:"moments"`
	Providers []LifeProvider `json:"providers"`
	// Slowest is the task that took longest; nil without a result.
	Slowest *LifeTask `json:"slowest"`
	// Tries are attempts without a result, by provider and reason; a straggler's
	// was done by another first.
	Tries []LifeTry `json:"tries"`
	Money LifeMoney `json:"money"`
	// CheckTime is what checks on this machine took.
	CheckTime time.Duration `json:"check_time_ns"`
	// Recorded says whether steps were written down: jobs of earlier versions
	// have none, and less is known of them.
	Recorded bool `json:"recorded"`
	// Runs is how often the job was taken up.
	Runs int `json:"runs"`
}

// Phases of a job.
const (
	PhaseAsk    = "ask"    // offers are asked for and come in
	PhaseLease  = "lease"  // until the block that opened the first leases
	PhaseStart  = "start"  // connections, and the inputs of the first tasks
	PhaseWork   = "work"   // until the last result
	PhaseCheck  = "check"  // checks after the last result
	PhaseSettle = "settle" // last vouchers and releases
	PhaseClose  = "close"  // until the ledger was told of the end of the leases
)

// Phase is a part of the job's time.
type Phase struct {
	Name string        `json:"name"`
	From time.Duration `json:"from_ns"`
	Took time.Duration `json:"took_ns"`
	// Share of Wall, in thousandths.
	Share int `json:"share_permille"`
}

// Moment is one thing that happened. Count and Bytes are what Kind counts.
type Moment struct {
	At       time.Duration  `json:"at_ns"`
	Took     time.Duration  `json:"took_ns"`
	Kind     string         `json:"kind"`
	Lease    fallow.LeaseID `json:"lease"`
	Provider fallow.Account `json:"provider"`
	Count    int            `json:"count"`
	Bytes    uint64         `json:"bytes"`
	Reason   fallow.Reason  `json:"reason"`
	Detail   string         `json:"detail"`
}

// LifeProvider is one lease: what went over it, and what it cost.
type LifeProvider struct {
	Lease    fallow.LeaseID `json:"lease"`
	Provider fallow.Account `json:"provider"`
	Region   string         `json:"region"`
	// Tasks, Reruns and Failed are attempts with a result that stands, with
	// another receipt, and without one.
	Tasks  int `json:"tasks"`
	Reruns int `json:"reruns"`
	Failed int `json:"failed"`
	// Ran is the time of its runs, added up, and Out the time from their
	// hand-out to their receipt.
	Ran         time.Duration  `json:"ran_ns"`
	Out         time.Duration  `json:"out_ns"`
	Inputs      int            `json:"inputs"`
	InputBytes  uint64         `json:"input_bytes"`
	InputTime   time.Duration  `json:"input_time_ns"`
	Outputs     int            `json:"outputs"`
	OutputBytes uint64         `json:"output_bytes"`
	OutputTime  time.Duration  `json:"output_time_ns"`
	Vouchers    int            `json:"vouchers"`
	GasPrice    fallow.Pico    `json:"gas_price"` // for 1,000,000 gas
	Charged     fallow.Pico    `json:"charged"`
	Paid        fallow.Pico    `json:"paid"`
	Reserve     fallow.Credits `json:"reserve_ucredit"`
	Losses      int            `json:"losses"`    // broken connections
	Gone        bool           `json:"gone"`      // it did not come back
	Elsewhere   int            `json:"elsewhere"` // attempts that others did in its place
	Detail      string         `json:"detail"`    // how the last connection broke
	Reason      fallow.Reason  `json:"reason"`    // why the lease ended
	Opened      time.Duration  `json:"opened_ns"`
	Ended       time.Duration  `json:"ended_ns"`
}

// Reasons for a slowest task.
const (
	SlowRetried = "retried" // earlier attempts gave no result
	SlowGas     = "gas"     // it had more to do
	SlowSpeed   = "speed"   // its provider ran it slower than the middle one
	SlowWaited  = "waited"  // most of its time it did not run
	SlowNone    = "none"    // it does not stand out
)

// LifeTask is one task with its time, beside the middle of all.
type LifeTask struct {
	Task     uint32         `json:"task"`
	Label    string         `json:"label"`
	Lease    fallow.LeaseID `json:"lease"`
	Provider fallow.Account `json:"provider"`
	Took     time.Duration  `json:"took_ns"` // from the first hand-out to the result
	Ran      time.Duration  `json:"ran_ns"`
	Gas      fallow.Gas     `json:"gas"`
	Tries    int            `json:"tries"`
	Middle   time.Duration  `json:"middle_took_ns"`
	Why      string         `json:"why"`
	// Times is how many times the middle one's gas or time for it that was.
	Times float64 `json:"times"`
}

// LifeTry counts attempts without a result.
type LifeTry struct {
	Provider fallow.Account `json:"provider"`
	Reason   fallow.Reason  `json:"reason"`
	Count    int            `json:"count"`
}

// LifeMoney is where the money went.
type LifeMoney struct {
	Tasks   fallow.Pico `json:"tasks"`  // receipts that are the tasks' results
	Checks  fallow.Pico `json:"checks"` // runs by other providers to compare
	Copies  fallow.Pico `json:"copies"` // second copies beside slow providers, and receipts that do not stand
	Refused fallow.Pico `json:"refused"`
	Paid    fallow.Pico `json:"paid"`
	// Reserved is what leases held of the escrow at most, and Back what of it
	// comes back.
	Reserved fallow.Credits `json:"reserved_ucredit"`
	Back     fallow.Pico    `json:"back"`
	Fees     uint64         `json:"fees_ufal"`
}

// past times of a job, as they are read.
type lived struct {
	job      Job
	bill     *Bill
	steps    []step
	spans    map[attemptID]span
	attempts []past
	receipts []held
	results  []result
	leases   []lease
	times    map[fallow.LeaseID]span
}

// Life tells what a job went through so far.
func (c *Client) Life(ctx context.Context, id JobID) (*Life, error) {
	var v lived
	var err error
	if v.job, err = c.store.job(ctx, id); err != nil {
		return nil, err
	}
	if v.bill, err = c.bill(ctx, v.job); err != nil {
		return nil, err
	}
	for _, read := range []func() error{
		func() (err error) { v.steps, err = c.store.steps(ctx, id); return err },
		func() (err error) { v.spans, err = c.store.spans(ctx, id); return err },
		func() (err error) { v.attempts, err = c.store.attempts(ctx, id); return err },
		func() (err error) { v.receipts, err = c.store.receipts(ctx, id); return err },
		func() (err error) { v.results, err = c.store.results(ctx, id); return err },
		func() (err error) { v.leases, err = c.store.leasesUsed(ctx, id); return err },
		func() (err error) { v.times, err = c.store.leaseTimes(ctx, id); return err },
	} {
		if err := read(); err != nil {
			return nil, err
		}
	}
	l := &Life{Wall: v.bill.Wall, Phases: []Phase{}, Moments: []Moment{}, Providers: []LifeProvider{}, Tries: []LifeTry{}, Recorded: len(v.steps) > 0}
	l.phases(v)
	l.moments(v)
	l.providers(v)
	l.tries(v)
	l.slowest(v)
	l.money(v)
	checks, err := c.store.checks(ctx, id)
	for _, k := range checks {
		if k.own != nil {
			l.CheckTime += k.own.Took
		}
	}
	return l, err
}

// since is when something was, from the job's start on.
func (v lived) since(t time.Time) time.Duration {
	if t.IsZero() || v.job.Started.IsZero() || t.Before(v.job.Started) {
		return 0
	}
	return t.Sub(v.job.Started)
}

// phases cut the job's time at what is known of it; what is not known is no
// cut, and its time belongs to the phase that follows.
func (l *Life) phases(v lived) {
	var ask, opened, start, work, settle, released, closed time.Time
	var firstResult time.Time
	for _, r := range v.results {
		ended := v.spans[attemptID{r.lease, r.task, r.attempt}].ended
		if firstResult.IsZero() || ended.Before(firstResult) {
			firstResult = ended
		}
		work = later(work, ended)
	}
	for _, t := range v.steps {
		switch t.kind {
		case stepRun:
			l.Runs++
		case stepAsk:
			if opened.IsZero() {
				ask = later(ask, t.until)
			}
		case stepLease:
			if t.count > 0 && opened.IsZero() {
				ask, opened = t.at, t.until
			}
		case stepUp, stepInput:
			if firstResult.IsZero() || t.until.Before(firstResult) {
				start = later(start, t.until)
			}
		case stepSettle:
			settle, released = t.at, t.until
		case stepClose:
			closed = t.until
		}
	}
	if opened.IsZero() {
		for _, s := range v.times {
			if opened.IsZero() || s.issued.Before(opened) {
				opened = s.issued
			}
		}
	}
	var at time.Duration
	cut := func(name string, to time.Duration) {
		if to = min(to, l.Wall); to > at {
			l.Phases = append(l.Phases, Phase{Name: name, From: at, Took: to - at, Share: int((to - at) * 1000 / l.Wall)})
			at = to
		}
	}
	cut(PhaseAsk, v.since(ask))
	cut(PhaseLease, v.since(opened))
	cut(PhaseStart, v.since(start))
	cut(PhaseWork, v.since(work))
	if v.job.State != StateRunning {
		cut(PhaseCheck, v.since(settle))
	}
	cut(PhaseSettle, v.since(released))
	cut(PhaseClose, v.since(closed))
	last := PhaseClose // what is left of a job that ended, or that goes on
	if !v.job.State.Ended() {
		last = PhaseWork
	}
	if at < l.Wall && len(l.Phases) > 0 && l.Phases[len(l.Phases)-1].Name == last {
		p := &l.Phases[len(l.Phases)-1]
		p.Took, p.Share = l.Wall-p.From, int((l.Wall-p.From)*1000/l.Wall)
		return
	}
	cut(last, l.Wall)
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func (l *Life) moments(v lived) {
	for _, t := range v.steps {
		l.Moments = append(l.Moments, Moment{
			At: v.since(t.at), Took: t.until.Sub(t.at), Kind: t.kind, Lease: t.lease, Provider: t.provider,
			Count: t.count, Bytes: t.bytes, Reason: t.reason, Detail: t.detail,
		})
	}
}

func (l *Life) providers(v lived) {
	by := map[fallow.LeaseID]*LifeProvider{}
	for _, b := range v.bill.Providers {
		by[b.Lease] = &LifeProvider{
			Lease: b.Lease, Provider: b.Provider, Region: b.Region, Tasks: b.Tasks, Reruns: b.Reruns,
			GasPrice: b.GasPrice, Charged: b.Charged, Paid: b.Paid, Reason: b.Reason,
		}
	}
	for _, x := range v.leases {
		if p := by[x.id]; p != nil {
			p.Reserve, p.Opened, p.Ended = x.reserve, v.since(v.times[x.id].issued), v.since(v.times[x.id].ended)
		}
	}
	for _, h := range v.receipts {
		if p := by[h.lease]; p != nil {
			if r, err := h.open(); err == nil {
				p.Ran += time.Duration(r.Ended-r.Started) * time.Millisecond
			}
			if s := v.spans[h.attemptID]; !s.ended.IsZero() {
				p.Out += s.ended.Sub(s.issued)
			}
		}
	}
	for _, a := range v.attempts {
		p := by[a.lease]
		switch {
		case p == nil:
		case a.state == attemptFailed && a.reason != fallow.ReasonProviderGone:
			p.Failed++
		case a.state == attemptFailed, a.state == attemptCancelled && a.reason == fallow.ReasonStraggler:
			p.Elsewhere++
		}
	}
	for _, t := range v.steps {
		p := by[t.lease]
		if p == nil {
			continue
		}
		switch t.kind {
		case stepInput:
			p.Inputs, p.InputBytes, p.InputTime = p.Inputs+t.count, p.InputBytes+t.bytes, p.InputTime+t.until.Sub(t.at)
		case stepOutputs:
			p.Outputs, p.OutputBytes, p.OutputTime = p.Outputs+t.count, p.OutputBytes+t.bytes, p.OutputTime+t.until.Sub(t.at)
		case stepVouchers:
			p.Vouchers += t.count
		case stepLost:
			p.Losses++
			p.Detail, p.Gone = t.detail, true
		case stepUp:
			p.Gone = false
		}
	}
	for _, id := range slices.Sorted(maps.Keys(by)) {
		l.Providers = append(l.Providers, *by[id])
	}
}

func (l *Life) tries(v lived) {
	of := map[fallow.LeaseID]fallow.Account{}
	for _, p := range l.Providers {
		of[p.Lease] = p.Provider
	}
	counts := map[LifeTry]int{}
	for _, a := range v.attempts {
		if a.state == attemptFailed || a.state == attemptCancelled {
			counts[LifeTry{Provider: of[a.lease], Reason: a.reason}]++
		}
	}
	for t, n := range counts {
		t.Count = n
		l.Tries = append(l.Tries, t)
	}
	slices.SortFunc(l.Tries, func(a, b LifeTry) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Provider, b.Provider), cmp.Compare(a.Reason, b.Reason))
	})
}
