package sim

import (
	"testing"
	"time"

	"fallow.network"
)

// overcommitted runs a market in which slots are short, and says what the
// first providers come to, of which the adversaries are two fifths.
func overcommitted(t *testing.T, seed uint64, bad, forgiven bool) (r Report, earned uint64, busy float64) {
	t.Helper()
	o := Options{Seed: seed, Providers: 12, Tenants: 60, For: 2 * time.Hour}
	if bad {
		o.Adversaries = []Share{{"overcommit", 40}}
	}
	var in *world
	o.tamper = func(w *world) {
		in = w
		if forgiven {
			forgive(w)
		}
	}
	r = run(t, o)
	for _, p := range in.lenders[:5] {
		earned += p.earned + uint64(in.checks.due[p.account])
		busy = max(busy, float64(p.busy)/float64(uint64(in.clock.now-start)*uint64(p.slots)))
	}
	return r, earned, busy
}

// forgive has tenants forget who broke a lease.
func forgive(w *world) {
	w.clock.after(100, func() {
		for _, t := range w.renters {
			clear(t.avoid)
		}
		forgive(w)
	})
}

// TestOvercommitGainsWorkAndNotPayForNothing has the same market thrice: the
// same parties honest; overcommitting; and overcommitting without the rule that
// who broke a lease isn't chosen again for an hour.
func TestOvercommitGainsWorkAndNotPayForNothing(t *testing.T) {
	honest, fair, _ := overcommitted(t, 2, false, false)
	held, taken, busy := overcommitted(t, 2, true, false)
	free, _, _ := overcommitted(t, 2, true, true)
	if len(honest.Left) > 0 {
		t.Errorf("honest parties break leases: %v", honest.Left)
	}
	k := held.Kinds[0]
	if k.Beyond == 0 || k.Failed == 0 {
		t.Fatalf("nothing was let twice: %+v", k)
	}
	if k.Failed != held.Left[fallow.ReasonTimeout] || len(held.Left) != 1 {
		t.Errorf("tenants left %d leases of it, and in all %v", k.Failed, held.Left)
	}
	// It does gain: work that waits with it is work that honest ones lack. What
	// it can't gain is pay for work that its slots didn't run.
	if taken <= fair {
		t.Errorf("it earned %d ucredit and an honest one %d: then say so where it is described", taken, fair)
	}
	if busy > 1 {
		t.Errorf("its slots were busy %.2f of the time", busy)
	}
	if held.WrongPaid != 0 || held.JobsDone != held.Jobs {
		t.Errorf("jobs suffer: %+v", held)
	}
	if f := free.Kinds[0].Failed; f <= k.Failed {
		t.Errorf("%d leases broken with the rule, %d without: it stops nothing", k.Failed, f)
	}
}

// TestTwoReceiptsAreAProof has the same market twice: the same parties honest,
// and signing two receipts for each attempt.
func TestTwoReceiptsAreAProof(t *testing.T) {
	earned := map[bool]uint64{}
	var r Report
	for _, bad := range []bool{false, true} {
		var in *world
		o := Options{Seed: 4, Providers: 12, Tenants: 20, For: 3 * time.Hour}
		if bad {
			o.Adversaries = []Share{{"equivocate", 40}}
		}
		o.tamper = func(w *world) { in = w }
		r = run(t, o)
		for _, p := range in.lenders[:5] {
			earned[bad] += p.earned + uint64(in.checks.due[p.account])
		}
		for _, p := range in.lenders[5:] {
			if p.failed > 0 {
				t.Errorf("an honest provider was left %d times", p.failed)
			}
		}
	}
	k := r.Kinds[0]
	if r.Proofs == 0 || r.Proofs+r.Caught != k.Failed || r.Left[fallow.ReasonMismatch] != k.Failed {
		t.Errorf("%d proofs and %d found by checks, %d of %d leases left", r.Proofs, r.Caught, k.Failed, k.Leases)
	}
	if earned[true]*2 > earned[false] {
		t.Errorf("it earned %d ucredit, and honest %d", earned[true], earned[false])
	}
}

// TestFriendsWhoCheck has colluders in a market where all tenants check on
// their own machines, where half of them check on the market, and where every
// checker from there is a friend.
func TestFriendsWhoCheck(t *testing.T) {
	with := func(tamper func(*world)) Report {
		o := Options{Seed: 6, Providers: 20, Tenants: 40, For: 4 * time.Hour, Adversaries: []Share{{"collude", 50}}}
		o.tamper = tamper
		return run(t, o)
	}
	own := with(func(w *world) {
		w.clock.after(1, func() {
			for _, x := range w.renters {
				x.outside, x.policy.Collusion = false, 0
			}
		})
	})
	half := with(nil)
	all := with(func(w *world) { w.collusion = 1_000_000 })
	if own.Confirmed != 0 || own.Caught == 0 {
		t.Errorf("on the own machine %d lies were confirmed, %d found", own.Confirmed, own.Caught)
	}
	if half.Confirmed == 0 || half.Confirmed*5 > half.Caught {
		t.Errorf("half of the checks outside, a tenth of them by friends: %d confirmed, %d found", half.Confirmed, half.Caught)
	}
	if all.Confirmed <= half.Confirmed || all.WrongPaid <= 2*half.WrongPaid {
		t.Errorf("with friends alone %d confirmed and %d paid, else %d and %d: the draw stops nothing", all.Confirmed, all.WrongPaid, half.Confirmed, half.WrongPaid)
	}
}
