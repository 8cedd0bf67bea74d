package provider

import (
	"math"
	"slices"
	"sync"
	"time"

	"fallow.network"
	"fallow.network/market"
)

// Least that a slot takes where a demand leaves it open: one core and what an
// engine needs to stand.
const (
	leastMilliCPU = 1000
	leastMemory   = 64 << 20
)

// normal is what a demanded slot takes of this machine.
func normal(r market.Resources) market.Resources {
	if r.MilliCPU == 0 {
		r.MilliCPU = leastMilliCPU
	}
	r.Memory = max(r.Memory, leastMemory)
	return r
}

// claim is capacity that is spoken for, by an offer that is still firm or by
// a lease.
type claim struct {
	tenant  fallow.Account
	slot    market.Resources
	slots   uint32
	reserve fallow.Credits // what the lease may come to hold of the bond
	// lastHeight and until end a hold; a lease has neither.
	lastHeight fallow.Height
	until      time.Time
	running    uint32
}

// capacity is the book of what is lent. Its invariant: what is held and leased
// together never exceeds what there is, nor does what runs, whatever arrives
// at once. Only an adopted lease, which the ledger opened after its hold had
// ended here, may exceed it; then nothing is held until it fits again.
type capacity struct {
	mu     sync.Mutex
	total  market.Resources
	slots  uint32
	holds  map[fallow.Digest]*claim // by the offer's digest
	leases map[fallow.LeaseID]*claim
}

func newCapacity(total market.Resources, slots uint32) *capacity {
	return &capacity{total: total, slots: slots, holds: map[fallow.Digest]*claim{}, leases: map[fallow.LeaseID]*claim{}}
}

// amounts is resources with room for sums.
type amounts struct{ slots, milli, memory, disk, gpus uint64 }

func (a *amounts) add(slot market.Resources, n uint32) {
	a.slots += uint64(n)
	a.milli += uint64(slot.MilliCPU) * uint64(n)
	a.memory += addCap(slot.Memory, n)
	a.disk += addCap(slot.Disk, n)
	a.gpus += uint64(slot.GPUs) * uint64(n)
}

// addCap is v·n, held below what sums of many could overflow.
func addCap(v uint64, n uint32) uint64 {
	const most = math.MaxUint64 / (2 * market.MaxSlots)
	if n > 0 && v > most/uint64(n) {
		return most
	}
	return v * uint64(n)
}

func (c *capacity) limit() amounts {
	return amounts{uint64(c.slots), uint64(c.total.MilliCPU), c.total.Memory, c.total.Disk, uint64(c.total.GPUs)}
}

// used is what is spoken for; the lock is held.
func (c *capacity) used() amounts {
	var a amounts
	for _, h := range c.holds {
		a.add(h.slot, h.slots)
	}
	for _, l := range c.leases {
		a.add(l.slot, l.slots)
	}
	return a
}

// room is how many slots of this size fit beside used.
func (a amounts) room(used amounts, slot market.Resources) uint32 {
	least := uint64(math.MaxUint32)
	for _, d := range []struct{ limit, used, each uint64 }{
		{a.slots, used.slots, 1},
		{a.milli, used.milli, uint64(slot.MilliCPU)},
		{a.memory, used.memory, slot.Memory},
		{a.disk, used.disk, slot.Disk},
		{a.gpus, used.gpus, uint64(slot.GPUs)},
	} {
		if d.each == 0 {
			continue
		}
		if d.used >= d.limit {
			return 0
		}
		least = min(least, (d.limit-d.used)/d.each)
	}
	return uint32(least)
}

// book is what the policy sees of the capacity.
type book struct {
	// Fits says whether one slot of this size could ever run here.
	fits bool
	// Free is how many such slots could be held now.
	free uint32
	// Tenant is how many slots the tenant holds in offers that it has not taken.
	tenant uint32
	// Reserve is what open holds may come to hold of the bond.
	reserve fallow.Credits
}

func (c *capacity) look(tenant fallow.Account, slot market.Resources) book {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := book{
		fits: c.limit().room(amounts{}, slot) > 0 && (slot.GPUModel == "" || slot.GPUModel == c.total.GPUModel),
		free: c.limit().room(c.used(), slot),
	}
	for _, h := range c.holds {
		b.reserve += h.reserve
		if h.tenant == tenant {
			b.tenant += h.slots
		}
	}
	return b
}

// hold speaks for capacity until the offer ends; false when it is gone.
func (c *capacity) hold(offer fallow.Digest, h claim) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, twice := c.holds[offer]; twice || h.slots == 0 || c.limit().room(c.used(), h.slot) < h.slots {
		return false
	}
	c.holds[offer] = &h
	return true
}

// unhold ends a hold whose offer was never sent.
func (c *capacity) unhold(offer fallow.Digest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.holds, offer)
}

// lease turns the hold of an offer into a lease, or adopts one whose hold has
// ended. A second call changes nothing.
func (c *capacity) lease(id fallow.LeaseID, offer fallow.Digest, l claim) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.holds, offer)
	if _, ok := c.leases[id]; !ok {
		l.running = 0
		c.leases[id] = &l
	}
}

// end frees what a lease spoke for. Its tasks must have ended.
func (c *capacity) end(id fallow.LeaseID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.leases, id)
}

// expiring says whether a hold would end at this height.
func (c *capacity) expiring(height fallow.Height) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range c.holds {
		if height > h.lastHeight {
			return true
		}
	}
	return false
}

// expire ends the holds of offers that can't open a lease any more because
// this height is seen.
func (c *capacity) expire(height fallow.Height) []fallow.Digest {
	return c.endHolds(func(h *claim) bool { return height > h.lastHeight })
}

// timeOut ends the holds of offers whose time is over. It stands in for
// expire while no block is seen: an offer is firm as long as the ledger
// counts, and no machine waits for ever.
func (c *capacity) timeOut(now time.Time) []fallow.Digest {
	return c.endHolds(func(h *claim) bool { return now.After(h.until) })
}

func (c *capacity) endHolds(over func(*claim) bool) []fallow.Digest {
	c.mu.Lock()
	defer c.mu.Unlock()
	var ended []fallow.Digest
	for id, h := range c.holds {
		if over(h) {
			delete(c.holds, id)
			ended = append(ended, id)
		}
	}
	slices.SortFunc(ended, func(a, b fallow.Digest) int { return slices.Compare(a[:], b[:]) })
	return ended
}

// start takes a slot for a task of a lease; false when it must wait.
func (c *capacity) start(id fallow.LeaseID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	l, ok := c.leases[id]
	if !ok || l.running >= l.slots {
		return false
	}
	// Where leases fit, so do their tasks; an adopted lease may not fit.
	var a amounts
	for _, other := range c.leases {
		a.add(other.slot, other.running)
	}
	if c.limit().room(a, l.slot) == 0 {
		return false
	}
	l.running++
	return true
}

// stop gives the slot of a task back.
func (c *capacity) stop(id fallow.LeaseID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l, ok := c.leases[id]; ok && l.running > 0 {
		l.running--
	}
}

// Usage is what is spoken for, for people.
type Usage struct {
	Slots       uint32 `json:"slots"`
	SlotsHeld   uint32 `json:"slots_held"`
	SlotsLeased uint32 `json:"slots_leased"`
	Running     uint32 `json:"running"`
	// Lent is what all slots share.
	Lent Lent `json:"lent"`
}

// Lent is resources, for people.
type Lent struct {
	MilliCPU    uint32 `json:"milli_cpu"`
	MemoryBytes uint64 `json:"memory_bytes"`
	DiskBytes   uint64 `json:"disk_bytes"`
	GPUs        uint32 `json:"gpus"`
	GPUModel    string `json:"gpu_model,omitempty"`
}

func lentOf(r market.Resources) Lent { return Lent{r.MilliCPU, r.Memory, r.Disk, r.GPUs, r.GPUModel} }

func (c *capacity) usage() Usage {
	c.mu.Lock()
	defer c.mu.Unlock()
	u := Usage{Slots: c.slots, Lent: lentOf(c.total)}
	for _, h := range c.holds {
		u.SlotsHeld += h.slots
	}
	for _, l := range c.leases {
		u.SlotsLeased += l.slots
		u.Running += l.running
	}
	return u
}
