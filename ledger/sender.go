package ledger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"fallow.network"
	"fallow.network/fault"
)

// Options say on whose behalf a Sender acts and how it packs.
type Options struct {
	// Owner is the account that the messages speak for, when the key is an
	// operator's with an authz grant of the owner; empty when it is its own.
	Owner fallow.Account
	// Payer pays the fees by a fee grant; empty when the key's account does.
	Payer fallow.Account
	// Window is how long calls that may share a transaction wait for each
	// other; 0 sends each at once.
	Window time.Duration
	// MaxEntries is how many entries one message may hold; see the lease
	// module's parameter of that name.
	MaxEntries int
}

const (
	defaultEntries = 50
	// maxTries is how often a transaction is signed anew after it is sure
	// that it never took effect.
	maxTries = 5
	// patience is how many blocks a transaction waits before it is offered
	// to the nodes again.
	patience = 3
)

// Sender sends for one account. It numbers transactions, keeps many in flight
// at once, and follows each to its block. Use one Sender for an account in a
// process: several work, and cost retries. It is safe for concurrent use.
type Sender struct {
	client  *Client
	key     Signer
	public  []byte
	options Options
	batch   batch

	turn    chan struct{} // held while the fields below are used
	number  uint64        // of the account
	next    uint64        // sequence
	known   bool
	flights []*flight // by sequence
	gas     map[string]uint64
	nudged  fallow.Height
	links   int
}

// flight is a transaction on its way into a block.
type flight struct {
	hash     Hash
	raw      []byte
	kind     string // key of its gas in Sender.gas
	messages []proto.Message
	wrapped  bool // in a MsgExec
	sequence uint64
	gas      uint64
	fee      Tokens
	until    fallow.Height
	found    <-chan place
	// doomed is the block by which another transaction had taken its
	// sequence: not found up to there, it is nowhere. 0 when none has.
	doomed fallow.Height
}

var (
	// errDead is a flight that can't enter a block any more.
	errDead = errors.New("its place was taken")
	// errStopped is a transaction that was not sent, or not sent again.
	errStopped = errors.New("not sent: a caller left")
)

// Sender makes a sender for the account of key.
func (c *Client) Sender(key Signer, o Options) *Sender {
	if o.MaxEntries <= 0 {
		o.MaxEntries = defaultEntries
	}
	s := &Sender{client: c, key: key, public: key.Public(), options: o, turn: make(chan struct{}, 1), gas: map[string]uint64{}}
	return s
}

// Account is whom the messages speak for: the owner where there is one.
func (s *Sender) Account() fallow.Account {
	if s.options.Owner != "" {
		return s.options.Owner
	}
	return s.key.Account()
}

func (s *Sender) lock(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Sender) unlock() { <-s.turn }

// Send puts messages into one transaction and waits until it stands in a
// block: all of them take effect, or none does. The error is a *RefusalError when
// the ledger said no (the Tx then says what was paid for that, if it was in a
// block), ErrAway when it could not be sent at all, and *UnsettledError when ctx
// ended first; only then may it still take effect.
func (s *Sender) Send(ctx context.Context, messages ...proto.Message) (Tx, error) {
	return s.submit(ctx, messages, func() bool { return true }, func(*flight) {})
}

// Post hands messages to a node in one transaction and returns once it has
// taken them, or may have: the Tx is not in a block yet and has no height,
// responses or gas used, and nobody offers it again. The errors are those of
// Send, but that none is a *UnsettledError.
func (s *Sender) Post(ctx context.Context, messages ...proto.Message) (Tx, error) {
	f, err := s.launch(ctx, messages, 0)
	if err != nil {
		return Tx{}, err
	}
	s.land(f)
	return Tx{Hash: f.hash, Bytes: len(f.raw), GasWanted: f.gas, Fee: f.fee, Shared: 1}, nil
}

// submit is Send; before each signature may is asked whether to go on, and
// launched is told each flight.
func (s *Sender) submit(ctx context.Context, messages []proto.Message, may func() bool, launched func(*flight)) (Tx, error) {
	ctx, span := s.client.config.Trace.Begin(ctx, "ledger.transaction")
	tx, err := s.attempt(ctx, messages, may, launched)
	s.client.told(span, messages, tx, err)
	return tx, err
}

// attempt signs and sends until a transaction stands in a block, or can't.
func (s *Sender) attempt(ctx context.Context, messages []proto.Message, may func() bool, launched func(*flight)) (Tx, error) {
	var failed []Tx
	var least uint64 // gas
	var last error
	for range maxTries {
		if !may() {
			return Tx{Failed: failed}, errors.Join(errStopped, last)
		}
		f, err := s.launch(ctx, messages, least)
		if err != nil {
			return Tx{Failed: failed}, err
		}
		launched(f)
		p, err := s.wait(ctx, f)
		if err != nil {
			return Tx{Failed: failed}, err
		}
		switch {
		case errors.Is(p.err, ErrExpired), errors.Is(p.err, errDead):
			last = fmt.Errorf("transaction %s: %w", f.hash, ErrExpired)
			continue
		case p.err != nil:
			return Tx{Failed: failed}, &UnsettledError{Hash: f.hash, Until: f.until, Err: p.err}
		}
		tx, err := f.settle(p)
		tx.Failed = failed
		switch {
		case is(err, codeWrongSequence): // it paid nothing and did nothing
			last = err
		case is(err, codeOutOfGas):
			failed, last, least = append(failed, tx), err, 2*f.gas
			s.client.config.Logger.DebugContext(ctx, "more gas for a transaction", slog.String("kind", f.kind), slog.Uint64("gas", least))
		default:
			return tx, err
		}
	}
	return Tx{Failed: failed}, last
}

// launch signs and hands the transaction to a node. After it returns without
// an error the transaction may enter a block.
func (s *Sender) launch(ctx context.Context, messages []proto.Message, least uint64) (*flight, error) {
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.unlock()
	body, err := s.wrap(messages)
	if err != nil {
		return nil, err
	}
	for range maxTries {
		if err := s.sync(ctx); err != nil {
			return nil, err
		}
		head, err := s.client.Head(ctx)
		if err != nil {
			return nil, err
		}
		gas, err := s.estimate(ctx, body, least)
		if is(err, codeWrongSequence) {
			s.realign(ctx, err)
			continue
		}
		if err != nil {
			return nil, err
		}
		f, err := s.sign(ctx, body, gas, head.Height)
		if err != nil {
			return nil, err
		}
		f.messages, f.wrapped = messages, s.options.Owner != ""
		f.found = s.client.track.await(f.hash, head.Height+1, f.until)
		fault.Point("ledger/signed")
		sure, err := s.client.broadcast(ctx, f.raw)
		switch {
		case err == nil, !sure:
			fault.Point("ledger/sent")
			s.next++
			s.flights = append(s.flights, f)
			slices.SortStableFunc(s.flights, func(a, b *flight) int { return cmp.Compare(a.sequence, b.sequence) })
			return f, nil
		case is(err, codeWrongSequence):
			s.client.track.drop(f.hash)
			s.realign(ctx, err)
		case is(err, codeMempoolFull):
			s.client.track.drop(f.hash)
			if _, err := s.client.WaitHeight(ctx, head.Height+1); err != nil {
				return nil, err
			}
		default:
			s.client.track.drop(f.hash)
			return nil, err
		}
	}
	return nil, fmt.Errorf("send for %s: %w", s.key.Account(), &RefusalError{
		Codespace: sdkSpace, Code: codeWrongSequence, Log: "other programs send for this account at the same time",
	})
}

// sync learns the account's number and sequence once.
func (s *Sender) sync(ctx context.Context) error {
	if s.known {
		return nil
	}
	a, _, err := s.client.sequence(ctx, s.key.Account())
	if err != nil {
		return err
	}
	s.number, s.next, s.known = a.number, a.sequence, true
	return nil
}

func (s *Sender) draft(body []proto.Message, gas uint64, fee Tokens, until fallow.Height) draft {
	return draft{
		chainID: s.client.config.ChainID, messages: body, number: s.number, sequence: s.next,
		until: until, gas: gas, fee: fee, payer: s.options.Payer,
	}
}

func (s *Sender) sign(ctx context.Context, body []proto.Message, gas uint64, head fallow.Height) (*flight, error) {
	price, err := s.client.gasPrice(ctx)
	if err != nil {
		return nil, err
	}
	fee, err := feeFor(gas, price)
	if err != nil {
		return nil, err
	}
	f := &flight{sequence: s.next, gas: gas, fee: fee, kind: kindOf(body), until: head + fallow.Height(s.client.config.TimeoutBlocks)}
	if f.raw, err = s.draft(body, gas, fee, f.until).sign(s.public, s.key); err != nil {
		return nil, err
	}
	f.hash = hashOf(f.raw)
	return f, nil
}

// realign brings our count in line with the sequence that a node wants next.
// Flights from there on are lost to it and are offered again; where one of
// them is missing, the count goes on in the gap.
func (s *Sender) realign(ctx context.Context, refusal error) {
	var r *RefusalError
	want, ok := uint64(0), false
	if errors.As(refusal, &r) {
		want, ok = expected(r.Log)
	}
	if !ok {
		s.known = false // ask the ledger
		return
	}
	for _, f := range s.flights {
		if f.sequence < want {
			continue
		}
		if f.sequence > want {
			break
		}
		if sure, err := s.client.broadcast(ctx, f.raw); err != nil && sure {
			break
		}
		want++
	}
	s.client.config.Logger.DebugContext(ctx, "sequence set right", slog.String("account", string(s.key.Account())), slog.Uint64("from", s.next), slog.Uint64("to", want))
	s.next = want
}

// wait follows a flight to its place, and offers it to the nodes again when
// one comes back or blocks pass without it.
func (s *Sender) wait(ctx context.Context, f *flight) (place, error) {
	defer s.land(f)
	head, links, changed := s.client.head.now()
	sent := head.Height
	for {
		select {
		case p := <-f.found:
			return p, nil
		case <-ctx.Done():
			select {
			case p := <-f.found:
				return p, nil
			default:
				return place{}, &UnsettledError{Hash: f.hash, Until: f.until, Err: ctx.Err()}
			}
		case <-changed:
		}
		var now int
		if head, now, changed = s.client.head.now(); now == links && head.Height < sent+patience {
			continue
		}
		first := links == 0 // the socket came up for the first time: nothing broke
		links, sent = now, head.Height
		if first {
			continue
		}
		if s.dead(ctx, f, head.Height, now) {
			select {
			case p := <-f.found:
				return p, nil
			default:
				return place{err: errDead}, nil
			}
		}
	}
}

// dead offers the flights to the nodes again, once for all that wait, and says
// whether this one can't enter a block any more.
func (s *Sender) dead(ctx context.Context, f *flight, head fallow.Height, links int) bool {
	if s.lock(ctx) != nil {
		return false
	}
	defer s.unlock()
	if s.nudged != head || s.links != links {
		s.nudged, s.links = head, links
		s.nudge(ctx)
	}
	return f.doomed > 0 && s.client.track.scanned() >= f.doomed
}

func (s *Sender) nudge(ctx context.Context) {
	var committed uint64
	var at fallow.Height
	for _, f := range s.flights {
		if f.doomed > 0 {
			continue
		}
		_, err := s.client.broadcast(ctx, f.raw)
		var r *RefusalError
		if !is(err, codeWrongSequence) || !errors.As(err, &r) {
			if err != nil && !Away(err) {
				s.client.config.Logger.DebugContext(ctx, "transaction not taken again", slog.String("hash", f.hash.String()), slog.Any("error", err))
			}
			continue
		}
		if want, ok := expected(r.Log); !ok || want <= f.sequence {
			continue // an earlier one is missing
		}
		// Either it stands in a block that is not scanned yet, or another
		// transaction took its sequence. What is committed decides.
		if at == 0 {
			a, height, err := s.client.sequence(ctx, s.key.Account())
			if err != nil || height == 0 {
				return
			}
			committed, at = a.sequence, height
		}
		if committed > f.sequence {
			f.doomed = at
		}
	}
}

// land takes a flight from the list.
func (s *Sender) land(f *flight) {
	s.turn <- struct{}{}
	defer s.unlock()
	s.flights = slices.DeleteFunc(s.flights, func(o *flight) bool { return o == f })
	s.client.track.drop(f.hash)
}
