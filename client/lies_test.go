package client

import (
	"context"
	"strings"
	"sync"
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

// TestADisputeWaitsForOneWhoIsComing has a broken machine of our own differ with
// the only provider that is connected so far: neither of them decides.
func TestADisputeWaitsForOneWhoIsComing(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a, b := s.provider("a", 1_000_000), s.provider("b", 1_000_000)
	s.machine.broken = true
	b.late = make(chan struct{})
	s.hub("hub", a, b)
	s.config.DialTimeout = 10 * time.Second
	c := s.client()
	id := s.submit(c, s.job(6, func(j *formats.Job) { j.Checks.Where = formats.WhereOwn }))
	var once sync.Once
	bill, err := c.Run(t.Context(), id, func(e Event) {
		s.watch(e)
		if d, ok := e.(CheckDone); ok && !d.Agreed {
			// A moment in which the wrong one could be asked again.
			once.Do(func() { time.AfterFunc(100*time.Millisecond, func() { close(b.late) }) })
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	s.whole(c, bill, a, b)
	if bill.Checks.Cleared == 0 || bill.Checks.Wrong != 0 {
		t.Errorf("checks: %+v", bill.Checks)
	}
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
