//go:build !linux

package wasm

import "github.com/tetratelabs/wazero/experimental"

// allocator grows a guest's memory in the heap, up to its grant.
type allocator struct{ grant uint64 }

// Allocate gives memory that grows to at most the grant.
func (a allocator) Allocate(start, most uint64) experimental.LinearMemory {
	return &heaped{b: make([]byte, 0, start), most: min(most, a.grant)}
}

type heaped struct {
	b    []byte
	most uint64
}

// Reallocate gives n bytes, or nil beyond the grant.
func (h *heaped) Reallocate(n uint64) []byte {
	if n > h.most {
		return nil
	}
	if n > uint64(cap(h.b)) {
		b := make([]byte, len(h.b), max(n, 2*uint64(cap(h.b))))
		copy(b, h.b)
		h.b = b
	}
	h.b = h.b[:n]
	return h.b
}

// Free lets the memory go.
func (h *heaped) Free() { h.b = nil }
