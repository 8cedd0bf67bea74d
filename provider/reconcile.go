package provider

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"fallow.network"
	"fallow.network/settle"
)

const (
	// reconcileEvery is how often the ledger's leases are compared with what
	// runs, when nothing asks for it sooner.
	reconcileEvery = 5 * time.Second
	retryFirst     = 250 * time.Millisecond
	retryMost      = 15 * time.Second
	callTime       = 10 * time.Second
)

// head is the newest block seen, and when it was seen.
func (d *Daemon) head() (fallow.Height, time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.height, d.seen
}

// nextHead is closed when the next block is seen.
func (d *Daemon) nextHead() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.block
}

func (d *Daemon) standing() (Standing, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stand, d.stood
}

// follow learns of blocks until ctx ends; a ledger that is away is tried
// again, and meanwhile everything stays as it is.
func (d *Daemon) follow(ctx context.Context) {
	retry := retryFirst
	for ctx.Err() == nil {
		err := d.deps.Chain.Follow(ctx, func(height fallow.Height, _ fallow.Time) {
			retry = retryFirst
			d.mu.Lock()
			first := d.height == 0
			if height > d.height {
				d.height, d.seen = height, d.now()
				close(d.block)
				d.block = make(chan struct{})
			}
			d.mu.Unlock()
			if first || d.capacity.expiring(height) {
				wake(d.compare)
			}
		})
		if ctx.Err() != nil {
			return
		}
		d.log.WarnContext(ctx, "the ledger is away; leases go on, offers wait", slog.Any("error", err))
		if !sleep(ctx, retry) {
			return
		}
		retry = min(2*retry, retryMost)
	}
}

// wake leaves a token in a channel of one.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// reconcile compares the ledger with what runs until ctx ends.
func (d *Daemon) reconcile(ctx context.Context) {
	for {
		if err := d.reconcileOnce(ctx); err != nil && ctx.Err() == nil {
			d.log.DebugContext(ctx, "the ledger's leases could not be compared", slog.Any("error", err))
		}
		if _, seen := d.head(); d.now().Sub(seen) > staleHead {
			if err := d.endOffers(ctx, d.capacity.timeOut(d.now())); err != nil && ctx.Err() == nil {
				d.log.WarnContext(ctx, "the end of an offer could not be written down", slog.Any("error", err))
			}
		}
		t := time.NewTimer(reconcileEvery)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-d.compare:
		case <-t.C:
		}
		t.Stop()
	}
}

// reconcileOnce brings what runs in line with the ledger. Nothing is torn
// down because an answer is missing: only a lease that the ledger says is
// ending ends.
func (d *Daemon) reconcileOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	c, _ := d.config()
	// What is listed below is at least as new as this head, so that an offer
	// that ended by it has opened a lease by now or never will.
	height, _ := d.head()
	standing, err := d.deps.Books.Standing(ctx, c.Provider, d.node)
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.stand, d.stood = standing, true
	d.mu.Unlock()
	list, err := d.deps.Books.Leases(ctx, c.Provider)
	if err != nil {
		return err
	}
	listed := make(map[fallow.LeaseID]bool, len(list))
	for _, on := range list {
		if on.NodeKey != d.node {
			continue // another machine of this provider
		}
		listed[on.ID] = true
		d.align(ctx, on)
	}
	for _, l := range d.all() {
		if listed[l.id] {
			continue
		}
		on, err := d.deps.Books.Lease(ctx, l.id)
		if err == nil {
			d.align(ctx, on)
		} else if !errors.Is(err, ErrNoLease) {
			return err
		}
	}
	return d.endOffers(ctx, d.capacity.expire(height))
}

func (d *Daemon) endOffers(ctx context.Context, ended []fallow.Digest) error {
	if len(ended) == 0 {
		return nil
	}
	return d.journal.endOffers(ctx, ended)
}

// align makes one lease here what it is on the ledger.
func (d *Daemon) align(ctx context.Context, on settle.Lease) {
	d.mu.Lock()
	l := d.leases[on.ID]
	d.mu.Unlock()
	switch {
	case l == nil && on.State == settle.Open:
		_, err := d.adopt(ctx, on)
		switch {
		case errors.Is(err, errUnknownOffer):
			d.log.ErrorContext(ctx, "a lease can't be served and is given back", slog.Uint64("lease", uint64(on.ID)), slog.Any("error", err))
			d.orphan(on.ID)
		case err != nil:
			d.log.ErrorContext(ctx, "a lease could not be taken in", slog.Uint64("lease", uint64(on.ID)), slog.Any("error", err))
		}
	case l == nil:
		// It ended before this home knew of it.
	case on.State == settle.Closed:
		l.learn(on)
		d.forget(ctx, l, reasonOr(on.Reason, fallow.ReasonCompleted))
	case on.State == settle.Closing:
		l.learn(on)
		d.stop(l, reasonOr(on.Reason, fallow.ReasonCompleted), nil)
	default:
		l.learn(on)
		d.pumpLease(l)
	}
}

func reasonOr(r, or fallow.Reason) fallow.Reason {
	if r == "" {
		return or
	}
	return r
}
