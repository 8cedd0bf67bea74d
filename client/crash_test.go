package client

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"fallow.network"
	"fallow.network/formats"
)

var errCrash = errors.New("killed by the test")

// crashes runs a job whose client is killed at its n-th write, before or after
// it, and takes it up again, until it is done. It says how many writes the
// first client got to.
func crashes(t *testing.T, n int64, after bool) int64 {
	t.Helper()
	s := newStage(t)
	a, b := s.provider("a", 1_000_000), s.provider("b", 2_000_000)
	s.hub("hub", a, b)
	var frozen atomic.Bool
	var writes atomic.Int64
	s.ledger.fault = func(string, bool) error {
		if frozen.Load() {
			return errCrash
		}
		return nil
	}
	s.net.frozen = &frozen
	c := s.client()
	id := s.submit(c, s.job(4, func(j *formats.Job) { j.Checks = formats.Checks{Mode: formats.CheckAlways, Where: formats.WhereBoth} }))
	c.store.fault = func(done bool) error {
		if frozen.Load() {
			return errCrash
		}
		if done != after {
			return nil
		}
		if writes.Add(1) != n {
			return nil
		}
		// From here on nothing of this client reaches anybody.
		frozen.Store(true)
		a.server.CloseClientConnections()
		b.server.CloseClientConnections()
		return errCrash
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if _, err := c.Run(ctx, id, s.watch); err != nil && !errors.Is(err, errCrash) {
		t.Fatalf("write %d: %v", n, err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	frozen.Store(false)
	c = s.client()
	bill, err := c.Run(ctx, id, s.watch)
	if err != nil {
		t.Fatalf("write %d: going on: %v", n, err)
	}
	s.whole(c, bill, a, b)
	// What was paid is what stands in receipts, once each.
	if bill.Paid != bill.Charged {
		t.Errorf("write %d: paid %s, charged %s", n, bill.Paid, bill.Charged)
	}
	return writes.Load()
}

// TestResumeAfterACrashAtAnyWrite kills the client before and after every
// single write to tenant.db.
func TestResumeAfterACrashAtAnyWrite(t *testing.T) {
	total := crashes(t, 1<<30, true)
	if total < 15 {
		t.Fatalf("%d writes in a whole job", total)
	}
	for _, after := range []bool{false, true} {
		for n := int64(1); n <= total; n++ {
			t.Run(fmt.Sprintf("%v-%d", after, n), func(t *testing.T) {
				t.Parallel()
				crashes(t, n, after)
			})
		}
	}
}

// TestAWriteThatFailsOnceLosesNothing has the disk refuse a single write, at any
// place: what was to be written stands before anything is signed for it, and
// the job can be gone on with.
func TestAWriteThatFailsOnceLosesNothing(t *testing.T) {
	errDisk := errors.New("the disk is full")
	failed := 0
	for n := int64(1); failed == int(n)-1; n++ {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			s := newStage(t)
			a := s.provider("a", 1_000_000)
			s.hub("hub", a)
			c := s.client()
			id := s.submit(c, s.job(4, func(j *formats.Job) { j.Checks = formats.Checks{Mode: formats.CheckNever} }))
			var writes atomic.Int64
			c.store.fault = func(done bool) error {
				if !done && writes.Add(1) == n {
					return errDisk
				}
				return nil
			}
			bill, err := c.Run(t.Context(), id, s.watch)
			switch {
			case writes.Load() < n:
				return // a whole job has fewer
			case err != nil && !errors.Is(err, errDisk):
				t.Fatal(err)
			}
			failed++
			a.mu.Lock()
			defer a.mu.Unlock()
			receipts, err := c.store.receipts(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			var known fallow.Pico
			for _, r := range receipts {
				known = plus(known, r.charge)
			}
			for lease, v := range a.vouchers {
				if v.Amount.Cmp(known) > 0 {
					t.Errorf("the voucher of lease %d is over %s, receipts on disk are of %s", lease, v.Amount, known)
				}
			}
			if bill != nil && bill.Paid.Cmp(known) > 0 {
				t.Errorf("paid %s for receipts of %s", bill.Paid, known)
			}
		})
	}
	if failed < 10 {
		t.Errorf("%d writes in a whole job", failed)
	}
}

// TestResumeFindsALeaseThatOpenedInTheDark loses the ledger's answer.
func TestResumeFindsALeaseThatOpenedInTheDark(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a := s.provider("a", 1_000_000)
	s.hub("hub", a)
	lost := false
	s.ledger.fault = func(call string, after bool) error {
		if call == "open" && after && !lost {
			lost = true
			return fmt.Errorf("the answer was lost: %w", ErrAway)
		}
		return nil
	}
	c, bill, err := s.run(s.job(4, nil))
	if err != nil {
		t.Fatal(err)
	}
	s.whole(c, bill, a)
	if n := s.ledger.calls["open"]; n != 1 {
		t.Errorf("leases were opened %d times", n)
	}
	if a.runs() < 4 {
		t.Errorf("ran %d", a.runs())
	}
}

// TestAnOpeningThatIsOnItsWayIsWaitedFor kills the client when its transaction
// has gone out, which comes into a block only after the next client looked.
func TestAnOpeningThatIsOnItsWayIsWaitedFor(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a := s.provider("a", 1_000_000)
	s.hub("hub", a)
	var frozen atomic.Bool
	var late []OpenEntry
	lost := false
	s.ledger.fault = func(call string, after bool) error {
		switch {
		case frozen.Load():
			return errCrash
		case call == "open" && !after && !lost:
			lost = true
			frozen.Store(true)
			return errCrash
		}
		return nil
	}
	s.ledger.sent = func(entries []OpenEntry) {
		if late == nil {
			late = entries
		}
	}
	c := s.client()
	id := s.submit(c, s.job(4, nil))
	c.store.fault = func(bool) error {
		if frozen.Load() {
			return errCrash
		}
		return nil
	}
	if _, err := c.Run(t.Context(), id, s.watch); !errors.Is(err, errCrash) {
		t.Fatalf("the first client: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if len(late) != 1 {
		t.Fatalf("%d offers were on their way", len(late))
	}
	frozen.Store(false)
	// The provider has nothing else to lease.
	a.decline = fallow.ReasonNoCapacity
	before := s.ledger.calls["standing"]
	c = s.client()
	landed := make(chan error)
	go func() {
		time.Sleep(300 * time.Millisecond)
		_, _, err := s.ledger.Open(context.Background(), c.config.Tenant, late)
		landed <- err
	}()
	bill, err := c.Run(t.Context(), id, s.watch)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-landed; err != nil {
		t.Fatal(err)
	}
	s.whole(c, bill, a)
	if len(s.ledger.leases) != 1 {
		t.Errorf("%d leases, want the one that was on its way", len(s.ledger.leases))
	}
	if s.ledger.calls["standing"] == before {
		t.Error("nobody asked what stands behind it: without, all of it is checked")
	}
}

func TestTwoProcessesDoNotRunOneJob(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a := s.provider("a", 1_000_000)
	a.took = 300 * time.Millisecond
	s.hub("hub", a)
	c, other := s.client(), s.client()
	id := s.submit(c, s.job(4, nil))
	done := make(chan error)
	go func() {
		_, err := c.Run(context.Background(), id, s.watch)
		done <- err
	}()
	for count[TaskIssued](s, nil) == 0 {
		time.Sleep(5 * time.Millisecond)
	}
	if _, err := other.Run(context.Background(), id, nil); !errors.Is(err, ErrRunning) {
		t.Errorf("got %v", err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := other.Run(context.Background(), "film-none", nil); !errors.Is(err, ErrNoJob) {
		t.Errorf("got %v", err)
	}
	if _, err := other.Run(context.Background(), JobID(filepath.Join("..", "x")), nil); !errors.Is(err, ErrNoJob) {
		t.Errorf("got %v", err)
	}
}
