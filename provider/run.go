package provider

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"fallow.network"
	marketv1 "fallow.network/api/market"
	nodev1 "fallow.network/api/node"
	"fallow.network/blob"
	"fallow.network/fault"
	"fallow.network/market"
	"fallow.network/receipt"
	"fallow.network/trace"
	"fallow.network/wire"
)

const (
	// maxInline is how many bytes of outputs go along with a receipt.
	maxInline = 16 << 10
	// startedAfter is how long a task runs before its tenant is told: of short
	// ones the receipt says it as soon.
	startedAfter = 20 * time.Millisecond
	// maxPaper is how many receipts of a lease may be on their way to the disk.
	maxPaper = 256
)

// blobsOf are a task's blobs: module, stdin and inputs.
func blobsOf(m *nodev1.Task) []*marketv1.Blob {
	list := []*marketv1.Blob{m.GetModule()}
	if m.GetStdin() != nil {
		list = append(list, m.GetStdin())
	}
	for _, in := range m.GetInputs() {
		list = append(list, in.GetBlob())
	}
	return list
}

// wants are the blobs that a task waits for.
func (t *task) wants() []*marketv1.Blob {
	list := make([]*marketv1.Blob, 0, len(t.missing))
	for _, b := range t.missing {
		list = append(list, b)
	}
	return list
}

// accept takes a task in: it runs once, however often it is asked.
func (d *Daemon) accept(ctx context.Context, l *lease, k *link, m *nodev1.Task, parent string) {
	fail := func(f *Failure) { k.send(failed(attempt{m.GetTask(), m.GetAttempt()}, f)) }
	t, no := d.newTask(l, m)
	if no != nil {
		fail(no)
		return
	}
	if d.deps.Trace.On() {
		t.parent, t.came = trace.Valid(ctx, parent), d.now()
	}
	_, draining, _ := d.gate.is()
	l.mu.Lock()
	done := l.done.has(t.at)
	had := l.tasks[t.at]
	switch {
	case had != nil && had.input != t.input:
		no = otherInputs(t.at)
	case done || had != nil:
		// Known: the receipt goes again, or the run goes on.
	case l.over != "":
		no = &Failure{l.over, "the lease takes no more work"}
	case draining:
		no = &Failure{fallow.ReasonDraining, fallow.ReasonDraining.Text()}
	case len(l.pending) >= maxPending || l.pendingBytes+t.size > maxPendingBytes:
		no = &Failure{fallow.ReasonNoCapacity, fmt.Sprintf("%d tasks wait here already", len(l.pending))}
	default:
		// Who brings a blob tells the tasks that wait: one that came since this
		// task was looked at has told nobody of it.
		for b := range t.missing {
			if _, ok := d.deps.Blobs.Has(b); ok {
				delete(t.missing, b)
			}
		}
		l.tasks[t.at] = t
		l.pending = append(l.pending, t)
		l.pendingBytes += t.size
	}
	wants := t.wants() // with the lock held: blobs arrive meanwhile
	l.mu.Unlock()
	switch {
	case no != nil:
		fail(no)
		return
	case done:
		s, err := d.journal.receiptOf(ctx, l.id, t.at)
		if err != nil {
			fail(&Failure{fallow.ReasonAborted, "the journal can't be read"})
			return
		}
		if s.input != t.input {
			fail(otherInputs(t.at))
			return
		}
		k.send(d.receiptMessage(ctx, l, s))
		return
	}
	k.want(wants)
	if had != nil {
		return
	}
	if err := d.journal.addTask(ctx, l.id, t.at, t.input, m); err != nil && ctx.Err() == nil {
		d.log.WarnContext(ctx, "a task was not written down; it runs, and a restart would not know it", slog.Uint64("lease", uint64(l.id)), slog.Any("error", err))
	}
	fault.Point("provider/task-written")
	inputs := make([]fallow.Digest, 0, 2+len(m.GetInputs()))
	for _, b := range blobsOf(m) {
		if dg, err := fallow.DigestFrom(b.GetDigest()); err == nil {
			inputs = append(inputs, dg)
		}
	}
	d.pin(l, inputs)
	d.pumpLease(l)
}

func otherInputs(at attempt) *Failure {
	return &Failure{fallow.ReasonMalformed, fmt.Sprintf("attempt %d of task %d was asked with other inputs before", at.attempt, at.task)}
}

func failed(at attempt, f *Failure) *nodev1.WorkResponse {
	return &nodev1.WorkResponse{Failed: &nodev1.TaskFailed{Task: at.task, Attempt: at.attempt, Reason: string(f.Reason), Detail: f.Detail}}
}

// cancel drops a task that has no receipt yet.
func (d *Daemon) cancel(ctx context.Context, l *lease, at attempt) {
	f := &Failure{fallow.ReasonCancelled, fallow.ReasonCancelled.Text()}
	l.mu.Lock()
	t := l.tasks[at]
	switch {
	case t == nil:
	case t.running:
		t.cancel(f) // it says so when it has ended
	default:
		delete(l.tasks, at)
		for i, p := range l.pending {
			if p == t {
				l.pending = append(l.pending[:i:i], l.pending[i+1:]...)
				l.pendingBytes -= t.size
				break
			}
		}
		if l.link != nil {
			l.link.send(failed(at, f))
		}
	}
	l.mu.Unlock()
	if t != nil && !t.running {
		if err := d.journal.dropTask(ctx, l.id, at); err != nil {
			d.log.DebugContext(ctx, "a cancelled task stays in the journal", slog.Any("error", err))
		}
	}
}

// arrived lets tasks go on that waited for a blob.
func (d *Daemon) arrived(b fallow.Digest) {
	fault.Point("provider/input-arrived")
	for _, l := range d.all() {
		l.mu.Lock()
		for _, t := range l.pending {
			delete(t.missing, b)
		}
		l.mu.Unlock()
	}
	d.pump()
}

// pump starts what can start, under every lease.
func (d *Daemon) pump() {
	for _, l := range d.all() {
		d.pumpLease(l)
	}
}

// pumpLease starts tasks of a lease while there are slots, blobs and credit.
func (d *Daemon) pumpLease(l *lease) {
	c, _ := d.config()
	if _, free := d.gate.tasks(c); !free || d.ending.Load() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.over == "" && len(l.pending) > 0 && l.running < int(l.terms.Slots)+maxPaper {
		at := -1
		for i, t := range l.pending {
			if len(t.missing) == 0 {
				at = i
				break
			}
		}
		if at < 0 {
			return
		}
		if l.waits() {
			if !l.told && l.link != nil {
				l.told = true
				l.link.send(&nodev1.WorkResponse{WaitingForVoucher: true})
			}
			return
		}
		if !d.capacity.start(l.id) {
			return
		}
		t := l.pending[at]
		l.pending = append(l.pending[:at:at], l.pending[at+1:]...)
		l.pendingBytes -= t.size
		t.running = true
		l.running++
		d.launch(l, t)
	}
}

// run runs one task to its receipt or its failure.
func (d *Daemon) run(ctx context.Context, l *lease, t *task) {
	started := d.now()
	say := time.AfterFunc(startedAfter, func() {
		l.say(&nodev1.WorkResponse{Started: &nodev1.TaskStarted{Task: t.at.task, Attempt: t.at.attempt}})
	})
	ctx, span := d.deps.Trace.Begin(trace.With(ctx, t.parent), "provider.task")
	d.inBoxes.Add(1)
	result, err := d.sandboxed(ctx, l, t)
	say.Stop()
	d.inBoxes.Add(-1)
	fault.Point("provider/run-ended")
	var charge fallow.Pico
	if err == nil {
		d.learnSpeed(result.Gas, d.now().Sub(started))
		charge, err = receipt.Charge(l.terms, result.Gas)
	}
	// The slot is free as soon as nothing runs in it; what is left is paper,
	// which counts as unpaid already.
	l.mu.Lock()
	l.unsigned = sum(l.unsigned, charge)
	l.mu.Unlock()
	d.capacity.stop(l.id)
	d.pumpLease(l)
	if err == nil {
		err = d.sign(ctx, l, t, result, charge, started)
	}
	if err != nil {
		d.failTask(ctx, l, t, err)
	}
	if d.deps.Trace.On() {
		d.tell(span, l, t, result, started, err)
	}
	l.mu.Lock()
	l.running--
	if left, err := l.unsigned.Sub(charge); err == nil {
		l.unsigned = left
	}
	l.mu.Unlock()
	d.pumpLease(l)
}

// tell ends a task's span: it began when the task did, and says how long the
// task had waited here.
func (d *Daemon) tell(span trace.Span, l *lease, t *task, r Result, started time.Time, err error) {
	span.Int("fallow.lease", int64(l.id)).Int("fallow.task", int64(t.at.task)).Int("fallow.attempt", int64(t.at.attempt)).Int("fallow.gas", int64(r.Gas))
	if !t.came.IsZero() {
		span.Int("fallow.waited_ms", started.Sub(t.came).Milliseconds())
	}
	var f *Failure
	if errors.As(err, &f) {
		span.End(f.Reason)
		return
	}
	span.Done(err)
}

// failTask says why a task has no result. One that ends with the daemon stays
// in the journal and runs again.
func (d *Daemon) failTask(ctx context.Context, l *lease, t *task, err error) {
	var f *Failure
	stopped := errors.As(context.Cause(ctx), &f)
	if ctx.Err() != nil && !stopped {
		return
	}
	if !stopped && !errors.As(err, &f) {
		d.log.WarnContext(ctx, "a task was aborted", slog.Uint64("lease", uint64(l.id)), slog.Uint64("task", uint64(t.at.task)), slog.Any("error", err))
		f = &Failure{fallow.ReasonAborted, "the sandbox broke off"}
		if errors.Is(err, blob.ErrFull) || diskFull(err) {
			f = &Failure{fallow.ReasonDiskFull, "no room for the outputs or the receipt"}
		}
	}
	d.metrics.failures.WithLabelValues(label(f.Reason)).Inc()
	l.mu.Lock()
	delete(l.tasks, t.at)
	l.mu.Unlock()
	if err := d.journal.dropTask(context.WithoutCancel(ctx), l.id, t.at); err != nil {
		d.log.DebugContext(ctx, "a failed task stays in the journal", slog.Any("error", err))
	}
	l.say(failed(t.at, f))
}

// sandboxed runs a task in the lease's sandbox, which the first one starts.
func (d *Daemon) sandboxed(ctx context.Context, l *lease, t *task) (Result, error) {
	l.boxMu.Lock()
	if l.box == nil {
		if err := ctx.Err(); err != nil {
			l.boxMu.Unlock()
			return Result{}, err
		}
		box, err := d.deps.Runner.Start(ctx, l.id, l.terms.Slots)
		if err != nil {
			l.boxMu.Unlock()
			return Result{}, fmt.Errorf("start the sandbox of lease %d: %w", l.id, err)
		}
		l.box = box
	}
	box := l.box
	l.boxMu.Unlock()
	result, err := box.Run(ctx, Job{Task: t.job, Wall: t.wall})
	var f *Failure
	if err != nil && !errors.As(err, &f) && ctx.Err() == nil {
		// It is of no more use: the next task starts another.
		l.boxMu.Lock()
		if l.box == box {
			l.box = nil
			err = errors.Join(err, box.Close())
		}
		l.boxMu.Unlock()
	}
	return result, err
}

// sign makes a result's receipt, writes it down and sends it.
func (d *Daemon) sign(ctx context.Context, l *lease, t *task, r Result, charge fallow.Pico, started time.Time) error {
	v := receipt.Receipt{
		Lease: l.id, Workload: t.job.Workload, Task: t.at.task, Attempt: t.at.attempt, Input: t.input,
		Gas: r.Gas, Outcome: r.Outcome, ExitCode: r.ExitCode, Trap: r.Trap, Profile: t.job.Profile,
		Started: fallow.Time(unixMS(started)), Ended: fallow.Time(unixMS(d.now())), Charge: charge,
	}
	var files []inline
	var stored []fallow.Digest
	for _, o := range r.Outputs {
		v.Outputs = append(v.Outputs, o.Output)
		if o.Small != nil || o.Size == 0 {
			if o.Size > 0 {
				files = append(files, inline{o.Digest, o.Small})
			}
		} else {
			stored = append(stored, o.Digest)
		}
	}
	v.Output = receipt.OutputDigest(v.Outputs)
	message, err := wire.EncodeReceipt(v)
	if err != nil {
		return fmt.Errorf("receipt of task %d: %w", t.at.task, err)
	}
	s := signed{
		at: t.at, input: t.input, charge: v.Charge, gas: r.Gas, ended: int64(v.Ended),
		receipt: wire.Sign(d.deps.NodeKey, market.SignsReceipt, d.deps.ChainID, message),
	}
	fault.Point("provider/receipt-signed")
	d.pin(l, stored)
	l.mu.Lock()
	s.seq = l.seq
	l.seq++
	l.mu.Unlock()
	if err := d.journal.addReceipt(ctx, l.id, s, files); err != nil {
		return err
	}
	fault.Point("provider/receipt-written")
	m := &nodev1.WorkResponse{Receipt: &nodev1.TaskReceipt{Receipt: wire.ToSigned(s.receipt), Inline: d.inlineOf(r.Outputs)}}
	l.mu.Lock()
	delete(l.tasks, t.at)
	l.done.add(t.at)
	l.gas += r.Gas
	for _, o := range v.Outputs {
		l.blobs[o.Digest] = true
	}
	l.charged = sum(l.charged, charge)
	if l.link != nil {
		l.link.send(m)
	}
	l.mu.Unlock()
	d.metrics.receipts.Inc()
	d.metrics.gas.Add(float64(r.Gas))
	return nil
}

// room says of each output, in order, whether its bytes go with the receipt.
// What does not is left empty there and fetched by digest.
type room struct{ used uint64 }

func (r *room) takes(size uint64) bool {
	if size > maxInline-r.used {
		return false
	}
	r.used += size
	return true
}

// inlineOf are the small outputs of a fresh result.
func (d *Daemon) inlineOf(outputs []Output) [][]byte {
	list := make([][]byte, len(outputs))
	var left room
	for i, o := range outputs {
		switch {
		case o.Size == 0 || !left.takes(o.Size):
		case o.Small != nil:
			list[i] = o.Small
		default:
			list[i] = d.read(o.Output)
		}
	}
	return list
}

// read is a small output out of the store, or nothing: it can be fetched.
func (d *Daemon) read(o receipt.Output) []byte {
	b, err := d.deps.Blobs.ReadAll(o.Digest, maxInline)
	if err != nil {
		d.log.Debug("a small output is not at hand", slog.String("digest", o.Digest.String()), slog.Any("error", err))
		return nil
	}
	return b
}

// receiptMessage is a receipt with its outputs, where they are small.
func (d *Daemon) receiptMessage(ctx context.Context, l *lease, s signed) *nodev1.WorkResponse {
	m := &nodev1.TaskReceipt{Receipt: wire.ToSigned(s.receipt)}
	v, err := wire.Receipt(s.receipt.Message)
	if err == nil {
		m.Inline = d.inlined(ctx, l.id, v)
	}
	return &nodev1.WorkResponse{Receipt: m}
}

// inlined are the small outputs of an earlier receipt.
func (d *Daemon) inlined(ctx context.Context, id fallow.LeaseID, v receipt.Receipt) [][]byte {
	list := make([][]byte, len(v.Outputs))
	var left room
	for i, o := range v.Outputs {
		if o.Size == 0 || !left.takes(o.Size) {
			continue
		}
		b, err := d.journal.inlineOf(ctx, id, o.Digest)
		if err != nil || b == nil {
			b = d.read(o)
		}
		list[i] = b
	}
	return list
}

// learnSpeed keeps a moving mean of gas a second; runs too short to time well
// say nothing.
func (d *Daemon) learnSpeed(gas fallow.Gas, took time.Duration) {
	if took < 50*time.Millisecond {
		return
	}
	v := uint64(float64(gas) / took.Seconds())
	old := d.gasSpeed.Load()
	if old > 0 {
		v = old - old/8 + v/8
	}
	d.gasSpeed.Store(v)
}

func (d *Daemon) speed() uint64 { return d.gasSpeed.Load() }
