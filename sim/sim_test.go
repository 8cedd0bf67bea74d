package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"fallow.network"
	"fallow.network/market"
	"fallow.network/settle"
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
				"flood": r.Declines[fallow.ReasonRateLimited] + r.Declines[fallow.ReasonExposure], "lie": r.Caught, "never-pay": r.Ends[fallow.ReasonTenantGone],
				"overcommit": r.Left[fallow.ReasonTimeout] + r.Declines[fallow.ReasonNoCapacity] + r.Leases, "replay": r.Skips[fallow.ReasonVoucherReplayed], "reuse-offer": r.Skips[fallow.ReasonOfferUsed],
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

// payTwice pays every payout a second time out of others' escrow.
type payTwice struct{ ledger }

func (b payTwice) EndBlock(at settle.Block) ([]settle.Effect, error) {
	effects, err := b.ledger.EndBlock(at)
	for _, e := range slices.Clone(effects) {
		if m, ok := e.(market.Move); ok {
			effects = append(effects, m)
		}
	}
	return effects, err
}

// redeemAgain books what a voucher is worth again, as if it were not
// cumulative.
type redeemAgain struct{ ledger }

func (b redeemAgain) Redeem(at settle.Block, signer fallow.Account, v []market.Signed, s []fallow.LeaseID) ([]settle.Result, []settle.Effect, error) {
	results, effects, err := b.ledger.Redeem(at, signer, v, s)
	return results, append(effects, effects...), err
}

// mint gives a depositor its coins back.
type mint struct{ ledger }

func (b mint) Redeem(at settle.Block, signer fallow.Account, v []market.Signed, s []fallow.LeaseID) ([]settle.Result, []settle.Effect, error) {
	results, effects, err := b.ledger.Redeem(at, signer, v, s)
	return results, append(effects, market.Move{From: settle.EscrowPool, To: "a stranger", Denom: fallow.CreditDenom, Amount: 1}), err
}

// silent ends leases without a reason.
type silent struct{ ledger }

func (b silent) Close(at settle.Block, signer fallow.Account, ids []fallow.LeaseID, why fallow.Reason) ([]settle.Result, []settle.Effect, error) {
	results, effects, err := b.ledger.Close(at, signer, ids, why)
	for i, e := range effects {
		if c, ok := e.(settle.Changed); ok {
			c.Reason = ""
			effects[i] = c
		}
	}
	return results, effects, err
}

func TestBrokenRulesAreNoticed(t *testing.T) {
	for _, c := range []struct {
		invariant string
		wrap      func(ledger) ledger
	}{
		{"no provider is paid twice", func(l ledger) ledger { return payTwice{l} }},
		{"no provider is paid above its voucher", func(l ledger) ledger { return redeemAgain{l} }},
		{"the books add up", func(l ledger) ledger { return mint{l} }},
		{"every lease ends with a reason", func(l ledger) ledger { return silent{l} }},
	} {
		t.Run(c.invariant, func(t *testing.T) {
			o := small(5, Share{"withhold", 10})
			o.wrap = c.wrap
			_, err := Run(context.Background(), o)
			var b *Breach
			if !errors.As(err, &b) || b.Invariant != c.invariant {
				t.Fatalf("got %v", err)
			}
			want := "fallow sim --seed 5 --providers 40 --tenants 8 --for 4h0m0s --adversaries withhold=10"
			if b.Command != want || !strings.Contains(b.Error(), want) || b.At <= 0 {
				t.Errorf("%v: want it to say %q", b, want)
			}
		})
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
