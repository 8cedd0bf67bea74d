package client

import (
	"context"
	"math"
	"slices"
	"time"

	"fallow.network"
)

// Bill says who did what of a job, at which price, how it was checked and
// paid, and how long it took. Every figure comes from receipts, vouchers or
// the ledger's transactions, or was measured on this machine.
type Bill struct {
	Job    JobID  `json:"job"`
	Name   string `json:"name"`
	State  State  `json:"state"`
	Reason string `json:"reason"` // of a failure

	Tasks int `json:"tasks"`
	Done  int `json:"done"`
	// Failed is how many tasks ended with a trap or an exit code above zero:
	// results all the same.
	Failed    int        `json:"failed"`
	Providers []BillLine `json:"providers"`
	Checks    BillChecks `json:"checks"`
	// Reissued are tasks that were handed out again beside a slow provider;
	// Retried are attempts that gave no result, by reason.
	Reissued int                   `json:"reissued"`
	Retried  map[fallow.Reason]int `json:"retried"`

	Gas    fallow.Gas     `json:"gas"`
	Budget fallow.Credits `json:"budget_ucredit"` // 0: none was named
	// Charged is what all receipts cost, Paid what vouchers say, Refused what
	// was not paid because it was found wrong.
	Charged fallow.Pico `json:"charged"`
	Paid    fallow.Pico `json:"paid"`
	Refused fallow.Pico `json:"refused"`
	// Unsecured is the part of Paid for results that nobody ran again, where
	// no bond answers for a wrong one: nothing can be slashed until the ledger
	// has disputes.
	Unsecured fallow.Pico `json:"unsecured"`

	Transactions []BillTransaction `json:"transactions"`
	ChainBytes   uint64            `json:"chain_bytes"`
	ChainFees    uint64            `json:"chain_fees_ufal"` // ufal

	// FirstOutput is from the start to the first outputs in their place.
	FirstOutput time.Duration `json:"first_output_ns"`
	Wall        time.Duration `json:"wall_ns"`
	// Speed compares with this machine; nil when it was not measured.
	Speed *BillSpeed `json:"speed"`
}

// BillLine is one lease.
type BillLine struct {
	Lease    fallow.LeaseID `json:"lease"`
	Provider fallow.Account `json:"provider"`
	NodeKey  fallow.Key     `json:"node_key"`
	Region   string         `json:"region"`
	Slots    uint32         `json:"slots"`
	GasPrice fallow.Pico    `json:"gas_price"` // for 1,000,000 gas
	TaskFee  fallow.Pico    `json:"task_fee"`
	// Tasks are results that stand; Reruns are checks and second copies.
	Tasks   int         `json:"tasks"`
	Reruns  int         `json:"reruns"`
	Gas     fallow.Gas  `json:"gas"`
	Charged fallow.Pico `json:"charged"`
	Paid    fallow.Pico `json:"paid"`
	Checked int         `json:"checked"` // of Tasks, run again by somebody
	Agreed  int         `json:"agreed"`  // of Checked
	// Rate is gas a second of one slot, over the time that receipts name.
	Rate   float64       `json:"rate"`
	Reason fallow.Reason `json:"reason"` // why the lease ended
	// Closing says that the ledger was told of the end and nobody waited to
	// see it there. ClaimWindow is how long from then on its provider may bring
	// the voucher that it holds.
	Closing     bool          `json:"closing"`
	ClaimWindow time.Duration `json:"claim_window_ns"`
}

// BillChecks counts what was run again.
type BillChecks struct {
	Chosen    int `json:"chosen"`
	Agreed    int `json:"agreed"`
	Wrong     int `json:"wrong"`
	Cleared   int `json:"cleared"`
	Undecided int `json:"undecided"`
	Skipped   int `json:"skipped"`
	Own       int `json:"own"`
	Market    int `json:"market"` // who ran them
}

// BillTransaction is what the ledger took.
type BillTransaction struct {
	Transaction
	Kind string `json:"kind"` // open, raise, close
}

// Bare is a task of a job run on this machine's own core, unmetered.
type Bare struct {
	Task  uint32        `json:"task"`
	Gas   fallow.Gas    `json:"gas"`
	Took  time.Duration `json:"took_ns"`
	Cores int           `json:"cores"`
}

// BillSpeed compares a job with the same module, unmetered, on this machine.
type BillSpeed struct {
	Bare Bare `json:"bare"`
	// Alone is how long all of the job's tasks would take on all cores here,
	// by the measured task's time and each task's gas.
	Alone time.Duration `json:"alone_ns"`
	// Times is Alone over the job's wall time: above 1 the market was faster.
	Times float64 `json:"times"`
}

// Bill makes up the bill of a job as it stands.
func (c *Client) Bill(ctx context.Context, id JobID) (*Bill, error) {
	j, err := c.store.job(ctx, id)
	if err != nil {
		return nil, err
	}
	return c.bill(ctx, j)
}

func (c *Client) bill(ctx context.Context, j Job) (*Bill, error) {
	j, err := c.store.job(ctx, j.ID)
	if err != nil {
		return nil, err
	}
	b := &Bill{Job: j.ID, Name: j.Name, State: j.State, Reason: j.Reason, Tasks: j.Tasks, Done: j.Done, Budget: j.Options.Budget, Retried: map[fallow.Reason]int{}}
	b.times(j)
	results, err := c.store.results(ctx, j.ID)
	if err != nil {
		return nil, err
	}
	stands := map[attemptID]bool{}
	for _, r := range results {
		stands[attemptID{r.lease, r.task, r.attempt}] = true
		if r.exit != "" {
			b.Failed++
		}
	}
	lines, err := c.billLines(ctx, j.ID)
	if err != nil {
		return nil, err
	}
	checks, err := c.store.checks(ctx, j.ID)
	if err != nil {
		return nil, err
	}
	checked := b.count(checks, stands, lines)
	if err := c.billReceipts(ctx, b, stands, checked, lines); err != nil {
		return nil, err
	}
	attempts, err := c.store.attempts(ctx, j.ID)
	if err != nil {
		return nil, err
	}
	for _, a := range attempts {
		if a.kind == KindStraggler {
			b.Reissued++
		}
		if a.state == attemptFailed {
			b.Retried[a.reason]++
		}
	}
	if b.Transactions, err = c.store.transactions(ctx, j.ID); err != nil {
		return nil, err
	}
	for _, t := range b.Transactions {
		b.ChainBytes += t.Bytes
		b.ChainFees += t.Fee
	}
	for _, l := range lines {
		b.Providers = append(b.Providers, *l)
	}
	slices.SortFunc(b.Providers, func(x, y BillLine) int { return int(x.Lease) - int(y.Lease) })
	bare, err := c.store.bare(ctx, j.ID)
	if err != nil {
		return nil, err
	}
	b.compare(bare)
	return b, nil
}

func (b *Bill) times(j Job) {
	if j.Started.IsZero() {
		return
	}
	end := j.Ended
	if end.IsZero() {
		end = time.Now()
	}
	b.Wall = end.Sub(j.Started)
	if !j.FirstOutput.IsZero() {
		b.FirstOutput = j.FirstOutput.Sub(j.Started)
	}
}

func (c *Client) billLines(ctx context.Context, id JobID) (map[fallow.LeaseID]*BillLine, error) {
	list, err := c.store.leasesUsed(ctx, id)
	if err != nil {
		return nil, err
	}
	lines := map[fallow.LeaseID]*BillLine{}
	for _, l := range list {
		t := l.offer.Terms
		lines[l.id] = &BillLine{
			Lease: l.id, Provider: l.offer.Provider, NodeKey: l.offer.NodeKey, Region: l.region, Slots: t.Slots,
			GasPrice: t.GasPrice, TaskFee: t.TaskFee, Reason: l.reason,
			Closing: l.state == leaseClosing, ClaimWindow: time.Duration(t.ClaimWindowMS) * time.Millisecond,
		}
	}
	return lines, nil
}

// count sums up checks and gives those receipts that somebody's run agreed
// with.
func (b *Bill) count(checks []check, stands map[attemptID]bool, lines map[fallow.LeaseID]*BillLine) map[attemptID]bool {
	agreed := map[attemptID]bool{}
	for _, c := range checks {
		b.Checks.Chosen++
		if c.by == byOwn {
			b.Checks.Own++
		} else if c.by != "" {
			b.Checks.Market++
		}
		line := lines[c.subject.lease]
		ran := true
		switch c.state {
		case checkAgreed:
			b.Checks.Agreed++
			agreed[c.subject] = true
			agreed[c.with] = true
		case checkWrong:
			b.Checks.Wrong++
			agreed[c.with] = true
		case checkCleared:
			b.Checks.Cleared++
			agreed[c.subject] = true
		case checkOpen, checkDisputed:
			b.Checks.Undecided++
		default:
			b.Checks.Skipped++
			ran = false
		}
		if line != nil && ran && stands[c.subject] {
			line.Checked++
			if agreed[c.subject] {
				line.Agreed++
			}
		}
	}
	return agreed
}

func (c *Client) billReceipts(ctx context.Context, b *Bill, stands, agreed map[attemptID]bool, lines map[fallow.LeaseID]*BillLine) error {
	list, err := c.store.receipts(ctx, b.Job)
	if err != nil {
		return err
	}
	busy := map[fallow.LeaseID]time.Duration{}
	ran := map[fallow.LeaseID]float64{}
	for _, h := range list {
		r, err := h.open()
		if err != nil {
			return err
		}
		line := lines[h.lease]
		if line == nil {
			continue
		}
		if stands[h.attemptID] {
			line.Tasks++
		} else {
			line.Reruns++
		}
		line.Gas += h.gas
		b.Gas += h.gas
		line.Charged = plus(line.Charged, h.charge)
		b.Charged = plus(b.Charged, h.charge)
		busy[h.lease] += time.Duration(r.Ended-r.Started) * time.Millisecond
		ran[h.lease] += float64(h.gas)
		switch h.state {
		case receiptPaid:
			line.Paid = plus(line.Paid, h.charge)
			b.Paid = plus(b.Paid, h.charge)
			if h.kind.counts() && !agreed[h.attemptID] {
				b.Unsecured = plus(b.Unsecured, h.charge)
			}
		case receiptRefused:
			b.Refused = plus(b.Refused, h.charge)
		default:
		}
	}
	for id, line := range lines {
		if busy[id] > 0 {
			line.Rate = ran[id] / busy[id].Seconds()
		}
	}
	return nil
}

// compare scales the measured task to the whole job by gas.
func (b *Bill) compare(bare *Bare) {
	if bare == nil || bare.Gas == 0 || bare.Cores == 0 || b.Wall <= 0 {
		return
	}
	var own float64
	for _, l := range b.Providers {
		own += float64(l.Gas)
	}
	// What was run again is not part of the job.
	if b.Tasks > 0 {
		total := 0
		for _, l := range b.Providers {
			total += l.Tasks + l.Reruns
		}
		if total > 0 {
			own *= float64(b.Done) / float64(total)
		}
	}
	seconds := own / float64(bare.Gas) * bare.Took.Seconds() / math.Min(float64(bare.Cores), float64(max(b.Done, 1)))
	s := &BillSpeed{Bare: *bare, Alone: time.Duration(seconds * float64(time.Second))}
	s.Times = s.Alone.Seconds() / b.Wall.Seconds()
	b.Speed = s
}

// leastBare is how long a job's tasks must take in all for a comparison with
// this machine to mean anything; nobody waits for less.
const leastBare = time.Second

// longestBare bounds the time that a measurement may be expected to take.
const longestBare = 30 * time.Second

// measure runs one task bare on this machine: the one of middle gas.
func (r *run) measure(ctx context.Context) {
	if r.c.machine == nil || len(r.results) == 0 {
		return
	}
	if old, err := r.c.store.bare(ctx, r.rec.ID); err == nil && old != nil {
		return
	}
	type ran struct {
		id   attemptID
		gas  fallow.Gas
		took time.Duration
	}
	var list []ran
	var all time.Duration
	for _, res := range r.results {
		id := attemptID{res.lease, res.task, res.attempt}
		if h := r.receipts[id]; h != nil && res.exit == "" {
			list = append(list, ran{id, h.gas, res.took})
			all += res.took
		}
	}
	if len(list) == 0 || r.rec.Options.Leave && all < leastBare {
		return
	}
	slices.SortFunc(list, func(a, b ran) int {
		if a.gas != b.gas {
			if a.gas < b.gas {
				return -1
			}
			return 1
		}
		return int(a.id.task) - int(b.id.task)
	})
	middle := list[len(list)/2]
	if middle.took > longestBare {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 4*longestBare)
	defer cancel()
	took, err := r.c.machine.Bare(ctx, r.task(middle.id), r.c.blobs)
	if err != nil {
		r.emit(Warning{Text: "this machine's own speed could not be measured: " + firstLine(err)})
		return
	}
	if err := r.c.store.setBare(ctx, r.rec.ID, &Bare{Task: middle.id.task, Gas: middle.gas, Took: took, Cores: r.c.machine.Cores()}); err != nil {
		r.emit(Warning{Text: firstLine(err)})
	}
}
