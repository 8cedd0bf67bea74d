package sim

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"maps"
	"slices"
	"time"

	"fallow.network"
	"fallow.network/market"
	"fallow.network/provider"
	"fallow.network/receipt"
	"fallow.network/settle"
	"fallow.network/wire"
)

// lender is a provider.
type lender struct {
	account fallow.Account
	key     ed25519.PrivateKey
	node    fallow.Key
	bad     *Adversary
	config  provider.Config
	total   market.Resources
	slots   uint32
	speed   uint64 // gas a second of one slot
	twin    *provider.Twin
	offers  map[fallow.Digest]market.Offer
	habits  map[fallow.Account][2]uint64
	leases  map[fallow.LeaseID]*lease
	waiting []*order
	old     market.Signed
	earned  uint64 // ucredit that came
	lost    fallow.Pico
	busy    uint64 // slot-milliseconds
	opened  int    // leases
	beyond  int    // leases opened while its slots were let already
	failed  int    // leases that tenants left for its fault
	tending bool
}

// lease is what both sides know of a lease.
type lease struct {
	id       fallow.LeaseID
	offer    market.Offer
	tenant   *renter
	by       *lender
	job      *job
	session  ed25519.PrivateKey
	reserve  fallow.Credits
	out      int  // tasks asked
	running  int  // at the provider
	over     bool // for the tenant
	closed   bool // on the ledger
	payable  []claim
	seen     map[*order]receipt.Receipt // the first of each attempt
	amount   fallow.Pico
	receipts uint32
	right    fallow.Pico // of receipts whose outputs arrived
	tree     []fallow.Digest
	waits    bool
	ended    bool // for the provider: what ran is killed
}

// lending is a lender as its own policy sees the world.
type lending struct {
	w *world
	p *lender
}

func (l lending) Gate(time.Time) (fallow.Reason, string) { return "", "" }
func (l lending) Known(fallow.Account, time.Time) bool   { return true }
func (l lending) Standing() (provider.Standing, bool) {
	at := l.w.at()
	exposure, err := l.w.books.Exposure(at, l.p.account)
	ceiling, err2 := l.w.books.Ceiling(l.p.account)
	return provider.Standing{Epoch: 1, Ceiling: ceiling, Exposure: exposure}, err == nil && err2 == nil
}
func (l lending) Head() (fallow.Height, time.Time) { return l.w.height, l.w.clock.time() }
func (l lending) Node() fallow.Key                 { return l.p.node }
func (l lending) Speed() uint64                    { return l.p.speed }
func (l lending) Habit(_ context.Context, t fallow.Account) (offers, taken uint64) {
	h := l.p.habits[t]
	return h[0], h[1]
}

func (l lending) Escrow(_ context.Context, t fallow.Account, _ time.Time) (settle.Account, error) {
	v, _, err := l.w.books.Account(l.w.at(), t)
	return v.Account, err
}

func (w *world) addLender(i int, bad *Adversary) error {
	name := fmt.Sprintf("provider %d", i)
	a, _ := w.account(name)
	key := w.key(name)
	c := provider.Default()
	c.Provider = a
	c.Region = "virtual"
	speed := w.between(500_000_000, 4_000_000_000)
	c.Offers.LeastSpeed = speed / 2
	c.Offers.MaxReserve = fallow.Credits(5_000_000).Pico()
	c.Offers.UnpaidCeiling = fallow.Credits(w.between(4_000, 20_000)).Pico()
	c.Prices.MegaGas = fallow.PicoOf(w.between(2_500, 6_000))
	slots := uint32(w.between(1, 8))
	p := &lender{
		account: a, key: key, node: wire.PublicKey(key), bad: bad, config: c, speed: speed, slots: slots,
		total:  market.Resources{MilliCPU: slots * 1000, Memory: uint64(slots) << 30, Disk: uint64(slots) << 30},
		offers: map[fallow.Digest]market.Offer{}, habits: map[fallow.Account][2]uint64{}, leases: map[fallow.LeaseID]*lease{},
	}
	p.twin = provider.NewTwin(c, chainID, key, p.total, slots)
	_, err := w.registry.Register(w.at(), a, 1_000_000_000, market.Listing{Region: "virtual", Nodes: []market.NodeListing{{Key: p.node}}})
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	w.lenders = append(w.lenders, p)
	w.by[a] = p
	return nil
}

// answer is an offer for a demand, if there is one.
func (p *lender) answer(w *world, id fallow.Digest, d market.Demand) (market.Signed, bool) {
	w.report.Asked++
	var s market.Signed
	ok := false
	if p.bad != nil && p.bad.answers != nil {
		s, ok = p.bad.answers(w, p, id, d)
	} else {
		var o market.Offer
		var no *provider.Decline
		s, o, no = p.twin.Offer(lending{w, p}, id, d, w.nonce(), w.clock.time())
		if ok = no == nil; ok {
			p.offers[s.ID()] = o
		} else {
			w.report.declined(no.Reason)
		}
	}
	if ok {
		w.report.Offers++
		h := p.habits[d.Tenant]
		h[0] += uint64(p.offers[s.ID()].Terms.Slots)
		p.habits[d.Tenant] = h
	}
	return s, ok
}

func (p *lender) expire(w *world) {
	p.twin.Expire(w.height)
	maps.DeleteFunc(p.offers, func(_ fallow.Digest, o market.Offer) bool { return w.height > o.LastHeight })
}

// adopt takes a lease that the ledger opened.
func (p *lender) adopt(w *world, l *lease, offer fallow.Digest) {
	h := p.habits[l.tenant.account]
	h[1] += uint64(l.offer.Terms.Slots)
	p.habits[l.tenant.account] = h
	delete(p.offers, offer)
	p.leases[l.id] = l
	w.checks.let(w, p, l)
	p.twin.Adopt(l.id, offer, l.offer, l.reserve, w.clock.time())
	p.tend(w)
}

func (p *lender) works(w *world) bool {
	return p.bad == nil || p.bad.works == nil || p.bad.works(w, p)
}

// take accepts a task.
func (p *lender) take(w *world, o *order) {
	if !p.works(w) {
		return
	}
	if no := p.twin.Accept(o.lease.id, o.task.limit, w.clock.time()); no != nil {
		w.report.refused(no.Reason)
		return
	}
	p.waiting = append(p.waiting, o)
	p.pump(w)
}

// pump starts what may start.
func (p *lender) pump(w *world) {
	var stay []*order
	for _, o := range p.waiting {
		if o.lease.over {
			continue
		}
		started, unpaid := p.twin.Start(o.lease.id)
		if !started {
			stay = append(stay, o)
			if unpaid && !o.lease.waits {
				o.lease.waits = true
				w.clock.after(w.latency(), func() { o.lease.tenant.pay(w, o.lease, true) })
			}
			continue
		}
		o.lease.running++
		took := o.task.gas*1000/p.speed + 1
		took += took * w.rng.Uint64N(20) / 100
		p.busy += took
		began := w.clock.now
		w.clock.after(took, func() { p.done(w, o, began) })
	}
	p.waiting = stay
}

// tend looks after leases each minute: redeem, end what is silent, forget.
func (p *lender) tend(w *world) {
	if p.tending || len(p.leases) == 0 {
		return
	}
	p.tending = true
	w.clock.after(60_000, func() {
		p.tending = false
		for _, id := range slices.Sorted(maps.Keys(p.leases)) {
			p.mind(w, p.leases[id])
		}
		p.tend(w)
	})
}

func (p *lender) mind(w *world, l *lease) {
	now := w.clock.time()
	if p.works(w) && l.running == 0 && p.twin.Silent(l.id, now) {
		p.twin.End(l.id, fallow.ReasonTenantGone)
		l.ended = true
		p.close(w, l, fallow.ReasonTenantGone)
	}
	if s, amount, due := p.twin.Due(l.id, now); due {
		p.redeem(w, l, s, amount)
	} else if l.closed {
		p.forget(w, l)
	}
}

func (p *lender) redeem(w *world, l *lease, s market.Signed, amount fallow.Pico) {
	all := []market.Signed{s}
	if p.bad != nil && p.bad.claims != nil {
		all = append(all, p.bad.claims(w, p, l, s)...)
	}
	w.send(func(at settle.Block) error {
		results, effects, err := w.books.Redeem(at, p.account, all, nil)
		if err != nil {
			return fmt.Errorf("redeem for %s: %w", p.account, err)
		}
		w.apply(effects)
		p.twin.Redeemed(l.id, amount, results[0].Reason, w.clock.time())
		for _, r := range results[1:] {
			w.report.skipped(r.Reason)
		}
		return nil
	})
}

// close ends a lease on the ledger by the provider's word, which ends it at
// once: so only when nothing is left to redeem, and the voucher goes first.
func (p *lender) close(w *world, l *lease, why fallow.Reason) {
	if s, amount, due := p.twin.Due(l.id, w.clock.time()); due {
		p.redeem(w, l, s, amount)
	}
	w.send(func(at settle.Block) error {
		_, effects, err := w.books.Close(at, p.account, []fallow.LeaseID{l.id}, why)
		if err != nil {
			return fmt.Errorf("close by %s: %w", p.account, err)
		}
		w.apply(effects)
		p.forget(w, l)
		return nil
	})
}

// forget drops a lease of which nothing more can come.
func (p *lender) forget(w *world, l *lease) {
	charged, paid := p.twin.Account(l.id)
	over, err := p.twin.Closed(l.id, l.closed, w.clock.time())
	if err != nil {
		w.broken("a debt is kept", err.Error(), p.account)
	}
	if !over {
		return
	}
	delete(p.leases, l.id)
	w.checks.left(w, p, l, charged, paid)
}
