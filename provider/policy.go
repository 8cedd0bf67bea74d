package provider

import (
	"fmt"
	"math"
	"slices"

	"fallow.network"
	"fallow.network/market"
	"fallow.network/spec"
)

// Decline is a typed no to a demand.
type Decline struct {
	Reason fallow.Reason
	Detail string
}

func decline(r fallow.Reason, format string, args ...any) *Decline {
	return &Decline{r, fmt.Sprintf(format, args...)}
}

// situation is everything that the policy looks at beside the demand and the
// config. It is a value, so that the same question has the same answer.
type situation struct {
	now    fallow.Time
	me     fallow.Account
	gate   fallow.Reason // why no work is taken at all; empty when it is
	detail string
	book   book
	// total is how many slots there are.
	total uint32
	// free is the tenant's escrow, open offers not subtracted.
	free fallow.Pico
	// offers and taken are the tenant's habits.
	offers, taken uint64
	// owed is what the tenant left unpaid at leases that have ended.
	owed debt
	// epoch is that of this node's key; 0 when it is not registered.
	epoch uint64
	// ceiling is half the bond's value, exposure what of it is in use.
	ceiling, exposure fallow.Credits
	// speed is this machine's measured gas a second of one slot; 0 unknown.
	speed uint64
}

// decide is the provider's policy: terms for a demand, or why there are none.
// Time-dependent reasons come after those that would never change, so that
// the tenant learns the one that matters.
func (c Config) decide(d market.Demand, s situation) (market.Terms, *Decline) {
	slot := normal(d.Slot)
	if no := c.matches(d, s); no != nil {
		return market.Terms{}, no
	}
	switch {
	case !s.owed.Owed.IsZero() && s.owed.Owed.Cmp(c.Offers.UnpaidCeiling) >= 0:
		return market.Terms{}, decline(fallow.ReasonUnpaid, "this tenant left %s credits of work unpaid here, last at lease %d", s.owed.Owed, s.owed.Last)
	case s.gate != "":
		return market.Terms{}, &Decline{s.gate, s.detail}
	case !s.book.fits:
		return market.Terms{}, decline(fallow.ReasonTooLarge, "one slot of %d milli-cores and %d MiB does not fit what is lent here", slot.MilliCPU, slot.Memory>>20)
	case s.book.free == 0:
		return market.Terms{}, decline(fallow.ReasonNoCapacity, "all that is lent is held or leased")
	}
	t := market.Terms{
		GasPrice: c.gasPrice(slot, s.speed), TaskFee: c.Prices.Task,
		Slot: slot, LeastSpeed: c.Offers.LeastSpeed,
		ClaimWindowMS: uint64(c.Offers.ClaimWindow) / 1e6, IdleMS: uint64(c.Offers.Silence) / 1e6,
	}
	t.UnpaidCeiling, _ = c.Offers.UnpaidCeiling.Floor()
	allowed, no := c.allowance(d, t, s)
	if no != nil {
		return market.Terms{}, no
	}
	t.Slots = min(d.Slots, s.book.free, allowed)
	if t.MaxReserve, no = c.reserve(t, s); no != nil {
		return market.Terms{}, no
	}
	return t, nil
}

// matches says why this provider is never right for d.
func (c Config) matches(d market.Demand, s situation) *Decline {
	p := d.Placement
	switch {
	case d.Expires <= s.now:
		return decline(fallow.ReasonExpired, "the demand expired before it was read")
	case d.Kind != market.KindBatch || d.Class != fallow.ClassWASM:
		return decline(fallow.ReasonUnsupported, "only %s batches run here", fallow.ClassWASM)
	case d.Profile != spec.ProfileWASM:
		return decline(fallow.ReasonUnsupported, "only run profile %s is offered here", spec.ProfileWASM)
	case len(p.Providers) > 0 && !slices.Contains(p.Providers, s.me), slices.Contains(p.Excluded, s.me):
		return decline(fallow.ReasonPlacement, "the placement names other providers")
	case len(p.Regions) > 0 && !slices.Contains(p.Regions, c.Region):
		return decline(fallow.ReasonPlacement, "this provider is in region %q", c.Region)
	}
	for _, a := range p.Attributes {
		if v, ok := c.Attributes[a.Key]; !ok || v != a.Value {
			return decline(fallow.ReasonPlacement, "attribute %s is not %.60q here", a.Key, a.Value)
		}
	}
	return nil
}

// gasPrice is the configured price for a million gas, or what the resources
// of a slot cost for the time that a million gas takes here; never below the
// floor.
func (c Config) gasPrice(slot market.Resources, speed uint64) fallow.Pico {
	price := c.Prices.MegaGas
	if price.IsZero() {
		if speed == 0 {
			speed = c.Offers.LeastSpeed
		}
		second := c.secondPrice(slot)
		if speed > 0 {
			// A rounded-up pico-credit keeps a fast machine from working for nothing.
			if p, err := second.MulDiv(1_000_000, speed); err == nil {
				price, _ = p.Add(fallow.PicoOf(1))
			}
		}
	}
	if price.Cmp(c.Prices.Floor) < 0 {
		price = c.Prices.Floor
	}
	return price
}

// secondPrice is what a second of a slot's cores and memory costs.
func (c Config) secondPrice(slot market.Resources) fallow.Pico {
	cores, err1 := c.Prices.CoreSecond.MulDiv(uint64(slot.MilliCPU), 1000)
	memory, err2 := c.Prices.GiBSecond.MulDiv(slot.Memory, 1<<30)
	sum, err3 := cores.Add(memory)
	if err1 != nil || err2 != nil || err3 != nil {
		return maxUnitPrice
	}
	return sum
}

// Bounds of what a demand's estimate counts for.
const (
	leastSeconds = 10
	mostSeconds  = 3600
)

// allowance is how many slots may be held for this tenant: as many as its
// escrow pays for the time it asks, in proportion to how often it takes what
// it is offered.
func (c Config) allowance(d market.Demand, t market.Terms, s situation) (uint32, *Decline) {
	seconds := uint64(min(max(d.Seconds, leastSeconds), mostSeconds))
	speed := max(s.speed, c.Offers.LeastSpeed, 1)
	need := fallow.Pico{Hi: math.MaxUint64, Lo: math.MaxUint64}
	if gas, err := t.GasPrice.MulDiv(speed, 1_000_000); err == nil {
		if n, err := gas.Mul(seconds); err == nil {
			need = n
		}
	}
	if need.IsZero() {
		need = fallow.PicoOf(1)
	}
	least := need
	if ceiling := t.UnpaidCeiling.Pico(); ceiling.Cmp(least) < 0 {
		least = ceiling
	}
	if s.free.Cmp(least) < 0 {
		missing, _ := least.Sub(s.free)
		return 0, decline(fallow.ReasonUnfunded, "escrow holds %s credits; capacity here is held from %s on, %s more", s.free, least, missing)
	}
	paid, err := s.free.Div(need)
	if err != nil {
		paid = math.MaxUint64
	}
	// Two offers taken are presumed of a stranger, so that a first question is
	// answered in full and a habit shows after a few.
	habit := (uint64(s.total)*(s.taken+2) + s.offers + 1) / (s.offers + 2)
	allowed := min(max(paid, 1), max(habit, 1), uint64(s.total))
	if allowed <= uint64(s.book.tenant) {
		return 0, decline(fallow.ReasonRateLimited, "%d slots are held for earlier offers that were not taken; they end within %d blocks", s.book.tenant, c.Offers.HoldBlocks)
	}
	return uint32(allowed) - s.book.tenant, nil
}

// reserve is the largest reserve that the offer may open with: of the bond's
// free half, the part that goes with its part of the free slots.
func (c Config) reserve(t market.Terms, s situation) (fallow.Credits, *Decline) {
	most, _ := c.Offers.MaxReserve.Floor()
	used := s.exposure + s.book.reserve
	if used < s.exposure || used >= s.ceiling {
		return 0, decline(fallow.ReasonExposure, "open work and offers stand at %s of the %s credits that half the bond covers", used, s.ceiling)
	}
	part, err := (s.ceiling - used).Pico().MulDiv(uint64(t.Slots), uint64(max(s.book.free, 1)))
	if err != nil {
		return 0, decline(fallow.ReasonExposure, "the bond's value does not fit")
	}
	share, err := part.Floor()
	if err != nil || share < t.UnpaidCeiling {
		return 0, decline(fallow.ReasonExposure, "%s credits of the bond are free for this offer, below the unpaid ceiling of %s", share, t.UnpaidCeiling)
	}
	return min(most, share), nil
}
