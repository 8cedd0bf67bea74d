package provider

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"fallow.network"
	marketv1 "fallow.network/api/market"
	nodev1 "fallow.network/api/node"
	"fallow.network/blob"
	"fallow.network/fault"
	"fallow.network/receipt"
	"fallow.network/settle"
	"fallow.network/wire"
)

// Bounds of what waits under one lease.
const (
	maxPending      = 4096
	maxPendingBytes = 64 << 20
)

// lease is a lease as it runs here. What is in it stands in the journal too,
// or comes again from the tenant or the ledger.
type lease struct {
	offer   fallow.Digest
	tenant  fallow.Account
	session fallow.Key
	opened  time.Time

	mu sync.Mutex
	tab
	halting int                    // work that ends is being waited for
	blobs   map[fallow.Digest]bool // that the tenant may read
	pinned  map[fallow.Digest]bool
	put     uint64                   // bytes that it has put and is putting
	putting map[fallow.Digest]uint64 // bytes of what is not whole yet

	tasks        map[attempt]*task
	pending      []*task
	pendingBytes int
	running      int
	done         done // attempts that have receipts
	seq          uint32
	gas          fallow.Gas
	link         *link
	told         bool // that work waits for a voucher

	box   Sandbox
	boxMu sync.Mutex // held while the sandbox starts or ends

	words sync.Mutex // held, before mu, while a voucher is taken or the reserve released

	wg sync.WaitGroup // of tasks that run
}

// task is one attempt that has no receipt yet.
type task struct {
	at      attempt
	job     receipt.Task
	wall    time.Duration
	input   fallow.Digest
	size    int
	missing map[fallow.Digest]*marketv1.Blob
	running bool
	cancel  context.CancelCauseFunc
	parent  string    // the tenant's span, as it says; only where this provider traces
	came    time.Time // likewise
}

// errUnknownOffer is a lease whose terms nobody here knows.
var errUnknownOffer = errors.New("no such offer was made from this home")

// newLease makes the running side of a journal's lease.
func newLease(r record, o offered, now time.Time) *lease {
	l := &lease{
		offer: r.offer, tenant: r.tenant, session: r.session, opened: r.opened,
		tasks: map[attempt]*task{}, blobs: map[fallow.Digest]bool{}, putting: map[fallow.Digest]uint64{}, pinned: map[fallow.Digest]bool{},
		tab: tab{id: r.id, terms: o.offer.Terms, voucher: r.voucher, paid: r.amount, vouched: r.receipts, redeemed: r.redeemed, lastWord: now},
	}
	if r.amount.Cmp(r.redeemed) > 0 {
		// How much of the claim window passed while this daemon was away is
		// not known: what it holds is due at once.
		l.since = time.UnixMilli(0)
	}
	l.over = r.over
	return l
}

func (l *lease) claim() claim {
	return claim{tenant: l.tenant, slot: l.terms.Slot, slots: l.terms.Slots, reserve: l.terms.MaxReserve}
}

// adopt takes a lease of the ledger into the book, the journal and the
// running state. A second time it only learns what the ledger knows.
func (d *Daemon) adopt(ctx context.Context, on settle.Lease) (*lease, error) {
	d.mu.Lock()
	l := d.leases[on.ID]
	d.mu.Unlock()
	if l != nil {
		return l, nil
	}
	o, ok, err := d.journal.offerOf(ctx, on.Offer)
	if err != nil {
		return nil, fmt.Errorf("lease %d: %w", on.ID, err)
	}
	if !ok {
		return nil, fmt.Errorf("lease %d was opened by an offer that this journal does not hold: %w", on.ID, errUnknownOffer)
	}
	r := record{id: on.ID, offer: on.Offer, tenant: on.Tenant, session: on.SessionKey, opened: time.UnixMilli(int64(on.Opened.Time)), redeemed: on.Claimed}
	fault.Point("provider/lease-seen")
	if err := d.journal.addLease(ctx, r); err != nil {
		return nil, fmt.Errorf("lease %d: %w", on.ID, err)
	}
	l = newLease(r, o, d.now())
	l.learn(on)
	d.mu.Lock()
	if other := d.leases[on.ID]; other != nil {
		d.mu.Unlock()
		return other, nil
	}
	d.leases[on.ID], d.order = l, nil
	d.capacity.lease(l.id, l.offer, l.claim())
	d.mu.Unlock()
	wake(d.compare) // what it holds of the bond counts from now on
	d.metrics.leases.Inc()
	d.log.InfoContext(ctx, "lease is ready", slog.Uint64("lease", uint64(l.id)), slog.String("tenant", string(l.tenant)), slog.Uint64("slots", uint64(l.terms.Slots)))
	return l, nil
}

// learn takes over what the ledger says of the lease.
func (l *lease) learn(on settle.Lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.funded = on.Reserve
	if on.Claimed.Cmp(l.redeemed) > 0 {
		l.redeemed = on.Claimed
	}
	if on.State == settle.Closing {
		l.closing = true
		l.deadline = time.UnixMilli(int64(on.Deadline))
	}
}

// resume brings back what the journal holds of the open leases.
func (d *Daemon) resume(ctx context.Context) error {
	held, err := d.journal.offersHeld(ctx)
	if err != nil {
		return fmt.Errorf("read the journal's offers: %w", err)
	}
	for _, o := range held {
		t := o.offer.Terms
		d.capacity.hold(o.id, claim{tenant: o.offer.Tenant, slot: t.Slot, slots: t.Slots, reserve: t.MaxReserve, lastHeight: o.offer.LastHeight, until: o.until})
	}
	records, err := d.journal.leasesOpen(ctx)
	if err != nil {
		return fmt.Errorf("read the journal's leases: %w", err)
	}
	for _, r := range records {
		o, ok, err := d.journal.offerOf(ctx, r.offer)
		if err != nil || !ok {
			return fmt.Errorf("journal: lease %d without its offer: %w", r.id, err)
		}
		l := newLease(r, o, d.now())
		if err := d.recall(ctx, l); err != nil {
			return fmt.Errorf("journal: lease %d: %w", r.id, err)
		}
		if l.over != "" {
			l.free()
		}
		d.leases[l.id], d.order = l, nil
		d.capacity.lease(l.id, l.offer, l.claim())
		d.log.InfoContext(ctx, "lease resumed from the journal", slog.Uint64("lease", uint64(l.id)),
			slog.Int("receipts", l.done.n), slog.Int("tasks", len(l.pending)))
	}
	return nil
}

// page is how many receipts are read from the journal at once.
const page = 256

// recall reads a lease's receipts and unfinished tasks.
func (d *Daemon) recall(ctx context.Context, l *lease) error {
	err := d.eachReceipt(ctx, l.id, func(s signed) error {
		l.done.add(s.at)
		l.seq = max(l.seq, s.seq+1)
		l.gas += s.gas
		v, err := wire.Receipt(s.receipt.Message)
		if err != nil {
			return err
		}
		for _, o := range v.Outputs {
			l.blobs[o.Digest] = true
		}
		l.charged, err = l.charged.Add(s.charge)
		return err
	})
	if err != nil {
		return err
	}
	list, err := d.journal.tasksOf(ctx, l.id)
	if err != nil {
		return err
	}
	for _, m := range list {
		t, fail := d.newTask(l, m)
		if fail != nil {
			continue // it was accepted by other bounds; the tenant asks again
		}
		l.tasks[t.at] = t
		l.pending = append(l.pending, t)
		l.pendingBytes += t.size
	}
	return nil
}

func (d *Daemon) eachReceipt(ctx context.Context, id fallow.LeaseID, visit func(signed) error) error {
	for from := uint32(0); ; {
		list, err := d.journal.receiptsOf(ctx, id, from, page)
		if err != nil {
			return err
		}
		for _, s := range list {
			if err := visit(s); err != nil {
				return err
			}
			from = s.seq + 1
		}
		if len(list) < page {
			return nil
		}
	}
}

// newTask checks a task's message and says which blobs are missing for it.
func (d *Daemon) newTask(l *lease, m *nodev1.Task) (*task, *Failure) {
	job, err := wire.Task(m)
	if err != nil {
		return nil, &Failure{fallow.ReasonMalformed, err.Error()}
	}
	if job.Limits.Memory > l.terms.Slot.Memory {
		return nil, &Failure{fallow.ReasonTooLarge, fmt.Sprintf("the task may use %d bytes of memory, and a slot of this lease has %d", job.Limits.Memory, l.terms.Slot.Memory)}
	}
	if most := d.slotDisk(l); job.Limits.Output > most || job.Limits.Scratch > most-job.Limits.Output {
		return nil, &Failure{fallow.ReasonTooLarge, fmt.Sprintf("the task may write %d bytes of output and %d of scratch, and a slot of this lease has %d", job.Limits.Output, job.Limits.Scratch, most)}
	}
	if no := l.tooDear(job.Limits.Gas); no != nil {
		return nil, &Failure{no.Reason, no.Detail}
	}
	t := &task{
		at: attempt{m.GetTask(), m.GetAttempt()}, job: job, input: receipt.InputDigest(job),
		wall: time.Duration(min(m.GetWallMs(), uint64(maxWall/time.Millisecond))) * time.Millisecond,
	}
	for _, s := range slices.Concat(job.Args, job.Env) {
		t.size += len(s)
	}
	t.size += 64 * (8 + len(job.Files))
	for _, wanted := range blobsOf(m) {
		b, err := wire.Blob(wanted)
		if err != nil {
			return nil, &Failure{fallow.ReasonMalformed, err.Error()}
		}
		if _, ok := d.deps.Blobs.Has(b.Digest); !ok {
			if t.missing == nil {
				t.missing = map[fallow.Digest]*marketv1.Blob{}
			}
			t.missing[b.Digest] = wanted
		}
	}
	return t, nil
}

// slotDisk is how many bytes a task of the lease may write: a slot's disk, or
// its part of what is lent where the demand named none.
func (d *Daemon) slotDisk(l *lease) uint64 {
	if l.terms.Slot.Disk > 0 {
		return l.terms.Slot.Disk
	}
	u := d.capacity.usage()
	return u.Lent.DiskBytes / uint64(max(u.Slots, 1))
}

// maxWall bounds the wall-clock limit of one task.
const maxWall = 7 * 24 * time.Hour

// stop ends all work of a lease for good, waits for it and frees its
// capacity. What it still owes or is owed goes on. last, which may be nil, is
// called with the lock held, once nothing runs and before anything is settled.
func (d *Daemon) stop(l *lease, why fallow.Reason, last func()) {
	l.mu.Lock()
	if l.over == "" {
		l.over = why
	}
	l.halting++
	l.mu.Unlock()
	d.halt(l, &Failure{why, why.Text()})
	d.capacity.end(l.id)
	l.mu.Lock()
	if l.halting--; last != nil {
		last()
	}
	l.mu.Unlock()
	d.wakeSettler()
}

// halt ends what runs and waits for it. The journal keeps the tasks, so that
// a daemon that merely ends runs them again.
func (d *Daemon) halt(l *lease, why error) {
	l.mu.Lock()
	for _, t := range l.tasks {
		if t.running {
			t.cancel(why)
		}
	}
	clear(l.tasks)
	l.pending, l.pendingBytes = nil, 0
	l.mu.Unlock()
	l.wg.Wait()
	l.boxMu.Lock()
	defer l.boxMu.Unlock()
	if l.box != nil {
		if err := l.box.Close(); err != nil {
			d.log.Warn("a sandbox did not close cleanly", slog.Uint64("lease", uint64(l.id)), slog.Any("error", err))
		}
		l.box = nil
	}
}

// forget takes a lease that has ended on the ledger out of everything.
func (d *Daemon) forget(ctx context.Context, l *lease, reason fallow.Reason) {
	d.stop(l, reason, nil)
	l.mu.Lock()
	if l.link != nil {
		l.link.end(reason)
		l.link = nil
	}
	l.mu.Unlock()
	if err := d.deps.Blobs.Unpin(blob.Holder(l.id)); err != nil {
		d.log.WarnContext(ctx, "blobs of an ended lease stay pinned", slog.Uint64("lease", uint64(l.id)), slog.Any("error", err))
	}
	if err := d.journal.endLease(ctx, l.id, reason, d.now()); err != nil {
		d.log.ErrorContext(ctx, "the end of a lease could not be written down", slog.Uint64("lease", uint64(l.id)), slog.Any("error", err))
		return
	}
	// The settler and the comparison with the ledger may both find its end: what
	// it leaves unpaid counts once.
	d.mu.Lock()
	here := d.leases[l.id] == l
	if here {
		delete(d.leases, l.id)
		d.order = nil
	}
	d.mu.Unlock()
	if !here {
		return
	}
	d.owes(ctx, l)
	d.capacity.end(l.id)
	d.metrics.ended.WithLabelValues(label(reason)).Inc()
	d.log.InfoContext(ctx, "lease ended", slog.Uint64("lease", uint64(l.id)), slog.String("reason", string(reason)))
	d.changed()
}

// all are the leases at hand, by number; the list is for reading. It is made
// anew when one comes or goes and not for each task, of which there are many
// more.
func (d *Daemon) all() []*lease {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.order == nil {
		d.order = make([]*lease, 0, len(d.leases))
		for _, l := range d.leases {
			d.order = append(d.order, l)
		}
		slices.SortFunc(d.order, func(a, b *lease) int { return int(int64(a.id) - int64(b.id)) })
	}
	return d.order
}
