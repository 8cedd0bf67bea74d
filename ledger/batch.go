package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	leasev1 "fallow.network/api/lease"
)

// maxBatchBytes keeps a gathered transaction well below a block.
const maxBatchBytes = maxTxBytes / 2

// batch gathers calls that come within Options.Window of each other.
type batch struct {
	mu    sync.Mutex
	calls []*call
}

// call is one caller's message on its way into a shared transaction.
type call struct {
	message proto.Message
	left    <-chan struct{} // closes when the caller stops waiting
	answer  chan answer     // holds one
	flown   chan *flight    // holds one: the latest flight
}

type answer struct {
	response proto.Message
	tx       Tx
	err      error
}

// send sends one message, with others of the same moment where the sender
// gathers, and returns its own response.
func (s *Sender) send(ctx context.Context, m proto.Message) (proto.Message, Tx, error) {
	if s.options.Window <= 0 {
		return s.alone(ctx, m)
	}
	c := &call{message: m, left: ctx.Done(), answer: make(chan answer, 1), flown: make(chan *flight, 1)}
	s.batch.mu.Lock()
	s.batch.calls = append(s.batch.calls, c)
	first := len(s.batch.calls) == 1
	s.batch.mu.Unlock()
	if first {
		s.client.work.Go(func() { s.gather(context.WithoutCancel(ctx)) })
	}
	select {
	case a := <-c.answer:
		return a.response, a.tx, a.err
	case <-ctx.Done():
	}
	// It is on its way, or about to be sent or dropped: soon one is known.
	select {
	case a := <-c.answer:
		return a.response, a.tx, a.err
	case f := <-c.flown:
		return nil, Tx{}, &UnsettledError{Hash: f.hash, Until: f.until, Err: ctx.Err()}
	}
}

func (c *call) gone() bool {
	select {
	case <-c.left:
		return true
	default:
		return false
	}
}

// fly notes the latest flight for a caller that leaves.
func (c *call) fly(f *flight) {
	select {
	case <-c.flown:
	default:
	}
	c.flown <- f
}

func (s *Sender) alone(ctx context.Context, m proto.Message) (proto.Message, Tx, error) {
	tx, err := s.Send(ctx, m)
	if err != nil {
		return nil, tx, err
	}
	if len(tx.Responses) != 1 {
		return nil, tx, fmt.Errorf("transaction %s: %d responses to one message", tx.Hash, len(tx.Responses))
	}
	return tx.Responses[0], tx, nil
}

// gather waits for the window, takes what has come and sends it in as few
// transactions as it fits into, side by side.
func (s *Sender) gather(ctx context.Context) {
	time.Sleep(s.options.Window)
	s.batch.mu.Lock()
	calls := s.batch.calls
	s.batch.calls = nil
	s.batch.mu.Unlock()
	var all sync.WaitGroup
	for _, load := range pack(calls, s.options.MaxEntries) {
		all.Go(func() { s.carry(ctx, load) })
	}
	all.Wait()
}

// carry sends one load. When a shared transaction is refused, none of it took
// effect, and each call goes alone: the bad one fails, the others don't.
func (s *Sender) carry(ctx context.Context, l load) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var watch sync.WaitGroup
	defer watch.Wait()
	done := make(chan struct{})
	defer close(done)
	watch.Go(func() { // nobody waits for it any more: stop
		for _, c := range l.calls {
			select {
			case <-c.left:
			case <-done:
				return
			}
		}
		cancel()
	})
	var messages []proto.Message
	for _, p := range l.parcels {
		messages = append(messages, p.message)
	}
	// Whoever left before the signature is not served, nor sent for again.
	may := func() bool { return !slices.ContainsFunc(l.calls, (*call).gone) }
	tx, err := s.submit(ctx, messages, may, func(f *flight) {
		for _, c := range l.calls {
			c.fly(f)
		}
	})
	var refusal *RefusalError
	if errors.Is(err, errStopped) || errors.As(err, &refusal) && len(l.calls) > 1 {
		var all sync.WaitGroup
		for _, c := range l.calls {
			if c.gone() {
				c.answer <- answer{tx: tx, err: err}
				continue
			}
			all.Go(func() {
				response, own, err := s.alone(ctx, c.message)
				if tx.Height > 0 { // the shared attempt paid its fee all the same
					own.Failed = append(own.Failed, tx)
				}
				c.answer <- answer{response, own, err}
			})
		}
		all.Wait()
		return
	}
	tx.Shared = len(l.calls)
	for i, p := range l.parcels {
		var response proto.Message
		if err == nil && i < len(tx.Responses) {
			response = tx.Responses[i]
		}
		p.deliver(response, tx, err)
	}
}

// load is what goes into one transaction.
type load struct {
	calls   []*call
	parcels []*parcel
	bytes   int
}

// parcel is one message of a transaction, with the entries of one call or more.
type parcel struct {
	message proto.Message
	calls   []*call
}

// pack merges messages whose entries are each treated alone, and fills
// transactions in the order of the calls.
func pack(calls []*call, maxEntries int) []load {
	var loads []load
	for _, c := range calls {
		size := proto.Size(c.message)
		if len(loads) == 0 || loads[len(loads)-1].bytes+size > maxBatchBytes || len(loads[len(loads)-1].parcels) >= maxMessages {
			loads = append(loads, load{})
		}
		l := &loads[len(loads)-1]
		l.bytes += size
		l.calls = append(l.calls, c)
		merged := false
		for _, p := range l.parcels {
			if entries(p.message)+entries(c.message) <= maxEntries {
				if m := merge(p.message, c.message); m != nil {
					p.message, p.calls, merged = m, append(p.calls, c), true
					break
				}
			}
		}
		if !merged {
			l.parcels = append(l.parcels, &parcel{message: c.message, calls: []*call{c}})
		}
	}
	return loads
}

// merge is one message with the entries of both, or nil when they can't share
// one. Neither is changed.
func merge(a, b proto.Message) proto.Message {
	switch a := a.(type) {
	case *leasev1.MsgOpenLeases:
		if b, ok := b.(*leasev1.MsgOpenLeases); ok && a.GetSigner() == b.GetSigner() && a.GetTenant() == b.GetTenant() {
			return &leasev1.MsgOpenLeases{Signer: a.GetSigner(), Tenant: a.GetTenant(), Entries: join(a.GetEntries(), b.GetEntries())}
		}
	case *leasev1.MsgRelease:
		if b, ok := b.(*leasev1.MsgRelease); ok && a.GetSigner() == b.GetSigner() {
			return &leasev1.MsgRelease{Signer: a.GetSigner(), Releases: join(a.GetReleases(), b.GetReleases())}
		}
	case *leasev1.MsgStart:
		if b, ok := b.(*leasev1.MsgStart); ok && a.GetSigner() == b.GetSigner() {
			return &leasev1.MsgStart{Signer: a.GetSigner(), Horizons: join(a.GetHorizons(), b.GetHorizons())}
		}
	case *leasev1.MsgRedeem:
		// Results come in the order of vouchers, then services: only one kind merges.
		if b, ok := b.(*leasev1.MsgRedeem); ok && a.GetSigner() == b.GetSigner() && len(a.GetServices())+len(b.GetServices()) == 0 {
			return &leasev1.MsgRedeem{Signer: a.GetSigner(), Vouchers: join(a.GetVouchers(), b.GetVouchers())}
		}
	case *leasev1.MsgClose:
		if b, ok := b.(*leasev1.MsgClose); ok && a.GetSigner() == b.GetSigner() && a.GetReason() == b.GetReason() {
			return &leasev1.MsgClose{Signer: a.GetSigner(), Reason: a.GetReason(), Leases: join(a.GetLeases(), b.GetLeases())}
		}
	}
	return nil
}

func join[T any](a, b []T) []T { return append(append(make([]T, 0, len(a)+len(b)), a...), b...) }

// deliver hands each call its share of the response.
func (p *parcel) deliver(response proto.Message, tx Tx, err error) {
	if len(p.calls) == 1 {
		if err == nil && response == nil {
			err = fmt.Errorf("transaction %s: a message without a response", tx.Hash)
		}
		p.calls[0].answer <- answer{response, tx, err}
		return
	}
	all := results(response)
	for _, c := range p.calls {
		a := answer{tx: tx, err: err}
		if err == nil {
			if n := entries(c.message); n <= len(all) {
				a.response, all = withResults(c.message, all[:n]), all[n:]
			} else {
				a.err = fmt.Errorf("transaction %s: too few results", tx.Hash)
			}
		}
		c.answer <- a
	}
}

// results are the entries' results in a response that has them.
func results(response proto.Message) []*leasev1.Result {
	if r, ok := response.(interface{ GetResults() []*leasev1.Result }); ok {
		return r.GetResults()
	}
	return nil
}

// withResults is the response to m with these results.
func withResults(m proto.Message, r []*leasev1.Result) proto.Message {
	switch m.(type) {
	case *leasev1.MsgOpenLeases:
		return &leasev1.MsgOpenLeasesResponse{Results: r}
	case *leasev1.MsgRelease:
		return &leasev1.MsgReleaseResponse{Results: r}
	case *leasev1.MsgStart:
		return &leasev1.MsgStartResponse{Results: r}
	case *leasev1.MsgRedeem:
		return &leasev1.MsgRedeemResponse{Results: r}
	default:
		return &leasev1.MsgCloseResponse{Results: r}
	}
}
