package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"fallow.network"
	"fallow.network/fault"
	"fallow.network/market"
	"fallow.network/spec"
)

// mostPause is the longest pause between two tries of patient.
const mostPause = 3 * time.Second

// patient does what needs the ledger, and tries again while it is away.
func (c *Client) patient(ctx context.Context, emit func(Event), do func() error) error {
	const what = "the ledger"
	start := time.Now()
	pause := 200 * time.Millisecond
	for {
		err := do()
		if err == nil || !errors.Is(err, ErrAway) {
			if err == nil && time.Since(start) > time.Second && pause > 200*time.Millisecond {
				emit(Back{What: what})
			}
			return err
		}
		if time.Since(start) > c.config.Patience {
			return fmt.Errorf("%s has been away for %s: %w", what, c.config.Patience, err)
		}
		emit(Away{What: what, For: time.Since(start)})
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(pause):
		}
		pause = min(2*pause, mostPause)
	}
}

// open opens leases for chosen offers. What is chosen is on disk before the
// ledger hears of it, so that a lease that opened in the dark is found again.
func (c *Client) open(ctx context.Context, job JobID, picks []pick, emit func(Event)) ([]lease, error) {
	ctx, span := c.trace.Begin(ctx, "job.lease")
	defer func() { span.Int("fallow.offers", int64(len(picks))).End("") }()
	list := make([]lease, len(picks))
	entries := make([]OpenEntry, len(picks))
	for i, p := range picks {
		list[i] = lease{job: job, nonce: p.nonce, signed: p.signed, offer: p.offer, addrs: p.answer.Addrs, region: p.answer.Region, reserve: p.reserve, state: leaseOpening}
		session, err := c.sessionKey(p.nonce)
		if err != nil {
			return nil, err
		}
		entries[i] = OpenEntry{Offer: p.signed, SessionKey: session, Reserve: p.reserve}
	}
	fault.Point("client/offers-chosen")
	if err := c.store.addLeases(ctx, list); err != nil {
		return nil, err
	}
	fault.Point("client/offers-written")
	var results []OpenResult
	var txs []Transaction
	first := true
	err := c.patient(ctx, emit, func() (err error) {
		if !first {
			// It may have opened them although it did not say so.
			known, err := c.adopt(ctx, list)
			if err != nil || known {
				return err
			}
		}
		first = false
		results, txs, err = c.ledger.Open(ctx, c.config.Tenant, entries)
		return err
	})
	for _, tx := range txs {
		err = errors.Join(err, c.store.addTransaction(ctx, job, "open", tx, time.Now()))
	}
	if err != nil {
		if _, aerr := c.adopt(ctx, list); aerr != nil {
			return nil, errors.Join(fmt.Errorf("open leases: %w", err), aerr)
		}
		if !opened(list) {
			return nil, fmt.Errorf("open leases: %w", err)
		}
	}
	fault.Point("client/lease-seen")
	now := time.Now()
	for i, res := range results {
		if i >= len(list) {
			break
		}
		l := &list[i]
		if res.Reason != "" || res.Lease == 0 {
			l.state, l.reason = leaseSkipped, res.Reason
			if err := c.store.skipLease(ctx, l.offerID(), res.Reason); err != nil {
				return nil, err
			}
			continue
		}
		l.id, l.state, l.opened = res.Lease, leaseOpen, now
		if err := c.store.openLease(ctx, l.offerID(), res.Lease, l.reserve, now); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func opened(list []lease) bool {
	for _, l := range list {
		if l.id != 0 {
			return true
		}
	}
	return false
}

// adopt looks on the ledger for leases that our offers opened, and says
// whether there is any.
func (c *Client) adopt(ctx context.Context, list []lease) (bool, error) {
	there, err := c.books.Leases(ctx, c.config.Tenant)
	if err != nil {
		return false, err
	}
	byOffer := map[fallow.Digest]Lease{}
	for _, l := range there {
		byOffer[l.Offer] = l
	}
	for i := range list {
		l := &list[i]
		on, ok := byOffer[l.offerID()]
		if !ok || l.id != 0 {
			continue
		}
		l.id, l.state, l.reserve, l.opened = on.ID, leaseOpen, on.Reserve, time.UnixMilli(int64(on.Opened))
		if err := c.store.openLease(ctx, l.offerID(), on.ID, on.Reserve, l.opened); err != nil {
			return false, err
		}
	}
	return opened(list), nil
}

// rank scores offers against each other by the market's rules, with what this
// home knows of their nodes.
func (c *Client) rank(ctx context.Context, offers []offered, w wish, inputs []spec.Blob) {
	var bytes uint64
	for _, b := range inputs {
		bytes += b.Size
	}
	candidates := make([]market.Candidate, len(offers))
	for i, o := range offers {
		candidates[i] = market.Candidate{
			ID: o.signed.ID(), Offer: o.offer, StandingPPM: c.trust(ctx, o.offer.NodeKey),
			LatencyMS: uint32(min(o.latency.Milliseconds(), 1<<31)), InputBytes: bytes, MissingBytes: bytes - there(o.answer.Has, inputs),
		}
	}
	scores := map[fallow.Digest]market.Score{}
	for _, r := range market.Rank(candidates, market.Work{Tasks: uint64(w.tasks), Gas: w.gas}, market.DefaultWeights()) {
		scores[r.ID] = r.Score
	}
	for i := range offers {
		offers[i].score = scores[offers[i].signed.ID()]
	}
}

// trust is what this home's own checks say of a node: all after twenty right
// ones, none after a wrong one.
func (c *Client) trust(ctx context.Context, node fallow.Key) uint32 {
	e, err := c.store.evidence(ctx, node, fallow.ClassWASM)
	if err != nil || e.Wrong > 0 {
		return 0
	}
	return min(e.Right, 20) * 50_000
}

// there is how many bytes of the inputs a provider says it has.
func there(has []fallow.Digest, inputs []spec.Blob) (n uint64) {
	for _, b := range inputs {
		if slices.Contains(has, b.Digest) {
			n += b.Size
		}
	}
	return n
}
