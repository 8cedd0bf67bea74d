package provider

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"fallow.network"
	"fallow.network/market"
	"fallow.network/settle"
	"fallow.network/wire"
)

// World is what a bargain asks beside the config and the book of capacity.
// The daemon answers from its journal and the ledger, a simulator from what it
// made up.
type World interface {
	// Gate says why no work is taken at all; empty when it is.
	Gate(now time.Time) (fallow.Reason, string)
	// Escrow is a tenant's account on the ledger.
	Escrow(ctx context.Context, tenant fallow.Account, now time.Time) (settle.Account, error)
	// Known says whether more of a tenant than its name is known, or another
	// stranger may be looked up now.
	Known(tenant fallow.Account, now time.Time) bool
	// Habit is how many slots a tenant was offered, and how many it took.
	Habit(ctx context.Context, tenant fallow.Account) (offers, taken uint64)
	// Standing is what the ledger thinks of this node, where that is known.
	Standing() (Standing, bool)
	// Head is the latest block, and when it was seen.
	Head() (fallow.Height, time.Time)
	// Node is this node's key.
	Node() fallow.Key
	// Speed is the measured gas a second of one slot; 0 while unknown.
	Speed() uint64
}

// memory is what a provider remembers of offers, askers and debtors.
type memory struct {
	capacity *capacity
	limits   *limits
	debts    *debts
}

// bargain decides on a demand whose signature was verified: the offer, without
// its nonce, and the capacity to hold for it, or why there is none.
func bargain(ctx context.Context, w World, c Config, m memory, id fallow.Digest, demand market.Demand, now time.Time) (market.Offer, claim, *Decline) {
	var o market.Offer
	// The key has signed; the tenant is only what it says.
	if !m.limits.allow(string(wire.Address(demand.ClientKey)), c.Offers.PerSecond, now) {
		return o, claim{}, decline(fallow.ReasonRateLimited, "at most %v demands a second are answered", c.Offers.PerSecond)
	}
	s, no := look(ctx, w, c, m, demand, now)
	if no != nil {
		return o, claim{}, no
	}
	terms, no := c.decide(demand, s)
	if no != nil {
		return o, claim{}, no
	}
	height, seen := w.Head()
	switch {
	case height == 0 || now.Sub(seen) > staleHead:
		return o, claim{}, decline(fallow.ReasonChainAway, "the ledger is out of this provider's reach; offers begin again with the next block")
	case s.epoch == 0:
		return o, claim{}, decline(fallow.ReasonKeyEpoch, "this node's key is not registered on the ledger yet")
	}
	o = market.Offer{
		Demand: id, Tenant: demand.Tenant, Provider: c.Provider, NodeKey: w.Node(), KeyEpoch: s.epoch,
		Kind: demand.Kind, Workload: demand.Workload, Terms: terms,
		LastHeight: height + fallow.Height(c.Offers.HoldBlocks), Profile: demand.Profile,
	}
	held := claim{tenant: o.Tenant, slot: terms.Slot, slots: terms.Slots, reserve: terms.MaxReserve, lastHeight: o.LastHeight, until: now.Add(time.Duration(c.Offers.HoldTime))}
	return o, held, nil
}

// look gathers what the policy looks at. What would be declined anyway asks
// nothing of the ledger.
func look(ctx context.Context, w World, c Config, m memory, demand market.Demand, now time.Time) (situation, *Decline) {
	s := situation{now: fallow.Time(unixMS(now)), me: c.Provider, total: m.capacity.usage().Slots, speed: w.Speed()}
	s.gate, s.detail = w.Gate(now)
	s.owed = m.debts.owed(demand.Tenant, now)
	s.book = m.capacity.look(demand.Tenant, normal(demand.Slot))
	if no := c.matches(demand, s); no != nil || s.gate != "" || !s.book.fits || s.book.free == 0 {
		return s, no
	}
	if !w.Known(demand.Tenant, now) {
		return s, decline(fallow.ReasonRateLimited, "too many tenants that are not known here ask at once; ask again in a moment")
	}
	account, err := w.Escrow(ctx, demand.Tenant, now)
	if err != nil {
		return s, decline(fallow.ReasonChainAway, "the tenant's escrow can't be looked up: the ledger is out of reach")
	}
	height, _ := w.Head()
	if !acts(account, demand, height) {
		return s, decline(fallow.ReasonClientKey, "the key that signed the demand does not act for %s", demand.Tenant)
	}
	s.free = account.Free
	s.offers, s.taken = w.Habit(ctx, demand.Tenant)
	standing, ok := w.Standing()
	if !ok {
		return s, decline(fallow.ReasonChainAway, "this provider's own standing is not known yet: the ledger is out of reach")
	}
	s.epoch, s.ceiling, s.exposure = standing.Epoch, standing.Ceiling, standing.Exposure
	return s, nil
}

// acts says whether the key of a demand is the tenant's or registered by it.
func acts(a settle.Account, demand market.Demand, height fallow.Height) bool {
	address := wire.Address(demand.ClientKey)
	if address == demand.Tenant {
		return true
	}
	for _, k := range a.Keys {
		if k.Address == address {
			return k.Expires >= height && k.Spent < k.Limit
		}
	}
	return false
}

// limits bounds how often each asks. The zero value is ready.
type limits struct {
	mu sync.Mutex
	by map[string]*rate.Limiter
}

func (k *limits) allow(who string, perSecond float64, now time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	l := k.by[who]
	if l == nil {
		if k.by == nil {
			k.by = map[string]*rate.Limiter{}
		}
		if len(k.by) >= maxTenants {
			dropOne(k.by)
		}
		l = rate.NewLimiter(rate.Limit(perSecond), max(1, int(2*perSecond)))
		k.by[who] = l
	}
	if l.Limit() != rate.Limit(perSecond) {
		l.SetLimitAt(now, rate.Limit(perSecond))
	}
	return l.AllowN(now, 1)
}
