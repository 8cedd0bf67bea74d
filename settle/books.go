package settle

import (
	"errors"
	"fmt"
	"slices"

	"fallow.network"
	"fallow.network/market"
	"fallow.network/receipt"
)

// Bonds is what the rules ask about providers; market.Registry answers.
type Bonds interface {
	// Standing is what the provider's bond stands for, and whether it is
	// bonded and stays.
	Standing(provider fallow.Account) (bond fallow.Credits, bonded bool, err error)
	// NodeEpoch is the epoch in force of a node key.
	NodeEpoch(provider fallow.Account, key fallow.Key) (epoch uint64, ok bool, err error)
}

// Decoder reads the signed messages; wire.Decoder does.
type Decoder interface {
	Offer(b []byte) (market.Offer, error)
	Voucher(b []byte) (receipt.Voucher, error)
	Horizon(b []byte) (receipt.Horizon, error)
	Release(b []byte) (receipt.Release, error)
}

// Books is the lease module's state machine.
type Books struct {
	Store  fallow.Store
	Bonds  Bonds
	Decode Decoder
	// Verify says whether signature is by key over a message of this kind
	// on this chain: see Verifier.
	Verify func(kind string, key fallow.Key, message, signature []byte) bool
}

// Verifier checks Ed25519 signatures for a chain.
func Verifier(chainID string) func(kind string, key fallow.Key, message, signature []byte) bool {
	return func(kind string, key fallow.Key, message, signature []byte) bool {
		return market.VerifyKey(chainID, kind, key, message, signature)
	}
}

// Params are the parameters in force.
func (b Books) Params() (Params, error) {
	v, err := b.Store.Get(key(atParams))
	if err != nil || v == nil {
		return DefaultParams(), err
	}
	return decodeParams(v)
}

// SetParams puts p in force. Leases keep the windows that they were opened
// with.
func (b Books) SetParams(p Params) error {
	if err := p.Check(); err != nil {
		return err
	}
	return b.Store.Set(key(atParams), encodeParams(p))
}

// eventsPerTouch bounds the events that one message works off for one account;
// more than that is the queue's.
const eventsPerTouch = 1000

// eventsPerView bounds what a query looks ahead.
const eventsPerView = 1 << 20

// tx is one message, block end or query on the books: it writes to an overlay
// and keeps the accounts that it works with.
type tx struct {
	Books
	at      Block
	params  Params
	o       *fallow.Overlay
	events  int // that a touch may work off
	escrows []*escrow
	effects []Effect
}

// escrow is an account at work, with its services that are not closed.
type escrow struct {
	Account
	services []*Lease // ascending by id
	fired    []byte   // key behind the last claim window that ended in this tx
	moved    bool     // its time was computed on, in this tx
	advanced bool     // to the block's time
}

func (b Books) begin(at Block) (*tx, error) {
	params, err := b.Params()
	if err != nil {
		return nil, err
	}
	t := &tx{Books: b, at: at, params: params, o: fallow.NewOverlay(b.Store), events: eventsPerTouch}
	return t, nil
}

// commit settles the accounts at work and writes all.
func (t *tx) commit() ([]Effect, error) {
	if err := t.settle(); err != nil {
		return nil, err
	}
	return t.effects, t.o.Commit()
}

// settle brings the accounts at work to rest: what can resume does, what is
// dry pauses, and the queue knows the next event.
func (t *tx) settle() error {
	for _, e := range t.escrows {
		if e.advanced {
			events := t.events
			if _, err := t.fire(e, &events); err != nil {
				return err
			}
		}
		if e.moved {
			if err := t.requeue(e); err != nil {
				return err
			}
		}
		if err := t.save(e); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) emit(e ...Effect) { t.effects = append(t.effects, e...) }

// load takes an account as it was last computed, or a new one.
func (t *tx) load(owner fallow.Account) (*escrow, error) {
	for _, e := range t.escrows {
		if e.Owner == owner {
			return e, nil
		}
	}
	e := &escrow{Account: Account{Owner: owner, Advanced: t.at.Time}}
	v, err := t.o.Get(accountKey(owner))
	if err != nil {
		return nil, err
	}
	if v != nil {
		if e.Account, err = decodeAccount(v); err != nil {
			return nil, fmt.Errorf("account %s: %w", owner, err)
		}
		if err := t.loadServices(e); err != nil {
			return nil, err
		}
	}
	t.escrows = append(t.escrows, e)
	return e, nil
}

func (t *tx) loadServices(e *escrow) error {
	if e.Open == 0 {
		return nil
	}
	prefix := withAccount(key(atService), e.Owner)
	var ids []fallow.LeaseID
	err := t.o.Scan(prefix, afterPrefix(prefix), func(k, _ []byte) bool {
		ids = append(ids, fallow.LeaseID(lastNumber(k)))
		return true
	})
	if err != nil {
		return err
	}
	for _, id := range ids {
		l, err := t.stored(id)
		if err != nil {
			return err
		}
		e.services = append(e.services, &l)
	}
	return nil
}

// touch takes an account advanced to the block's time.
func (t *tx) touch(owner fallow.Account) (*escrow, error) {
	e, err := t.load(owner)
	if err != nil || e.advanced {
		return e, err
	}
	events := t.events
	done, err := t.advance(e, t.at.Time, &events)
	if err != nil {
		return nil, err
	}
	if !done {
		return nil, fmt.Errorf("account %s: %w", owner, ErrBusy)
	}
	e.advanced = true
	return e, nil
}

func (t *tx) save(e *escrow) error {
	for _, l := range e.services {
		if err := t.saveLease(*l); err != nil {
			return err
		}
	}
	return t.o.Set(accountKey(e.Owner), encodeAccount(e.Account))
}

// stored reads a lease as it was last computed.
func (t *tx) stored(id fallow.LeaseID) (Lease, error) {
	v, err := t.o.Get(leaseKey(id))
	if err != nil {
		return Lease{}, err
	}
	if v == nil {
		return Lease{}, fmt.Errorf("lease %d: %w", id, ErrUnknownLease)
	}
	return decodeLease(v)
}

// lease takes a lease and its account. A service is advanced with its account;
// a batch's account is left where it is, since only the lease's own window
// matters to it.
func (t *tx) lease(id fallow.LeaseID) (*Lease, *escrow, error) {
	l, err := t.stored(id)
	if err != nil {
		return nil, nil, err
	}
	if l.Kind != market.KindService {
		e, err := t.load(l.Tenant)
		return &l, e, err
	}
	e, err := t.touch(l.Tenant)
	if err != nil {
		return nil, nil, err
	}
	if at := slices.IndexFunc(e.services, func(s *Lease) bool { return s.ID == id }); at >= 0 {
		return e.services[at], e, nil
	}
	l, err = t.stored(id) // closed, maybe just now
	return &l, e, err
}

func (t *tx) saveLease(l Lease) error { return t.o.Set(leaseKey(l.ID), encodeLease(l)) }

// hold changes what a provider's leases hold in all.
func (t *tx) hold(provider fallow.Account, more, less fallow.Credits) error {
	held, err := t.held(provider)
	if err != nil {
		return err
	}
	sum, err := addCredits(held, more)
	if err != nil {
		return err
	}
	if sum < less {
		return fmt.Errorf("provider %s holds %d less than %d ucredit: %w", provider, sum, less, fallow.ErrOverflow)
	}
	if sum == less {
		return t.o.Delete(heldKey(provider))
	}
	return t.o.Set(heldKey(provider), encodeCredits(sum-less))
}

func (t *tx) held(provider fallow.Account) (fallow.Credits, error) {
	v, err := t.o.Get(heldKey(provider))
	if err != nil || v == nil {
		return 0, err
	}
	return decodeCredits(v)
}

// holds is what a lease that is not closed holds of its account, in ucredit:
// a batch's unpaid reserve, a service's deposit.
func (l Lease) holds() fallow.Credits {
	if l.Kind == market.KindService {
		return l.Reserve
	}
	return l.Reserve - l.Paid
}

func addCredits(a, b fallow.Credits) (fallow.Credits, error) {
	if a+b < a {
		return 0, fallow.ErrOverflow
	}
	return a + b, nil
}

// add moves an amount into *to.
func add(to *fallow.Pico, p fallow.Pico) error {
	v, err := to.Add(p)
	if err == nil {
		*to = v
	}
	return err
}

// take moves an amount out of *from.
func take(from *fallow.Pico, p fallow.Pico) error {
	v, err := from.Sub(p)
	if err == nil {
		*from = v
	}
	return err
}

// refused turns a rule's no into the entry's reason; other errors stay errors.
func refused(id fallow.LeaseID, amount fallow.Credits, err error) (Result, error) {
	var no *market.Refusal
	switch {
	case err == nil:
		return Result{Lease: id, Amount: amount}, nil
	case errors.As(err, &no) && no.Reason != "":
		return Result{Lease: id, Reason: no.Reason}, nil
	default:
		return Result{}, err
	}
}

func (t *tx) entries(n int) error {
	if n == 0 || n > int(t.params.MaxEntries) {
		return fmt.Errorf("%d entries, of at most %d: %w", n, t.params.MaxEntries, ErrEntries)
	}
	return nil
}
