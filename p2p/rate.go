package p2p

import (
	"sync"
	"time"

	"golang.org/x/time/rate"

	"fallow.network"
)

// Rate bounds how often each peer may ask: a bucket for each key, of which it
// keeps a bounded number and forgets the longest unused.
type Rate struct {
	perSecond rate.Limit
	burst     int
	most      int

	mu      sync.Mutex
	buckets map[fallow.Key]*bucket
	// A ring by last use: the head's next is the newest.
	head bucket
}

type bucket struct {
	*rate.Limiter
	key        fallow.Key
	prev, next *bucket
}

// NewRate allows each peer perSecond requests in the long run and burst at
// once, and remembers the given number of peers.
func NewRate(perSecond float64, burst, peers int) *Rate {
	r := &Rate{perSecond: rate.Limit(perSecond), burst: burst, most: max(peers, 1), buckets: map[fallow.Key]*bucket{}}
	r.head.prev, r.head.next = &r.head, &r.head
	return r
}

// Allow takes one request of k at now, or says no.
func (r *Rate) Allow(k fallow.Key, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	b, ok := r.buckets[k]
	switch {
	case ok:
		b.unlink()
	case len(r.buckets) >= r.most:
		old := r.head.prev
		old.unlink()
		delete(r.buckets, old.key)
	}
	if !ok {
		b = &bucket{Limiter: rate.NewLimiter(r.perSecond, r.burst), key: k}
		r.buckets[k] = b
	}
	b.prev, b.next = &r.head, r.head.next
	b.next.prev = b
	r.head.next = b
	return b.AllowN(now, 1)
}

func (b *bucket) unlink() { b.prev.next, b.next.prev = b.next, b.prev }
