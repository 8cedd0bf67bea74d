package provider

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"fallow.network"
	"fallow.network/market"
	"fallow.network/spec"
)

const (
	testOwner  fallow.Account = "fal1rqqvc8vxyfp9e0vpzth9qc3vt9wme6wvm3jgdg"
	testTenant fallow.Account = "fal1a"
)

// asked is a demand and a situation that get an offer.
func asked() (market.Demand, situation) {
	d := market.Demand{
		Tenant: testTenant, Kind: market.KindBatch, Class: fallow.ClassWASM, Profile: spec.ProfileWASM,
		Slots: 4, Expires: 2000, Seconds: 60,
	}
	return d, situation{
		now: 1000, me: testOwner, total: 8, book: book{fits: true, free: 8}, free: fallow.Credits(10_000_000).Pico(),
		ceiling: 1_000_000_000, speed: 500_000_000,
	}
}

func TestDecideReasons(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(*Config, *market.Demand, *situation)
		want fallow.Reason
		say  string
	}{
		{"an offer", func(*Config, *market.Demand, *situation) {}, "", ""},
		{"expired", func(_ *Config, d *market.Demand, s *situation) { s.now = d.Expires }, fallow.ReasonExpired, "before it was read"},
		{"a service", func(_ *Config, d *market.Demand, _ *situation) { d.Kind = market.KindService }, fallow.ReasonUnsupported, "wasm"},
		{"another class", func(_ *Config, d *market.Demand, _ *situation) { d.Class = "oci" }, fallow.ReasonUnsupported, "wasm"},
		{"another profile", func(_ *Config, d *market.Demand, _ *situation) { d.Profile = "wasm/9" }, fallow.ReasonUnsupported, spec.ProfileWASM},
		{"named others", func(_ *Config, d *market.Demand, _ *situation) { d.Placement.Providers = []fallow.Account{"x"} }, fallow.ReasonPlacement, "other providers"},
		{"named me", func(_ *Config, d *market.Demand, _ *situation) {
			d.Placement.Providers = []fallow.Account{"x", testOwner}
		}, "", ""},
		{"excluded", func(_ *Config, d *market.Demand, _ *situation) { d.Placement.Excluded = []fallow.Account{testOwner} }, fallow.ReasonPlacement, "other providers"},
		{"region", func(c *Config, d *market.Demand, _ *situation) { c.Region, d.Placement.Regions = "eu", []string{"us"} }, fallow.ReasonPlacement, `"eu"`},
		{"attribute", func(c *Config, d *market.Demand, _ *situation) {
			c.Attributes = map[string]string{"tier": "home"}
			d.Placement.Attributes = []market.Attribute{{Key: "tier", Value: "rack"}}
		}, fallow.ReasonPlacement, "tier"},
		{"paused", func(_ *Config, _ *market.Demand, s *situation) { s.gate, s.detail = fallow.ReasonPaused, "why" }, fallow.ReasonPaused, "why"},
		{"too large", func(_ *Config, _ *market.Demand, s *situation) { s.book.fits = false }, fallow.ReasonTooLarge, "does not fit"},
		{"taken", func(_ *Config, _ *market.Demand, s *situation) { s.book.free = 0 }, fallow.ReasonNoCapacity, "held or leased"},
		{"poor", func(_ *Config, _ *market.Demand, s *situation) { s.free = fallow.PicoOf(5) }, fallow.ReasonUnfunded, "more"},
		{"greedy", func(_ *Config, _ *market.Demand, s *situation) { s.book.tenant = 8 }, fallow.ReasonRateLimited, "not taken"},
		{"exposed", func(_ *Config, _ *market.Demand, s *situation) { s.exposure = s.ceiling }, fallow.ReasonExposure, "half the bond"},
		{"exposed by offers", func(_ *Config, _ *market.Demand, s *situation) { s.book.reserve = s.ceiling - 10 }, fallow.ReasonExposure, "below the unpaid ceiling"},
		{"exposure overflows", func(_ *Config, _ *market.Demand, s *situation) { s.exposure, s.book.reserve = 1<<63, 1<<63 }, fallow.ReasonExposure, ""},
		{"no bond", func(_ *Config, _ *market.Demand, s *situation) { s.ceiling = 0 }, fallow.ReasonExposure, ""},
	} {
		cfg := Default()
		d, s := asked()
		c.edit(&cfg, &d, &s)
		terms, no := cfg.decide(d, s)
		switch {
		case c.want == "" && no != nil:
			t.Errorf("%s: %s %s", c.name, no.Reason, no.Detail)
		case c.want != "" && (no == nil || no.Reason != c.want || !strings.Contains(no.Detail, c.say)):
			t.Errorf("%s: %+v, want %s with %q", c.name, no, c.want, c.say)
		case c.want == "":
			if err := terms.Check(); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
		}
	}
}

func TestTermsFollowTheConfig(t *testing.T) {
	cfg := Default()
	d, s := asked()
	terms, no := cfg.decide(d, s)
	if no != nil {
		t.Fatal(no)
	}
	if terms.GasPrice != cfg.Prices.MegaGas || terms.TaskFee != cfg.Prices.Task || terms.Slots != 4 ||
		terms.ClaimWindowMS != 600_000 || terms.IdleMS != 120_000 || terms.UnpaidCeiling != 50_000 || terms.MaxReserve != 100_000_000 {
		t.Errorf("%+v", terms)
	}
	// Half the free slots may take half of what the bond has free.
	s.ceiling, s.exposure = 100_000_000, 20_000_000
	if terms, _ = cfg.decide(d, s); terms.MaxReserve != 40_000_000 {
		t.Errorf("max reserve %d", terms.MaxReserve)
	}
	cfg.Prices.Floor = fallow.PicoOf(99_999)
	if terms, _ = cfg.decide(d, s); terms.GasPrice != cfg.Prices.Floor {
		t.Errorf("below the floor: %s", terms.GasPrice)
	}
	// Without a price per gas, a core-second and its memory at 500 Mgas a second.
	cfg = Default()
	cfg.Prices.MegaGas, cfg.Prices.Floor = fallow.Pico{}, fallow.Pico{}
	d.Slot = market.Resources{MilliCPU: 2000, Memory: 4 << 30}
	want := fallow.PicoOf((2*4_000_000+4*500_000)/500 + 1)
	if terms, _ = cfg.decide(d, s); terms.GasPrice != want {
		t.Errorf("gas price %s, want %s", terms.GasPrice, want)
	}
}

func TestAllowanceFollowsHabitAndBalance(t *testing.T) {
	cfg := Default()
	d, s := asked()
	d.Slots = 100
	for _, c := range []struct {
		name          string
		offers, taken uint64
		slots         uint32
	}{
		{"a stranger", 0, 0, 8},
		{"takes all", 20, 20, 8},
		{"takes half", 20, 10, 5},
		{"never takes", 20, 0, 1},
	} {
		s.offers, s.taken = c.offers, c.taken
		if terms, no := cfg.decide(d, s); no != nil || terms.Slots != c.slots {
			t.Errorf("%s: %d slots (%v), want %d", c.name, terms.Slots, no, c.slots)
		}
	}
	// 60 s at 500 Mgas a second and 4000 pico-credits for a Mgas: 0.00012 a slot.
	s.offers, s.taken = 0, 0
	for micro, slots := range map[fallow.Credits]uint32{120: 1, 250: 2, 480: 4, 1_000_000: 8} {
		s.free = micro.Pico()
		if terms, no := cfg.decide(d, s); no != nil || terms.Slots != slots {
			t.Errorf("%d ucredit: %d slots (%v), want %d", micro, terms.Slots, no, slots)
		}
	}
	s.free = fallow.Credits(119).Pico()
	if _, no := cfg.decide(d, s); no == nil || no.Reason != fallow.ReasonUnfunded {
		t.Errorf("119 ucredit: %+v", no)
	}
}

// TestPolicyHoldsItsBounds: whatever comes in, terms are sound and promise no
// more than there is.
func TestPolicyHoldsItsBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := Default()
		cfg.Prices.MegaGas = fallow.PicoOf(rapid.Uint64Max(maxUnitPrice.Lo).Draw(t, "gas"))
		cfg.Prices.CoreSecond = fallow.PicoOf(rapid.Uint64Max(maxUnitPrice.Lo).Draw(t, "core"))
		cfg.Prices.Floor = fallow.PicoOf(rapid.Uint64Max(maxUnitPrice.Lo).Draw(t, "floor"))
		d, s := asked()
		d.Slots = rapid.Uint32Range(1, market.MaxSlots).Draw(t, "slots")
		d.Seconds = rapid.Uint32().Draw(t, "seconds")
		d.Slot.MilliCPU = rapid.Uint32Range(0, market.MaxMilliCPU).Draw(t, "milli")
		d.Slot.Memory = rapid.Uint64Range(0, market.MaxBytes).Draw(t, "memory")
		s.total = rapid.Uint32Range(1, 10_000).Draw(t, "total")
		s.book.free = rapid.Uint32Range(1, s.total).Draw(t, "free")
		s.book.tenant = rapid.Uint32Range(0, s.total).Draw(t, "held")
		s.book.reserve = fallow.Credits(rapid.Uint64Max(1<<40).Draw(t, "reserve"))
		s.exposure = fallow.Credits(rapid.Uint64Max(1<<40).Draw(t, "exposure"))
		s.ceiling = fallow.Credits(rapid.Uint64Max(1<<60).Draw(t, "ceiling"))
		s.free = fallow.Pico{Hi: rapid.Uint64().Draw(t, "hi"), Lo: rapid.Uint64().Draw(t, "lo")}
		s.offers = rapid.Uint64Range(0, maxRate).Draw(t, "offers")
		s.taken = rapid.Uint64Range(0, s.offers).Draw(t, "taken")
		s.speed = rapid.Uint64().Draw(t, "speed")
		terms, no := cfg.decide(d, s)
		if no != nil {
			if !no.Reason.Known() || no.Detail == "" {
				t.Fatalf("%+v", no)
			}
			return
		}
		if err := terms.Check(); err != nil {
			t.Fatal(err)
		}
		if terms.Slots > s.book.free || terms.Slots > d.Slots || terms.Slots+s.book.tenant > s.total {
			t.Fatalf("%d slots", terms.Slots)
		}
		if terms.GasPrice.Cmp(cfg.Prices.Floor) < 0 {
			t.Fatal("below the floor")
		}
		if s.exposure+s.book.reserve+terms.MaxReserve > s.ceiling {
			t.Fatal("beyond half the bond")
		}
	})
}
