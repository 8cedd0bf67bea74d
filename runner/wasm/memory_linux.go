package wasm

import (
	"github.com/tetratelabs/wazero/experimental"
	"golang.org/x/sys/unix"
)

// allocator reserves address space for a guest's memory up to its grant, so
// that growing copies nothing, never fails below the grant, and the garbage
// collector doesn't see it.
type allocator struct{ grant uint64 }

// Allocate gives memory that grows to at most most bytes and the grant. It
// panics where there is no address space, which instantiate makes an abort.
func (a allocator) Allocate(_, most uint64) experimental.LinearMemory {
	most = max(min(most, a.grant), 1)
	b, err := unix.Mmap(-1, 0, int(most), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		panic(err)
	}
	return &mapped{b}
}

type mapped struct{ b []byte }

// Reallocate gives the first n bytes, or nil beyond what was reserved.
func (m *mapped) Reallocate(n uint64) []byte {
	if n > uint64(len(m.b)) {
		return nil
	}
	return m.b[:n:n]
}

// Free gives the address space back.
func (m *mapped) Free() {
	if m.b != nil {
		_ = unix.Munmap(m.b) // it was mapped above
		m.b = nil
	}
}
