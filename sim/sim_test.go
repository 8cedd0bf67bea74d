package sim

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"fallow.network"
)

// small is a market that runs within a second.
func small(seed uint64, bad ...Share) Options {
	return Options{Seed: seed, Providers: 40, Tenants: 8, For: 4 * time.Hour, Adversaries: bad}
}

// mixed has every adversary at once.
func mixed(percent int) (all []Share) {
	for _, a := range Adversaries() {
		all = append(all, Share{a.Name, percent})
	}
	return all
}

func run(t *testing.T, o Options) Report {
	t.Helper()
	r, err := Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	if r.JobsDone == 0 || r.Tasks == 0 {
		t.Fatalf("nothing was done: %+v", r)
	}
	return r
}

func TestMarketKeepsItsInvariants(t *testing.T) {
	for seed := range uint64(2) {
		r := run(t, small(seed+1))
		if r.JobsDone != r.Jobs || !r.LostHonest.IsZero() || len(r.Left) > 0 {
			t.Errorf("seed %d: an honest market: %+v", seed+1, r)
		}
		run(t, small(seed+1, mixed(12)...))
	}
}

func TestEachAdversaryIsHeld(t *testing.T) {
	for _, a := range Adversaries() {
		t.Run(a.Name, func(t *testing.T) {
			r := run(t, small(3, Share{a.Name, 30}))
			seen := map[string]int{
				"collude": r.Caught, "equivocate": r.Proofs,
				"flood": r.Declines[fallow.ReasonRateLimited] + r.Declines[fallow.ReasonExposure], "lie": r.Caught, "never-pay": r.Ends[fallow.ReasonTenantGone],
				"overcommit": r.Kinds[0].Beyond, "replay": r.Skips[fallow.ReasonVoucherReplayed], "reuse-offer": r.Skips[fallow.ReasonOfferUsed],
				"vanish": r.Left[fallow.ReasonTimeout], "withhold": r.Left[fallow.ReasonBadOutput],
			}[a.Name]
			if seen == 0 {
				t.Errorf("it left no trace: %+v", r)
			}
			if len(r.Kinds) != 1 || r.Kinds[0].Parties == 0 {
				t.Errorf("kinds: %+v", r.Kinds)
			}
			if a.Name == "vanish" || a.Name == "withhold" {
				if r.Kinds[0].Earned != 0 {
					t.Errorf("it earned %s credits", r.Kinds[0].Earned)
				}
			}
		})
	}
}

// TestReserveRunsOut has reserves that pay for nothing: such a lease ends with
// its work unpaid.
func TestReserveRunsOut(t *testing.T) {
	o := small(8)
	o.tamper = func(w *world) {
		each(w, 1000, func(l *lease) {
			if l.id%8 == 0 {
				l.reserve = 0
			}
		})
	}
	if r := run(t, o); r.LostHonest.IsZero() || r.JobsDone != r.Jobs {
		t.Errorf("%+v", r)
	}
}

func TestSeedFixesEveryEvent(t *testing.T) {
	o := small(7, mixed(10)...)
	a, b := run(t, o), run(t, o)
	if a.Digest != b.Digest {
		t.Errorf("one seed, two logs: %s %s", a.Digest, b.Digest)
	}
	var x, y bytes.Buffer
	a.Print(&x)
	b.Print(&y)
	if x.String() != y.String() {
		t.Errorf("one seed, two reports:\n%s\n%s", x.String(), y.String())
	}
	o.Seed++
	if c := run(t, o); c.Digest == a.Digest {
		t.Error("two seeds, one log")
	}
}

func TestOptionsAreBounded(t *testing.T) {
	for _, o := range []Options{
		{},
		{Providers: 10_001, Tenants: 1, For: time.Hour},
		{Providers: 1, Tenants: 5_001, For: time.Hour},
		{Providers: 1, Tenants: 1, For: time.Second},
		small(1, Share{"nobody", 10}), small(1, Share{"lie", 0}), small(1, Share{"lie", 50}, Share{"vanish", 50}), small(1, Share{"lie", 5}, Share{"lie", 5}),
	} {
		if err := o.Validate(); err == nil {
			t.Errorf("%+v passes", o)
		}
	}
	got, err := ParseShares("lie=10,vanish=20")
	if o := small(1, got...); err != nil || o.Validate() != nil || !strings.HasSuffix(o.Command(), " --adversaries lie=10,vanish=20") {
		t.Errorf("%v %v %s", got, err, o.Command())
	}
	for _, s := range []string{"lie", "lie=", "lie=x", "lie=1x", ","} {
		if _, err := ParseShares(s); err == nil {
			t.Errorf("%q parses", s)
		}
	}
}

// TestManySeeds is the sweep of make test-all: a thousand providers with each
// adversary alone at 10 and 30 percent, and all together.
func TestManySeeds(t *testing.T) {
	if os.Getenv("FALLOW_LONG") == "" {
		return
	}
	big := func(seed uint64, bad ...Share) Options {
		return Options{Seed: seed, Providers: 1000, Tenants: 100, For: 6 * time.Hour, Adversaries: bad}
	}
	all := []Options{big(1), big(2, mixed(5)...), big(3, mixed(12)...)}
	for i, a := range Adversaries() {
		all = append(all, big(uint64(10+i), Share{a.Name, 10}), big(uint64(30+i), Share{a.Name, 30}))
	}
	for _, o := range all {
		t.Run(fmt.Sprint(o.Seed), func(t *testing.T) { run(t, o) })
	}
}
