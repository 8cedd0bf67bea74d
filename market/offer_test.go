package market

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"fallow.network"
)

func answered() (Offer, fallow.Digest, Demand) {
	d := Demand{
		Tenant: "t1", Kind: KindBatch, Profile: "p", Slots: 4, Workload: fallow.Sum([]byte("w")),
		Slot: Resources{MilliCPU: 1000, Memory: 1 << 28},
	}
	id := fallow.Sum([]byte("d"))
	return Offer{
		Demand: id, Tenant: "t1", Provider: "p1", Kind: KindBatch, Workload: d.Workload, Profile: "p", LastHeight: 11,
		Terms: Terms{Slots: 2, Slot: d.Slot, MaxReserve: 100, UnpaidCeiling: 10},
	}, id, d
}

func TestCheckOffer(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Offer, *Demand)
		want   error
	}{
		{"sound", func(*Offer, *Demand) {}, nil},
		{"another demand", func(o *Offer, _ *Demand) { o.Demand[0]++ }, ErrOtherDemand},
		{"another workload", func(o *Offer, _ *Demand) { o.Workload[0]++ }, ErrOtherDemand},
		{"another tenant", func(o *Offer, _ *Demand) { o.Tenant = "t2" }, ErrOtherTenant},
		{"another kind", func(o *Offer, _ *Demand) { o.Kind = KindService }, ErrUnsupported},
		{"another profile", func(o *Offer, _ *Demand) { o.Profile = "q" }, ErrUnsupported},
		{"expired", func(o *Offer, _ *Demand) { o.LastHeight = 10 }, ErrExpired},
		{"excluded", func(_ *Offer, d *Demand) { d.Placement.Excluded = []fallow.Account{"p1"} }, ErrPlacement},
		{"not among", func(_ *Offer, d *Demand) { d.Placement.Providers = []fallow.Account{"p2"} }, ErrPlacement},
		{"small slot", func(o *Offer, _ *Demand) { o.Terms.Slot.Memory-- }, ErrTerms},
		{"more slots", func(o *Offer, _ *Demand) { o.Terms.Slots = 5 }, ErrTerms},
		{"no reserve", func(o *Offer, _ *Demand) { o.Terms.MaxReserve = 0 }, ErrTerms},
		{"no ceiling", func(o *Offer, _ *Demand) { o.Terms.UnpaidCeiling = 0 }, ErrTerms},
	}
	for _, tt := range tests {
		o, id, d := answered()
		tt.change(&o, &d)
		err := CheckOffer(o, id, d, Block{Height: 10})
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
		var no *Refusal
		if err != nil && (!errors.As(err, &no) || !no.Reason.Known()) {
			t.Errorf("%s: no typed reason in %v", tt.name, err)
		}
	}
}

func TestPlacementAdmits(t *testing.T) {
	has := []Attribute{{"arch", "amd64"}, {"tier", "home"}}
	tests := []struct {
		p    Placement
		want bool
	}{
		{Placement{}, true},
		{Placement{Regions: []string{"eu", "us"}}, true},
		{Placement{Regions: []string{"us"}}, false},
		{Placement{Attributes: []Attribute{{"arch", "amd64"}}}, true},
		{Placement{Attributes: []Attribute{{"arch", "arm64"}}}, false},
		{Placement{Attributes: []Attribute{{"arch", "amd64"}, {"gpu", "yes"}}}, false},
		{Placement{Providers: []fallow.Account{"p2", "p1"}}, true},
		{Placement{Providers: []fallow.Account{"p1"}, Excluded: []fallow.Account{"p1"}}, false},
	}
	for _, tt := range tests {
		if got := tt.p.Admits("p1", "eu", has); got != tt.want {
			t.Errorf("%+v: %v", tt.p, got)
		}
	}
}

func candidate(name string, price uint64) Candidate {
	return Candidate{
		ID:    fallow.Sum([]byte(name)),
		Offer: Offer{Provider: fallow.Account(name), Kind: KindBatch, Terms: Terms{GasPrice: fallow.PicoOf(price)}},
	}
}

func TestRank(t *testing.T) {
	work := Work{Tasks: 10, Gas: 1_000_000}
	cheap, dear, proven := candidate("cheap", 100), candidate("dear", 400), candidate("proven", 130)
	proven.StandingPPM = 1_000_000
	got := Rank([]Candidate{dear, cheap, proven}, work, DefaultWeights())
	var names []string
	for _, r := range got {
		names = append(names, string(r.Offer.Provider))
	}
	if strings.Join(names, " ") != "proven cheap dear" {
		t.Errorf("%v", names)
	}
	best := got[1].Score
	if best.Price != 1000 || best.Cost != fallow.PicoOf(1000) || best.Latency != 1000 || best.Locality != 1000 || best.Standing != 0 {
		t.Errorf("%+v", best)
	}
	if got[2].Score.Price != 250 {
		t.Errorf("four times the price has %d points", got[2].Score.Price)
	}
	if s := best.String(); !strings.Contains(s, "0.000000001 credits") {
		t.Errorf("%s", s)
	}
	far, empty := candidate("far", 100), candidate("empty", 100)
	far.LatencyMS = 100
	empty.InputBytes, empty.MissingBytes = 1000, 750
	for _, r := range Rank([]Candidate{far, empty}, work, DefaultWeights()) {
		if r.Offer.Provider == "far" && r.Score.Latency != 500 || r.Offer.Provider == "empty" && r.Score.Locality != 250 {
			t.Errorf("%s: %s", r.Offer.Provider, r.Score)
		}
	}
}

func TestRankDoesNotDependOnOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var list []Candidate
		for i := range rapid.IntRange(1, 8).Draw(t, "n") {
			c := candidate(strings.Repeat("x", i+1), rapid.Uint64().Draw(t, "price"))
			c.Offer.Terms.GasPrice.Hi = rapid.Uint64().Draw(t, "high")
			c.StandingPPM = rapid.Uint32Range(0, 1_000_000).Draw(t, "standing")
			c.LatencyMS = rapid.Uint32().Draw(t, "latency")
			c.InputBytes = rapid.Uint64().Draw(t, "bytes")
			c.MissingBytes = rapid.Uint64().Draw(t, "missing")
			list = append(list, c)
		}
		work := Work{Tasks: rapid.Uint64Range(1, 1000).Draw(t, "tasks"), Gas: fallow.Gas(rapid.Uint64Range(1, 2_000_000).Draw(t, "gas"))}
		a := Rank(list, work, DefaultWeights())
		b := Rank(rapid.Permutation(list).Draw(t, "order"), work, DefaultWeights())
		for i := range a {
			if a[i].ID != b[i].ID || a[i].Score != b[i].Score {
				t.Fatalf("%s and %s at %d", a[i].Score, b[i].Score, i)
			}
			s := a[i].Score
			if s.Total > points || s.Price > points || s.Locality > points || i > 0 && s.Total > a[i-1].Score.Total {
				t.Fatalf("%s behind %s", s, a[max(i, 1)-1].Score)
			}
		}
	})
}

func TestTermsBounds(t *testing.T) {
	sound := Terms{Slots: 1}
	if err := sound.Check(); err != nil {
		t.Fatal(err)
	}
	over, err := MaxPrice.Add(fallow.PicoOf(1))
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Terms){
		"gas price":    func(t *Terms) { t.GasPrice = over },
		"task fee":     func(t *Terms) { t.TaskFee = fallow.Pico{Hi: 1} },
		"odd second":   func(t *Terms) { t.SecondPrice = fallow.PicoOf(999) },
		"odd disk":     func(t *Terms) { t.DiskPrice = fallow.PicoOf(1001) },
		"no slots":     func(t *Terms) { t.Slots = 0 },
		"reserve":      func(t *Terms) { t.MaxReserve = MaxCredits + 1 },
		"claim window": func(t *Terms) { t.ClaimWindowMS = MaxWindowMS + 1 },
		"slot":         func(t *Terms) { t.Slot.GPUs = MaxGPUs + 1 },
	} {
		bad := sound
		change(&bad)
		if !errors.Is(bad.Check(), ErrMalformed) {
			t.Errorf("%s is taken", name)
		}
	}
}
