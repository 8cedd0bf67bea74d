package wasm

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"fallow.network/meter"
	"fallow.network/receipt"
)

// TestEveryHost looks at the table: what the meter admits is there, and
// nothing besides.
func TestEveryHost(t *testing.T) {
	table := calls()
	for _, h := range meter.Hosts {
		if table[h.Name] == nil {
			t.Errorf("no %s", h.Name)
		}
		delete(table, h.Name)
	}
	for name := range table {
		t.Errorf("%s is not in the schedule", name)
	}
}

// TestNoMemoryToPointTo calls everything for a module without a memory, and
// with pointers outside of one.
func TestBadPointers(t *testing.T) {
	for _, h := range meter.Hosts {
		params, _, _ := strings.Cut(h.Sig, ":")
		for _, v := range []uint64{0, 1, 3, 4, math.MaxUint32, math.MaxUint32 - 7, 1 << 31, math.MaxInt64, math.MaxUint64} {
			for _, with := range []bool{true, false} {
				g := newGuest(t)
				if !with {
					g.r.memory = nil
				}
				args := make([]uint64, max(len(params), 1))
				for i := range args {
					args[i] = v
					if i < len(params) && params[i] == 'i' {
						args[i] = uint64(uint32(v))
					}
				}
				_, _ = g.call(h.Name, args...)
				if g.r.host != nil {
					t.Errorf("%s(%d): %v", h.Name, v, g.r.host)
				}
				args[0] = 3
				_, _ = g.call(h.Name, args...)
				g.r.close()
			}
		}
	}
}

func TestListsAtTheEnd(t *testing.T) {
	g := newGuest(t, func(task *Task, _ *blobs) { task.Args = []string{"a", "", "ccc"} })
	end := uint64(len(g.m.b))
	g.is("strings that don't fit", g.must("args_get", 0, end-6), errnoFault)
	g.is("pointers that don't fit", g.must("args_get", end-11, 100), errnoFault)
	g.is("sizes that don't fit", g.must("args_sizes_get", 0, end-3), errnoFault)
	g.is("all", g.must("args_get", end-12, 0), ok)
	if got := string(g.m.b[:7]); got != "a\x00\x00ccc\x00" {
		t.Errorf("strings %q", got)
	}
	for i, want := range []uint32{0, 2, 3} {
		if got := g.u32(int(end) - 12 + 4*i); got != want {
			t.Errorf("pointer %d is %d, want %d", i, got, want)
		}
	}
	g.is("no variables", g.must("environ_get", end, end), ok)
}

func TestClock(t *testing.T) {
	g := newGuest(t)
	at := func(id uint64) uint64 {
		g.is("clock_time_get", g.must("clock_time_get", id, 1, atResult), ok)
		return g.u64(atResult)
	}
	if got := at(0); got != clockStart+clockStep {
		t.Errorf("the first time is %d", got)
	}
	for i := uint64(1); i <= 3; i++ {
		if got := at(i); got != (i+1)*clockStep {
			t.Errorf("clock %d says %d", i, got)
		}
	}
	g.is("an unknown clock", g.must("clock_time_get", 4, 1, atResult), errnoInval)
	g.is("its resolution", g.must("clock_res_get", 4, atResult), errnoInval)
	g.is("resolution", g.must("clock_res_get", 1, atResult), ok)
	if g.u64(atResult) != clockStep {
		t.Errorf("resolution %d", g.u64(atResult))
	}
	g.r.clock = clockEnd - 1
	if a, b := at(0), at(0); a != clockEnd || b != clockEnd {
		t.Errorf("at the end of time it is %d and %d", a, b)
	}
}

// subscribe writes subscriptions: a clock by its id, or a file below zero.
func (g *guest) poll(subs ...[3]int64) (fired []uint64, e errno) {
	g.Helper()
	for i, s := range subs {
		b := g.m.b[atBytes+subscriptionBytes*i : atBytes+subscriptionBytes*(i+1)]
		clear(b)
		binary.LittleEndian.PutUint64(b, uint64(100+i))
		switch {
		case s[0] < 0:
			b[8] = pollRead
			binary.LittleEndian.PutUint32(b[16:], uint32(-s[0]-1))
		default:
			binary.LittleEndian.PutUint32(b[16:], uint32(s[0]))
			binary.LittleEndian.PutUint64(b[24:], uint64(s[1]))
			binary.LittleEndian.PutUint16(b[40:], uint16(s[2]))
		}
	}
	const out = 1 << 20
	if e := g.must("poll_oneoff", atBytes, out, uint64(len(subs)), atResult); e != ok {
		return nil, e
	}
	for i := range g.u32(atResult) {
		b := g.m.b[out+eventBytes*i:]
		fired = append(fired, binary.LittleEndian.Uint64(b)-100+1000*uint64(binary.LittleEndian.Uint16(b[8:])))
	}
	return fired, ok
}

func TestPoll(t *testing.T) {
	const second = 1_000_000_000
	tests := []struct {
		name  string
		subs  [][3]int64
		fired []uint64 // number of the subscription, and 1000 times its error
		moved uint64   // the clock, in nanoseconds
	}{
		{"sleep", [][3]int64{{1, second, 0}}, []uint64{0}, second},
		{"the shorter of two", [][3]int64{{1, 5 * second, 0}, {0, 2 * second, 0}}, []uint64{1}, 2 * second},
		{"both at once", [][3]int64{{1, second, 0}, {0, second, 0}}, []uint64{0, 1}, second},
		{"until a time", [][3]int64{{0, clockStart + 3*second, 1}}, []uint64{0}, 3 * second},
		{"until a time since the beginning", [][3]int64{{1, 3 * second, 1}}, []uint64{0}, 3 * second},
		{"until a time that has passed", [][3]int64{{0, 5, 1}}, []uint64{0}, 0},
		{"not at all", [][3]int64{{1, 0, 0}}, []uint64{0}, 0},
		{"for ever", [][3]int64{{1, -1, 0}}, []uint64{0}, clockEnd - clockStart},
		{"until the end of time", [][3]int64{{1, math.MaxInt64, 1}}, []uint64{0}, clockEnd - clockStart},
		{"a file", [][3]int64{{-1, 0, 0}}, []uint64{0}, 0},
		{"a file before a clock", [][3]int64{{1, second, 0}, {-1, 0, 0}}, []uint64{1}, 0},
		{"a file and a clock that is due", [][3]int64{{1, 0, 0}, {-1, 0, 0}}, []uint64{0, 1}, 0},
		{"no such file", [][3]int64{{-78, 0, 0}}, []uint64{1000 * uint64(errnoBadF)}, 0},
		{"no such clock", [][3]int64{{9, second, 0}}, []uint64{1000 * uint64(errnoInval)}, 0},
	}
	for _, tt := range tests {
		g := newGuest(t)
		fired, e := g.poll(tt.subs...)
		g.is(tt.name, e, ok)
		if moved := g.r.clock - clockStart; !slices.Equal(fired, tt.fired) || moved != tt.moved {
			t.Errorf("%s: fired %v after %d ns, want %v after %d", tt.name, fired, moved, tt.fired, tt.moved)
		}
	}
	g := newGuest(t)
	if _, e := g.poll(); e != errnoInval {
		t.Errorf("nothing to wait for: %d", e)
	}
	g.is("too much to wait for", g.must("poll_oneoff", atBytes, 0, maxSubscribes+1, atResult), errnoInval)
	g.is("beyond memory", g.must("poll_oneoff", uint64(len(g.m.b)-47), 0, 1, atResult), errnoFault)
}

func TestRandom(t *testing.T) {
	draw := func(seed []byte, sizes ...int) []byte {
		g := newGuest(t, func(task *Task, _ *blobs) { task.Seed = seed })
		var all []byte
		for _, n := range sizes {
			g.is("random_get", g.must("random_get", atBytes, uint64(n)), ok)
			all = append(all, g.m.b[atBytes:atBytes+n]...)
		}
		return all
	}
	var seed [32]byte
	seed[7] = 1
	want := make([]byte, 1000)
	_, _ = rand.NewChaCha8(seed).Read(want)
	if got := draw(seed[:], 1000); !bytes.Equal(got, want) {
		t.Error("the bytes are not the seed's")
	}
	if got := draw(seed[:], 1, 0, 7, 300, 692); !bytes.Equal(got, want) {
		t.Error("the bytes depend on how they are asked for")
	}
	one, two := draw(nil, 50), draw(make([]byte, 33), 50)
	if bytes.Equal(one, two) || bytes.Equal(one, draw(make([]byte, 32), 50)) {
		t.Error("two seeds give the same")
	}
	g := newGuest(t)
	g.is("beyond memory", g.must("random_get", uint64(len(g.m.b)-1), 2), errnoFault)
}

func TestStreams(t *testing.T) {
	g := newGuest(t, func(task *Task, b *blobs) {
		d := b.put([]byte("line one\nline two\n"))
		task.Stdin = &d
	})
	for _, name := range []string{"fd_seek", "fd_tell", "fd_pread", "fd_pwrite"} {
		for fd := range uint64(3) {
			g.is(name, g.must(name, fd, 0, 0, 0, atResult), errnoSPipe)
		}
	}
	if s, e := g.read(0, 9); e != ok || s != "line one\n" {
		t.Errorf("read %q, %d", s, e)
	}
	if s, e := g.read(0, 100); e != ok || s != "line two\n" {
		t.Errorf("read %q, %d", s, e)
	}
	if s, e := g.read(0, 100); e != ok || s != "" {
		t.Errorf("read %q, %d at the end", s, e)
	}
	_, e := g.read(1, 10)
	g.is("read stdout", e, errnoBadF)
	g.is("write stdin", g.write(0, "x"), errnoBadF)
	g.is("size of stdout", g.size(1, 0), errnoInval)
	g.is("list stdin", g.must("fd_readdir", 0, 0, 0, 0, atResult), errnoNotDir)
	g.is("below stdin", g.must("path_filestat_get", 0, 0, 0, 1, atResult), errnoNotDir)
	for fd, want := range []uint64{rightRead, rightWrite, rightWrite} {
		g.is("fdstat", g.must("fd_fdstat_get", uint64(fd), atResult), ok)
		rights := g.u64(atResult + 8)
		if g.m.b[atResult] != typeUnknown || rights&(rightRead|rightWrite) != want || rights&(rightSeek|rightTell) != 0 {
			t.Errorf("stream %d has type %d and rights %x", fd, g.m.b[atResult], rights)
		}
	}
	// Whatever flags it has, what is written stands in order.
	g.is("flags", g.must("fd_fdstat_set_flags", 1, 0), ok)
	g.is("write", g.write(1, "a"), ok)
	g.is("write", g.write(1, "b"), ok)
	g.is("flags", g.must("fd_fdstat_set_flags", 1, fdAppend), ok)
	g.is("write", g.write(1, "c"), ok)
	if list := collected(t, g); len(list) != 1 || string(list[0].Small) != "abc" {
		t.Errorf("outputs %+v", list)
	}
	for _, name := range []string{"sock_accept", "sock_recv", "sock_send", "sock_shutdown"} {
		g.is(name, g.must(name, 0, 0, 0, 0, 0, 0), errnoNotSock)
		g.is(name, g.must(name, 77, 0, 0, 0, 0, 0), errnoBadF)
	}
	g.is("raise", g.must("proc_raise", 9), errnoNoSys)
}

func TestReadOnly(t *testing.T) {
	g := newGuest(t, func(task *Task, b *blobs) {
		task.Files = []receipt.File{b.file("d/f", []byte("content")), b.file("e", nil)}
	})
	for _, rights := range []uint64{rightWrite, rightRead | rightWrite} {
		_, e := g.open("/in/d/f", 0, rights)
		g.is("open to write", e, errnoROFS)
	}
	_, e := g.open("/in/d/f", oTruncate, rightRead)
	g.is("truncate", e, errnoROFS)
	_, e = g.open("/in/d/new", oCreate, rightRead)
	g.is("create", e, errnoROFS)
	g.is("mkdir", g.mkdir("/in/x"), errnoROFS)
	g.is("rmdir", g.rmdir("/in/d"), errnoROFS)
	g.is("unlink", g.unlink("/in/e"), errnoROFS)
	g.is("rename", g.rename("/in/e", "/out/e"), errnoROFS)
	g.is("rename into", g.rename("/out", "/in/out"), errnoROFS)
	for _, p := range []string{"/", "/in", "/out", "/scratch", "/tmp"} {
		g.is("rmdir "+p, g.rmdir(p), errnoROFS)
		g.is("rename "+p, g.rename(p, "/scratch/x"), errnoROFS)
		g.is("unlink "+p, g.unlink(p), errnoIsDir)
	}
	fd, e := g.open("/in/d/f", 0, rightRead)
	g.is("open", e, ok)
	if s, e := g.pread(fd, 100, 3); e != ok || s != "tent" {
		t.Errorf("read %q, %d", s, e)
	}
	if s, e := g.pread(fd, 100, 1<<62); e != ok || s != "" {
		t.Errorf("read %q, %d", s, e)
	}
	g.is("write", g.write(fd, "x"), errnoBadF)
	g.is("size", g.size(fd, 0), errnoBadF)
	g.is("allocate", g.must("fd_allocate", fd, 0, 1), errnoBadF)
	if kind, size, e := g.stat("/in/d/f"); e != ok || kind != typeRegular || size != 7 {
		t.Errorf("kind %d, size %d, %d", kind, size, e)
	}
	dir, e := g.open("/in/d", oDirectory, rightRead)
	g.is("open", e, ok)
	// A descriptor of a folder is a place to begin from, no prison: all there
	// is belongs to the guest.
	if fd, e := g.openAt(dir, "../e", 0, rightRead, 0); e != ok {
		t.Errorf("open beside: %d, %d", fd, e)
	}
	_, e = g.openAt(dir, "../../../e", 0, rightRead, 0)
	g.is("above the root", e, errnoPerm)
	_, e = g.openAt(fd, "x", 0, rightRead, 0)
	g.is("below a file", e, errnoNotDir)
	at, n := g.put(atName, "/in/e")
	at2, n2 := g.put(atName2, "link")
	g.is("symlink", g.must("path_symlink", at, n, root, at2, n2), errnoNotSup)
	g.is("link", g.must("path_link", root, 0, at, n, root, at2, n2), errnoNotSup)
	g.is("readlink", g.must("path_readlink", root, at, n, atBytes, 100, atResult), errnoInval)
	at, n = g.put(atName, "/in/none")
	g.is("readlink", g.must("path_readlink", root, at, n, atBytes, 100, atResult), errnoNoEnt)
}

func TestListing(t *testing.T) {
	g := newGuest(t)
	for _, n := range []string{"c", "a", "bb", "e", "d"} {
		g.shut(g.file("/scratch/" + n))
	}
	g.is("mkdir", g.mkdir("/scratch/b"), ok)
	fd, e := g.open("/scratch", oDirectory, rightRead)
	g.is("open", e, ok)
	all := []string{"d.", "d..", "-a", "db", "-bb", "-c", "-d", "-e"}
	for _, n := range []int{26, 30, 52, 100, 4096} {
		if names, e := g.list(fd, n); e != ok || !slices.Equal(names, all) {
			t.Errorf("by %d bytes: %q, %d", n, names, e)
		}
	}
	// Entries come once though the folder changes between two reads.
	read := func(cookie uint64) string {
		g.is("readdir", g.must("fd_readdir", fd, atBytes, 26, cookie, atResult), ok)
		if g.u32(atResult) == 0 {
			return ""
		}
		return string(g.m.b[atBytes+24 : atBytes+24+int(g.u32(atBytes+16))])
	}
	var seen []string
	for cookie := uint64(0); ; {
		name := read(cookie)
		if name == "" {
			break
		}
		seen = append(seen, name)
		cookie = g.u64(atBytes)
		switch name {
		case "a", "d":
			g.is("unlink", g.unlink("/scratch/"+name), ok)
		case "b":
			g.is("unlink", g.unlink("/scratch/c"), ok)
			g.shut(g.file("/scratch/aa"))
			g.shut(g.file("/scratch/cc"))
		}
	}
	if want := []string{".", "..", "a", "b", "bb", "d", "e"}; !slices.Equal(seen, want) {
		t.Errorf("listed %q, want %q", seen, want)
	}
	if names, _ := g.list(fd, 100); !slices.Equal(names, []string{"d.", "d..", "-aa", "db", "-bb", "-cc", "-e"}) {
		t.Errorf("listed again %q", names)
	}
	if name := read(3); name != "b" { // a place that was told before
		t.Errorf("at cookie 3 stands %q", name)
	}
	if name := read(1 << 60); name != "" {
		t.Errorf("far behind the end stands %q", name)
	}
	g.is("no room", g.must("fd_readdir", fd, atBytes, 0, 0, atResult), ok)
	// A folder that is gone.
	dir, _ := g.open("/scratch/b", oDirectory, rightRead)
	g.is("rmdir", g.rmdir("/scratch/b"), ok)
	if names, e := g.list(dir, 100); e != ok || len(names) != 2 {
		t.Errorf("a folder that is gone has %q, %d", names, e)
	}
	_, e = g.openAt(dir, "x", oCreate, rightWrite, 0)
	g.is("create in it", e, errnoNoEnt)
	at, n := g.put(atName, ".")
	g.is("remove it again", g.must("path_remove_directory", dir, at, n), errnoNoEnt)
	at2, n2 := g.put(atName2, "/scratch/back")
	g.is("bring it back", g.must("path_rename", dir, at, n, root, at2, n2), errnoNoEnt)
	g.shut(dir)
	g.sound()
}

func TestVectors(t *testing.T) {
	g := newGuest(t)
	fd := g.file("/scratch/f")
	vectors := func(list ...[2]uint32) uint64 {
		for i, v := range list {
			binary.LittleEndian.PutUint32(g.m.b[atVectors+8*i:], v[0])
			binary.LittleEndian.PutUint32(g.m.b[atVectors+8*i+4:], v[1])
		}
		return uint64(len(list))
	}
	copy(g.m.b[atBytes:], "abcdefgh")
	n := vectors([2]uint32{atBytes + 4, 2}, [2]uint32{0, 0}, [2]uint32{atBytes, 3}, [2]uint32{atBytes + 2<<20, 100_000}, [2]uint32{atBytes, 1})
	g.is("write", g.must("fd_write", fd, atVectors, n, atResult), ok)
	if got := g.u32(atResult); got != 100_006 {
		t.Errorf("wrote %d", got)
	}
	if s, _ := g.pread(fd, 200_000, 0); s != "efabc"+strings.Repeat("\x00", 100_000)+"a" {
		t.Errorf("wrote %.10q…", s)
	}
	n = vectors([2]uint32{1 << 20, 2}, [2]uint32{1<<20 + 1, 2}, [2]uint32{1<<20 + 10, 1 << 20})
	g.is("read", g.must("fd_pread", fd, atVectors, n, 0, atResult), ok)
	if got := string(g.m.b[1<<20 : 1<<20+3]); got != "eab" || g.u32(atResult) != 100_006 || g.m.b[1<<20+10] != 'c' {
		t.Errorf("read %q and %d bytes", got, g.u32(atResult))
	}
	g.is("too many", g.must("fd_write", fd, atVectors, maxVectors+1, atResult), errnoInval)
	n = vectors([2]uint32{math.MaxUint32, 2})
	g.is("outside", g.must("fd_write", fd, atVectors, n, atResult), errnoFault)
	g.is("outside", g.must("fd_read", fd, atVectors, n, atResult), errnoFault)
	g.is("array outside", g.must("fd_read", fd, uint64(len(g.m.b)-7), 1, atResult), errnoFault)
	// More than a number can tell.
	g.m.b = make([]byte, 64<<20)
	var many [][2]uint32
	for range 70 {
		many = append(many, [2]uint32{0, 64 << 20})
	}
	n = vectors(many...)
	g.is("4480 MiB", g.must("fd_read", fd, atVectors, n, atResult), errnoInval)
}
