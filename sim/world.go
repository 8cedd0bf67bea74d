package sim

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"math/rand/v2"
	"time"

	"fallow.network"
	"fallow.network/market"
	"fallow.network/settle"
	"fallow.network/verify"
	"fallow.network/wire"
)

const (
	chainID = "fallow-sim"
	blockMS = 5_000
	// collusion is r of the design, as the client reckons with it.
	collusion verify.PPM = 100_000
	// drain is how long jobs may go on when no more begin.
	drain = 12 * time.Hour
	// settling is how long vouchers may be on their way after the last job.
	settling = 30 * 60 * 1000
	start    = fallow.Time(1_800_000_000_000)
)

// ledger is what the simulation calls of settle.Books.
type ledger interface {
	OpenLeases(at settle.Block, signer, tenant fallow.Account, entries []settle.OpenEntry) ([]settle.Result, []settle.Effect, error)
	Redeem(at settle.Block, signer fallow.Account, vouchers []market.Signed, services []fallow.LeaseID) ([]settle.Result, []settle.Effect, error)
	Close(at settle.Block, signer fallow.Account, ids []fallow.LeaseID, reason fallow.Reason) ([]settle.Result, []settle.Effect, error)
	Deposit(at settle.Block, sender, tenant fallow.Account, amount fallow.Credits) ([]settle.Effect, error)
	EndBlock(at settle.Block) ([]settle.Effect, error)
	Account(at settle.Block, owner fallow.Account) (settle.View, bool, error)
	Exposure(at settle.Block, provider fallow.Account) (fallow.Credits, error)
	Ceiling(provider fallow.Account) (fallow.Credits, error)
	Invariants(escrow fallow.Credits) error
}

// world is one simulation.
type world struct {
	o        Options
	rng      *rand.Rand
	clock    virtual
	height   fallow.Height
	registry market.Registry
	books    ledger
	bank     map[fallow.Account]uint64 // ucredit
	lenders  []*lender
	renters  []*renter
	by       map[fallow.Account]*lender
	leases   map[fallow.LeaseID]*lease
	txs      []func(settle.Block) error
	// collusion is the chance that a checker from the market is a friend of
	// the one it checks, where that has friends; tenants reckon with it.
	collusion verify.PPM
	checks    checks
	digest    hash.Hash
	report    Report
	end       fallow.Time
	breach    error
}

// virtual is a clock that also speaks the daemon's time.
type virtual struct{ clock }

func (v *virtual) time() time.Time { return time.UnixMilli(int64(v.now)).UTC() }

// Run simulates. A *Breach says which invariant broke; the report then is of
// what had happened until then.
func Run(ctx context.Context, o Options) (Report, error) {
	if err := o.Validate(); err != nil {
		return Report{}, err
	}
	w, err := newWorld(o) //nolint:contextcheck // virtual time waits for nothing
	if err != nil {
		return Report{}, err
	}
	last := w.end + fallow.Time(drain.Milliseconds())
	told := -1
	for n := 0; w.breach == nil && w.clock.next(last); n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return w.report, ctx.Err()
		}
		if percent := int(min(100, (w.clock.now-start)*100/(w.end-start))); percent != told && o.Progress != nil {
			told = percent
			o.Progress(percent)
		}
		if w.clock.now > w.end && w.idle() {
			last = min(last, w.clock.now+settling) // vouchers on their way come home
		}
	}
	if w.breach == nil {
		w.finish()
	}
	w.summary()
	return w.report, w.breach
}

func newWorld(o Options) (*world, error) {
	w := &world{
		o: o, rng: rand.New(rand.NewPCG(o.Seed, 0x66616c6c6f77)), bank: map[fallow.Account]uint64{},
		by: map[fallow.Account]*lender{}, leases: map[fallow.LeaseID]*lease{}, digest: sha256.New(), height: 1, collusion: collusion,
		end: start + fallow.Time(o.For.Milliseconds()),
	}
	w.clock.now = start
	w.checks = newChecks()
	w.registry = market.Registry{Store: &fallow.Memory{}}
	books := settle.Books{Store: &fallow.Memory{}, Bonds: w.registry, Decode: wire.Decoder{}, Verify: settle.Verifier(chainID)}
	params := settle.DefaultParams()
	params.CheckWindowMS = 3600 * 1000
	if err := errors.Join(books.SetParams(params), w.registry.SetParams(market.DefaultRegistryParams())); err != nil {
		return nil, err
	}
	w.registry.Exposure = books.Exposure
	w.books = books
	if o.tamper != nil {
		o.tamper(w)
	}
	for i := range o.Providers {
		if err := w.addLender(i, o.kind(i, o.Providers, true)); err != nil {
			return nil, err
		}
	}
	for i := range o.Tenants {
		if err := w.addRenter(i, o.kind(i, o.Tenants, false)); err != nil {
			return nil, err
		}
	}
	for _, c := range w.bank {
		w.checks.supply += c
	}
	w.clock.after(blockMS, w.block)
	return w, nil
}

// kind is the adversary that stands at place i of n, if any.
func (o Options) kind(i, n int, lends bool) *Adversary {
	from := 0
	for _, s := range o.Adversaries {
		a, _ := adversary(s.Name)
		if a.Lends != lends {
			continue
		}
		to := from + s.Percent
		if i*100 >= from*n && i*100 < to*n {
			return &a
		}
		from = to
	}
	return nil
}

func (w *world) at() settle.Block { return settle.Block{Height: w.height, Time: w.clock.now} }

// send brings a transaction into the next block.
func (w *world) send(tx func(settle.Block) error) { w.txs = append(w.txs, tx) }

// block runs what was sent since the last one, and looks at the invariants.
func (w *world) block() {
	w.height++
	txs := w.txs
	w.txs = nil
	for _, tx := range txs {
		w.report.Transactions++
		if err := tx(w.at()); err != nil {
			w.broken("transaction", err.Error())
			return
		}
	}
	effects, err := w.books.EndBlock(w.at())
	if err != nil {
		w.broken("end of block", err.Error())
		return
	}
	w.apply(effects)
	w.inspect()
	for _, p := range w.lenders {
		if len(p.offers) > 0 {
			p.expire(w)
		}
	}
	w.clock.after(blockMS, w.block)
}

// apply moves coins and tells of events.
func (w *world) apply(effects []settle.Effect) {
	for _, e := range effects {
		w.log("%T %+v", e, e)
		switch e := e.(type) {
		case market.Move:
			if e.Denom == fallow.CreditDenom {
				w.move(e)
			}
		case settle.Deposited:
			w.checks.funds[e.Tenant] += e.Amount
		case settle.Opened:
			w.checks.opened(e)
		case settle.Redeemed:
			w.checks.redeemed(w, e)
		case settle.Changed:
			w.checks.changed(w, e)
		}
	}
}

func (w *world) move(m market.Move) {
	if w.bank[m.From] < m.Amount {
		w.broken("coins are conserved", fmt.Sprintf("%s moves %d ucredit and has %d", m.From, m.Amount, w.bank[m.From]), m.From, m.To)
		return
	}
	w.bank[m.From] -= m.Amount
	w.bank[m.To] += m.Amount
	if m.From == settle.EscrowPool {
		w.checks.moved(w, m)
	}
}

// log adds to the digest of all that happened.
func (w *world) log(format string, args ...any) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(w.clock.now))
	_, _ = w.digest.Write(b[:])
	fmt.Fprintf(w.digest, format, args...)
}

func (w *world) nonce() (n market.Nonce) {
	binary.BigEndian.PutUint64(n[:], w.rng.Uint64())
	binary.BigEndian.PutUint64(n[8:], w.rng.Uint64())
	return n
}

// between draws from [low, high].
func (w *world) between(low, high uint64) uint64 { return low + w.rng.Uint64N(high-low+1) }

// account and key make an address and an Ed25519 key out of a name.
func (w *world) account(name string) (fallow.Account, market.ClientKey) {
	sum := sha256.Sum256([]byte(name))
	k := market.ClientKey(append([]byte{2}, sum[:]...))
	return wire.Address(k), k
}

func (w *world) key(name string) ed25519.PrivateKey {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %s", w.o.Seed, name))
	return ed25519.NewKeyFromSeed(sum[:])
}

// idle says whether every honest job has ended.
func (w *world) idle() bool {
	for _, t := range w.renters {
		if t.bad == nil && t.running > 0 {
			return false
		}
	}
	return true
}
