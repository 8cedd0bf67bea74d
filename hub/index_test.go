package hub

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"fallow.network"
	hubv1 "fallow.network/api/hub"
	"fallow.network/market"
)

// serves is what match must agree with, one offerer at a time.
func serves(o offerer, d market.Demand) bool {
	for _, a := range d.Placement.Attributes {
		if !slices.Contains(o.attrs, a) {
			return false
		}
	}
	p := d.Placement
	return slices.Contains(o.classes, string(d.Class)) && (d.Profile == "" || slices.Contains(o.profiles, d.Profile)) &&
		(len(p.Regions) == 0 || slices.Contains(p.Regions, o.region)) &&
		(len(p.Providers) == 0 || slices.Contains(p.Providers, o.provider)) &&
		!slices.Contains(p.Excluded, o.provider) && d.Slot.Fits(o.slot)
}

func TestMatchAgreesWithARule(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.SampledFrom([]int{0, 1, 63, 64, 65, 300, 3000}).Draw(t, "offerers")
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		x := newIndex()
		var all []*entry
		word := func(kinds int) string { return fmt.Sprintf("w%d", r.IntN(kinds)) }
		account := func() fallow.Account { return fallow.Account(fmt.Sprintf("fal1%d", r.IntN(40))) }
		for range n {
			o := offerer{
				provider: account(), region: word(4), classes: []string{word(3)}, profiles: []string{word(2), word(2)},
				slot: market.Resources{MilliCPU: uint32(r.IntN(4)), Memory: uint64(r.IntN(4)), Disk: uint64(r.IntN(2))},
				told: &hubv1.Announcement{},
			}
			for range r.IntN(4) {
				o.attrs = append(o.attrs, market.Attribute{Key: word(3), Value: word(3)})
			}
			if r.IntN(3) == 0 {
				o.slot.GPUs, o.slot.GPUModel = uint32(1+r.IntN(2)), word(2)
			}
			all = append(all, x.add(o, nil))
			if r.IntN(4) == 0 { // some leave, and their numbers are used again
				i := r.IntN(len(all))
				x.remove(all[i])
				x.remove(all[i])
				all = slices.Delete(all, i, i+1)
			}
		}
		for range 20 {
			d := market.Demand{Class: fallow.Class(word(4)), Slot: market.Resources{MilliCPU: uint32(r.IntN(4)), Memory: uint64(r.IntN(3)), Disk: uint64(r.IntN(2))}}
			if r.IntN(2) == 0 {
				d.Profile = word(3)
			}
			for range r.IntN(3) {
				d.Placement.Regions = append(d.Placement.Regions, word(5))
			}
			if r.IntN(3) == 0 {
				d.Placement.Attributes = append(d.Placement.Attributes, market.Attribute{Key: word(3), Value: word(3)})
			}
			if r.IntN(4) == 0 {
				d.Placement.Providers = []fallow.Account{account(), account()}
			}
			for range r.IntN(3) {
				d.Placement.Excluded = append(d.Placement.Excluded, account())
			}
			if r.IntN(4) == 0 {
				d.Slot.GPUs = uint32(1 + r.IntN(2))
				if r.IntN(2) == 0 {
					d.Slot.GPUModel = word(2)
				}
			}
			want := map[*entry]bool{}
			for _, e := range all {
				if serves(e.offerer, d) {
					want[e] = true
				}
			}
			got := x.match(d, 1<<20, r.Uint64())
			if len(got) != len(want) {
				t.Fatalf("match gave %d of %d", len(got), len(want))
			}
			for _, e := range got {
				if !want[e] {
					t.Fatalf("match gave one that can't serve, or one twice")
				}
				delete(want, e)
			}
			limit := 1 + r.IntN(5)
			if few := x.match(d, limit, r.Uint64()); len(few) != min(limit, len(got)) {
				t.Fatalf("match with a limit of %d gave %d of %d", limit, len(few), len(got))
			}
		}
		if got := x.sample(1<<20, r.Uint64()); len(got) != len(all) {
			t.Fatalf("sample gave %d of %d", len(got), len(all))
		}
		for _, e := range all {
			x.remove(e)
		}
		if len(x.sets) > 0 || x.count != 0 {
			t.Fatalf("an empty index keeps %d sets", len(x.sets))
		}
	})
}

// BenchmarkMatch: a demand against 100,000 announcements, of which many, few
// or none could serve it.
func BenchmarkMatch(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	x := newIndex()
	for i := range 100_000 {
		o := offerer{
			provider: fallow.Account(fmt.Sprintf("fal1%d", i)), region: fmt.Sprintf("r%d", r.IntN(30)), classes: []string{"wasm"},
			profiles: []string{"fallow/wasm/1"}, slot: market.Resources{MilliCPU: uint32(1000 + r.IntN(31000)), Memory: 1 << 32, Disk: 1 << 35},
			attrs: []market.Attribute{{Key: "arch", Value: []string{"amd64", "arm64"}[r.IntN(2)]}, {Key: "name", Value: fmt.Sprint(i)}},
			told:  &hubv1.Announcement{},
		}
		x.add(o, nil)
	}
	base := market.Demand{Class: "wasm", Profile: "fallow/wasm/1", Slot: market.Resources{MilliCPU: 1000}}
	some := base
	some.Placement.Regions = []string{"r1", "r2", "r3"}
	some.Placement.Attributes = []market.Attribute{{Key: "arch", Value: "arm64"}}
	rare := some
	rare.Slot.MilliCPU = 31990
	one := base
	one.Placement.Attributes = []market.Attribute{{Key: "name", Value: "77777"}}
	none := base
	none.Slot.MilliCPU = 1 << 20
	for _, c := range []struct {
		name string
		d    market.Demand
	}{{"many", base}, {"some", some}, {"rare", rare}, {"one", one}, {"none", none}} {
		b.Run(c.name, func(b *testing.B) {
			n := 0
			for b.Loop() {
				n = len(x.match(c.d, 512, r.Uint64()))
			}
			b.ReportMetric(float64(n), "found")
		})
	}
}
