package market

import (
	"fmt"
	"math/bits"
	"slices"

	"fallow.network"
)

// Rates are what a provider asks. Zero rates ask nothing.
type Rates struct {
	// CoreSecond, GiBSecond, DiskGiBSecond and GPUSecond are for a second of
	// one core, one GiB of memory, one GiB of disk and one GPU.
	CoreSecond    fallow.Pico
	GiBSecond     fallow.Pico
	DiskGiBSecond fallow.Pico
	GPUSecond     fallow.Pico
	// Gas is for 1,000,000 gas; zero derives it from the slot's seconds and
	// its measured speed.
	Gas fallow.Pico
	// GasFloor is the least for 1,000,000 gas, however it was made.
	GasFloor fallow.Pico
	// Task is for each task, whatever its gas.
	Task fallow.Pico
}

// Policy is what a provider's owner decided.
type Policy struct {
	Provider   fallow.Account
	Region     string
	Attributes []Attribute
	Kinds      []Kind
	Classes    []fallow.Class
	Profiles   []string
	Rates      Rates

	MaxSlots      uint32 // for one lease; zero is what fits
	UnpaidCeiling fallow.Credits
	MaxReserve    fallow.Credits
	ClaimWindowMS uint64
	IdleMS        uint64
	// LeastSpeedPPM is which share of the measured speed is promised.
	LeastSpeedPPM uint32
	// HoldSeconds of its slots' price must be free in a tenant's escrow for
	// capacity to be held.
	HoldSeconds uint32
	// SlotsUnproven bounds the slots held for a tenant that has not taken
	// up what it asked for before; zero doesn't.
	SlotsUnproven uint32

	Paused   bool
	Draining bool
}

// Situation is how things stand at a provider when a demand comes.
type Situation struct {
	Whole Resources // lent in all
	Free  Resources // of that, not held or leased
	Speed uint64    // measured gas a second of one core; zero when not known
	// TenantFree is the free balance of the tenant's escrow.
	TenantFree fallow.Credits
	// Proven says whether the tenant takes up what it asks for.
	Proven bool
	// Room is what may be opened before half the bond is reached.
	Room fallow.Credits
	Now  fallow.Time
}

// Quote is the provider's answer to a demand: terms to hold capacity for and
// to sign, or the reason for none. The detail is for people.
func Quote(p Policy, s Situation, d Demand) (t Terms, reason fallow.Reason, detail string) {
	switch {
	case p.Paused:
		return Terms{}, fallow.ReasonPaused, ""
	case p.Draining:
		return Terms{}, fallow.ReasonDraining, ""
	case d.Expires <= s.Now:
		return Terms{}, fallow.ReasonExpired, ""
	case !slices.Contains(p.Kinds, d.Kind) || !slices.Contains(p.Classes, d.Class):
		return Terms{}, fallow.ReasonUnsupported, fmt.Sprintf("no %s of class %s here", d.Kind, d.Class)
	case !slices.Contains(p.Profiles, d.Profile):
		return Terms{}, fallow.ReasonUnsupported, fmt.Sprintf("profile %q is not offered", d.Profile)
	case !d.Placement.Admits(p.Provider, p.Region, p.Attributes):
		return Terms{}, fallow.ReasonPlacement, ""
	case !d.Slot.Fits(s.Whole):
		return Terms{}, fallow.ReasonTooLarge, fmt.Sprintf("a slot of %s on a machine that lends %s", d.Slot, s.Whole)
	}
	slots := fitting(s.Free, d.Slot, d.Slots)
	if p.MaxSlots > 0 {
		slots = min(slots, p.MaxSlots)
	}
	if slots == 0 {
		return Terms{}, fallow.ReasonNoCapacity, ""
	}
	t, err := p.Rates.terms(d, s.Speed)
	if err != nil {
		return Terms{}, fallow.ReasonTooLarge, "the price is out of bounds"
	}
	if !s.Proven && p.SlotsUnproven > 0 {
		slots = min(slots, p.SlotsUnproven)
	}
	if slots = funded(p, s, t, slots); slots == 0 {
		return Terms{}, fallow.ReasonUnfunded, fmt.Sprintf("%s credits are free in escrow", s.TenantFree)
	}
	if s.Room == 0 {
		return Terms{}, fallow.ReasonExposure, ""
	}
	t.Slots, t.Slot = slots, d.Slot
	t.MaxReserve = min(p.MaxReserve, s.Room, MaxCredits)
	t.UnpaidCeiling = min(p.UnpaidCeiling, t.MaxReserve)
	t.ClaimWindowMS, t.IdleMS = p.ClaimWindowMS, p.IdleMS
	t.LeastSpeed = promised(t.LeastSpeed, p.LeastSpeedPPM)
	return t, "", ""
}

// terms are the prices for a demand on slots of that speed a core.
func (r Rates) terms(d Demand, coreSpeed uint64) (Terms, error) {
	var t Terms
	second, disk, err := r.slotSecond(d.Slot)
	if err != nil {
		return t, err
	}
	if d.Kind == KindService {
		t.SecondPrice, err = wholeMS(second)
		if err != nil {
			return t, err
		}
		t.DiskPrice, err = wholeMS(disk)
		return t, boundedPrices(t, err)
	}
	t.TaskFee, t.GasPrice = r.Task, r.Gas
	speed := slotSpeed(d.Slot, coreSpeed)
	t.LeastSpeed = speed
	if r.Gas.IsZero() && speed > 0 {
		// The slot's second buys speed gas: round up, a provider does not
		// ask for less than its rates.
		if t.GasPrice, err = second.MulDiv(1_000_000, speed); err != nil {
			return t, err
		}
		if back, err := t.GasPrice.MulDiv(speed, 1_000_000); err == nil && back.Cmp(second) < 0 {
			if t.GasPrice, err = t.GasPrice.Add(fallow.PicoOf(1)); err != nil {
				return t, err
			}
		}
	}
	if t.GasPrice.Cmp(r.GasFloor) < 0 {
		t.GasPrice = r.GasFloor
	}
	return t, boundedPrices(t, nil)
}

// slotSecond is what a second of a slot costs, and of its disk alone.
func (r Rates) slotSecond(slot Resources) (second, disk fallow.Pico, err error) {
	const gib = 1 << 30
	parts := []struct {
		price fallow.Pico
		n, of uint64
	}{
		{r.DiskGiBSecond, slot.Disk, gib},
		{r.CoreSecond, uint64(slot.MilliCPU), 1000},
		{r.GiBSecond, slot.Memory, gib},
		{r.GPUSecond, uint64(slot.GPUs), 1},
	}
	for i, p := range parts {
		cost, err := p.price.MulDiv(p.n, p.of)
		if err != nil {
			return second, disk, err
		}
		if second, err = second.Add(cost); err != nil {
			return second, disk, err
		}
		if i == 0 {
			disk = cost
		}
	}
	return second, disk, nil
}

// slotSpeed is the gas a second of one task on a slot: a task runs on one core
// at most.
func slotSpeed(slot Resources, coreSpeed uint64) uint64 {
	hi, lo := bits.Mul64(coreSpeed, uint64(min(slot.MilliCPU, 1000)))
	if slot.MilliCPU == 0 {
		return coreSpeed
	}
	speed, _ := bits.Div64(hi, lo, 1000)
	return speed
}

// promised is the share of a speed that terms name.
func promised(speed uint64, ppm uint32) uint64 {
	hi, lo := bits.Mul64(speed, uint64(min(ppm, 1_000_000)))
	least, _ := bits.Div64(hi, lo, 1_000_000)
	return least
}

// wholeMS rounds a price a second up to a multiple of 1,000 pico-credits, as
// Terms want it.
func wholeMS(p fallow.Pico) (fallow.Pico, error) {
	ms, err := p.MulDiv(1, 1000)
	if err != nil {
		return p, err
	}
	whole, err := ms.Mul(1000)
	if err != nil || whole == p {
		return whole, err
	}
	return whole.Add(fallow.PicoOf(1000))
}

func boundedPrices(t Terms, err error) error {
	if err != nil {
		return err
	}
	for _, p := range []fallow.Pico{t.GasPrice, t.TaskFee, t.SecondPrice, t.DiskPrice} {
		if p.Cmp(MaxPrice) > 0 {
			return fallow.ErrOverflow
		}
	}
	return nil
}

// fitting is how many slots of that size are free, at most want.
func fitting(free, slot Resources, want uint32) uint32 {
	n := uint64(want)
	if slot.GPUModel != "" && slot.GPUModel != free.GPUModel {
		return 0
	}
	for _, r := range []struct{ free, slot uint64 }{
		{uint64(free.MilliCPU), uint64(slot.MilliCPU)},
		{free.Memory, slot.Memory},
		{free.Disk, slot.Disk},
		{uint64(free.GPUs), uint64(slot.GPUs)},
	} {
		if r.slot > 0 {
			n = min(n, r.free/r.slot)
		}
	}
	return uint32(n)
}

// funded is for how many of the slots the tenant's free balance carries
// HoldSeconds: capacity is held in proportion to what is there. Who has
// nothing gets nothing held, whatever it would cost.
func funded(p Policy, s Situation, t Terms, slots uint32) uint32 {
	if s.TenantFree == 0 {
		return 0
	}
	second := t.SecondPrice
	if t.LeastSpeed > 0 {
		var err error
		if second, err = t.GasPrice.MulDiv(t.LeastSpeed, 1_000_000); err != nil {
			return 0
		}
	}
	hold, err := second.Mul(uint64(p.HoldSeconds))
	if err != nil {
		return 0
	}
	if hold.IsZero() {
		return slots
	}
	n, err := s.TenantFree.Pico().Div(hold)
	if err != nil {
		return slots // more than 64 bits of them
	}
	return uint32(min(n, uint64(slots)))
}

// String names the parts that r has.
func (r Resources) String() string {
	s := fmt.Sprintf("%d milli-cores, %d MiB memory, %d MiB disk", r.MilliCPU, r.Memory>>20, r.Disk>>20)
	if r.GPUs > 0 {
		s += fmt.Sprintf(", %d GPUs %s", r.GPUs, r.GPUModel)
	}
	return s
}
