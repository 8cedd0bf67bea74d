package client

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"fallow.network"
	"fallow.network/blob"
	"fallow.network/fault"
	"fallow.network/market"
	"fallow.network/receipt"
	"fallow.network/spec"
	"fallow.network/trace"
	"fallow.network/verify"
)

// TaskError is a task that no provider gave a result for.
type TaskError struct {
	Task   uint32
	Label  string
	Tries  int
	Reason fallow.Reason
	Detail string
}

func (e *TaskError) Error() string {
	s := fmt.Sprintf("%s failed %d times, last because %s", e.Label, e.Tries, e.Reason.Text())
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	return s
}

// ErrDeadline is a job that was not done in time.
var ErrDeadline = errors.New("the job's deadline has passed")

// ErrCancelled is a job that the tenant stopped.
var ErrCancelled = errors.New("the job was cancelled")

// tick is how often the loop looks at its clocks.
const tick = 50 * time.Millisecond

// run is a job at work: one goroutine owns all of it and decides; links,
// fetches, own checks and talks with the ledger report to its inbox.
type run struct {
	c      *Client
	rec    record
	emit   func(Event)
	watch  func(Event)
	news   []Event // to be told once what it is about is written down
	store  *store  // the loop's own: in a step it gathers
	wrote  bool    // a receipt is among what was gathered
	secret verify.Secret
	policy verify.Policy
	board  *board
	purse  *purse
	shelf  *shelf
	inbox  chan any
	tell   func(any)
	work   *group

	stations map[fallow.LeaseID]*station
	peers    map[string]Peer          // by nonce
	spans    map[attemptID]trace.Span // of what is out; nil without tracing
	may      map[fallow.Digest]bool
	past     map[attemptID]*past
	receipts map[attemptID]*held
	results  map[uint32]result
	fetching map[attemptID]bool
	moves    map[fallow.LeaseID]moved
	checks   map[attemptID]*check // by subject
	active   map[uint32]*check    // by task
	tests    int                  // own runs that are out
	room     chan struct{}        // own runs at once
	fetches  chan struct{}
	wrong    map[fallow.Account]bool // found wrong in this job
	refused  map[fallow.Account]string

	away      map[string]time.Time // when it was last told to be away, by what
	asking    bool
	lateUntil fallow.Height // up to which a lost opening is waited for; late's alone
	asks      int           // in a row without an offer
	nextAsk   time.Time
	firstAsk  time.Time
	asked     time.Time
	extra     int // asks beside leases that work
	raising   map[fallow.LeaseID]bool
	paidAll   fallow.Pico
	fatal     error
}

// station is one lease in a job.
type station struct {
	lease    lease
	link     *link
	stop     context.CancelFunc
	joined   bool // a link was made
	up       bool
	down     time.Time // since when it is not up
	gone     bool      // its tasks went elsewhere
	shut     bool      // it gets no more tasks
	reason   fallow.Reason
	bond     fallow.Credits
	evidence verify.Evidence
	failures int

	tree     receipt.Tree
	voucher  voucher
	payable  []*held
	oldest   time.Time
	unpaid   fallow.Pico
	waiting  time.Time // since when the provider waits for a voucher
	released bool
	shown    fallow.Pico // of the highest voucher that the provider has shown
	over     bool        // the provider has ended it: it takes no more vouchers
	shared   bool        // a standing lease, that other jobs use too
}

// Run runs a job to its end, or goes on with one where it stood, and gives its
// bill. When ctx ends, what was done is paid, leases are closed and the job is
// cancelled. A job that has ended gives its bill again, and why it failed.
func (c *Client) Run(ctx context.Context, id JobID, watch Events) (*Bill, error) {
	unlock, err := c.lock("job-" + string(id))
	if err != nil {
		return nil, err
	}
	defer unlock()
	// What is left to do when ctx has ended still needs a context.
	after := context.WithoutCancel(ctx)
	rec, err := c.store.record(after, id)
	if err != nil {
		return nil, err
	}
	if rec.State.Ended() {
		bill, err := c.bill(after, rec.Job)
		switch {
		case err != nil:
		case rec.State == StateCancelled:
			err = ErrCancelled
		case rec.State == StateFailed:
			err = errors.New(rec.Reason)
		}
		return bill, err
	}
	for _, l := range rec.Options.Leases {
		unlock, err := c.lock(lockOf(l))
		if err != nil {
			return nil, err
		}
		defer unlock()
	}
	emit := func(e Event) {
		if watch != nil {
			watch(e)
		}
	}
	r := newRun(c, rec, emit)
	if r.shelf, err = openShelf(rec.Options.Out, id, len(rec.workload.Tasks)); err != nil {
		return nil, err
	}
	after, span := c.trace.Begin(after, "job")
	runErr := r.run(ctx, after)
	r.traced(span, runErr)
	bill, billErr := c.bill(after, rec.Job)
	return bill, errors.Join(runErr, billErr, r.shelf.close())
}

func newRun(c *Client, rec record, emit func(Event)) *run {
	r := &run{
		c: c, rec: rec, watch: emit, store: c.store, policy: verify.DefaultPolicy(), inbox: make(chan any, 256),
		secret:   sha256.Sum256(append(append([]byte("fallow/coin/v1\x00"), c.coin...), rec.ID...)),
		stations: map[fallow.LeaseID]*station{}, peers: map[string]Peer{}, may: map[fallow.Digest]bool{},
		past: map[attemptID]*past{}, receipts: map[attemptID]*held{}, results: map[uint32]result{}, fetching: map[attemptID]bool{}, moves: map[fallow.LeaseID]moved{},
		checks: map[attemptID]*check{}, active: map[uint32]*check{},
		room: make(chan struct{}, c.config.OwnSlots), fetches: make(chan struct{}, 8),
		wrong: map[fallow.Account]bool{}, away: map[string]time.Time{}, refused: map[fallow.Account]string{}, raising: map[fallow.LeaseID]bool{},
	}
	r.emit = func(e Event) {
		if r.store.later != nil {
			r.news = append(r.news, e)
			return
		}
		r.watch(e)
	}
	if c.trace.On() {
		r.spans = map[attemptID]trace.Span{}
	}
	r.board = newBoard(len(rec.workload.Tasks), c.config.StragglerMin, r.mayTake)
	for _, b := range rec.workload.Blobs() {
		r.may[b.Digest] = true
	}
	return r
}

// run works, then settles, whatever came of the work.
func (r *run) run(ctx, after context.Context) error {
	inner, cancel := context.WithCancel(after)
	r.work = newGroup(inner)
	r.tell = func(m any) {
		select {
		case r.inbox <- m:
		case <-inner.Done():
		}
	}
	defer func() {
		cancel()
		r.work.wait()
		for _, p := range r.peers {
			if err := p.Close(); err != nil {
				r.c.log.DebugContext(ctx, "closing a peer failed", slog.Any("error", err))
			}
		}
	}()
	if err := r.setState(after, StateRunning, ""); err != nil {
		return err
	}
	r.work.run(r.c.tidy)
	tell := r.emit
	r.emit = func(e Event) {
		r.noteEvent(inner, e)
		tell(e)
	}
	r.note(inner, step{kind: stepRun})
	err := r.recover(inner)
	if err == nil {
		err = r.loop(ctx, inner)
	}
	if err = r.settle(after, inner, err); err == nil {
		r.measure(ctx) // after the end: it is none of the job's time
	}
	return err
}

func (r *run) setState(ctx context.Context, s State, reason string) error {
	now := time.Now()
	if err := r.store.setState(ctx, r.rec.ID, s, reason, now); err != nil {
		return err
	}
	if s == StateRunning && r.rec.Started.IsZero() {
		r.rec.Started = now
	}
	r.rec.State = s
	r.emit(StateChanged{Job: r.rec.ID, State: s, Reason: reason})
	return nil
}

// loop hands out, receives, checks and pays until every task has a result that
// stands. stop ends when the tenant wants no more; ctx when nothing may go on.
func (r *run) loop(stop, ctx context.Context) error {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	var deadline <-chan time.Time
	if d := r.rec.Options.Deadline; d > 0 {
		t := time.NewTimer(time.Until(r.rec.Started.Add(d)))
		defer t.Stop()
		deadline = t.C
	}
	polled := time.Now()
	var first any
	for {
		r.step(ctx, first)
		first = nil
		if r.fatal != nil {
			return r.fatal
		}
		if r.finished() {
			return nil
		}
		select {
		case first = <-r.inbox:
		case <-ticker.C:
			if time.Since(polled) > time.Second {
				polled = time.Now()
				if asked, err := r.c.store.cancelAsked(ctx, r.rec.ID); err == nil && asked {
					return ErrCancelled
				}
			}
		case <-deadline:
			return fmt.Errorf("%w: %d of %d tasks are done after %s", ErrDeadline, r.board.done, len(r.board.tasks), r.rec.Options.Deadline)
		case <-stop.Done():
			return ErrCancelled
		}
	}
}

// finished says that every task has a result and no check is open.
func (r *run) finished() bool {
	return r.board.left() == 0 && len(r.active) == 0 && len(r.fetching) == 0
}

// maxGather bounds the messages of one step.
const maxGather = 128

// step does what time and the messages since the last one made possible. What
// it writes down stands before anything is sent or told.
func (r *run) step(ctx context.Context, first any) {
	r.store = r.c.store.gathered()
	if first != nil {
		r.handle(ctx, first)
	}
	// Take what else has come: one deal, and one commit, for many results.
	for n := 0; n < maxGather && r.fatal == nil; n++ {
		select {
		case m := <-r.inbox:
			r.handle(ctx, m)
			continue
		default:
		}
		break
	}
	now := time.Now()
	r.overdue(ctx, now)
	r.hand(ctx, now)
	r.pay(ctx, now, false)
	r.provide(now)
	r.watchBudget()
	if r.commit(ctx); r.fatal == nil {
		r.store = r.c.store
	}
}

// commit writes down what was gathered, and tells of it.
func (r *run) commit(ctx context.Context) {
	if err := r.store.commit(ctx); err != nil {
		r.stop(err)
		return
	}
	if r.wrote {
		r.wrote = false
		fault.Point("client/receipt-written")
	}
	for _, e := range r.news {
		r.watch(e)
	}
	r.news = r.news[:0]
}

func (r *run) handle(ctx context.Context, m any) {
	now := time.Now()
	switch m := m.(type) {
	case linkUp:
		r.onUp(ctx, m, now)
	case linkDown:
		r.onDown(m, now)
	case linkReceipt:
		r.onReceipt(ctx, m, now)
	case linkFailed:
		r.onFailed(ctx, m, now)
	case linkWaiting:
		if st := r.stations[m.lease]; st != nil && st.waiting.IsZero() {
			st.waiting = now
		}
	case linkRelease:
		r.onRelease(ctx, m)
	case linkEnding:
		if st := r.stations[m.lease]; st != nil {
			st.over = true
		}
		r.onEnding(ctx, m.lease, m.reason, "", now)
	case linkBlocked:
		r.onEnding(ctx, m.lease, m.reason, m.detail, now)
	case fetched:
		r.onFetched(ctx, m, now)
	case tested:
		r.onTested(ctx, m, now)
	case leased:
		r.onLeased(ctx, m, now)
	case raised:
		r.onRaised(ctx, m)
	case notice:
		r.emit(m.Event)
	case step:
		r.note(ctx, m)
	}
}

// notice is an event from a goroutine beside the loop: watchers hear one at a
// time.
type notice struct{ Event }

// stop marks the job as failed for good.
func (r *run) stop(err error) {
	if r.fatal == nil && err != nil {
		r.fatal = err
	}
}

// mayTake says whether a lease can be given one more task.
func (r *run) mayTake(id fallow.LeaseID) bool {
	st := r.stations[id]
	if st == nil || !st.up || st.shut || st.gone || !st.waiting.IsZero() {
		return false
	}
	if most := int(r.rec.Options.Slots); most > 0 && r.out() >= most {
		return false
	}
	return r.purse.may(id)
}

// out is how many attempts are out.
func (r *run) out() (n int) {
	for _, a := range r.purse.accounts {
		n += a.out
	}
	return n
}

// hand gives tasks to free slots: written down, then sent.
func (r *run) hand(ctx context.Context, now time.Time) {
	list := r.dealOut(now)
	if len(list) == 0 {
		return
	}
	if err := r.store.addAttempts(ctx, r.rec.ID, list); err != nil {
		r.stop(err)
		return
	}
	for _, a := range list {
		if r.spans != nil {
			r.follow(ctx, a)
		}
		r.past[a.attemptID] = &past{attemptID: a.attemptID, job: r.rec.ID, kind: a.kind, state: attemptOut}
		if !a.kind.counts() {
			if c := r.active[a.task]; c != nil {
				r.onIssued(ctx, c, a, now)
			}
		}
	}
	if r.commit(ctx); r.fatal != nil {
		return
	}
	for _, a := range list {
		st := r.stations[a.lease]
		st.link.send(r.message(a.attemptID))
		// Watchers of a task's second run would give it away only to
		// themselves; a provider is told nothing.
		r.emit(TaskIssued{Task: a.task, Label: r.label(a.task), Attempt: a.attempt, Lease: a.lease, Provider: st.lease.offer.Provider, Kind: a.kind})
	}
}

// dealOut counts each attempt against its lease's reserve as it goes.
func (r *run) dealOut(now time.Time) []*attempt {
	r.board.taken = func(id fallow.LeaseID) { r.purse.accounts[id].out++ }
	return r.board.deal(now)
}

func (r *run) label(task uint32) string { return r.rec.Options.label(task) }

// returned takes an attempt off its lease's reserve.
func (r *run) returned(id fallow.LeaseID) {
	if a := r.purse.accounts[id]; a != nil && a.out > 0 {
		a.out--
	}
}

// task is the task as a receipt must name it.
func (r *run) task(id attemptID) receipt.Task {
	w := r.rec.workload
	t := w.Tasks[id.task]
	seed := spec.Seed(r.rec.Workload, id.task)
	out := receipt.Task{
		Task: id.task, Workload: r.rec.Workload, Module: w.Module.Digest, Args: t.Args, Env: t.Env,
		Limits: receipt.Limits{
			Gas: w.Limits.Gas, Memory: w.Limits.MemoryBytes, Output: w.Limits.OutputBytes,
			Scratch: w.Limits.ScratchBytes, StackDepth: w.Limits.StackDepth,
		},
		Profile: w.Profile, Seed: seed[:],
	}
	if t.HasStdin() {
		out.Stdin = &t.Stdin.Digest
	}
	for _, in := range t.Inputs {
		out.Files = append(out.Files, receipt.File{Path: in.Path, Blob: market.Blob{Digest: in.Blob.Digest, Size: in.Blob.Size}})
	}
	return out
}

// moves makes the transfers of one peer.
func (c *Client) moves(p Peer) *blob.Transfer {
	return &blob.Transfer{Store: c.blobs, Client: p.BulkClient()}
}
