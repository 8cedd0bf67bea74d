package client

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fallow.network"
	"fallow.network/formats"
)

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
	life, err := c.Life(t.Context(), bill.Job)
	if err != nil {
		t.Fatal(err)
	}
	away := 0
	for _, m := range life.Moments {
		if m.Kind == stepLease {
			break
		}
		if m.Kind == stepAway {
			away++
		}
	}
	if away != 1 {
		t.Errorf("it was away once before there were leases, and is told of %d times", away)
	}
}

// TestANoisyHubCrowdsNobodyOut has a hub that sends more answers of nobody than
// are taken from one, before another brings the only offer.
func TestANoisyHubCrowdsNobodyOut(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a := s.provider("a", 1_000_000)
	noisy, honest := s.hub("noisy"), s.hub("honest", a)
	noisy.noise, honest.after = maxReplies+100, noisy
	s.ledger.listing = nil // nobody can be asked directly
	c, bill, err := s.run(s.job(2, nil))
	if err != nil {
		t.Fatal(err)
	}
	s.whole(c, bill, a)
	if noisy.asked != 1 || honest.asked != 1 {
		t.Errorf("the noisy one was asked %d times, the honest %d", noisy.asked, honest.asked)
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
