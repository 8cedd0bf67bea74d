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
	limits limits        // by tenant and by peer
	asking chan struct{} // a token for each escrow that is being looked up
	// strangers bounds how often escrows are looked up of whom nothing is known.
	strangers *rate.Limiter

	mu       sync.Mutex
	answers  map[fallow.Digest]*marketv1.SealedAnswer
	escrows  map[fallow.Account]escrow
	declines []DeclineRecord // newest last
	counts   map[fallow.Reason]int
}

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
	return &desk{asking: make(chan struct{}, maxAsking), strangers: rate.NewLimiter(strangersRate, 2*strangersRate), answers: map[fallow.Digest]*marketv1.SealedAnswer{}, escrows: map[fallow.Account]escrow{}, counts: map[fallow.Reason]int{}}
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
		d.desk.keep(id, sealedAnswer)
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
	o, held, no := bargain(ctx, outside{d}, c, memory{d.capacity, &d.desk.limits, &d.debts}, id, demand, now)
	if no != nil {
		return market.Signed{}, no
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
	if !d.capacity.hold(signed.ID(), held) {
		return market.Signed{}, decline(fallow.ReasonNoCapacity, "another demand was faster")
	}
	fault.Point("provider/offer-held")
	err = d.journal.addOffer(ctx, offered{id: signed.ID(), demand: id, offer: o, session: demand.SessionKey, signed: signed, until: held.until})
	if err == nil {
		fault.Point("provider/offer-written")
		return signed, nil
	}
	d.capacity.unhold(signed.ID())
	if errors.Is(err, errKnown) {
		// Answered before a restart: the same offer again, as it still stands.
		old, ok, err := d.journal.offerFor(ctx, id)
		if err == nil && ok && old.offer.LastHeight > o.LastHeight-fallow.Height(c.Offers.HoldBlocks) {
			return old.signed, nil
		}
		return market.Signed{}, decline(fallow.ReasonExpired, "the offer made for this demand has ended")
	}
	d.log.ErrorContext(ctx, "an offer could not be written down", slog.Any("error", err))
	return market.Signed{}, decline(fallow.ReasonDiskFull, "the provider's journal can't be written")
}

// outside is the daemon's side of a bargain.
type outside struct{ d *Daemon }

// Gate says why no work is taken at all.
func (o outside) Gate(now time.Time) (fallow.Reason, string) {
	c, sched := o.d.config()
	return o.d.gate.offers(c, sched, now)
}

// Escrow is the tenant's account.
func (o outside) Escrow(ctx context.Context, tenant fallow.Account, now time.Time) (settle.Account, error) {
	return o.d.escrow(ctx, tenant, now)
}

// Known says whether more of a tenant than its name is known, or another
// stranger may be looked up now.
func (o outside) Known(tenant fallow.Account, now time.Time) bool {
	return o.d.desk.knows(tenant) || o.d.desk.strangers.AllowN(now, 1)
}

// Habit is how many slots a tenant was offered and how many it took.
func (o outside) Habit(ctx context.Context, tenant fallow.Account) (offers, taken uint64) {
	offers, taken, err := o.d.journal.rate(ctx, tenant)
	if err != nil {
		o.d.log.WarnContext(ctx, "a tenant's habits could not be read", slog.Any("error", err))
	}
	return offers, taken
}

// Standing is what the ledger thinks of this node.
func (o outside) Standing() (Standing, bool) { return o.d.standing() }

// Head is the latest block, and when it was seen.
func (o outside) Head() (fallow.Height, time.Time) { return o.d.head() }

// Node is this node's key.
func (o outside) Node() fallow.Key { return o.d.node }

// Speed is the measured gas a second of one slot.
func (o outside) Speed() uint64 { return o.d.speed() }

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
	return k.answers[id]
}

// keep remembers an answer until others need its place.
func (k *desk) keep(id fallow.Digest, a *marketv1.SealedAnswer) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.answers) >= maxAnswers {
		dropOne(k.answers)
	}
	k.answers[id] = a
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
