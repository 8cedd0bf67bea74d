package settle

import (
	"slices"

	"fallow.network"
	"fallow.network/market"
)

// never is later than any block.
const never fallow.Time = 1 << 62

// accrues says whether a service costs its rate now.
func (l *Lease) accrues() bool { return l.State == Running && l.Deadline == 0 }

// perMS is a price a second for one millisecond; terms have whole ones.
func perMS(rate fallow.Pico) (fallow.Pico, error) { return rate.MulDiv(1, 1000) }

// rate is what all services that accrue cost a millisecond.
func (e *escrow) rate() (fallow.Pico, error) {
	var sum fallow.Pico
	for _, l := range e.services {
		if !l.accrues() {
			continue
		}
		ms, err := perMS(l.Rate)
		if err != nil {
			return sum, err
		}
		if sum, err = sum.Add(ms); err != nil {
			return sum, err
		}
	}
	return sum, nil
}

// dry is the first moment at which free escrow no longer covers a millisecond
// of what accrues; never when nothing does.
func (e *escrow) dry() (fallow.Time, error) {
	rate, err := e.rate()
	if err != nil || rate.IsZero() {
		return never, err
	}
	ms, err := e.Free.Div(rate)
	if err != nil || ms > uint64(never) {
		return never, nil //nolint:nilerr // a quotient above 64 bits is further away than any block
	}
	return min(never, e.Advanced+fallow.Time(ms)), nil
}

// next is the account's next event after the moment that it stands at, or
// before it when the account is behind: the end of a claim window, of a
// service's window or horizon, or running dry.
func (t *tx) next(e *escrow) (fallow.Time, error) {
	first, err := e.dry()
	if err != nil {
		return 0, err
	}
	for _, l := range e.services {
		if l.Deadline > 0 {
			first = min(first, l.Deadline)
		}
		if l.accrues() {
			first = min(first, l.Horizon)
		}
	}
	claim, _, err := t.firstClaim(e)
	return min(first, claim), err
}

// firstClaim is the claim window of an account's leases that ends first.
func (t *tx) firstClaim(e *escrow) (fallow.Time, fallow.LeaseID, error) {
	ends, id := never, fallow.LeaseID(0)
	if e.Open == uint64(len(e.services)) {
		return ends, id, nil // no batches
	}
	prefix := withAccount(key(atClaim), e.Owner)
	start := prefix
	if e.fired != nil {
		start = e.fired // what stood before is gone: a scan would pass it again
	}
	err := t.o.Scan(start, afterPrefix(prefix), func(k, _ []byte) bool {
		ends = fallow.Time(numberAt(k, len(prefix)))
		id = fallow.LeaseID(lastNumber(k))
		return false
	})
	return ends, id, err
}

// advance computes an account to a moment, event by event, each at its own
// time. It stops early once *events are used up, and then says that it is not
// done; what is left goes on from there.
func (t *tx) advance(e *escrow, to fallow.Time, events *int) (bool, error) {
	e.moved = true
	for *events > 0 {
		done, err := t.fire(e, events)
		if err != nil || !done {
			return false, err
		}
		if e.Advanced >= to {
			return true, nil
		}
		next, err := t.next(e)
		if err != nil {
			return false, err
		}
		if err := e.accrue(max(e.Advanced, min(next, to))); err != nil {
			return false, err
		}
		*events--
	}
	return false, nil
}

// accrue moves what services cost until a moment before which nothing happens.
func (e *escrow) accrue(to fallow.Time) error {
	ms := uint64(to - e.Advanced)
	for _, l := range e.services {
		price, from := l.Rate, &e.Free
		switch {
		case l.State == Paused:
			price, from = l.DiskRate, &e.Reserved
		case !l.accrues():
			continue
		}
		cost, err := perMS(price)
		if err != nil {
			return err
		}
		if cost, err = cost.Mul(ms); err != nil {
			return err
		}
		if err := take(from, cost); err != nil {
			return err
		}
		if err := add(&l.Claimed, cost); err != nil {
			return err
		}
		if l.State == Paused {
			if err := add(&l.DiskUsed, cost); err != nil {
				return err
			}
		}
	}
	e.Advanced = to
	return nil
}

// fire does what is due at the moment that an account stands at. It is not
// done when claim windows that ended together are more than *events.
func (t *tx) fire(e *escrow, events *int) (bool, error) {
	for {
		ends, id, err := t.firstClaim(e)
		if err != nil {
			return false, err
		}
		if ends > e.Advanced {
			break
		}
		if *events <= 0 {
			return false, nil
		}
		*events--
		l, err := t.stored(id)
		if err != nil {
			return false, err
		}
		if err := t.finish(e, &l); err != nil {
			return false, err
		}
		e.fired = timedKey(atClaim, e.Owner, ends, id+1)
	}
	for _, l := range slices.Clone(e.services) {
		if err := t.fireService(e, l); err != nil {
			return false, err
		}
	}
	if err := t.resume(e); err != nil {
		return false, err
	}
	return true, t.pause(e)
}

func (t *tx) fireService(e *escrow, l *Lease) error {
	switch {
	case l.accrues() && l.Horizon <= e.Advanced:
		l.Deadline = e.Advanced + fallow.Time(l.GraceMS)
		return nil
	case l.Deadline == 0 || l.Deadline > e.Advanced:
		return nil
	}
	switch l.State {
	case Open:
		l.Reason = fallow.ReasonNeverStarted
	case Paused:
		l.Reason = fallow.ReasonDry
	case Running:
		l.Reason = fallow.ReasonHorizonPassed
	case Closing, Closed:
		return nil
	}
	l.ClosedBy = ClosedByLedger
	return t.finish(e, l)
}

// resume starts all paused services again once free escrow refills what their
// disks took of the deposits and covers a second of everything: less would
// only flap. Between events that can't become true by itself.
func (t *tx) resume(e *escrow) error {
	var refill fallow.Pico
	var paused []*Lease
	need, err := e.rate()
	if err != nil {
		return err
	}
	if need, err = need.Mul(1000); err != nil {
		return err
	}
	for _, l := range e.services {
		if l.State != Paused {
			continue
		}
		paused = append(paused, l)
		if err := add(&need, l.Rate); err != nil {
			return err
		}
		if err := add(&refill, l.DiskUsed); err != nil {
			return err
		}
	}
	if len(paused) == 0 {
		return nil
	}
	if err := add(&need, refill); err != nil {
		return err
	}
	if e.Free.Cmp(need) < 0 {
		return nil
	}
	if err := take(&e.Free, refill); err != nil {
		return err
	}
	if err := add(&e.Reserved, refill); err != nil {
		return err
	}
	for _, l := range paused {
		l.State, l.DiskUsed, l.Deadline = Running, fallow.Pico{}, 0
		if l.Horizon <= e.Advanced {
			l.Deadline = e.Advanced + fallow.Time(l.GraceMS)
		}
		t.changed(l)
	}
	return nil
}

// pause stops all services that accrue when free escrow doesn't cover another
// millisecond of them.
func (t *tx) pause(e *escrow) error {
	rate, err := e.rate()
	if err != nil || rate.IsZero() || e.Free.Cmp(rate) >= 0 {
		return err
	}
	for _, l := range e.services {
		if !l.accrues() || l.Rate.IsZero() {
			continue
		}
		l.State, l.Deadline = Paused, e.Advanced+fallow.Time(l.GraceMS)
		t.changed(l)
	}
	return nil
}

func (t *tx) changed(l *Lease) {
	t.emit(Changed{Lease: l.ID, Tenant: l.Tenant, Provider: l.Provider, State: l.State, Reason: l.Reason})
}

// finish closes a lease whose reason stands, at the moment that its account
// stands at: what a service accrued goes to the provider in whole ucredit, all
// else that the lease held is free again.
func (t *tx) finish(e *escrow, l *Lease) error {
	held := l.holds().Pico()
	if l.Kind == market.KindService {
		if err := take(&held, l.DiskUsed); err != nil {
			return err
		}
		if _, err := t.payAccrued(e, l); err != nil {
			return err
		}
		rest, err := l.Claimed.Sub(l.Paid.Pico())
		if err != nil {
			return err
		}
		if err := add(&e.Free, rest); err != nil {
			return err
		}
	}
	if err := take(&e.Reserved, held); err != nil {
		return err
	}
	if err := add(&e.Free, held); err != nil {
		return err
	}
	if err := t.hold(l.Provider, 0, l.holds()); err != nil {
		return err
	}
	e.giveBack(l, min(l.Granted, l.Paid))
	if err := t.unindex(e, l); err != nil {
		return err
	}
	e.Open--
	l.State, l.Deadline = Closed, 0
	t.changed(l)
	return t.saveLease(*l)
}

// unindex takes a lease that closes out of all that lists open ones.
func (t *tx) unindex(e *escrow, l *Lease) error {
	keys := [][]byte{
		indexKey(atTenantOpen, l.Tenant, l.ID),
		indexKey(atProviderOpen, l.Provider, l.ID),
	}
	switch {
	case l.Kind == market.KindService:
		keys = append(keys, indexKey(atService, l.Tenant, l.ID))
		e.services = slices.DeleteFunc(e.services, func(s *Lease) bool { return s.ID == l.ID })
		if l.State == Open {
			keys = append(keys, timedKey(atEnd, l.Provider, l.Deadline, l.ID))
		}
	case l.State == Closing:
		keys = append(keys,
			timedKey(atClaim, l.Tenant, l.Deadline, l.ID),
			timedKey(atEnd, l.Provider, l.Deadline, l.ID))
	}
	for _, k := range keys {
		if err := t.o.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

// requeue tells the queue when the account has its next event.
func (t *tx) requeue(e *escrow) error {
	next, err := t.next(e)
	if err != nil {
		return err
	}
	if next == never {
		next = 0
	}
	if next == e.Queued {
		return nil
	}
	if e.Queued > 0 {
		if err := t.o.Delete(queueKey(atQueue, e.Queued, e.Owner)); err != nil {
			return err
		}
	}
	e.Queued = next
	if next == 0 {
		return nil
	}
	return t.o.Set(queueKey(atQueue, next, e.Owner), mark)
}
