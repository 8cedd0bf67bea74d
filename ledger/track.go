package ledger

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"sync"
	"time"

	"fallow.network"
)

// place is where a transaction ended: in a block, or nowhere for good.
type place struct {
	height fallow.Height
	time   fallow.Time
	result txAnswer
	err    error // ErrExpired: nowhere; else unknown: ErrClosed, ErrPruned
}

// tracker looks for transactions in every new block. One scan serves all that
// are in flight, and nothing depends on a node's index of transactions.
type tracker struct {
	client *Client
	wake   chan struct{}

	mu      sync.Mutex
	next    fallow.Height // to be scanned
	waiting map[Hash]*awaited
	closed  bool
}

type awaited struct {
	until fallow.Height
	found chan place // holds one
}

func newTracker(c *Client) *tracker {
	return &tracker{client: c, wake: make(chan struct{}, 1), waiting: map[Hash]*awaited{}}
}

// await looks for a transaction in the blocks from..until; the channel gives
// its place once. Forget it with drop.
func (t *tracker) await(h Hash, from, until fallow.Height) <-chan place {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := &awaited{until: until, found: make(chan place, 1)}
	if t.closed {
		a.found <- place{err: ErrClosed}
		return a.found
	}
	if len(t.waiting) == 0 || from < t.next {
		t.next = max(from, 1)
	}
	t.waiting[h] = a
	select {
	case t.wake <- struct{}{}:
	default:
	}
	return a.found
}

func (t *tracker) drop(h Hash) {
	t.mu.Lock()
	delete(t.waiting, h)
	t.mu.Unlock()
}

// scanned is the last height of which everything that waits knows.
func (t *tracker) scanned() fallow.Height {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.next - 1
}

func (t *tracker) run(ctx context.Context) {
	defer t.close()
	for {
		t.mu.Lock()
		idle, next := len(t.waiting) == 0, t.next
		t.mu.Unlock()
		if idle {
			select {
			case <-t.wake:
				continue
			case <-ctx.Done():
				return
			}
		}
		head, _, changed := t.client.head.now()
		if head.Height < next {
			select {
			case <-changed:
			case <-t.wake:
			case <-ctx.Done():
				return
			}
			continue
		}
		if err := t.scan(ctx, next); err != nil {
			// Results trail the block by a moment; an absent node, by more.
			wait := 10 * time.Millisecond
			if !errors.Is(err, errNotYet) {
				wait = pollEvery
				t.client.config.Logger.DebugContext(ctx, "block not read yet", slog.Any("error", err))
			}
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return
			}
		}
	}
}

// scan settles what stands in block h, and what can't come after it.
func (t *tracker) scan(ctx context.Context, h fallow.Height) error {
	b, results, err := t.client.rpc.block(ctx, h)
	if err != nil && !errors.Is(err, ErrPruned) {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.next != h {
		return nil // somebody began to wait for an earlier block
	}
	t.next++
	if err != nil { // nobody can say any more what stood there
		for id, a := range t.waiting {
			a.found <- place{err: err}
			delete(t.waiting, id)
		}
		return nil
	}
	for i, raw := range b.Block.Data.Txs {
		id := Hash(sha256.Sum256(raw))
		if a, ok := t.waiting[id]; ok {
			a.found <- place{height: h, time: fallow.Time(b.Block.Header.Time.UnixMilli()), result: results.Txs[i]}
			delete(t.waiting, id)
		}
	}
	for id, a := range t.waiting {
		if h >= a.until {
			a.found <- place{err: ErrExpired}
			delete(t.waiting, id)
		}
	}
	return nil
}

func (t *tracker) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for id, a := range t.waiting {
		a.found <- place{err: ErrClosed}
		delete(t.waiting, id)
	}
}

// Find looks for a transaction of a known hash in the blocks from..until (to
// the head when until is 0), as after UnsettledError. It fails with ErrNotFound
// when the blocks are there and it is in none.
func (c *Client) Find(ctx context.Context, h Hash, from, until fallow.Height) (Tx, error) {
	head, err := c.Head(ctx)
	if err != nil {
		return Tx{}, err
	}
	if until == 0 || until > head.Height {
		until = head.Height
	}
	for at := max(from, 1); at <= until; at++ {
		b, results, err := c.rpc.block(ctx, at)
		if err != nil {
			return Tx{}, err
		}
		for i, raw := range b.Block.Data.Txs {
			if Hash(sha256.Sum256(raw)) == h {
				f := &flight{hash: h, raw: raw}
				return f.settle(place{height: at, time: fallow.Time(b.Block.Header.Time.UnixMilli()), result: results.Txs[i]})
			}
		}
	}
	return Tx{}, ErrNotFound
}
