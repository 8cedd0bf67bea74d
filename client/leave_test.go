package client

import (
	"slices"
	"testing"
	"time"

	"fallow.network"
)

// TestLeaves: a job that is done waits for no block, and a closing that never
// came there is sent again by a later job.
func TestLeaves(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a, b := s.provider("a", 1_000_000), s.provider("b", 1_000_000)
	s.hub("hub", a, b)
	s.ledger.loses, s.leave = true, true
	c := s.client()
	bill, err := c.Run(t.Context(), s.submit(c, s.job(4, nil)), s.watch)
	if err != nil {
		t.Fatal(err)
	}
	if bill.State != StateDone || bill.Done != 4 || bill.Paid != bill.Charged || bill.Paid.IsZero() {
		t.Errorf("%s: %d done, %s of %s paid", bill.State, bill.Done, bill.Paid, bill.Charged)
	}
	if s.ledger.calls["hand"] == 0 || s.ledger.calls["close"] != 0 || s.ledger.openLeases() != len(bill.Providers) {
		t.Errorf("calls %v, %d leases open", s.ledger.calls, s.ledger.openLeases())
	}
	for _, l := range bill.Providers {
		if !l.Closing || l.Reason != fallow.ReasonCompleted {
			t.Errorf("lease %d: closing %t, %s", l.Lease, l.Closing, l.Reason)
		}
	}
	c.tidy(t.Context())
	if s.ledger.calls["close"] != 0 {
		t.Error("it was looked for before a block could have come")
	}
	for _, l := range bill.Providers {
		if err := c.store.endLease(t.Context(), l.Lease, leaseClosing, l.Reason, time.Now().Add(-time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	s.ledger.loses = false
	if _, err := c.Run(t.Context(), s.submit(c, s.job(4, nil)), s.watch); err != nil {
		t.Fatal(err)
	}
	if n := s.ledger.openLeases(); n != 0 {
		t.Errorf("%d leases are open still", n)
	}
	if list, err := c.store.leasesClosing(t.Context()); err != nil || slices.ContainsFunc(list, func(l lease) bool { return l.id <= bill.Providers[len(bill.Providers)-1].Lease }) {
		t.Errorf("%+v, %v", list, err)
	}
}
