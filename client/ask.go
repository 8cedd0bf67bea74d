package client

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"

	"fallow.network"
	hubv1 "fallow.network/api/hub"
	"fallow.network/api/hub/hubv1connect"
	marketv1 "fallow.network/api/market"
	nodev1 "fallow.network/api/node"
	"fallow.network/api/node/nodev1connect"
	"fallow.network/fault"
	"fallow.network/market"
	"fallow.network/receipt"
	"fallow.network/spec"
	"fallow.network/trace"
	"fallow.network/wire"
)

// hubsAsked is how many hubs get each demand, so that one that drops or delays
// offers is seen.
const hubsAsked = 2

// maxMessage bounds a message of the RPCs, in bytes.
const maxMessage = 16 << 20

// offered is an offer that answers a demand.
type offered struct {
	answer  market.Answer
	offer   market.Offer
	signed  market.Signed
	nonce   []byte
	latency time.Duration
	score   market.Score
}

// decline is a provider without an offer.
type decline struct {
	provider fallow.Account
	reason   fallow.Reason
	detail   string
}

// NoOffersError is a market without an offer for a job.
type NoOffersError struct {
	Asked    int
	Declined []Declined
	// Hubs are the hubs that did not answer, with why.
	Hubs []string
}

func (e *NoOffersError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "no offers: %d providers answered", len(e.Declined))
	for _, d := range e.Declined {
		fmt.Fprintf(&b, "; %s: %s", d.Provider, d.Reason)
		if text := d.Reason.Text(); text != string(d.Reason) {
			fmt.Fprintf(&b, " (%s)", text)
		}
		if d.Detail != "" {
			fmt.Fprintf(&b, ": %s", d.Detail)
		}
	}
	for _, h := range e.Hubs {
		fmt.Fprintf(&b, "; hub %s", h)
	}
	if len(e.Declined) == 0 {
		b.WriteString("; start a provider with: fallow provider start, or wait for one")
	}
	return b.String()
}

// question is what a job asks the market.
type question struct {
	job       JobID
	workload  spec.Workload
	commit    fallow.Digest
	tasks     int
	slots     uint32
	placement market.Placement
	seconds   uint32
	// at is the latest block that is known.
	at market.Block
	// gas is the limit of each task, 0 where it is not known yet.
	gas fallow.Gas
}

// asked is what came back.
type asked struct {
	nonce    []byte
	peer     Peer
	offers   []offered
	declines []decline
	hubs     []string // that failed, with why
	err      error
	began    time.Time
	ended    time.Time
}

// reply is one answer as it comes in.
type reply struct {
	sealed *marketv1.SealedAnswer
	at     time.Time
}

// ask puts a demand to two hubs and a few providers, and collects answers: for
// AnswerWait once there is an offer, for DemandLife while there is none, and
// no longer once all have answered. The peer stays open; close it.
func (c *Client) ask(ctx context.Context, q question, emit func(Event)) (a asked) {
	ctx, span := c.trace.Begin(ctx, "job.ask")
	began := time.Now()
	defer func() {
		a.began, a.ended = began, time.Now()
		span.Int("fallow.offers", int64(len(a.offers))).Int("fallow.declined", int64(len(a.declines))).Done(a.err)
	}()
	nonce := make([]byte, 16)
	if _, err := rand.Read(nonce); err != nil {
		return asked{err: fmt.Errorf("draw a nonce: %w", err)}
	}
	a.nonce = nonce
	session, err := c.identity.Session(nonce)
	if err != nil {
		return asked{err: err}
	}
	seal, sealing, err := wire.NewSealingKey()
	if err != nil {
		return asked{err: err}
	}
	d := c.demand(q, nonce, wire.PublicKey(session), sealing)
	message, err := wire.EncodeDemand(d)
	if err != nil {
		return asked{err: err}
	}
	signature, err := c.identity.Sign(fallow.SignedBytes(market.SignsDemand, c.config.ChainID, message))
	if err != nil {
		return asked{err: fmt.Errorf("sign the demand: %w", err)}
	}
	if err := c.store.addDemand(ctx, q.job, nonce, message, time.Now()); err != nil {
		return asked{err: err}
	}
	fault.Point("client/demand-written")
	signed := &marketv1.Signed{Message: message, Signature: signature}
	if a.peer, err = c.network.Join(ctx, session); err != nil {
		return asked{err: fmt.Errorf("join the network: %w", err)}
	}
	c.gather(ctx, &a, d, signed, seal, q, emit)
	return a
}

func (c *Client) demand(q question, nonce []byte, session fallow.Key, sealing market.SealingKey) market.Demand {
	l, blobs := q.workload.Limits, q.workload.Blobs()
	// A slot's disk holds what a task writes, and all that a lease may bring.
	disk := l.OutputBytes + l.ScratchBytes
	for _, b := range blobs {
		disk = min(disk+b.Size, market.MaxBytes)
	}
	d := market.Demand{
		Tenant: c.config.Tenant, ClientKey: c.key, SessionKey: session, SealingKey: sealing,
		Kind: market.KindBatch, Class: q.workload.Class, Profile: q.workload.Profile,
		Slot:  market.Resources{MilliCPU: 1000, Memory: l.MemoryBytes, Disk: disk},
		Slots: q.slots, Placement: q.placement, Workload: q.commit,
		Expires: fallow.Time(time.Now().Add(c.config.DemandLife + time.Second).UnixMilli()),
		Seconds: q.seconds, Tasks: uint32(q.tasks),
	}
	copy(d.Nonce[:], nonce)
	// The largest are those whose place matters.
	slices.SortStableFunc(blobs, func(x, y spec.Blob) int {
		if x.Size == y.Size {
			return 0
		} else if x.Size > y.Size {
			return -1
		}
		return 1
	})
	for _, b := range blobs[:min(len(blobs), market.MaxInputs)] {
		if b.Digest.IsZero() {
			continue // a standing lease has no module yet
		}
		d.Inputs = append(d.Inputs, market.Blob{Digest: b.Digest, Size: b.Size})
	}
	return d
}

// gather sends the demand out and fills a with what comes back.
func (c *Client) gather(ctx context.Context, a *asked, d market.Demand, signed *marketv1.Signed, seal *ecdh.PrivateKey, q question, emit func(Event)) {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, c.config.DemandLife)
	defer cancel()
	replies := make(chan reply)
	send := func(s *marketv1.SealedAnswer) {
		select {
		case replies <- reply{s, time.Now()}:
		case <-ctx.Done():
		}
	}
	hubs := slices.Clone(c.config.Hubs)
	mathrand.Shuffle(len(hubs), func(i, j int) { hubs[i], hubs[j] = hubs[j], hubs[i] })
	hubs = hubs[:min(len(hubs), hubsAsked)]
	var wg sync.WaitGroup
	var mu sync.Mutex
	for _, hub := range hubs {
		wg.Go(func() {
			if err := c.askHub(ctx, a.peer, hub, signed, send); err != nil && ctx.Err() == nil {
				mu.Lock()
				a.hubs = append(a.hubs, hub+": "+firstLine(err))
				mu.Unlock()
				c.log.DebugContext(ctx, "asking a hub failed", slog.String("hub", hub), slog.Any("error", err))
			}
		})
	}
	wg.Go(func() {
		list := c.direct(ctx, d)
		emit(DemandSent{Demand: fallow.Sum(signed.GetMessage()), Hubs: len(hubs), Providers: len(list), Tasks: q.tasks})
		c.askDirectly(ctx, a.peer, list, signed, send)
	})
	all := make(chan struct{})
	go func() {
		wg.Wait()
		close(all)
	}()

	answers := &answers{c: c, demand: d, id: fallow.Sum(signed.GetMessage()), seal: seal, start: start, seen: map[fallow.Key]bool{}, a: a, at: q.at, gas: q.gas}
	wait := time.NewTimer(c.config.DemandLife)
	defer wait.Stop()
	for done := false; !done; {
		select {
		case r := <-replies:
			if answers.take(r) && len(a.offers) == 1 {
				// One is here: the others get what is left of the wait.
				wait.Reset(max(c.config.AnswerWait-time.Since(start), c.config.AnswerWait/2))
			}
		case <-all:
			done = true
		case <-wait.C:
			done = true
		case <-ctx.Done():
			done = true
		}
	}
	cancel()
	<-all
}

// answers sorts what comes in.
type answers struct {
	c      *Client
	demand market.Demand
	id     fallow.Digest
	seal   *ecdh.PrivateKey
	start  time.Time
	seen   map[fallow.Key]bool
	a      *asked
	at     market.Block
	gas    fallow.Gas
}

// maxReplies is how many answers to one demand are taken from one hub: it may
// send without end, and keys that no provider has cost it nothing. It is each
// hub's own bound, so that none crowds out what others bring.
const maxReplies = 2048

// take opens an answer; the same provider may come by several ways, and the
// first counts. It is true for an offer.
func (s *answers) take(r reply) bool {
	answer, err := wire.OpenAnswer(s.seal, s.id, r.sealed)
	if err != nil {
		s.c.log.Debug("an answer could not be opened", slog.Any("error", err))
		return false
	}
	if s.seen[answer.NodeKey] {
		return false
	}
	s.seen[answer.NodeKey] = true
	no := func(reason fallow.Reason, detail string) bool {
		s.a.declines = append(s.a.declines, decline{answer.Provider, reason, detail})
		return false
	}
	if answer.Protocol != "" && answer.Protocol != fallow.Protocol {
		return no(fallow.ReasonVersion, fmt.Sprintf("it speaks %.40s, this program %s", answer.Protocol, fallow.Protocol))
	}
	if answer.Reason != "" {
		return no(known(string(answer.Reason), fallow.ReasonUnsupported), printable(answer.Detail))
	}
	offer, err := wire.OpenOffer(s.c.config.ChainID, answer.Offer)
	if err != nil {
		return no(wire.ReasonOf(err), firstLine(err))
	}
	if offer.Provider != answer.Provider || offer.NodeKey != answer.NodeKey {
		return no(fallow.ReasonMalformed, "the offer is another provider's")
	}
	if err := market.CheckOffer(offer, s.id, s.demand, s.at); err != nil {
		reason := fallow.ReasonMalformed
		var refusal *market.Refusal
		if errors.As(err, &refusal) {
			reason = refusal.Reason
		}
		return no(reason, err.Error())
	}
	if most, err := receipt.Charge(offer.Terms, s.gas); err != nil || most.Cmp(offer.Terms.UnpaidCeiling.Pico()) > 0 {
		return no(fallow.ReasonTerms, fmt.Sprintf("by its gas limit a task may come to %s credits, and at most %s are worked ahead of payment: lower limits.gas", most, offer.Terms.UnpaidCeiling))
	}
	s.a.offers = append(s.a.offers, offered{answer: answer, offer: offer, signed: answer.Offer, nonce: s.a.nonce, latency: r.at.Sub(s.start)})
	return true
}

func (c *Client) askHub(ctx context.Context, peer Peer, hub string, signed *marketv1.Signed, send func(*marketv1.SealedAnswer)) error {
	key, err := peer.Connect(ctx, []string{hub})
	if err != nil {
		return err
	}
	stream, err := hubv1connect.NewHubServiceClient(peer.HTTPClient(), peer.URL(key), plain()...).
		Ask(ctx, traced(ctx, connect.NewRequest(&hubv1.AskRequest{Demand: signed, Protocol: fallow.Protocol})))
	if err != nil {
		return err
	}
	defer func() { _ = stream.Close() }()
	for n := 0; n < maxReplies && stream.Receive(); n++ {
		if sealed := stream.Msg().GetAnswer(); sealed != nil {
			send(sealed)
		}
	}
	return stream.Err()
}

// direct draws a few providers from the ledger's list.
func (c *Client) direct(ctx context.Context, d market.Demand) []Listing {
	list, err := c.books.Providers(ctx, 8*c.config.Direct)
	if err != nil {
		c.log.DebugContext(ctx, "the ledger's list of providers could not be read", slog.Any("error", err))
		return nil
	}
	list = slices.DeleteFunc(list, func(l Listing) bool {
		return len(l.Addrs) == 0 || slices.Contains(d.Placement.Excluded, l.Provider) ||
			len(d.Placement.Providers) > 0 && !slices.Contains(d.Placement.Providers, l.Provider)
	})
	mathrand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list[:min(len(list), c.config.Direct)]
}

// askDirectly asks providers past all hubs.
func (c *Client) askDirectly(ctx context.Context, peer Peer, list []Listing, signed *marketv1.Signed, send func(*marketv1.SealedAnswer)) {
	var wg sync.WaitGroup
	for _, l := range list {
		wg.Go(func() {
			key, err := peer.Connect(ctx, l.Addrs)
			if err != nil {
				c.log.DebugContext(ctx, "a provider could not be reached", slog.String("provider", string(l.Provider)), slog.Any("error", err))
				return
			}
			r, err := nodev1connect.NewNodeServiceClient(peer.HTTPClient(), peer.URL(key), plain()...).
				Ask(ctx, traced(ctx, connect.NewRequest(&nodev1.AskRequest{Demand: signed, Protocol: fallow.Protocol})))
			if err != nil {
				c.log.DebugContext(ctx, "a provider did not answer", slog.String("provider", string(l.Provider)), slog.Any("error", err))
				return
			}
			if sealed := r.Msg.GetAnswer(); sealed != nil {
				send(sealed)
			}
		})
	}
	wg.Wait()
}

// traced says which span a call belongs to, where the tenant traces.
func traced[T any](ctx context.Context, r *connect.Request[T]) *connect.Request[T] {
	if parent := trace.Parent(ctx); parent != "" {
		r.Header().Set(trace.Header, parent)
	}
	return r
}

// plain turns compression off, which costs more than it saves here, and
// bounds messages.
func plain() []connect.ClientOption {
	return []connect.ClientOption{connect.WithAcceptCompression("gzip", nil, nil), connect.WithReadMaxBytes(maxMessage)}
}

// noOffers is the error for an answer without offers.
func (a asked) noOffers() error {
	if a.err != nil {
		return a.err
	}
	e := &NoOffersError{Asked: len(a.declines), Hubs: a.hubs}
	for _, d := range a.declines {
		e.Declined = append(e.Declined, Declined{Provider: d.provider, Reason: d.reason, Detail: d.detail})
	}
	return e
}

func firstLine(err error) string {
	var ce *connect.Error
	if errors.As(err, &ce) {
		err = errors.New(ce.Message())
	}
	line, _, _ := strings.Cut(err.Error(), "\n")
	return printable(line)
}
