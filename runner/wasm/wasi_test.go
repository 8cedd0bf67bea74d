package wasm

import (
	"bytes"
	"encoding/binary"
	"fmt"
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

func TestQuotas(t *testing.T) {
	g := newGuest(t, func(task *Task, _ *blobs) { task.Limits.Output, task.Limits.Scratch = 1000, 1000 })
	s, tmp := g.file("/scratch/s"), g.file("/tmp/t")
	g.is("600 bytes of scratch", g.write(s, strings.Repeat("x", 600)), ok)
	g.is("401 more", g.write(tmp, strings.Repeat("x", 401)), errnoNoSpc)
	g.is("400 more", g.write(tmp, strings.Repeat("x", 400)), ok)
	g.is("the same again", g.pwrite(s, strings.Repeat("y", 600), 0), ok)
	g.is("one more at the end", g.pwrite(s, "y", 600), errnoNoSpc)
	g.is("far behind the end", g.pwrite(s, "y", 1<<62), errnoNoSpc)
	g.is("beyond all numbers", g.pwrite(s, "y", math.MaxInt64), errnoFBig)
	g.is("before the beginning", g.must("fd_pwrite", s, atVectors, 1, 1<<63, atResult), errnoInval)
	g.is("a larger size", g.size(s, 601), errnoNoSpc)
	g.is("a size beyond numbers", g.size(s, 1<<63), errnoFBig)
	g.is("allocate", g.must("fd_allocate", s, 500, 101), errnoNoSpc)
	g.is("allocate what is there", g.must("fd_allocate", s, 500, 100), ok)
	g.is("allocate nothing", g.must("fd_allocate", s, 500, 0), errnoInval)
	g.is("a smaller size", g.size(s, 100), ok)
	g.is("allocate", g.must("fd_allocate", s, 500, 100), ok)
	g.is("unlink", g.unlink("/tmp/t"), ok)
	g.is("what is open still counts", g.write(s, strings.Repeat("x", 601)), errnoNoSpc)
	g.shut(tmp)
	g.is("what is gone doesn't", g.size(s, 1000), ok)
	g.sound()

	o := g.file("/out/o")
	g.is("400 bytes of output", g.write(o, strings.Repeat("x", 400)), ok)
	g.is("500 on stdout", g.write(1, strings.Repeat("x", 500)), ok)
	g.is("100 on stderr", g.write(2, strings.Repeat("x", 100)), ok)
	g.is("none of it new", g.pwrite(o, strings.Repeat("y", 400), 0), ok)
	g.vector([]byte("z"))
	if _, end := g.call("fd_write", 2, atVectors, 1, atResult); end == nil || g.r.trap != TrapOutput {
		t.Errorf("a byte beyond the limit: %v", end)
	}
	if _, end := g.call("fd_filestat_set_size", o, 401); end == nil {
		t.Error("a size beyond the limit")
	}
	// A move takes the bytes along.
	g.is("move to scratch that is full", g.rename("/out/o", "/scratch/o"), errnoNoSpc)
	g.is("make room", g.size(s, 500), ok)
	g.is("move to scratch", g.rename("/out/o", "/scratch/o"), ok)
	g.sound()
	if g.r.tree.used != [3]uint64{0, 600, 900} {
		t.Errorf("bytes %v", g.r.tree.used)
	}
	g.is("move back over another", g.rename("/scratch/o", "/out/p"), ok)
	g.is("make a folder", g.mkdir("/scratch/d"), ok)
	g.is("move a folder between quotas", g.rename("/scratch/d", "/out/d"), errnoXDev)
	at, n := g.put(atName, "/scratch/s")
	at2, n2 := g.put(atName2, "/out/s")
	if _, end := g.call("path_rename", root, at, n, root, at2, n2); end == nil || g.r.trap != TrapOutput {
		t.Errorf("move beyond the limit: %v", end)
	}
	g.sound()
}

func TestReplaceWhereItFits(t *testing.T) {
	g := newGuest(t, func(task *Task, _ *blobs) { task.Limits.Output = 1000 })
	g.is("write", g.write(g.file("/scratch/new"), strings.Repeat("n", 900)), ok)
	old := g.file("/out/it")
	g.is("write", g.write(old, strings.Repeat("o", 900)), ok)
	g.shut(old)
	g.is("replace", g.rename("/scratch/new", "/out/it"), ok)
	g.sound()
	if _, size, e := g.stat("/out/it"); e != ok || size != 900 || g.r.tree.used[areaOutput] != 900 || g.r.tree.used[areaScratch] != 0 {
		t.Errorf("size %d, bytes %v", size, g.r.tree.used)
	}
}

func TestNames(t *testing.T) {
	g := newGuest(t)
	long := strings.Repeat("n", 255)
	tests := []struct {
		path string
		want errno
	}{
		{"/scratch/" + long, ok},
		{"/scratch/" + long + "n", errnoNameTooLong},
		{strings.Repeat("/", maxPathLen-9) + "scratch/a", ok},
		{strings.Repeat("/", maxPathLen-8) + "scratch/a", errnoNameTooLong},
		{"/scratch/a\x00b", errnoIlSeq},
		{"/scratch/a\\b", errnoIlSeq},
		{"/scratch/a\xffb", errnoIlSeq},
		{"/scratch/a\nb", ok},
		{"/scratch/ä", ok},
		{"/out/stdout", errnoPerm},
		{"/out/stderr", errnoPerm},
		{"/scratch/stdout", ok},
		{"/out/stdin", ok},
		{"/x", errnoROFS},
		{"x", errnoROFS},
		{"/in/x", errnoROFS},
		{"/scratch/no/x", errnoNoEnt},
		{"", errnoNoEnt},
		{"/../x", errnoPerm},
		{"/scratch/../../x", errnoPerm},
		{"scratch/relative", ok},
	}
	for _, tt := range tests {
		_, e := g.open(tt.path, oCreate, rightWrite)
		g.is(fmt.Sprintf("open %.80q", tt.path), e, tt.want)
		if tt.want != ok {
			continue
		}
		if _, _, e := g.stat(tt.path); e != ok {
			t.Errorf("%.80q isn't there", tt.path)
		}
	}
	g.is("mkdir", g.mkdir("/out/sub"), ok)
	g.is("a folder stdout", g.mkdir("/out/stdout"), errnoPerm)
	g.is("stdout in a folder", g.mkdir("/out/sub/stdout"), ok)
	g.is("move to stdout", g.rename("/scratch/a\nb", "/out/stdout"), errnoPerm)
	// Paths below /out must fit a receipt.
	g.is("mkdir", g.mkdir("/out/"+long), ok)
	g.is("mkdir", g.mkdir("/out/"+long+"/s"), ok)
	_, e := g.open("/out/"+long+"/s/"+long[:254], oCreate, rightWrite)
	g.is("a path of 512 bytes", e, ok)
	_, e = g.open("/out/"+long+"/s/"+long, oCreate, rightWrite)
	g.is("a path of 513 bytes", e, errnoNameTooLong)
	g.is("a folder that would make it longer", g.rename("/out/"+long+"/s", "/out/"+long+"/tt"), errnoNameTooLong)
	g.is("a folder that makes it shorter", g.rename("/out/"+long+"/s", "/out/t"), ok)
	g.sound()
	for _, o := range collected(t, g) {
		if err := checkPath(o.Path); err != nil {
			t.Error(err)
		}
	}
}

// checkPath is what receipts ask of a path.
func checkPath(p string) error {
	d := receipt.Output{Path: p, Digest: [32]byte{1}}
	r := receipt.Receipt{
		Lease: 1, Workload: [32]byte{1}, Input: [32]byte{1}, Outcome: receipt.Exited, Profile: "p", Started: 1, Ended: 2, Outputs: []receipt.Output{d},
	}
	r.Output = receipt.OutputDigest(r.Outputs)
	return r.Check()
}

func collected(t *testing.T, g *guest) []Output {
	t.Helper()
	list, err := g.r.collect()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestDepth(t *testing.T) {
	g := newGuest(t)
	p := "/scratch"
	for i := 2; i < maxDepth; i++ {
		p += "/d"
		g.is(fmt.Sprintf("level %d", i), g.mkdir(p), ok)
	}
	g.is("one more", g.mkdir(p+"/d"), errnoNoSpc)
	if _, e := g.open(p+"/file", oCreate, rightWrite); e != ok {
		t.Errorf("a file there: %d", e)
	}
	g.is("beside it", g.mkdir("/scratch/e"), ok)
	g.is("one level deeper", g.rename("/scratch/d", "/scratch/e/d"), errnoNoSpc)
	g.is("into itself", g.rename("/scratch/d", "/scratch/d/d/x"), errnoInval)
	g.is("as deep", g.rename("/scratch/d", "/scratch/f"), ok)
	g.sound()
}

func TestManyFiles(t *testing.T) {
	g := newGuest(t)
	made := 0
	for ; made <= receipt.MaxOutputs; made++ {
		fd, e := g.open(fmt.Sprintf("/out/%d", made), oCreate, rightWrite)
		if e != ok {
			g.is("a file too many", e, errnoNoSpc)
			break
		}
		g.shut(fd)
	}
	if made != receipt.MaxOutputs-2 {
		t.Errorf("%d outputs, want %d", made, receipt.MaxOutputs-2)
	}
	g.is("a folder more", g.mkdir("/out/d"), ok)
	g.is("move one", g.rename("/out/7", "/out/d/7"), ok)
	g.shut(g.file("/scratch/x"))
	g.is("move one in", g.rename("/scratch/x", "/out/x"), errnoNoSpc)
	g.is("unlink one", g.unlink("/out/8"), ok)
	g.is("move one in", g.rename("/scratch/x", "/out/x"), ok)
	g.is("write", g.write(1, "x"), ok)
	g.is("write", g.write(2, "x"), ok)
	if n := len(collected(t, g)); n != receipt.MaxOutputs {
		t.Errorf("%d outputs, want %d", n, receipt.MaxOutputs)
	}
	g.sound()

	for i := 0; ; i++ {
		fd, e := g.open(fmt.Sprintf("/scratch/%d", i), oCreate, rightWrite)
		if e != ok {
			g.is("a node too many", e, errnoNoSpc)
			break
		}
		g.shut(fd)
	}
	if g.r.tree.nodes != maxNodes {
		t.Errorf("%d nodes", g.r.tree.nodes)
	}
	g.is("a folder too many", g.mkdir("/scratch/d"), errnoNoSpc)
	g.sound()
	// Open folders remember a bounded number of names.
	listings := 0
	for ; listings < 100; listings++ {
		fd, e := g.open("/scratch", oDirectory, rightRead)
		g.is("open", e, ok)
		if e := g.must("fd_readdir", fd, atBytes, 1000, 0, atResult); e != ok {
			g.is("list", e, errnoNoMem)
			break
		}
	}
	if listings != maxListed/len(g.r.tree.root.child("scratch").children) {
		t.Errorf("%d listings", listings)
	}
	g.shut(4)
	if names, e := g.list(3, 1000); e != ok || len(names) != 6 {
		t.Errorf("%v, %d", names, e)
	}
}

func TestDescriptors(t *testing.T) {
	g := newGuest(t)
	var last uint64
	for {
		fd, e := g.open("/scratch/x", oCreate, rightRead|rightWrite)
		if e != ok {
			g.is("one too many", e, errnoMFile)
			break
		}
		last = fd
	}
	if last != maxFDs-1 {
		t.Errorf("the last is %d", last)
	}
	_, e := g.open("/scratch/new", oCreate|oExclusive, rightWrite)
	g.is("a new one", e, errnoMFile)
	if _, _, e := g.stat("/scratch/new"); e != errnoNoEnt {
		t.Error("the file was made all the same")
	}
	g.shut(700)
	g.shut(20)
	if fd, _ := g.open("/scratch/x", 0, rightRead); fd != 20 {
		t.Errorf("the lowest that is free is %d", fd)
	}
	g.is("write", g.write(5, "x"), ok)
	g.is("renumber", g.must("fd_renumber", 5, 6), ok)
	g.is("the old number", g.write(5, "x"), errnoBadF)
	at, _ := g.seek(6, 0, 1)
	if at != 1 {
		t.Errorf("offset %d", at)
	}
	g.is("onto itself", g.must("fd_renumber", 6, 6), ok)
	g.is("onto nothing", g.must("fd_renumber", 6, 5), errnoBadF)
	g.is("of nothing", g.must("fd_renumber", 5, 6), errnoBadF)
	g.is("stdout away", g.must("fd_renumber", 6, 1), ok)
	g.is("write", g.write(1, "into the file"), ok)
	if _, size, _ := g.stat("/scratch/x"); size != 14 || g.r.stdout.data.size != 0 {
		t.Errorf("the file has %d bytes", size)
	}
	g.sound()
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

// TestWorkIsPaid has guests ask for much by few calls. What the host does must
// stand in the gas.
func TestWorkIsPaid(t *testing.T) {
	g := newGuest(t, func(task *Task, _ *blobs) { task.Args = []string{strings.Repeat("a", 1000)} })
	for i := range 1000 {
		g.shut(g.file(fmt.Sprintf("/scratch/%d", i)))
	}
	g.is("mkdir", g.mkdir("/scratch/d"), ok)
	for i := range 100 {
		g.shut(g.file(fmt.Sprintf("/scratch/d/%d", i)))
	}
	fd := g.file("/scratch/f")
	dir, _ := g.open("/scratch", oDirectory, rightRead)
	used := g.metered()
	for _, tt := range []struct {
		what  string
		least uint64
		do    func()
	}{
		{"args", 1000 / 8, func() { g.must("args_get", atBytes, atBytes+100) }},
		{"random", 80_000 / 8, func() { g.must("random_get", atBytes, 80_000) }},
		{"random that fails", 1 << 29, func() { g.must("random_get", atBytes, math.MaxUint32) }},
		{"path", 4000, func() { g.stat(strings.Repeat("scratch/../", 364)) }},
		{"rename of a folder", 800, func() { g.rename("/scratch/d", "/scratch/e") }},
		{"listing", 8000, func() { g.must("fd_readdir", dir, atBytes, 24, 0, atResult) }},
		{"no listing", 4096 / 8, func() { g.must("fd_readdir", dir, atBytes, 4096, 1<<40, atResult) }},
		{"write", 8000 / 8, func() { g.write(fd, strings.Repeat("x", 8000)) }},
		{"write behind a hole", 130_000, func() { g.pwrite(fd, "x", 1<<20) }},
		{"grow", 1 << 20 / 8, func() { g.size(fd, 2<<20) }},
		{"allocate", 1 << 20 / 8, func() { g.must("fd_allocate", fd, 2<<20, 1<<20) }},
		{"read", 80_000 / 8, func() { g.pread(fd, 80_000, 0) }},
		{"read at the end", 80_000 / 8, func() { g.pread(fd, 80_000, 1<<40) }},
		{"many vectors", 1000, func() { g.must("fd_write", fd, 1<<20, 1000, atResult) }},
		{"poll", 1000 * 10, func() { g.must("poll_oneoff", 1<<20, 2<<20, 1000, atResult) }},
	} {
		before := used()
		tt.do()
		if got := used() - before; got < tt.least || got > tt.least+500 {
			t.Errorf("%s: %d gas, want about %d", tt.what, got, tt.least)
		}
	}
	// What doesn't fit is found out before it is paid for.
	before := used()
	g.is("a hole beyond the quota", g.size(fd, 1<<40), errnoNoSpc)
	g.is("a write beyond the quota", g.pwrite(fd, "x", 1<<40), errnoNoSpc)
	if got := used() - before; got > 10 {
		t.Errorf("what doesn't fit costs %d", got)
	}
	// And the limit ends a run before the work.
	g.r.reserve.Set(0)
	g.r.quantum.Set(100)
	if _, end := g.call("random_get", 0, 1000); end == nil || g.r.trap != TrapOutOfGas || g.m.b[0] != '/' {
		t.Errorf("work without gas: %v, %q", end, g.m.b[:5])
	}
}

// TestHeldMemory has a guest hold as much as it can in files: host memory
// stays bounded, and everything reads back.
func TestHeldMemory(t *testing.T) {
	g := newGuest(t, func(task *Task, _ *blobs) { task.Limits.Scratch = 1 << 30 })
	defer g.r.close()
	name := func(i int) string { return fmt.Sprintf("/scratch/%d", i) }
	const n = 300
	for i := range n { // more open host files than a child may have, were each one's own
		fd := g.file(name(i))
		for off := range 4 {
			g.is("write", g.pwrite(fd, strings.Repeat(string(rune('a'+i%26)), 200_000), uint64(off)*400_000), ok)
		}
		g.is("cut", g.size(fd, uint64(900_000+i)), ok)
		g.shut(fd)
		if held := g.r.tree.store.held; held > maxHeld+2*spillAt {
			t.Fatalf("%d bytes are held", held)
		}
	}
	g.sound()
	for i := 0; i < n; i += 3 {
		g.is("unlink", g.unlink(name(i)), ok)
	}
	g.sound()
	most := g.r.tree.store.next
	for i := 0; i < n; i += 3 {
		fd := g.file(name(i))
		g.is("write", g.pwrite(fd, "z", 999_999), ok)
		g.is("write", g.pwrite(fd, "z", 1_500_000), ok)
		g.shut(fd)
	}
	g.sound()
	if st := &g.r.tree.store; st.next > most && len(st.free) > 0 {
		t.Errorf("%d blocks are new though %d are free", st.next-most, len(st.free))
	}
	for i := range n {
		fd, e := g.open(name(i), 0, rightRead)
		g.is("open", e, ok)
		s, e := g.pread(fd, 1_600_000, 0)
		g.is("read", e, ok)
		c := strings.Repeat(string(rune('a'+i%26)), 200_000)
		z := strings.Repeat("\x00", 200_000)
		want := (c + z + c + z + c)[:min(900_000+i, 1_000_000)]
		if i%3 == 0 {
			want = strings.Repeat("\x00", 999_999) + "z" + strings.Repeat("\x00", 500_000) + "z"
		}
		if s != want {
			t.Fatalf("file %d reads wrong", i)
		}
		g.shut(fd)
	}
}
