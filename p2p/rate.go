package p2p

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Rate bounds how often each of many may ask, peers by key or tenants by
// account: a bucket for each, of which it keeps a bounded number and forgets
// the longest unused. Who has many keys is not bounded by it.
type Rate[K comparable] struct {
	perSecond rate.Limit
	burst     int
	most      int

	mu      sync.Mutex
	buckets map[K]*bucket[K]
	// A ring by last use: the head's next is the newest.
	head bucket[K]
}

type bucket[K comparable] struct {
	*rate.Limiter
	key        K
	prev, next *bucket[K]
}

// NewRate allows each perSecond requests in the long run and burst at once,
// and remembers so many.
func NewRate[K comparable](perSecond float64, burst, remember int) *Rate[K] {
	r := &Rate[K]{perSecond: rate.Limit(perSecond), burst: burst, most: max(remember, 1), buckets: map[K]*bucket[K]{}}
	r.head.prev, r.head.next = &r.head, &r.head
	return r
}

// Allow takes one request of k at now, or says no.
func (r *Rate[K]) Allow(k K, now time.Time) bool {
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
		b = &bucket[K]{Limiter: rate.NewLimiter(r.perSecond, r.burst), key: k}
		r.buckets[k] = b
	}
	b.prev, b.next = &r.head, r.head.next
	b.next.prev = b
	r.head.next = b
	return b.AllowN(now, 1)
}

func (b *bucket[K]) unlink() { b.prev.next, b.next.prev = b.next, b.prev }
