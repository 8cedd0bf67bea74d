package wasm

import (
	"encoding/binary"
	"fmt"
	"math"
	"testing"

	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/sys"

	"fallow.network"
	"fallow.network/receipt"
	"fallow.network/spec"
)

// flat is a guest's memory without an engine.
type flat struct {
	api.Memory
	b []byte
}

func (m *flat) Read(at, n uint32) ([]byte, bool) {
	if uint64(at)+uint64(n) > uint64(len(m.b)) {
		return nil, false
	}
	return m.b[at : uint64(at)+uint64(n) : uint64(at)+uint64(n)], true
}

func (m *flat) WriteUint32Le(at, v uint32) bool {
	b, okay := m.Read(at, 4)
	if okay {
		binary.LittleEndian.PutUint32(b, v)
	}
	return okay
}

func (m *flat) WriteUint64Le(at uint32, v uint64) bool {
	b, okay := m.Read(at, 8)
	if okay {
		binary.LittleEndian.PutUint64(b, v)
	}
	return okay
}

// counter is a global of a metered module.
type counter struct {
	api.MutableGlobal
	v uint64
}

func (c *counter) Get() uint64  { return c.v }
func (c *counter) Set(v uint64) { c.v = v }

// guest calls host functions as a guest would.
type guest struct {
	testing.TB
	r     *run
	m     *flat
	table map[string]call
}

// Places in a guest's memory that its calls use.
const (
	atName    = 0
	atName2   = 8 << 10
	atVectors = 16 << 10
	atResult  = 32 << 10
	atBytes   = 64 << 10
)

func newGuest(tb testing.TB, change ...func(*Task, *blobs)) *guest {
	tb.Helper()
	b := &blobs{tb, tb.TempDir(), map[fallow.Digest]string{}}
	task := Task{
		Task: receipt.Task{
			Args: []string{"guest"}, Profile: spec.ProfileWASM, Seed: make([]byte, 32),
			Limits: receipt.Limits{Gas: math.MaxInt64, Output: 8 << 20, Scratch: 8 << 20},
		},
		Paths: b.paths, Out: b.dir,
	}
	for _, f := range change {
		f(&task, b)
	}
	return guestOf(tb, task)
}

func guestOf(tb testing.TB, task Task) *guest {
	tb.Helper()
	r, err := newRun(task, &inputs{seen: map[string]stamp{}})
	if err != nil {
		tb.Fatal(err)
	}
	m := &flat{b: make([]byte, 4<<20)}
	r.memory = m
	return &guest{tb, r, m, calls()}
}

// call gives a function's error number, or the trap or failure that it ended in.
func (g *guest) call(name string, args ...uint64) (e errno, end error) {
	g.Helper()
	f := g.table[name]
	if f == nil {
		g.Fatalf("no host function %s", name)
	}
	defer func() {
		switch what := recover().(type) {
		case nil:
		case *sys.ExitError:
			end = fmt.Errorf("ended: %s", g.r.trap)
			if g.r.host != nil {
				end = g.r.host
			}
		default:
			panic(what)
		}
	}()
	return f(g.r, args), nil
}

// must is call where the guest goes on.
func (g *guest) must(name string, args ...uint64) errno {
	g.Helper()
	e, end := g.call(name, args...)
	if end != nil {
		g.Fatalf("%s: %v", name, end)
	}
	return e
}

// is fails unless an error number is what it should be.
func (g *guest) is(what string, got, want errno) {
	g.Helper()
	if got != want {
		g.Errorf("%s: error %d, want %d", what, got, want)
	}
}

func (g *guest) put(at int, s string) (uint64, uint64) {
	return uint64(at), uint64(copy(g.m.b[at:], s))
}

func (g *guest) u32(at int) uint32 { return binary.LittleEndian.Uint32(g.m.b[at:]) }
func (g *guest) u64(at int) uint64 { return binary.LittleEndian.Uint64(g.m.b[at:]) }

// root is the preopened folder.
const root = 3

func (g *guest) path(name, p string, more ...uint64) errno {
	g.Helper()
	at, n := g.put(atName, p)
	return g.must(name, append([]uint64{root, at, n}, more...)...)
}

func (g *guest) openAt(dir uint64, p string, flags, rights, fdFlags uint64) (uint64, errno) {
	g.Helper()
	at, n := g.put(atName, p)
	e := g.must("path_open", dir, 0, at, n, flags, rights, 0, fdFlags, atResult)
	return uint64(g.u32(atResult)), e
}

func (g *guest) open(p string, flags, rights uint64) (uint64, errno) {
	g.Helper()
	return g.openAt(root, p, flags, rights, 0)
}

// file opens a file for reading and writing, made where it isn't there.
func (g *guest) file(p string) uint64 {
	g.Helper()
	fd, e := g.open(p, oCreate, rightRead|rightWrite)
	g.is("open "+p, e, ok)
	return fd
}

func (g *guest) mkdir(p string) errno  { g.Helper(); return g.path("path_create_directory", p) }
func (g *guest) rmdir(p string) errno  { g.Helper(); return g.path("path_remove_directory", p) }
func (g *guest) unlink(p string) errno { g.Helper(); return g.path("path_unlink_file", p) }

func (g *guest) rename(p, q string) errno {
	g.Helper()
	at, n := g.put(atName, p)
	at2, n2 := g.put(atName2, q)
	return g.must("path_rename", root, at, n, root, at2, n2)
}

// stat gives kind and size.
func (g *guest) stat(p string) (byte, uint64, errno) {
	g.Helper()
	at, n := g.put(atName, p)
	e := g.must("path_filestat_get", root, 0, at, n, atResult)
	return g.m.b[atResult+16], g.u64(atResult + 32), e
}

func (g *guest) vector(s []byte) {
	binary.LittleEndian.PutUint32(g.m.b[atVectors:], atBytes)
	binary.LittleEndian.PutUint32(g.m.b[atVectors+4:], uint32(len(s)))
	copy(g.m.b[atBytes:], s)
}

func (g *guest) write(fd uint64, s string) errno {
	g.Helper()
	g.vector([]byte(s))
	return g.must("fd_write", fd, atVectors, 1, atResult)
}

func (g *guest) pwrite(fd uint64, s string, off uint64) errno {
	g.Helper()
	g.vector([]byte(s))
	return g.must("fd_pwrite", fd, atVectors, 1, off, atResult)
}

func (g *guest) pread(fd uint64, n int, off uint64) (string, errno) {
	g.Helper()
	g.vector(make([]byte, n))
	e := g.must("fd_pread", fd, atVectors, 1, off, atResult)
	return string(g.m.b[atBytes : atBytes+g.u32(atResult)]), e
}

func (g *guest) read(fd uint64, n int) (string, errno) {
	g.Helper()
	g.vector(make([]byte, n))
	e := g.must("fd_read", fd, atVectors, 1, atResult)
	return string(g.m.b[atBytes : atBytes+g.u32(atResult)]), e
}

func (g *guest) seek(fd uint64, off int64, whence uint64) (uint64, errno) {
	g.Helper()
	e := g.must("fd_seek", fd, uint64(off), whence, atResult)
	return g.u64(atResult), e
}

func (g *guest) size(fd, n uint64) errno {
	g.Helper()
	return g.must("fd_filestat_set_size", fd, n)
}

func (g *guest) shut(fd uint64) { g.Helper(); g.is("close", g.must("fd_close", fd), ok) }

// list reads a folder by a buffer of n bytes.
func (g *guest) list(fd uint64, n int) (names []string, e errno) {
	g.Helper()
	cookie := uint64(0)
	for {
		if e := g.must("fd_readdir", fd, atBytes, uint64(n), cookie, atResult); e != ok {
			return nil, e
		}
		b := g.m.b[atBytes : atBytes+g.u32(atResult)]
		full := len(b) == n
		for len(b) >= 24 {
			k := int(binary.LittleEndian.Uint32(b[16:]))
			if len(b) < 24+k {
				break
			}
			cookie = binary.LittleEndian.Uint64(b)
			kind := "-"
			if b[20] == typeDirectory {
				kind = "d"
			}
			names = append(names, kind+string(b[24:24+k]))
			b = b[24+k:]
		}
		if !full {
			return names, ok
		}
	}
}

// metered counts the gas of the guest's calls from here on.
func (g *guest) metered() (used func() uint64) {
	r := g.r
	const limit = 1 << 40
	r.metered = true
	r.reserve, r.quantum = &counter{v: limit}, &counter{}
	return func() uint64 { return limit - r.reserve.Get() - r.quantum.Get() }
}
