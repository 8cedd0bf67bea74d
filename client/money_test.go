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

func TestABudgetTooSmallSaysByHowMuch(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a := s.provider("a", 1_000_000_000) // 0.001 credits for a task's million gas, and a fee of 0.001
	s.hub("hub", a)
	_, bill, err := s.run(s.job(20, func(j *formats.Job) { j.Budget = 30_000 })) // 0.03 of about 0.042
	var budget *BudgetError
	if !errors.As(err, &budget) || budget.Have != 30_000 || budget.Need < 40_000 || budget.Need > 50_000 || !strings.Contains(err.Error(), "too small by 0.01") {
		t.Fatalf("got %v", err)
	}
	if bill.Done == 0 || bill.Paid.Cmp(fallow.Credits(30_000).Pico()) > 0 || s.ledger.openLeases() != 0 {
		t.Errorf("done %d, paid %s, %d open", bill.Done, bill.Paid, s.ledger.openLeases())
	}
	// The least fee alone is too dear: nothing is leased.
	s2 := newStage(t)
	s2.hub("hub", s2.provider("a", 1_000))
	_, bill, err = s2.run(s2.job(20, func(j *formats.Job) { j.Budget = 10_000 }))
	if !errors.As(err, &budget) || budget.Need != 20_000 || s2.ledger.calls["open"] != 0 || bill.Done != 0 {
		t.Fatalf("got %v, %d leases", err, s2.ledger.calls["open"])
	}
}

func TestEarlierRunsSayWhatAJobCosts(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.hub("hub", s.provider("a", 1_000_000_000))
	c, bill, err := s.run(s.job(6, nil))
	if err != nil {
		t.Fatal(err)
	}
	cost, err := bill.Paid.Ceil()
	if err != nil {
		t.Fatal(err)
	}
	opens := s.ledger.calls["open"]
	id := s.submit(c, s.job(6, func(j *formats.Job) { j.Budget = cost / 2 }))
	_, err = c.Run(context.Background(), id, s.watch)
	var budget *BudgetError
	if !errors.As(err, &budget) || !strings.Contains(err.Error(), "earlier runs") || s.ledger.calls["open"] != opens {
		t.Fatalf("got %v", err)
	}
}

func TestEmptyEscrowSaysWhatToDo(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.ledger.free = 0
	s.hub("hub", s.provider("a", 1_000_000))
	_, _, err := s.run(s.job(2, nil))
	if err == nil || !strings.Contains(err.Error(), "fallow deposit") {
		t.Fatalf("got %v", err)
	}
}

func TestReservesAreRaisedAsWorkGoes(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a := s.provider("a", 1_000_000_000)
	s.hub("hub", a)
	c, bill, err := s.run(s.job(30, func(j *formats.Job) {
		j.Budget = 0
		j.Limits.Gas = 200_000_000 // a hundred times what tasks use
		j.Checks.Mode = formats.CheckNever
	}))
	if err != nil {
		t.Fatal(err)
	}
	s.whole(c, bill, a)
	s2 := newStage(t)
	s2.ledger.free = 200_000 // half of it is 0.1 credits, the job needs 0.065
	b := s2.provider("b", 1_000_000_000)
	b.terms.MaxReserve = 1_000_000
	s2.hub("hub", b)
	c, bill, err = s2.run(s2.job(60, func(j *formats.Job) {
		j.Budget = 0
		j.Checks.Mode = formats.CheckNever
	}))
	if err != nil {
		t.Fatal(err)
	}
	s2.whole(c, bill, b)
	if s2.ledger.calls["raise"] == 0 {
		t.Error("no reserve was raised")
	}
}

func TestSkippedEntriesSayWhy(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a, b := s.provider("a", 1_000_000), s.provider("b", 1_000_000)
	s.ledger.skip[a.account] = fallow.ReasonExposure
	s.hub("hub", a, b)
	c, bill, err := s.run(s.job(4, nil))
	if err != nil {
		t.Fatal(err)
	}
	s.whole(c, bill, a, b)
	if count(s, func(e LeaseSkipped) bool { return e.Provider == a.account && e.Reason == fallow.ReasonExposure }) != 1 {
		t.Error("the skipped entry was not told")
	}
}

func TestNoMoreSlotsThanAskedFor(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a, b := s.provider("a", 1_000_000), s.provider("b", 1_000_000)
	a.took, b.took = 20*time.Millisecond, 20*time.Millisecond
	s.hub("hub", a, b)
	c, bill, err := s.run(s.job(10, func(j *formats.Job) { j.Slots = 1; j.Checks.Where = formats.WhereOwn }))
	if err != nil {
		t.Fatal(err)
	}
	s.whole(c, bill, a, b)
	out, most := 0, 0
	for _, e := range s.events {
		switch e.(type) {
		case TaskIssued:
			out++
		case TaskDone:
			out--
		}
		most = max(most, out)
	}
	if most > 1 {
		t.Errorf("%d at once", most)
	}
}

func TestAProviderThatWaitsForNothing(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a := s.provider("a", 1_000_000)
	a.waits = true
	s.hub("hub", a)
	c, bill, err := s.run(s.job(4, nil))
	if err != nil {
		t.Fatal(err)
	}
	s.whole(c, bill, a)
}

func TestTasksDearerThanAProviderWorksAhead(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a := s.provider("a", 1_000_000)
	a.terms.UnpaidCeiling = 1 // a millionth of a credit, and the fee is a thousandth
	s.hub("hub", a)
	_, _, err := s.run(s.job(2, nil))
	if err == nil || !strings.Contains(err.Error(), "lower limits.gas") {
		t.Fatalf("got %v", err)
	}
}
