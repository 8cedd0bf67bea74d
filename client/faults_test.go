package client

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"fallow.network"
	"fallow.network/formats"
	"fallow.network/verify"
)

func TestALiarIsFoundAndNotPaid(t *testing.T) {
	for _, where := range []formats.CheckWhere{formats.WhereOwn, formats.WhereMarket, formats.WhereBoth} {
		t.Run(string(where), func(t *testing.T) {
			s := newStage(t)
			a, b, liar := s.provider("a", 1_000_000), s.provider("b", 1_000_000), s.provider("liar", 900_000)
			liar.lies = func(uint32) bool { return true }
			s.hub("hub", a, b, liar)
			c, bill, err := s.run(s.job(20, func(j *formats.Job) { j.Checks.Where = where }))
			if err != nil {
				t.Fatal(err)
			}
			s.whole(c, bill, a, b, liar)
			if !liar.paid().IsZero() {
				t.Errorf("the liar was paid %s", liar.paid())
			}
			if bill.Checks.Wrong+bill.Checks.Cleared == 0 || bill.Refused.IsZero() {
				t.Errorf("bill: %+v", bill)
			}
			if n := count(s, func(v Verdict) bool { return v.Wrong == liar.account }); n != 1 {
				t.Errorf("%d verdicts against the liar", n)
			}
			if n := count(s, func(v Verdict) bool { return v.Wrong != "" && v.Wrong != liar.account }); n != 0 {
				t.Errorf("%d verdicts against the honest", n)
			}
			e, err := c.store.evidence(context.Background(), liar.node(), fallow.ClassWASM)
			if err != nil || e.Wrong != 1 || e.Right != 0 {
				t.Errorf("evidence: %+v, %v", e, err)
			}
		})
	}
}

// TestALateLieIsFound has a provider that is honest while it is new.
func TestALateLieIsFound(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a, liar := s.provider("a", 1_000_000), s.provider("liar", 1_000_000)
	var told atomic.Int32
	liar.lies = func(uint32) bool { return told.Add(1) > 10 }
	s.hub("hub", a, liar)
	c, bill, err := s.run(s.job(60, func(j *formats.Job) {
		j.Checks = formats.Checks{Mode: formats.CheckAuto, MinimumPPM: 500_000, Where: formats.WhereOwn}
	}))
	if err != nil {
		t.Fatal(err)
	}
	s.whole(c, bill)
	if bill.Checks.Wrong == 0 {
		t.Errorf("checks: %+v", bill.Checks)
	}
}

func TestAFaultyMachineOfOurOwn(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a, b := s.provider("a", 1_000_000), s.provider("b", 1_000_000)
	s.machine.broken = true
	s.hub("hub", a, b)
	c, bill, err := s.run(s.job(6, func(j *formats.Job) { j.Checks.Where = formats.WhereOwn }))
	if err != nil {
		t.Fatal(err)
	}
	s.whole(c, bill, a, b)
	if bill.Checks.Cleared == 0 || bill.Checks.Wrong != 0 {
		t.Errorf("checks: %+v", bill.Checks)
	}
	if count(s, func(w Warning) bool { return strings.Contains(w.Text, "this machine gave a wrong result") }) == 0 {
		t.Error("nobody was told")
	}
}

func TestOneDiesOneIsSlowOneNeverAnswers(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	// The dead one is given up before its tasks count as slow.
	s.config.StragglerMin = 3 * s.config.GoneAfter
	good, dying, slow, silent := s.provider("good", 1_000_000), s.provider("dying", 900_000), s.provider("slow", 900_000), s.provider("silent", 900_000)
	dying.dies, slow.took = 3, 1500*time.Millisecond
	silent.silent = func(uint32, uint32) bool { return true }
	mute := s.provider("mute", 800_000)
	mute.mute = true
	s.hub("hub", good, dying, slow, silent, mute)
	c, bill, err := s.run(s.job(40, func(j *formats.Job) { j.Checks.Where = formats.WhereOwn }))
	if err != nil {
		t.Fatal(err)
	}
	s.whole(c, bill, good, slow, dying, silent)
	if bill.Retried[fallow.ReasonProviderGone] == 0 || bill.Reissued == 0 {
		t.Errorf("bill: retried %v, reissued %d", bill.Retried, bill.Reissued)
	}
	for _, l := range s.ledger.leases {
		want := fallow.ReasonCompleted
		if l.Provider == dying.account {
			continue // gone or completed, as it falls
		}
		if l.reason != want {
			t.Errorf("lease of %s ended with %s", l.Provider, l.reason)
		}
	}
}

func TestAKilledProviderComesBack(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a := s.provider("a", 1_000_000)
	a.dies = 4
	s.hub("hub", a)
	go func() {
		for !a.isDead() {
			time.Sleep(5 * time.Millisecond)
		}
		time.Sleep(150 * time.Millisecond)
		a.start()
	}()
	c, bill, err := s.run(s.job(12, nil))
	if err != nil {
		t.Fatal(err)
	}
	s.whole(c, bill, a)
	if n := s.ledger.calls["open"]; n != 1 {
		t.Errorf("%d times leases were opened: the lease should have been taken up again", n)
	}
}

// TestADebtorWaits has a provider die with its last receipt sent, before any
// voucher: a job that is done waits for it, and pays.
func TestADebtorWaits(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a := s.provider("a", 1_000_000)
	s.hub("hub", a)
	s.config.VoucherEvery, s.config.DebtWait = time.Hour, time.Minute
	c := s.client()
	back := make(chan struct{})
	bill, err := c.Run(t.Context(), s.submit(c, s.job(4, nil)), func(e Event) {
		s.watch(e)
		switch e := e.(type) {
		case TaskDone:
			if e.Done == e.Of {
				a.kill()
			}
		case Warning: // that it waits
			a.start()
			close(back)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	<-back
	s.whole(c, bill, a)
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.vouchers) != 1 {
		t.Fatalf("%d vouchers", len(a.vouchers))
	}
	for id, v := range a.vouchers {
		if v.Amount != bill.Charged || v.Amount.IsZero() {
			t.Errorf("lease %d: it has a voucher of %s, and its receipts are of %s", id, v.Amount, bill.Charged)
		}
	}
}

// TestNobodyWaitsForOneLongGone has a provider die with receipts unpaid and stay
// away: when the rest is done, it has been away for long enough. That the other
// hangs up once it has let go is no loss to tell of.
func TestNobodyWaitsForOneLongGone(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a, b := s.provider("a", 1_000_000), s.provider("b", 1_100_000)
	a.took, b.took = 200*time.Millisecond, 200*time.Millisecond
	b.dies = 1
	s.hub("hub", a, b)
	s.config.VoucherEvery, s.config.DebtWait = time.Hour, 400*time.Millisecond
	c := s.client()
	bill, err := c.Run(t.Context(), s.submit(c, s.job(12, nil)), s.watch)
	if err != nil {
		t.Fatal(err)
	}
	s.whole(c, bill, a, b)
	if n := count(s, func(w Warning) bool { return strings.Contains(w.Text, "last voucher") }); n != 0 {
		t.Errorf("waited %d times for a provider that had been away", n)
	}
	if n := count(s, func(l ProviderLost) bool { return l.Provider == a.account }); n != 0 {
		t.Errorf("the provider that did its work was lost %d times", n)
	}
}

// TestWithoutProvidersTheMarketIsAskedAgain loses all, and a new one comes.
func TestWithoutProvidersTheMarketIsAskedAgain(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a, b := s.provider("a", 1_000_000), s.provider("b", 2_000_000)
	a.dies = 3
	b.decline = fallow.ReasonPaused
	h := s.hub("hub", a)
	go func() {
		for !a.isDead() {
			time.Sleep(5 * time.Millisecond)
		}
		h.mu.Lock()
		h.providers = []*testProvider{b}
		h.mu.Unlock()
		b.mu.Lock()
		b.decline = ""
		b.mu.Unlock()
	}()
	c, bill, err := s.run(s.job(10, nil))
	if err != nil {
		t.Fatal(err)
	}
	s.whole(c, bill)
	if b.runs() == 0 || len(bill.Providers) != 2 {
		t.Errorf("b ran %d; %d providers", b.runs(), len(bill.Providers))
	}
}

func TestFailuresAreTriedElsewhere(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a, b := s.provider("a", 1_000_000), s.provider("b", 1_000_000)
	a.fails = func(task uint32) fallow.Reason {
		if task%2 == 0 {
			return fallow.ReasonAborted
		}
		return ""
	}
	s.hub("hub", a, b)
	c, bill, err := s.run(s.job(8, nil))
	if err != nil {
		t.Fatal(err)
	}
	s.whole(c, bill, a, b)
	if bill.Retried[fallow.ReasonAborted] == 0 {
		t.Errorf("retried: %v", bill.Retried)
	}
}

func TestDiskFullEndsTheLeaseNotTheJob(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	full, b := s.provider("full", 1_000_000), s.provider("b", 1_000_000)
	full.fails = func(uint32) fallow.Reason { return fallow.ReasonDiskFull }
	s.hub("hub", full, b)
	c, bill, err := s.run(s.job(8, nil))
	if err != nil {
		t.Fatal(err)
	}
	s.whole(c, bill, full, b)
	if count(s, func(e LeaseEnded) bool { return e.Reason == fallow.ReasonDiskFull }) != 1 {
		t.Error("the lease did not end with its reason")
	}
}

func TestARefusedModuleStopsTheJob(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a, b := s.provider("a", 1_000_000), s.provider("b", 1_000_000)
	refuse := func(uint32) fallow.Reason { return fallow.ReasonModuleRefused }
	a.fails, b.fails = refuse, refuse
	s.hub("hub", a, b)
	_, bill, err := s.run(s.job(8, nil))
	var te *TaskError
	if !errors.As(err, &te) || te.Reason != fallow.ReasonModuleRefused || !strings.Contains(err.Error(), "as the test says") {
		t.Fatalf("got %v", err)
	}
	if bill.State != StateFailed || s.ledger.openLeases() != 0 || !bill.Paid.IsZero() {
		t.Errorf("%s, %d open, paid %s", bill.State, s.ledger.openLeases(), bill.Paid)
	}
}

func TestOneThatRefusesTheModuleIsLeft(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	bad, b := s.provider("bad", 500_000), s.provider("b", 1_000_000)
	bad.fails = func(uint32) fallow.Reason { return fallow.ReasonModuleRefused }
	s.hub("hub", bad, b)
	c, bill, err := s.run(s.job(6, func(j *formats.Job) { j.Slots = 2 }))
	if err != nil {
		t.Fatal(err)
	}
	s.whole(c, bill, b)
}

func TestOutputsThatAreNotWhatWasSigned(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	bad, b := s.provider("bad", 900_000), s.provider("b", 1_000_000)
	bad.garbles = true
	s.hub("hub", bad, b)
	c, bill, err := s.run(s.job(6, nil))
	if err != nil {
		t.Fatal(err)
	}
	s.whole(c, bill, bad, b)
	if !bad.paid().IsZero() || bill.Retried[fallow.ReasonBadOutput] == 0 {
		t.Errorf("paid %s, retried %v", bad.paid(), bill.Retried)
	}
}

func TestAnOverchargeIsRefused(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	bad, b := s.provider("bad", 900_000), s.provider("b", 1_000_000)
	bad.overcharge = true
	s.hub("hub", bad, b)
	c, bill, err := s.run(s.job(6, nil))
	if err != nil {
		t.Fatal(err)
	}
	s.whole(c, bill, bad, b)
	if !bad.paid().IsZero() || count(s, func(e LeaseEnded) bool { return e.Reason == fallow.ReasonMalformed }) != 1 {
		t.Errorf("paid %s", bad.paid())
	}
}

func TestOutputsAboveTheLimitAreRefused(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	bad, b := s.provider("bad", 900_000), s.provider("b", 1_000_000)
	bad.bloats = true
	s.hub("hub", bad, b)
	c, bill, err := s.run(s.job(6, nil))
	if err != nil {
		t.Fatal(err)
	}
	s.whole(c, bill, bad, b)
	if !bad.paid().IsZero() || count(s, func(e LeaseEnded) bool { return e.Reason == fallow.ReasonMalformed }) != 1 {
		t.Errorf("paid %s", bad.paid())
	}
}

// TestOffersOfNobody has peers that make offers nobody could refuse, in their
// own name without a bond and in another's: they don't come before the honest.
func TestOffersOfNobody(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a, nobody, fake := s.provider("a", 1_000_000), s.provider("nobody", 1), s.provider("fake", 1)
	s.ledger.bonds[nobody.account] = Standing{}
	s.ledger.skip[nobody.account] = fallow.ReasonUnbonded
	s.ledger.bonds[fake.account] = Standing{Bond: 1, Nodes: []fallow.Key{a.node()}}
	s.ledger.skip[fake.account] = fallow.ReasonKeyEpoch
	s.hub("hub", a, nobody, fake)
	c, bill, err := s.run(s.job(6, func(j *formats.Job) { j.Slots = 2 }))
	if err != nil {
		t.Fatal(err)
	}
	s.whole(c, bill, a)
	if n := s.ledger.calls["open"]; n != 1 {
		t.Errorf("%d times leases were opened", n)
	}
}

// TestReasonsOfNobody has a provider that ends with a reason of its own, which
// the ledger would refuse, and words that would clear a terminal.
func TestReasonsOfNobody(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	bad, b := s.provider("bad", 900_000), s.provider("b", 1_000_000)
	bad.ending = "because"
	s.hub("hub", bad, b)
	c, bill, err := s.run(s.job(6, nil))
	if err != nil {
		t.Fatal(err)
	}
	s.whole(c, bill, bad, b)
	for _, l := range s.ledger.leases {
		if !l.reason.Known() {
			t.Errorf("the lease of %s ended with %q", l.Provider, l.reason)
		}
	}
	if n := count(s, func(f TaskFailed) bool { return !f.Reason.Known() || strings.Contains(f.Detail, "\x1b") }); n != 0 {
		t.Errorf("%d failures as the provider worded them", n)
	}
}

func TestLargeOutputsAndStdin(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a := s.provider("a", 1_000_000)
	a.noInline = true
	s.hub("hub", a)
	c, bill, err := s.run(s.job(4, func(j *formats.Job) {
		for i := range j.Tasks {
			j.Tasks[i].Args = append(j.Tasks[i].Args, "large")
			j.Tasks[i].Stdin = "scene.txt"
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	s.whole(c, bill, a)
	outputs, err := c.Outputs(context.Background(), bill.Job)
	if err != nil || len(outputs) != 12 {
		t.Errorf("%d outputs, %v", len(outputs), err)
	}
}

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

func TestTheLedgerIsAwayForAWhile(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a := s.provider("a", 1_000_000)
	s.hub("hub", a)
	until := time.Now().Add(700 * time.Millisecond)
	s.ledger.fault = func(string, bool) error {
		if time.Now().Before(until) {
			return fmt.Errorf("node: %w", ErrAway)
		}
		return nil
	}
	a.onTask = func(_ *testProvider, task uint32) {
		if task == 3 { // and again until after the end of the work
			s.ledger.mu.Lock()
			until = time.Now().Add(700 * time.Millisecond)
			s.ledger.mu.Unlock()
		}
	}
	// The provider asks the ledger too: it has what it needs.
	c, bill, err := s.run(s.job(6, nil))
	if err != nil {
		t.Fatal(err)
	}
	s.whole(c, bill, a)
	if count(s, func(e Away) bool { return e.What == "the ledger" }) == 0 {
		t.Error("nobody was told")
	}
}

func TestHubsAreInterchangeable(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a, b := s.provider("a", 1_000_000), s.provider("b", 1_000_000)
	h1 := s.hub("hub-1", a, b)
	s.hub("hub-2", a, b)
	h1.server.Close()
	s.config.Direct = 1
	c, bill, err := s.run(s.job(6, nil))
	if err != nil {
		t.Fatal(err)
	}
	s.whole(c, bill, a, b)
	// With no hub at all, providers are asked directly.
	s2 := newStage(t)
	d := s2.provider("d", 1_000_000)
	c, bill, err = s2.run(s2.job(2, nil))
	if err != nil {
		t.Fatal(err)
	}
	s2.whole(c, bill, d)
}

func TestAHubComesBack(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a := s.provider("a", 1_000_000)
	s.ledger.listing = nil
	h := s.hub("hub", a)
	url := s.net.url(h.key)
	s.net.at(h.key, "")
	go func() {
		time.Sleep(700 * time.Millisecond)
		s.net.at(h.key, url)
	}()
	c, bill, err := s.run(s.job(2, nil))
	if err != nil {
		t.Fatal(err)
	}
	s.whole(c, bill, a)
}

func TestCancelSettlesAndCloses(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a := s.provider("a", 1_000_000)
	a.took = 100 * time.Millisecond
	s.hub("hub", a)
	c := s.client()
	id := s.submit(c, s.job(200, nil))
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		for count[TaskDone](s, nil) < 5 {
			time.Sleep(5 * time.Millisecond)
		}
		cancel()
	}()
	bill, err := c.Run(ctx, id, s.watch)
	if !errors.Is(err, ErrCancelled) || bill.State != StateCancelled {
		t.Fatalf("%v, %s", err, bill.State)
	}
	if bill.Done < 5 || bill.Paid.IsZero() || a.paid() != bill.Paid || s.ledger.openLeases() != 0 {
		t.Errorf("done %d, paid %s, the provider holds %s, %d open", bill.Done, bill.Paid, a.paid(), s.ledger.openLeases())
	}
	for _, l := range s.ledger.leases {
		if l.reason != fallow.ReasonCancelled {
			t.Errorf("ended with %s", l.reason)
		}
	}
	if _, err := c.Run(context.Background(), id, nil); err == nil {
		t.Error("a cancelled job ran again")
	}
}

func TestDeadline(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a := s.provider("a", 1_000_000)
	a.took = 200 * time.Millisecond
	s.hub("hub", a)
	_, bill, err := s.run(s.job(200, func(j *formats.Job) { j.Deadline = time.Second }))
	if !errors.Is(err, ErrDeadline) || bill.State != StateFailed || s.ledger.openLeases() != 0 || bill.Done == 0 {
		t.Fatalf("%v, %s", err, bill.State)
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

func TestBadModules(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	c := s.client()
	for text, want := range map[string]string{
		"":                                  "no WASM module",
		"\x7fELF\x02\x01\x01\x00 a binary":  "is not WASM",
		"\x00asm\x0d\x00\x01\x00 and so on": "is a WASM component",
		"\x00asm\x02\x00\x00\x00":           "version 2",
	} {
		if err := os.WriteFile(filepath.Join(s.dir, "module.wasm"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := c.Submit(context.Background(), s.job(1, nil), Folder(s.dir), Options{Out: s.dir})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}

func TestCheckRates(t *testing.T) {
	// With evidence enough, the rate is verify's bound.
	p := verify.DefaultPolicy()
	var e verify.Evidence
	price := fallow.PicoOf(1_000_000_000)
	for range 20 {
		e = e.Update(1000, p.HalfLifeMS, price, true)
	}
	if rate := p.RateFor(e, 1000, price, 1_000_000_000); rate != verify.Rate(price, verify.Slash(price, p.Multiple, 1_000_000_000), 0) {
		t.Errorf("rate %d", rate)
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
