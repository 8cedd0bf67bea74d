package hub

import (
	"math/bits"
	"slices"

	hubv1 "fallow.network/api/hub"
	"fallow.network/market"
)

// index finds who could serve a demand. Each offerer has a small number; each
// word that an offerer announces (a class, a region, key=value) has the set of
// numbers that announce it. A demand intersects sets and checks resources of
// what is left, beginning at a random place, until it has enough: some ten
// microseconds among 100,000. It is not safe for concurrent use.
type index struct {
	entries []*entry // by number; nil is free
	free    []int32
	count   int
	sets    map[term]*set
	// Resources by number, packed so that a scan is one walk through memory.
	cpu  []uint32
	gpus []uint32
	mem  []uint64
	disk []uint64

	acc, tmp []uint64 // of match
}

// entry is one offerer and its session.
type entry struct {
	offerer
	number  int32
	terms   []term
	session *session
}

type kind uint8

const (
	kindClass kind = iota
	kindProfile
	kindRegion
	kindAttribute
	kindGPU
	kindProvider
)

type term struct {
	kind       kind
	word, more string
}

func newIndex() *index { return &index{sets: map[term]*set{}} }

func (o offerer) words() []term {
	out := []term{{kindProvider, string(o.provider), ""}, {kindRegion, o.region, ""}}
	for _, c := range o.classes {
		out = append(out, term{kindClass, c, ""})
	}
	for _, p := range o.profiles {
		out = append(out, term{kindProfile, p, ""})
	}
	for _, a := range o.attrs {
		out = append(out, term{kindAttribute, a.Key, a.Value})
	}
	if o.slot.GPUs > 0 {
		out = append(out, term{kindGPU, o.slot.GPUModel, ""})
	}
	return out
}

func (x *index) add(o offerer, s *session) *entry {
	e := &entry{offerer: o, session: s, terms: o.words()}
	if n := len(x.free); n > 0 {
		e.number = x.free[n-1]
		x.free = x.free[:n-1]
	} else {
		e.number = int32(len(x.entries))
		x.entries = append(x.entries, nil)
		x.cpu, x.gpus = append(x.cpu, 0), append(x.gpus, 0)
		x.mem, x.disk = append(x.mem, 0), append(x.disk, 0)
	}
	i := e.number
	x.entries[i] = e
	x.cpu[i], x.gpus[i], x.mem[i], x.disk[i] = o.slot.MilliCPU, o.slot.GPUs, o.slot.Memory, o.slot.Disk
	x.count++
	for _, t := range e.terms {
		s := x.sets[t]
		if s == nil {
			s = &set{}
			x.sets[t] = s
		}
		s.add(i)
	}
	return e
}

func (x *index) remove(e *entry) {
	if x.entries[e.number] != e {
		return
	}
	x.entries[e.number] = nil
	x.free = append(x.free, e.number)
	x.count--
	for _, t := range e.terms {
		if s := x.sets[t]; s != nil {
			s.remove(e.number)
			if s.n == 0 {
				delete(x.sets, t)
			}
		}
	}
}

// match gives at most limit offerers that could serve d, from a place that
// chance picks.
func (x *index) match(d market.Demand, limit int, chance uint64) []*entry {
	must := []term{{kindClass, string(d.Class), ""}}
	if d.Profile != "" {
		must = append(must, term{kindProfile, d.Profile, ""})
	}
	for _, a := range d.Placement.Attributes {
		must = append(must, term{kindAttribute, a.Key, a.Value})
	}
	if d.Slot.GPUs > 0 && d.Slot.GPUModel != "" {
		must = append(must, term{kindGPU, d.Slot.GPUModel, ""})
	}
	sets := make([]*set, 0, len(must))
	for _, t := range must {
		s := x.sets[t]
		if s == nil {
			return nil
		}
		sets = append(sets, s)
	}
	// The rarest first: it decides how much is looked at.
	slices.SortFunc(sets, func(a, b *set) int { return a.n - b.n })
	words := (len(x.entries) + 63) / 64
	x.acc = sized(x.acc, words)
	sets[0].copyTo(x.acc)
	for _, s := range sets[1:] {
		s.andInto(x.acc)
	}
	x.any(kindRegion, d.Placement.Regions)
	if len(d.Placement.Providers) > 0 {
		names := make([]string, len(d.Placement.Providers))
		for i, p := range d.Placement.Providers {
			names[i] = string(p)
		}
		x.any(kindProvider, names)
	}
	for _, p := range d.Placement.Excluded {
		if s := x.sets[term{kindProvider, string(p), ""}]; s != nil {
			s.andNotInto(x.acc)
		}
	}
	return x.collect(d.Slot, limit, chance)
}

// any keeps those that announce one of the names; no names keep all.
func (x *index) any(k kind, names []string) {
	if len(names) == 0 {
		return
	}
	x.tmp = sized(x.tmp, len(x.acc))
	for _, name := range names {
		if s := x.sets[term{k, name, ""}]; s != nil {
			s.orInto(x.tmp)
		}
	}
	for i := range x.acc {
		x.acc[i] &= x.tmp[i]
	}
}

func (x *index) collect(want market.Resources, limit int, chance uint64) []*entry {
	var out []*entry
	words := len(x.acc)
	if words == 0 {
		return nil
	}
	start := int(chance % uint64(len(x.entries)))
	// The first word is visited twice: its upper half first, its lower last.
	for k := 0; k <= words && len(out) < limit; k++ {
		w := (start/64 + k) % words
		v := x.acc[w]
		switch k {
		case 0:
			v &= ^uint64(0) << (start % 64)
		case words:
			v &= 1<<(start%64) - 1
		}
		for ; v != 0 && len(out) < limit; v &= v - 1 {
			i := w*64 + bits.TrailingZeros64(v)
			if x.cpu[i] >= want.MilliCPU && x.mem[i] >= want.Memory && x.disk[i] >= want.Disk && x.gpus[i] >= want.GPUs {
				out = append(out, x.entries[i])
			}
		}
	}
	return out
}

// sample gives at most limit announcements from a random place on.
func (x *index) sample(limit int, chance uint64) []*hubv1.Announcement {
	if x.count == 0 {
		return nil
	}
	out := make([]*hubv1.Announcement, 0, min(limit, x.count))
	start := int(chance % uint64(len(x.entries)))
	for k := 0; k < len(x.entries) && len(out) < limit; k++ {
		if e := x.entries[(start+k)%len(x.entries)]; e != nil {
			out = append(out, e.told)
		}
	}
	return out
}

func sized(b []uint64, n int) []uint64 {
	if cap(b) < n {
		return make([]uint64, n, n+n/4)
	}
	b = b[:n]
	clear(b)
	return b
}

// Where a set changes its form: many rare words must not cost a bit for every
// offerer each.
const (
	denseFrom = 1024
	denseTo   = 256
)

// set is a set of numbers: a map while small, bits when large.
type set struct {
	n    int
	few  map[int32]struct{}
	bits []uint64
}

func (s *set) add(i int32) {
	if s.has(i) {
		return // a word that is announced twice
	}
	s.n++
	if s.bits == nil {
		if s.few == nil {
			s.few = map[int32]struct{}{}
		}
		s.few[i] = struct{}{}
		if s.n < denseFrom {
			return
		}
		few := s.few
		s.few = nil
		for j := range few {
			s.set(j)
		}
		return
	}
	s.set(i)
}

func (s *set) set(i int32) {
	for int(i)/64 >= len(s.bits) {
		s.bits = append(s.bits, 0)
	}
	s.bits[i/64] |= 1 << (i % 64)
}

func (s *set) has(i int32) bool {
	if s.bits == nil {
		_, ok := s.few[i]
		return ok
	}
	return int(i)/64 < len(s.bits) && s.bits[i/64]>>(i%64)&1 == 1
}

func (s *set) remove(i int32) {
	if !s.has(i) {
		return
	}
	s.n--
	if s.bits == nil {
		delete(s.few, i)
		return
	}
	s.bits[i/64] &^= 1 << (i % 64)
	if s.n > denseTo {
		return
	}
	s.few = make(map[int32]struct{}, s.n)
	for w, v := range s.bits {
		for ; v != 0; v &= v - 1 {
			s.few[int32(w*64+bits.TrailingZeros64(v))] = struct{}{}
		}
	}
	s.bits = nil
}

// copyTo fills acc, which is empty, with the set.
func (s *set) copyTo(acc []uint64) { s.orInto(acc) }

func (s *set) orInto(acc []uint64) {
	if s.bits != nil {
		for i, v := range s.bits {
			acc[i] |= v
		}
		return
	}
	for i := range s.few {
		acc[i/64] |= 1 << (i % 64)
	}
}

func (s *set) andInto(acc []uint64) {
	if s.bits != nil {
		n := copyAnd(acc, s.bits)
		clear(acc[n:])
		return
	}
	// Only what is in the small set may stay.
	kept := make([]int32, 0, len(s.few))
	for i := range s.few {
		if acc[i/64]>>(i%64)&1 == 1 {
			kept = append(kept, i)
		}
	}
	clear(acc)
	for _, i := range kept {
		acc[i/64] |= 1 << (i % 64)
	}
}

func copyAnd(acc, with []uint64) int {
	n := min(len(acc), len(with))
	for i := range n {
		acc[i] &= with[i]
	}
	return n
}

func (s *set) andNotInto(acc []uint64) {
	if s.bits != nil {
		for i, v := range s.bits {
			acc[i] &^= v
		}
		return
	}
	for i := range s.few {
		acc[i/64] &^= 1 << (i % 64)
	}
}
