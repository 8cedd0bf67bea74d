package client

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"fallow.network"
	"fallow.network/formats"
)

func TestJobsOnAStandingLease(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a, b := s.provider("a", 1_000_000), s.provider("b", 2_000_000)
	s.hub("hub", a, b)
	c := s.client()
	ctx := context.Background()
	opened, err := c.OpenLeases(ctx, LeaseWish{Slots: 2, Reserve: 100_000}, s.watch)
	if err != nil {
		t.Fatal(err)
	}
	if len(opened) != 1 || opened[0].Provider != a.account || opened[0].Reserve != 100_000 {
		t.Fatalf("%+v", opened)
	}
	for i := range 3 {
		j := s.job(4, func(j *formats.Job) { j.Checks.Where = formats.WhereOwn })
		o := OptionsOf(j)
		o.Out, o.Leases = s.dir+"/out", []fallow.LeaseID{opened[0].ID}
		id, err := c.Submit(ctx, j, Folder(s.dir), o)
		if err != nil {
			t.Fatal(err)
		}
		bill, err := c.Run(ctx, id, s.watch)
		if err != nil {
			t.Fatalf("job %d: %v", i, err)
		}
		if bill.Done != 4 || bill.Paid != bill.Charged || len(bill.Transactions) != 0 {
			t.Errorf("job %d: %+v", i, bill)
		}
	}
	if n := s.ledger.calls["open"]; n != 1 || s.ledger.openLeases() != 1 {
		t.Errorf("%d openings, %d open", n, s.ledger.openLeases())
	}
	list, err := c.StandingLeases(ctx, false)
	if err != nil || len(list) != 1 || list[0].Tasks != 12 || list[0].Paid != a.paid() {
		t.Errorf("%+v, %v; the provider holds %s", list, err, a.paid())
	}
	if err := c.CloseLeases(ctx, []fallow.LeaseID{opened[0].ID}, s.watch); err != nil {
		t.Fatal(err)
	}
	if s.ledger.openLeases() != 0 || !a.finished[opened[0].ID] || s.ledger.leases[1].reason != fallow.ReasonCompleted {
		t.Errorf("%d open, finished %v", s.ledger.openLeases(), a.finished)
	}
	if err := c.CloseLeases(ctx, []fallow.LeaseID{opened[0].ID}, s.watch); err != nil {
		t.Errorf("closing again: %v", err)
	}
	if err := c.CloseLeases(ctx, []fallow.LeaseID{99}, nil); !errors.Is(err, ErrNoLease) {
		t.Errorf("got %v", err)
	}
	if list, err := c.StandingLeases(ctx, false); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
	if list, err := c.StandingLeases(ctx, true); err != nil || len(list) != 1 || list[0].State != leaseClosed {
		t.Errorf("%+v, %v", list, err)
	}
}

// TestABudgetBoundsAJobOnAStandingLease runs dry on a lease with plenty.
func TestABudgetBoundsAJobOnAStandingLease(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a := s.provider("a", 1_000_000)
	s.hub("hub", a)
	c := s.client()
	ctx := context.Background()
	opened, err := c.OpenLeases(ctx, LeaseWish{Reserve: 1_000_000}, s.watch)
	if err != nil {
		t.Fatal(err)
	}
	j := s.job(20, func(j *formats.Job) { j.Budget = 10_000; j.Checks.Mode = formats.CheckNever })
	o := OptionsOf(j)
	o.Out, o.Leases = s.dir+"/out", []fallow.LeaseID{opened[0].ID}
	id, err := c.Submit(ctx, j, Folder(s.dir), o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	bill, err := c.Run(ctx, id, s.watch)
	var budget *BudgetError
	if !errors.As(err, &budget) || budget.Need < 20_000 {
		t.Fatalf("got %v", err)
	}
	if bill.Paid.Cmp(fallow.Credits(10_000).Pico()) > 0 || s.ledger.openLeases() != 1 {
		t.Errorf("paid %s", bill.Paid)
	}
}

func TestStandingLeasesNeedAReserve(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.hub("hub", s.provider("a", 1))
	c := s.client()
	if _, err := c.OpenLeases(context.Background(), LeaseWish{}, nil); err == nil || !strings.Contains(err.Error(), "--reserve") {
		t.Errorf("got %v", err)
	}
	if _, err := c.OpenLeases(context.Background(), LeaseWish{Reserve: 1e12}, nil); err == nil || !strings.Contains(err.Error(), "fallow deposit") {
		t.Errorf("got %v", err)
	}
}

func TestCancelFromAnotherProcess(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a := s.provider("a", 1_000_000)
	a.took = 100 * time.Millisecond
	s.hub("hub", a)
	c, other := s.client(), s.client()
	id := s.submit(c, s.job(100, nil))
	done := make(chan error)
	go func() {
		_, err := c.Run(context.Background(), id, s.watch)
		done <- err
	}()
	for count[TaskDone](s, nil) < 2 {
		time.Sleep(5 * time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if _, err := other.Cancel(ctx, id, nil); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, ErrCancelled) {
		t.Errorf("got %v", err)
	}
	j, err := other.Job(ctx, id)
	if err != nil || j.State != StateCancelled || s.ledger.openLeases() != 0 {
		t.Errorf("%s, %v", j.State, err)
	}
	// One that nobody runs is cancelled here.
	id = s.submit(c, s.job(3, nil))
	bill, err := other.Cancel(ctx, id, nil)
	if err != nil || bill.State != StateCancelled {
		t.Errorf("%+v, %v", bill, err)
	}
}
