package wasm

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"fallow.network/meter"
	"fallow.network/receipt"
)

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
		{"random", 80_000, func() { g.must("random_get", atBytes, 80_000) }},
		{"random that fails", math.MaxUint32, func() { g.must("random_get", atBytes, math.MaxUint32) }},
		{"path", 8 * 4004, func() { g.stat(strings.Repeat("scratch/../", 364)) }},
		{"rename of a folder", 800, func() { g.rename("/scratch/d", "/scratch/e") }},
		{"listing", 8000, func() { g.must("fd_readdir", dir, atBytes, 24, 0, atResult) }},
		{"no listing", 4096 / 8, func() { g.must("fd_readdir", dir, atBytes, 4096, 1<<40, atResult) }},
		{"write", 8000 / 8, func() { g.write(fd, strings.Repeat("x", 8000)) }},
		{"write behind a hole", 130_000, func() { g.pwrite(fd, "x", 1<<20) }},
		{"grow", 1 << 20 / 8, func() { g.size(fd, 2<<20) }},
		{"allocate", 1 << 20 / 8, func() { g.must("fd_allocate", fd, 2<<20, 1<<20) }},
		{"read", 80_000 / 8, func() { g.pread(fd, 80_000, 0) }},
		{"read at the end", 80_000 / 8, func() { g.pread(fd, 80_000, 1<<40) }},
		{"many vectors", 1000 * 16, func() { g.must("fd_write", fd, 1<<20, 1000, atResult) }},
		{"poll", 1000 * 64, func() { g.must("poll_oneoff", 1<<20, 2<<20, 1000, atResult) }},
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
	if got := used() - before; got > meter.GasPerVector {
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
