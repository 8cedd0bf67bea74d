package adapter

import (
	"crypto/sha256"
	"sync"
)

// Recent remembers hashes: the last most of them for sure, and twice as many at
// most. It is safe for concurrent use.
type Recent struct {
	most int

	mu       sync.Mutex
	new, old map[[sha256.Size]byte]struct{}
}

// NewRecent remembers at least the last most hashes.
func NewRecent(most int) *Recent {
	return &Recent{most: most, new: map[[sha256.Size]byte]struct{}{}}
}

// Has says whether id is remembered.
func (r *Recent) Has(id [sha256.Size]byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.new[id]
	if !ok {
		_, ok = r.old[id]
	}
	return ok
}

// Add remembers id.
func (r *Recent) Add(id [sha256.Size]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.new) >= r.most {
		r.old, r.new = r.new, map[[sha256.Size]byte]struct{}{}
	}
	r.new[id] = struct{}{}
}

// Len is how many are remembered.
func (r *Recent) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.new) + len(r.old)
}
