package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	"fallow.network"
	marketv1 "fallow.network/api/market"
	nodev1 "fallow.network/api/node"
	"fallow.network/blob"
	"fallow.network/market"
	"fallow.network/spec"
	"fallow.network/wire"
)

// LeaseWish says what standing leases are wanted: capacity that jobs run on
// later, with no asking and no waiting for a block.
type LeaseWish struct {
	// Leases is how many, each with another provider; 0 means 1.
	Leases int
	// Slots of each, at most; 0 means 1.
	Slots uint32
	// Reserve of each, in ucredit.
	Reserve fallow.Credits
	// Limits bound the tasks that will come; zero fields mean a job file's
	// defaults.
	Limits    spec.Limits
	Placement market.Placement
	// For is how long it is wanted, for the provider's planning; 0 means 1 h.
	For time.Duration
}

// StandingLease is a lease that belongs to no job.
type StandingLease struct {
	ID       fallow.LeaseID `json:"id"`
	Provider fallow.Account `json:"provider"`
	NodeKey  fallow.Key     `json:"node_key"`
	Region   string         `json:"region"`
	State    string         `json:"state"`
	Slots    uint32         `json:"slots"`
	GasPrice fallow.Pico    `json:"gas_price"` // for 1,000,000 gas
	TaskFee  fallow.Pico    `json:"task_fee"`
	Reserve  fallow.Credits `json:"reserve_ucredit"`
	// Paid is what vouchers say so far, Tasks how many receipts they pay.
	Paid   fallow.Pico   `json:"paid"`
	Tasks  uint32        `json:"tasks"`
	Opened time.Time     `json:"opened"`
	Reason fallow.Reason `json:"reason"`
}

func (w *LeaseWish) fill() error {
	set(&w.Leases, 1)
	set(&w.Slots, 1)
	set(&w.For, time.Hour)
	l := &w.Limits
	set(&l.Gas, 1_000_000_000_000)
	set(&l.MemoryBytes, 256<<20)
	set(&l.OutputBytes, 64<<20)
	set(&l.ScratchBytes, 256<<20)
	set(&l.StackDepth, spec.DefaultStackDepth)
	set(&l.WallMillis, 600_000)
	switch {
	case w.Reserve == 0:
		return errors.New("a standing lease needs a reserve: name one with --reserve, as 0.10")
	case w.Leases < 1 || w.Leases > 100:
		return fmt.Errorf("%d leases: want 1 to 100", w.Leases)
	case w.For < time.Second || w.For > math.MaxInt32*time.Second:
		return fmt.Errorf("a lease for %s: want at least 1s", w.For)
	}
	if err := spec.CheckLimits(*l); err != nil {
		return err
	}
	return w.Placement.Check()
}

// OpenLeases opens standing leases. They stay until CloseLeases, or until
// their provider ends them for want of work.
func (c *Client) OpenLeases(ctx context.Context, w LeaseWish, watch Events) ([]StandingLease, error) {
	if err := w.fill(); err != nil {
		return nil, err
	}
	emit, stop := relay(watch)
	defer stop()
	var escrow Escrow
	err := c.patient(ctx, emit, func() (err error) {
		escrow, err = c.books.Escrow(ctx, c.config.Tenant)
		return err
	})
	if err != nil {
		return nil, err
	}
	all, err := w.Reserve.Pico().Mul(uint64(w.Leases))
	if err != nil || all.Cmp(escrow.Free) > 0 {
		have, _ := escrow.Free.Floor()
		need, _ := all.Ceil()
		return nil, &BudgetError{Have: have, Escrow: true, Need: need, From: "the reserves asked for"}
	}
	var salt [32]byte
	if _, err := rand.Read(salt[:]); err != nil {
		return nil, fmt.Errorf("draw a salt: %w", err)
	}
	q := question{
		workload: spec.Workload{Class: fallow.ClassWASM, Profile: spec.ProfileWASM, Limits: w.Limits},
		commit:   spec.Commitment(salt, fallow.Digest{}), tasks: 1, slots: w.Slots, placement: w.Placement,
		seconds: uint32(w.For / time.Second), at: market.Block{Height: escrow.Height, Time: escrow.Time},
	}
	a := c.ask(ctx, q, emit)
	if a.peer != nil {
		defer func() { _ = a.peer.Close() }()
	}
	c.standings(ctx, &a)
	for _, d := range a.declines {
		emit(Declined{Provider: d.provider, Reason: d.reason, Detail: d.detail})
	}
	if len(a.offers) == 0 {
		return nil, a.noOffers()
	}
	wish := wish{tasks: 1, gas: 1_000_000_000, slots: math.MaxInt32, leases: w.Leases, spread: math.MaxUint64}
	c.rank(ctx, a.offers, wish, nil)
	var picks []pick
	for _, o := range byScore(a.offers) {
		t := o.offer.Terms
		emit(OfferSeen{
			Provider: o.offer.Provider, NodeKey: o.offer.NodeKey, Region: o.answer.Region, GasPrice: t.GasPrice, TaskFee: t.TaskFee,
			Slots: t.Slots, Score: o.score, Latency: o.latency,
		})
		if len(picks) < w.Leases {
			picks = append(picks, pick{o, min(w.Reserve, t.MaxReserve)})
		}
	}
	list, err := c.open(ctx, "", picks, emit)
	if err != nil {
		return nil, err
	}
	var out []StandingLease
	for _, l := range list {
		if l.id == 0 {
			emit(LeaseSkipped{Provider: l.offer.Provider, Reason: l.reason})
			continue
		}
		emit(LeaseOpened{Lease: l.id, Provider: l.offer.Provider, NodeKey: l.offer.NodeKey, Reserve: l.reserve, Slots: l.offer.Terms.Slots})
		out = append(out, l.standing(voucher{}))
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("the ledger opened no lease: %s", list[0].reason.Text())
	}
	return out, nil
}

func (l lease) standing(v voucher) StandingLease {
	t := l.offer.Terms
	return StandingLease{
		ID: l.id, Provider: l.offer.Provider, NodeKey: l.offer.NodeKey, Region: l.region, State: l.state, Slots: t.Slots,
		GasPrice: t.GasPrice, TaskFee: t.TaskFee, Reserve: l.reserve, Paid: v.Amount, Tasks: v.Receipts, Opened: l.opened, Reason: l.reason,
	}
}

// StandingLeases lists the standing leases of this home, open ones alone or
// all that there were. What the ledger has closed meanwhile is told as closed.
func (c *Client) StandingLeases(ctx context.Context, all bool) ([]StandingLease, error) {
	list, err := c.store.leasesOf(ctx, "")
	if err != nil {
		return nil, err
	}
	there := map[fallow.LeaseID]bool{}
	asked := false
	if on, err := c.books.Leases(ctx, c.config.Tenant); err == nil {
		asked = true
		for _, l := range on {
			there[l.ID] = !l.Closing
		}
	}
	var out []StandingLease
	for _, l := range list {
		if l.id == 0 {
			continue
		}
		if asked && !there[l.id] && l.state != leaseClosed {
			l.state = leaseClosed
			if err := c.store.endLease(ctx, l.id, leaseClosed, fallow.ReasonLeaseClosed, time.Now()); err != nil {
				return nil, err
			}
		}
		if l.state == leaseClosed && !all {
			continue
		}
		v, err := c.store.voucher(ctx, l.id)
		if err != nil {
			return nil, err
		}
		out = append(out, l.standing(v))
	}
	return out, nil
}

// CloseLeases pays what is owed on standing leases and closes them.
func (c *Client) CloseLeases(ctx context.Context, ids []fallow.LeaseID, watch Events) error {
	emit, stop := relay(watch)
	defer stop()
	var list []lease
	for _, id := range ids {
		l, err := c.store.lease(ctx, id)
		if err != nil {
			return err
		}
		if l.job != "" {
			return fmt.Errorf("lease %d belongs to job %s; stop it with: fallow job cancel %s", id, l.job, l.job)
		}
		unlock, err := c.lock(lockOf(id))
		if err != nil {
			return err
		}
		defer unlock()
		if l.state == leaseClosed {
			continue
		}
		c.sayFinish(ctx, &l)
		list = append(list, l)
	}
	return c.closeLeases(ctx, "", list, fallow.ReasonCompleted, false, emit)
}

func lockOf(id fallow.LeaseID) string { return fmt.Sprintf("lease-%d", id) }

// sayFinish brings the last voucher to a provider and asks for its release. A
// provider that is away has its voucher from before, and claims it.
func (c *Client) sayFinish(ctx context.Context, l *lease) {
	ctx, cancel := context.WithTimeout(ctx, releaseWait)
	defer cancel()
	warn := func(err error) {
		c.log.InfoContext(ctx, "a provider could not be told that its lease ends", slog.Uint64("lease", uint64(l.id)), slog.Any("error", err))
	}
	session, err := c.identity.Session(l.nonce)
	if err != nil {
		warn(err)
		return
	}
	peer, err := c.network.Join(ctx, session)
	if err != nil {
		warn(err)
		return
	}
	defer func() { _ = peer.Close() }()
	v, err := c.store.voucher(ctx, l.id)
	if err != nil {
		warn(err)
		return
	}
	inbox := make(chan any)
	work := newGroup(ctx)
	defer work.wait()
	defer cancel()
	have := func() []uint32 { // so that it sends none of them again
		list, err := c.store.tasksHad(ctx, l.id)
		if err != nil {
			warn(err)
		}
		return list
	}
	k := newLink(c, *l, peer, &blob.Transfer{Store: c.blobs, Client: peer.BulkClient()}, nil, have, func(m any) {
		select {
		case inbox <- m:
		case <-ctx.Done():
		}
	})
	work.run(k.run)
	for {
		select {
		case <-ctx.Done():
			warn(ctx.Err())
			return
		case m := <-inbox:
			switch m := m.(type) {
			case linkUp:
				if len(v.signed.Message) > 0 {
					k.send(&nodev1.WorkRequest{Voucher: &marketv1.Signed{Message: v.signed.Message, Signature: v.signed.Signature}})
				}
				k.send(&nodev1.WorkRequest{Finish: true})
			case linkRelease:
				if _, err := wire.OpenRelease(c.config.ChainID, l.offer.NodeKey, m.signed); err != nil {
					warn(err)
					return
				}
				l.release = m.signed
				if err := c.store.setRelease(ctx, l.id, m.signed); err != nil {
					warn(err)
				}
				return
			case linkEnding:
				return
			}
		}
	}
}

// relay hands events of many goroutines to a watcher one at a time.
func relay(watch Events) (emit func(Event), stop func()) {
	events := make(chan Event, 64)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for e := range events {
			if watch != nil {
				watch(e)
			}
		}
	}()
	return func(e Event) { events <- e }, func() {
		close(events)
		<-done
	}
}

// Cancel stops a job: what was done is paid and leases are closed. A job that
// another process runs is told so, and waited for.
func (c *Client) Cancel(ctx context.Context, id JobID, watch Events) (*Bill, error) {
	j, err := c.store.job(ctx, id)
	if err != nil {
		return nil, err
	}
	if j.State.Ended() {
		return c.bill(ctx, j)
	}
	if err := c.store.askCancel(ctx, id); err != nil {
		return nil, err
	}
	for {
		stopped, cancel := context.WithCancel(ctx)
		cancel()
		bill, err := c.Run(stopped, id, watch)
		if !errors.Is(err, ErrRunning) {
			if errors.Is(err, ErrCancelled) {
				err = nil
			}
			return bill, err
		}
		if j, err = c.store.job(ctx, id); err != nil || j.State.Ended() {
			return bill, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}
