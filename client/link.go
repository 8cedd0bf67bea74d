package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
	"unicode"

	"connectrpc.com/connect"

	"fallow.network"
	marketv1 "fallow.network/api/market"
	nodev1 "fallow.network/api/node"
	"fallow.network/api/node/nodev1connect"
	"fallow.network/blob"
	"fallow.network/fault"
	"fallow.network/market"
	"fallow.network/receipt"
	"fallow.network/wire"
)

// link holds the work stream of one lease: it dials again whenever it breaks,
// pushes the blobs that the provider wants, and hands everything else to the
// job's loop, which alone decides.
type link struct {
	c     *Client
	lease lease
	peer  Peer
	moves *blob.Transfer
	// may says which blobs this provider may ask for: the job's own.
	may map[fallow.Digest]bool
	// have lists tasks whose receipts are here, when the stream begins.
	have func() []uint32
	tell func(any) // to the loop; never blocks for ever

	mu    sync.Mutex
	queue []*nodev1.WorkRequest
	wake  chan struct{}
	busy  bool                   // what was taken off the queue is being sent
	going map[fallow.Digest]bool // blobs that are being pushed
}

// Messages from a link to the loop.
type (
	linkUp struct {
		lease   fallow.LeaseID
		slots   uint32
		voucher market.Signed // the highest that the provider holds; may be empty
	}
	linkDown struct {
		lease fallow.LeaseID
		err   error
	}
	// linkReceipt is a receipt as it came; err says why it is not the
	// provider's.
	linkReceipt struct {
		lease  fallow.LeaseID
		signed market.Signed
		r      receipt.Receipt
		err    error
		inline [][]byte
	}
	linkFailed struct {
		id     attemptID
		reason fallow.Reason
		detail string
	}
	linkWaiting struct{ lease fallow.LeaseID }
	linkRelease struct {
		lease  fallow.LeaseID
		signed market.Signed
	}
	linkEnding struct {
		lease  fallow.LeaseID
		reason fallow.Reason
	}
	// linkBlocked is a provider that does not take a blob that it needs.
	linkBlocked struct {
		lease  fallow.LeaseID
		reason fallow.Reason
		detail string
	}
)

func newLink(c *Client, l lease, peer Peer, moves *blob.Transfer, may map[fallow.Digest]bool, have func() []uint32, tell func(any)) *link {
	return &link{c: c, lease: l, peer: peer, moves: moves, may: may, have: have, tell: tell, wake: make(chan struct{}, 1), going: map[fallow.Digest]bool{}}
}

// send queues a message for the provider; while the stream is broken it is
// dropped, and the loop sends again what matters when the link is up.
func (l *link) send(m *nodev1.WorkRequest) {
	l.mu.Lock()
	l.queue = append(l.queue, m)
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *link) take() []*nodev1.WorkRequest {
	l.mu.Lock()
	defer l.mu.Unlock()
	q := l.queue
	l.queue = nil
	return q
}

// flushed says whether all that was queued has been sent.
func (l *link) flushed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.queue) == 0 && !l.busy
}

func (l *link) sending(busy bool) {
	l.mu.Lock()
	l.busy = busy
	l.mu.Unlock()
}

// base is where the provider's blobs are.
func (l *link) base() string { return l.peer.URL(l.lease.offer.NodeKey) }

// run keeps the stream until ctx ends.
func (l *link) run(ctx context.Context) {
	pause := 100 * time.Millisecond
	for ctx.Err() == nil {
		up, err := l.once(ctx)
		if ctx.Err() != nil {
			return
		}
		if reason := refusal(err); reason != "" {
			l.tell(linkEnding{l.lease.id, reason})
			return
		}
		l.tell(linkDown{l.lease.id, err})
		if up {
			pause = 100 * time.Millisecond
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, 2*time.Second)
	}
}

// refusal is a provider's no to a lease that no further try would change.
func refusal(err error) fallow.Reason {
	var ce *connect.Error
	if !errors.As(err, &ce) {
		return ""
	}
	switch r := fallow.Reason(ce.Meta().Get("Fallow-Reason")); r {
	case fallow.ReasonVersion, fallow.ReasonLeaseClosed, fallow.ReasonNotParty, fallow.ReasonProviderLeft:
		return r
	default:
		return ""
	}
}

// known is a provider's reason, or another where it is none of ours: reasons
// go onto the ledger, which takes no others.
func known(reason string, other fallow.Reason) fallow.Reason {
	if r := fallow.Reason(reason); r.Known() {
		return r
	}
	return other
}

// maxSaid bounds what is kept of a provider's words, in bytes.
const maxSaid = 300

// printable is a provider's words as they may go to a terminal: one short line
// without control characters.
func printable(s string) string {
	if len(s) > maxSaid {
		s = s[:maxSaid] + "…"
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
}

// errSilent is a provider that does not answer the first message.
var errSilent = errors.New("the provider does not answer")

// once is one stream from its first message to its break.
func (l *link) once(ctx context.Context) (up bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	dial, stop := context.WithTimeout(ctx, l.c.config.DialTimeout)
	key, err := l.peer.Connect(dial, l.lease.addrs)
	stop()
	if err != nil {
		return false, err
	}
	if key != l.lease.offer.NodeKey {
		return false, fmt.Errorf("at its addresses answers key %s, want %s", key.Short(), l.lease.offer.NodeKey.Short())
	}
	l.take()
	stream := nodev1connect.NewNodeServiceClient(l.peer.HTTPClient(), l.base(), plain()...).Work(ctx)
	watch := time.AfterFunc(l.c.config.DialTimeout, func() { cancel(errSilent) })
	defer watch.Stop()
	err = stream.Send(&nodev1.WorkRequest{Lease: uint64(l.lease.id), Protocol: fallow.Protocol, HaveReceipts: l.have()})
	if err != nil {
		_ = stream.CloseRequest()
		if _, rerr := stream.Receive(); rerr != nil {
			err = rerr // says more than a broken pipe
		}
		return false, cause(ctx, err)
	}
	var wg sync.WaitGroup
	defer func() {
		cancel(nil) // first: closing reads what still comes
		_ = stream.CloseResponse()
		wg.Wait()
	}()
	wg.Go(func() {
		if err := l.pump(ctx, stream); err != nil {
			cancel(err)
		}
	})
	pushes := make(chan struct{}, 4)
	for {
		m, err := stream.Receive()
		if err != nil {
			return up, cause(ctx, err)
		}
		watch.Stop()
		if m.GetHello() != nil {
			up = true
		}
		l.handle(ctx, m, &wg, pushes)
	}
}

func cause(ctx context.Context, err error) error {
	if c := context.Cause(ctx); c != nil && !errors.Is(c, context.Canceled) {
		return c
	}
	return err
}

// pump sends what is queued. It closes its side when ctx ends: HTTP/2 notices
// the end of a request's context only after the end of its body.
func (l *link) pump(ctx context.Context, stream *connect.BidiStreamForClient[nodev1.WorkRequest, nodev1.WorkResponse]) error {
	for {
		select {
		case <-ctx.Done():
			_ = stream.CloseRequest()
			return nil
		case <-l.wake:
		}
		l.sending(true)
		for _, m := range l.take() {
			if err := stream.Send(m); err != nil {
				l.sending(false)
				_ = stream.CloseRequest()
				return err
			}
			wentOut(m)
		}
		l.sending(false)
	}
}

// handle sorts one message; several fields may be set.
func (l *link) handle(ctx context.Context, m *nodev1.WorkResponse, wg *sync.WaitGroup, pushes chan struct{}) {
	id := l.lease.id
	if h := m.GetHello(); h != nil {
		if h.GetProtocol() != "" && h.GetProtocol() != fallow.Protocol {
			l.tell(linkEnding{id, fallow.ReasonVersion})
			return
		}
		up := linkUp{lease: id, slots: h.GetSlots()}
		if v := h.GetVoucher(); v != nil {
			up.voucher = market.Signed{Message: v.GetMessage(), Signature: v.GetSignature()}
		}
		l.tell(up)
	}
	for _, b := range m.GetWants() {
		l.push(ctx, b, wg, pushes)
	}
	if r := m.GetReceipt(); r != nil {
		signed, err := wire.Signed(r.GetReceipt())
		if err != nil {
			l.c.log.WarnContext(ctx, "a receipt is malformed", slog.Uint64("lease", uint64(id)), slog.Any("error", err))
		} else {
			m := linkReceipt{lease: id, signed: signed, inline: r.GetInline()}
			m.r, m.err = wire.OpenReceipt(l.c.config.ChainID, l.lease.offer.NodeKey, signed)
			l.tell(m)
		}
	}
	if f := m.GetFailed(); f != nil {
		l.tell(linkFailed{attemptID{id, f.GetTask(), f.GetAttempt()}, known(f.GetReason(), fallow.ReasonAborted), printable(f.GetDetail())})
	}
	if m.GetWaitingForVoucher() {
		l.tell(linkWaiting{id})
	}
	if r := m.GetRelease(); r != nil {
		if signed, err := wire.Signed(r); err == nil {
			l.tell(linkRelease{id, signed})
		}
	}
	if e := m.GetEnding(); e != "" {
		l.tell(linkEnding{id, known(e, fallow.ReasonProviderLeft)})
	}
}

// push sends a blob that the provider wants. It gets the job's own alone.
func (l *link) push(ctx context.Context, m *marketv1.Blob, wg *sync.WaitGroup, pushes chan struct{}) {
	b, err := wire.Blob(m)
	if err != nil || !l.may[b.Digest] {
		l.c.log.WarnContext(ctx, "a provider asks for a blob that is not the job's", slog.Uint64("lease", uint64(l.lease.id)))
		return
	}
	l.mu.Lock()
	going := l.going[b.Digest]
	l.going[b.Digest] = true
	l.mu.Unlock()
	if going {
		return // asked for once more
	}
	wg.Go(func() {
		defer func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			delete(l.going, b.Digest)
		}()
		select {
		case pushes <- struct{}{}:
			defer func() { <-pushes }()
		case <-ctx.Done():
			return
		}
		began := time.Now()
		err := l.moves.Push(ctx, l.base(), b.Digest, nil)
		if err == nil {
			l.tell(step{kind: stepInput, lease: l.lease.id, at: began, until: time.Now(), count: 1, bytes: b.Size})
		}
		switch {
		case err == nil || ctx.Err() != nil:
		case errors.Is(err, blob.ErrFull) && errors.Is(err, blob.ErrRefused):
			l.tell(linkBlocked{l.lease.id, fallow.ReasonDiskFull, firstLine(err)})
		default:
			l.tell(linkBlocked{l.lease.id, fallow.ReasonProviderGone, firstLine(err)})
		}
	})
}

// wentOut passes the points at which a task or a voucher is on its way.
func wentOut(m *nodev1.WorkRequest) {
	switch {
	case m.GetTask() != nil:
		fault.Point("client/task-sent")
	case m.GetVoucher() != nil:
		fault.Point("client/voucher-sent")
	}
}
