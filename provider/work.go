package provider

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"connectrpc.com/connect"

	"fallow.network"
	marketv1 "fallow.network/api/market"
	nodev1 "fallow.network/api/node"
	"fallow.network/fault"
	"fallow.network/market"
	"fallow.network/receipt"
	"fallow.network/settle"
	"fallow.network/trace"
	"fallow.network/wire"
)

// reasonHeader carries the typed reason of a refused call.
const reasonHeader = "Fallow-Reason"

// peerShare is how many tenants' demands one peer may bring.
const peerShare = 4

// refuse is an error of a call with its typed reason.
func refuse(code connect.Code, r fallow.Reason, format string, args ...any) *connect.Error {
	err := connect.NewError(code, fmt.Errorf("%s: %s", r, fmt.Sprintf(format, args...)))
	err.Meta().Set(reasonHeader, string(r))
	return err
}

// node serves fallow.node.v1.NodeService.
type node struct{ d *Daemon }

// Ask answers a demand that came directly.
func (n node) Ask(ctx context.Context, r *connect.Request[nodev1.AskRequest]) (*connect.Response[nodev1.AskResponse], error) {
	if err := sameProtocol(r.Msg.GetProtocol()); err != nil {
		return nil, err
	}
	c, _ := n.d.config()
	if peer, ok := n.d.deps.PeerKey(ctx); !ok || !n.d.desk.limits.allow("peer "+peer.String(), peerShare*c.Offers.PerSecond, n.d.now()) {
		return nil, refuse(connect.CodeResourceExhausted, fallow.ReasonRateLimited, "too many demands from this peer; wait a moment")
	}
	s, err := wire.Signed(r.Msg.GetDemand())
	if err != nil {
		return nil, refuse(connect.CodeInvalidArgument, fallow.ReasonMalformed, "%v", err)
	}
	a, err := n.d.answer(trace.With(ctx, r.Header().Get(trace.Header)), s)
	if err != nil {
		return nil, refuse(connect.CodeInvalidArgument, wire.ReasonOf(err), "%v", err)
	}
	return connect.NewResponse(&nodev1.AskResponse{Answer: a}), nil
}

// Status says who this is and whether it takes work.
func (n node) Status(context.Context, *connect.Request[nodev1.StatusRequest]) (*connect.Response[nodev1.StatusResponse], error) {
	c, sched := n.d.config()
	why, _ := n.d.gate.offers(c, sched, n.d.now())
	return connect.NewResponse(&nodev1.StatusResponse{
		Protocol: fallow.Protocol, Provider: string(c.Provider), Paused: why != "", Running: n.d.capacity.usage().Running,
	}), nil
}

func sameProtocol(p string) error {
	if p == fallow.Protocol {
		return nil
	}
	return refuse(connect.CodeFailedPrecondition, fallow.ReasonVersion, "this provider speaks %s and you %.40q: upgrade the older program", fallow.Protocol, p)
}

// Work serves one lease to its tenant.
func (n node) Work(ctx context.Context, stream *connect.BidiStream[nodev1.WorkRequest, nodev1.WorkResponse]) error {
	d := n.d
	peer, ok := d.deps.PeerKey(ctx)
	if !ok {
		return refuse(connect.CodeUnauthenticated, fallow.ReasonSignature, "the connection proves no key")
	}
	first, err := stream.Receive()
	if err != nil {
		return err
	}
	if err := sameProtocol(first.GetProtocol()); err != nil {
		return err
	}
	l, err := d.leaseOf(ctx, fallow.LeaseID(first.GetLease()), peer)
	if err != nil {
		return err
	}
	k := newLink()
	d.mu.Lock()
	d.links[k] = true
	d.mu.Unlock()
	defer func() {
		close(k.gone)
		d.mu.Lock()
		delete(d.links, k)
		d.mu.Unlock()
	}()
	d.attach(ctx, l, k)
	defer l.detach(k)
	// Receiving can't be interrupted but by leaving this handler, so it is
	// waited for when the daemon ends.
	d.wg.Go(func() {
		err := d.resend(ctx, l, k, first.GetHaveReceipts())
		if err == nil {
			err = d.listen(ctx, l, k, first, stream.Receive)
		}
		k.close(err)
	})
	return k.run(ctx, stream)
}

// leaseWait is how long a lease may take to show up that its tenant has seen.
const leaseWait = 5 * time.Second

// leaseOf finds a lease, on the ledger where it is new, and checks that the
// caller is its tenant.
func (d *Daemon) leaseOf(ctx context.Context, id fallow.LeaseID, peer fallow.Key) (*lease, error) {
	d.mu.Lock()
	l := d.leases[id]
	d.mu.Unlock()
	if l == nil {
		on, err := d.lookUp(ctx, id)
		if err != nil {
			return nil, err
		}
		c, _ := d.config()
		switch {
		case on.SessionKey != peer:
			return nil, refuse(connect.CodePermissionDenied, fallow.ReasonNotParty, "your key is not the session key of lease %d", id)
		case on.Provider != c.Provider || on.NodeKey != d.node:
			return nil, refuse(connect.CodePermissionDenied, fallow.ReasonNotParty, "lease %d is with another provider or machine", id)
		case on.State != settle.Open:
			return nil, refuse(connect.CodeFailedPrecondition, fallow.ReasonLeaseClosed, "lease %d is %s: %s", id, on.State, on.Reason.Text())
		}
		l, err = d.adopt(ctx, on)
		if errors.Is(err, errUnknownOffer) {
			return nil, refuse(connect.CodeFailedPrecondition, fallow.ReasonProviderLeft, "%v", err)
		}
		if err != nil {
			return nil, refuse(connect.CodeUnavailable, fallow.ReasonAborted, "%v", err)
		}
	}
	if l.session != peer {
		return nil, refuse(connect.CodePermissionDenied, fallow.ReasonNotParty, "your key is not the session key of lease %d", id)
	}
	return l, nil
}

// lookUp asks the ledger for a lease, and gives a node that lags behind the
// tenant's a moment.
func (d *Daemon) lookUp(ctx context.Context, id fallow.LeaseID) (settle.Lease, error) {
	ctx, cancel := context.WithTimeout(ctx, d.deps.patience)
	defer cancel()
	for {
		next := d.nextHead()
		on, err := d.deps.Books.Lease(ctx, id)
		switch {
		case err == nil:
			return on, nil
		case !errors.Is(err, ErrNoLease):
			return on, refuse(connect.CodeUnavailable, fallow.ReasonChainAway, "lease %d can't be looked up: %v", id, err)
		}
		select {
		case <-next:
		case <-ctx.Done():
			return on, refuse(connect.CodeNotFound, fallow.ReasonUnknownLease, "the ledger has no lease %d", id)
		}
	}
}

// attach makes k the lease's connection: it says where the work stands and
// asks for blobs that are missing.
func (d *Daemon) attach(ctx context.Context, l *lease, k *link) {
	l.mu.Lock()
	hello := &nodev1.Hello{Protocol: fallow.Protocol, Slots: l.terms.Slots, Receipts: uint32(l.done.n)}
	if len(l.voucher.Message) > 0 {
		hello.Voucher = wire.ToSigned(l.voucher)
	}
	k.send(&nodev1.WorkResponse{Hello: hello})
	old := l.link
	l.link, l.lastWord, l.told = k, d.now(), false
	var missing []*marketv1.Blob
	for _, t := range l.pending {
		missing = append(missing, t.wants()...)
	}
	l.mu.Unlock()
	if old != nil {
		old.close(refuse(connect.CodeAborted, fallow.ReasonBusy, "a newer connection of this lease took over"))
	}
	k.want(missing)
	d.log.InfoContext(ctx, "tenant connected", slog.Uint64("lease", uint64(l.id)), slog.Int("receipts", int(hello.Receipts)))
	d.pump()
}

// resend sends the receipts of tasks that the tenant does not have, as fast as
// it takes them.
func (d *Daemon) resend(ctx context.Context, l *lease, k *link, tasks []uint32) error {
	have := make(map[uint32]bool, len(tasks))
	for _, t := range tasks {
		have[t] = true
	}
	l.mu.Lock()
	none := l.done.n == 0
	l.mu.Unlock()
	if none {
		return nil
	}
	err := d.eachReceipt(ctx, l.id, func(s signed) error {
		if have[s.at.task] {
			return nil
		}
		if !k.await(ctx) {
			return context.Canceled
		}
		k.send(d.receiptMessage(ctx, l, s))
		return nil
	})
	switch {
	case err == nil, ctx.Err() != nil, errors.Is(err, context.Canceled):
		return ctx.Err()
	default:
		d.log.ErrorContext(ctx, "receipts could not be read for sending", slog.Uint64("lease", uint64(l.id)), slog.Any("error", err))
		return refuse(connect.CodeUnavailable, fallow.ReasonAborted, "the journal can't be read")
	}
}

func (l *lease) detach(k *link) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.link == k {
		l.link = nil
	}
}

// say sends to the tenant where it is connected.
func (l *lease) say(m *nodev1.WorkResponse) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.link != nil {
		l.link.send(m)
	}
}

// listen takes what the tenant says, the first message included, until it
// leaves. The error is how the connection ends.
func (d *Daemon) listen(ctx context.Context, l *lease, k *link, first *nodev1.WorkRequest, receive func() (*nodev1.WorkRequest, error)) error {
	for m := first; ; {
		l.mu.Lock()
		l.lastWord = d.now()
		l.mu.Unlock()
		if err := d.hear(ctx, l, k, m); err != nil {
			return err
		}
		if !k.await(ctx) {
			return ctx.Err()
		}
		var err error
		if m, err = receive(); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

// hear does what one message asks.
func (d *Daemon) hear(ctx context.Context, l *lease, k *link, m *nodev1.WorkRequest) error {
	if id := fallow.LeaseID(m.GetLease()); id != 0 && id != l.id {
		return refuse(connect.CodeInvalidArgument, fallow.ReasonMalformed, "a message for lease %d on the connection of lease %d", id, l.id)
	}
	if v := m.GetVoucher(); v != nil {
		if err := d.takeVoucher(ctx, l, v); err != nil {
			return err
		}
	}
	if t := m.GetTask(); t != nil {
		d.accept(ctx, l, k, t, m.GetTraceparent())
	}
	if c := m.GetCancel(); c != nil {
		d.cancel(ctx, l, attempt{c.GetTask(), c.GetAttempt()})
	}
	if m.GetFinish() {
		return d.finish(ctx, l, k)
	}
	return nil
}

// takeVoucher checks a voucher and keeps it when it is worth more.
func (d *Daemon) takeVoucher(ctx context.Context, l *lease, m *marketv1.Signed) error {
	s, err := wire.Signed(m)
	var v receipt.Voucher
	if err == nil {
		v, err = wire.OpenVoucher(d.deps.ChainID, l.session, s)
	}
	if err != nil {
		return refuse(connect.CodeInvalidArgument, wire.ReasonOf(err), "voucher: %v", err)
	}
	l.words.Lock()
	defer l.words.Unlock()
	l.mu.Lock()
	known, no := l.weigh(v, s)
	funded := l.funded
	l.mu.Unlock()
	if no != nil {
		return refuse(connect.CodeInvalidArgument, no.Reason, "%s", no.Detail)
	}
	if known {
		return nil // said again after a cut
	}
	if v.Amount.Cmp(funded.Pico()) > 0 {
		// The reserve may have been raised a moment ago.
		if funded, err = d.raised(ctx, l, v.Amount); err != nil || v.Amount.Cmp(funded.Pico()) > 0 {
			return refuse(connect.CodeInvalidArgument, fallow.ReasonVoucherBeyond, "voucher over %s credits, and the lease's reserve is %s: raise it first", v.Amount, funded)
		}
	}
	now := d.now()
	fault.Point("provider/voucher-got")
	if err := d.journal.addVoucher(ctx, v, s, now); err != nil {
		return refuse(connect.CodeUnavailable, fallow.ReasonAborted, "the voucher can't be written down: %v", err)
	}
	fault.Point("provider/voucher-written")
	l.mu.Lock()
	l.take(v, s, now)
	l.told = false
	l.mu.Unlock()
	d.metrics.vouchers.Inc()
	d.pump()
	d.wakeSettler()
	return nil
}

// raised asks the ledger for a lease's reserve until it covers an amount, for
// a moment.
func (d *Daemon) raised(ctx context.Context, l *lease, amount fallow.Pico) (fallow.Credits, error) {
	ctx, cancel := context.WithTimeout(ctx, d.deps.patience)
	defer cancel()
	for {
		next := d.nextHead()
		on, err := d.deps.Books.Lease(ctx, l.id)
		if err == nil {
			l.learn(on)
			if on.Reserve.Pico().Cmp(amount) >= 0 {
				return on.Reserve, nil
			}
		}
		select {
		case <-next:
		case <-ctx.Done():
			return on.Reserve, err
		}
	}
}

// finish ends a lease that its tenant is done with: nothing more runs, the
// reserve above what is owed is released, and the rest goes to the ledger.
func (d *Daemon) finish(ctx context.Context, l *lease, k *link) error {
	l.words.Lock()
	defer l.words.Unlock()
	err := d.journal.finishLease(ctx, l.id, fallow.ReasonCompleted)
	if err != nil {
		return refuse(connect.CodeUnavailable, fallow.ReasonAborted, "the end of the lease can't be written down: %v", err)
	}
	fault.Point("provider/finish-written")
	d.stop(l, fallow.ReasonCompleted, func() {
		l.free()
		var b []byte
		if b, err = wire.EncodeRelease(receipt.Release{Lease: l.id, Amount: l.owed}); err == nil {
			l.release = wire.Sign(d.deps.NodeKey, market.SignsRelease, d.deps.ChainID, b)
			fault.Point("provider/release-signed")
			k.send(&nodev1.WorkResponse{Release: wire.ToSigned(l.release)})
		}
	})
	if err != nil {
		return refuse(connect.CodeInternal, fallow.ReasonAborted, "%v", err)
	}
	return nil
}
