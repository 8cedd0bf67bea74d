package provider

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"

	"fallow.network"
	marketv1 "fallow.network/api/market"
	"fallow.network/fault"
	"fallow.network/market"
	"fallow.network/settle"
	"fallow.network/wire"
)

// Bounds of what is remembered of demands and tenants.
const (
	maxAnswers  = 4096
	maxTenants  = 4096
	maxDeclines = 64
	maxAsking   = 32
	// strangersRate is in tenants a second.
	strangersRate = 100
	// staleHead is how long the ledger may be silent before offers stop: a
	// last height counted from an old block may be over already.
	staleHead = 30 * time.Second
	escrowAge = 2 * time.Second
	// answerTime bounds the making of one answer.
	answerTime = 10 * time.Second
	// escrowKept is how old an escrow may be while the ledger is away.
	escrowKept = time.Minute
)

// desk answers demands: each once, whichever way it comes.
type desk struct {
	once   singleflight.Group
	asking chan struct{} // a token for each escrow that is being looked up
	// strangers bounds how often escrows are looked up of whom nothing is known.
	strangers *rate.Limiter

	mu       sync.Mutex
	answers  map[fallow.Digest]sealed
	limits   map[string]*rate.Limiter // by tenant and by peer
	escrows  map[fallow.Account]escrow
	declines []DeclineRecord // newest last
	counts   map[fallow.Reason]int
}

type sealed struct{ answer *marketv1.SealedAnswer }

type escrow struct {
	account settle.Account
	at      time.Time
}

// DeclineRecord is a demand that got no offer, for the status page.
type DeclineRecord struct {
	AtUnixMS int64          `json:"at_unix_ms"`
	Tenant   fallow.Account `json:"tenant"`
	Reason   fallow.Reason  `json:"reason"`
	Detail   string         `json:"detail"`
}

func newDesk() *desk {
	return &desk{asking: make(chan struct{}, maxAsking), strangers: rate.NewLimiter(strangersRate, 2*strangersRate), answers: map[fallow.Digest]sealed{}, limits: map[string]*rate.Limiter{}, escrows: map[fallow.Account]escrow{}, counts: map[fallow.Reason]int{}}
}

// answer opens a demand and seals what this provider says to it. An error
// means that there is nobody to say it to: the bytes are no demand.
func (d *Daemon) answer(ctx context.Context, s market.Signed) (*marketv1.SealedAnswer, error) {
	id := s.ID()
	if a := d.desk.known(id); a != nil {
		return a, nil
	}
	v, err, _ := d.desk.once.Do(string(id[:]), func() (any, error) {
		if a := d.desk.known(id); a != nil {
			return a, nil
		}
		demand, err := wire.OpenDemand(d.deps.ChainID, s)
		if err != nil {
			return nil, err
		}
		// Who asked first must not take the answer with it from who asks next.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerTime)
		defer cancel()
		ctx, span := d.deps.Trace.Begin(ctx, "provider.offer")
		a := d.say(ctx, id, demand)
		span.End(a.Reason)
		if a.Reason == "" {
			d.metrics.offers.Inc()
		} else {
			d.declined(demand.Tenant, a.Reason, a.Detail)
		}
		sealedAnswer, err := wire.SealAnswer(demand.SealingKey, id, a)
		if err != nil {
			return nil, err
		}
		d.desk.keep(id, sealed{sealedAnswer})
		return sealedAnswer, nil
	})
	if err != nil {
		d.metrics.malformed.Inc()
		return nil, err
	}
	return v.(*marketv1.SealedAnswer), nil
}

// say makes the answer: an offer, or a reason.
func (d *Daemon) say(ctx context.Context, id fallow.Digest, demand market.Demand) market.Answer {
	c, _ := d.config()
	a := market.Answer{Provider: c.Provider, NodeKey: d.node, Region: c.Region, Protocol: fallow.Protocol}
	offer, no := d.offer(ctx, c, id, demand)
	if no != nil {
		a.Reason, a.Detail = no.Reason, no.Detail
		if len(a.Detail) > market.MaxText {
			a.Detail = a.Detail[:market.MaxText]
		}
		return a
	}
	a.Offer = offer
	a.Addrs = d.addrs()
	for _, in := range demand.Inputs {
		if _, ok := d.deps.Blobs.Has(in.Digest); ok {
			a.Has = append(a.Has, in.Digest)
		}
	}
	return a
}

func (d *Daemon) addrs() []string {
	d.mu.Lock()
	c := d.courier
	d.mu.Unlock()
	if c == nil {
		return nil // peers are served a moment before Listen returns
	}
	list := c.Addrs()
	return list[:min(len(list), market.MaxAddrs)]
}

// offer decides, holds the capacity, signs, and writes the offer down.
func (d *Daemon) offer(ctx context.Context, c Config, id fallow.Digest, demand market.Demand) (market.Signed, *Decline) {
	now := d.now()
	height, seen := d.head()
	// The key has signed; the tenant is only what it says.
	if !d.desk.allow(string(wire.Address(demand.ClientKey)), c.Offers.PerSecond, now) {
		return market.Signed{}, decline(fallow.ReasonRateLimited, "at most %v demands a second are answered", c.Offers.PerSecond)
	}
	s, no := d.situation(ctx, c, demand, now)
	if no != nil {
		return market.Signed{}, no
	}
	terms, no := c.decide(demand, s)
	if no != nil {
		return market.Signed{}, no
	}
	standing, ok := d.standing()
	switch {
	case height == 0 || now.Sub(seen) > staleHead || !ok:
		return market.Signed{}, decline(fallow.ReasonChainAway, "the ledger is out of this provider's reach; offers begin again with the next block")
	case standing.Epoch == 0:
		return market.Signed{}, decline(fallow.ReasonKeyEpoch, "this node's key is not registered on the ledger yet")
	}
	o := market.Offer{
		Demand: id, Tenant: demand.Tenant, Provider: c.Provider, NodeKey: d.node, KeyEpoch: standing.Epoch,
		Kind: demand.Kind, Workload: demand.Workload, Terms: terms,
		LastHeight: height + fallow.Height(c.Offers.HoldBlocks), Profile: demand.Profile,
	}
	if _, err := rand.Read(o.Nonce[:]); err != nil {
		return market.Signed{}, decline(fallow.ReasonAborted, "no randomness for a nonce")
	}
	message, err := wire.EncodeOffer(o)
	if err != nil {
		d.log.ErrorContext(ctx, "an offer is out of bounds; check prices and terms in provider.toml", slog.Any("error", err))
		return market.Signed{}, decline(fallow.ReasonUnsupported, "the terms configured here are out of the market's bounds")
	}
	signed := wire.Sign(d.deps.NodeKey, market.SignsOffer, d.deps.ChainID, message)
	until := now.Add(time.Duration(c.Offers.HoldTime))
	held := claim{tenant: o.Tenant, slot: terms.Slot, slots: terms.Slots, reserve: terms.MaxReserve, lastHeight: o.LastHeight, until: until}
	if !d.capacity.hold(signed.ID(), held) {
		return market.Signed{}, decline(fallow.ReasonNoCapacity, "another demand was faster")
	}
	fault.Point("provider/offer-held")
	err = d.journal.addOffer(ctx, offered{id: signed.ID(), demand: id, offer: o, session: demand.SessionKey, signed: signed, until: until})
	if err == nil {
		fault.Point("provider/offer-written")
		return signed, nil
	}
	d.capacity.unhold(signed.ID())
	if errors.Is(err, errKnown) {
		// Answered before a restart: the same offer again, as it still stands.
		old, ok, err := d.journal.offerFor(ctx, id)
		if err == nil && ok && old.offer.LastHeight > height {
			return old.signed, nil
		}
		return market.Signed{}, decline(fallow.ReasonExpired, "the offer made for this demand has ended")
	}
	d.log.ErrorContext(ctx, "an offer could not be written down", slog.Any("error", err))
	return market.Signed{}, decline(fallow.ReasonDiskFull, "the provider's journal can't be written")
}

// situation gathers what the policy looks at. What would be declined anyway
// asks nothing of the ledger.
func (d *Daemon) situation(ctx context.Context, c Config, demand market.Demand, now time.Time) (situation, *Decline) {
	_, sched := d.config()
	s := situation{now: fallow.Time(unixMS(now)), me: c.Provider, total: d.capacity.usage().Slots, speed: d.speed()}
	s.gate, s.detail = d.gate.offers(c, sched, now)
	s.owed = d.debts.owed(demand.Tenant, now)
	s.book = d.capacity.look(demand.Tenant, normal(demand.Slot))
	if no := c.matches(demand, s); no != nil || s.gate != "" || !s.book.fits || s.book.free == 0 {
		return s, no
	}
	if !d.desk.knows(demand.Tenant) && !d.desk.strangers.AllowN(now, 1) {
		return s, decline(fallow.ReasonRateLimited, "too many tenants that are not known here ask at once; ask again in a moment")
	}
	account, err := d.escrow(ctx, demand.Tenant, now)
	if err != nil {
		return s, decline(fallow.ReasonChainAway, "the tenant's escrow can't be looked up: the ledger is out of reach")
	}
	if !d.acts(account, demand) {
		return s, decline(fallow.ReasonClientKey, "the key that signed the demand does not act for %s", demand.Tenant)
	}
	s.free = account.Free
	if s.offers, s.taken, err = d.journal.rate(ctx, demand.Tenant); err != nil {
		d.log.WarnContext(ctx, "a tenant's habits could not be read", slog.Any("error", err))
	}
	standing, ok := d.standing()
	if !ok {
		return s, decline(fallow.ReasonChainAway, "this provider's own standing is not known yet: the ledger is out of reach")
	}
	s.ceiling, s.exposure = standing.Ceiling, standing.Exposure
	return s, nil
}

// acts says whether the key of a demand is the tenant's or registered by it.
func (d *Daemon) acts(a settle.Account, demand market.Demand) bool {
	address := wire.Address(demand.ClientKey)
	if address == demand.Tenant {
		return true
	}
	height, _ := d.head()
	for _, k := range a.Keys {
		if k.Address == address {
			return k.Expires >= height && k.Spent < k.Limit
		}
	}
	return false
}

// escrow is the tenant's account, at most a moment old while the ledger
// answers, and a minute while it does not.
func (d *Daemon) escrow(ctx context.Context, tenant fallow.Account, now time.Time) (settle.Account, error) {
	d.desk.mu.Lock()
	e, ok := d.desk.escrows[tenant]
	d.desk.mu.Unlock()
	if ok && now.Sub(e.at) < escrowAge {
		return e.account, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	v, err, _ := d.desk.once.Do("escrow "+string(tenant), func() (any, error) {
		// Strangers without number must not swamp the ledger's node.
		select {
		case d.desk.asking <- struct{}{}:
			defer func() { <-d.desk.asking }()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		return d.deps.Books.Escrow(ctx, tenant)
	})
	if err != nil {
		if ok && now.Sub(e.at) < escrowKept {
			return e.account, nil
		}
		return settle.Account{}, fmt.Errorf("escrow of %s: %w", tenant, err)
	}
	d.desk.mu.Lock()
	defer d.desk.mu.Unlock()
	if len(d.desk.escrows) >= maxTenants {
		dropOne(d.desk.escrows)
	}
	d.desk.escrows[tenant] = escrow{v.(settle.Account), now}
	return v.(settle.Account), nil
}

// dropOne forgets any one entry: a flood of strangers must not make this
// provider forget everybody else at once, nor pay for a search.
func dropOne[K comparable, V any](m map[K]V) {
	for k := range m {
		delete(m, k)
		return
	}
}

// knows says whether a tenant had something in escrow when it was last looked
// up.
func (k *desk) knows(tenant fallow.Account) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	e, ok := k.escrows[tenant]
	return ok && !e.account.Free.IsZero()
}

func (k *desk) known(id fallow.Digest) *marketv1.SealedAnswer {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.answers[id].answer
}

// keep remembers an answer until others need its place.
func (k *desk) keep(id fallow.Digest, a sealed) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.answers) >= maxAnswers {
		dropOne(k.answers)
	}
	k.answers[id] = a
}

func (k *desk) allow(who string, perSecond float64, now time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	l := k.limits[who]
	if l == nil {
		if len(k.limits) >= maxTenants {
			dropOne(k.limits)
		}
		l = rate.NewLimiter(rate.Limit(perSecond), max(1, int(2*perSecond)))
		k.limits[who] = l
	}
	if l.Limit() != rate.Limit(perSecond) {
		l.SetLimitAt(now, rate.Limit(perSecond))
	}
	return l.AllowN(now, 1)
}

// declined keeps a decline for people.
func (d *Daemon) declined(tenant fallow.Account, r fallow.Reason, detail string) {
	d.metrics.declines.WithLabelValues(label(r)).Inc()
	d.log.Debug("declined a demand", slog.String("tenant", string(tenant)), slog.String("reason", string(r)), slog.String("detail", detail))
	d.desk.mu.Lock()
	defer d.desk.mu.Unlock()
	d.desk.counts[r]++
	if len(d.desk.declines) >= maxDeclines {
		d.desk.declines = d.desk.declines[1:]
	}
	d.desk.declines = append(d.desk.declines, DeclineRecord{unixMS(d.now()), tenant, r, detail})
}
