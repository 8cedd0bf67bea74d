package wasm

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// wasiOf is the WASI error number for one of Linux.
func wasiOf(tb testing.TB, err error) errno {
	tb.Helper()
	if err == nil {
		return ok
	}
	var n syscall.Errno
	if !errors.As(err, &n) {
		tb.Fatalf("no error number: %v", err)
	}
	e, known := map[syscall.Errno]errno{
		unix.EEXIST: errnoExist, unix.ENOENT: errnoNoEnt, unix.ENOTDIR: errnoNotDir, unix.EISDIR: errnoIsDir,
		unix.ENOTEMPTY: errnoNotEmpty, unix.EINVAL: errnoInval, unix.EBADF: errnoBadF, unix.EPERM: errnoPerm,
	}[n]
	if !known {
		tb.Fatalf("unexpected error %v", err)
	}
	return e
}

// TestAsLinux does the same at random in a guest's /scratch and in a folder of
// the host's, and compares what comes of it.
func TestAsLinux(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		host, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		g := newGuest(t, func(task *Task, _ *blobs) { task.Limits.Scratch = 1 << 30 })
		defer g.r.close()
		type both struct {
			fd   uint64
			file *os.File
		}
		var opened []both
		defer func() {
			for _, b := range opened {
				_ = b.file.Close()
			}
		}()
		names := rapid.SampledFrom([]string{"a", "b", "c", "a/a", "a/b", "b/a", "a/a/a", "a/../b", "./a", "a//b", "b/", "c/.", "a/b/../a"})
		path := func(label string) (string, string) {
			p := names.Draw(rt, label)
			return "/scratch/" + p, host + "/" + p
		}
		same := func(what string, e errno, err error) bool {
			rt.Helper()
			if want := wasiOf(t, err); e != want {
				rt.Fatalf("%s: error %d, on Linux %d (%v)", what, e, want, err)
			}
			return err == nil
		}
		pick := func() both { return opened[rapid.IntRange(0, len(opened)-1).Draw(rt, "which")] }
		large := func() int { return rapid.SampledFrom([]int{10_000, 200_000, 3_000_000}).Draw(rt, "most") }
		some := func() bool { return len(opened) > 0 }
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			switch rapid.IntRange(0, 11).Draw(rt, "what") {
			case 0:
				p, q := path("mkdir")
				same("mkdir "+p, g.mkdir(p), unix.Mkdir(q, 0o700))
			case 1:
				p, q := path("rmdir")
				if strings.HasSuffix(p, "/.") {
					continue // Linux refuses the name, we resolve it
				}
				same("rmdir "+p, g.rmdir(p), unix.Rmdir(q))
			case 2:
				p, q := path("unlink")
				same("unlink "+p, g.unlink(p), unix.Unlink(q))
			case 3:
				p, q := path("rename")
				p2, q2 := path("to")
				if strings.HasSuffix(p, "/.") || strings.HasSuffix(p2, "/.") {
					continue
				}
				e, err := g.rename(p, p2), unix.Rename(q, q2)
				if e != ok && err != nil {
					continue // which of several errors comes first differs
				}
				same("rename "+p+" "+p2, e, err)
			case 4, 5:
				p, q := path("open")
				flags := rapid.SampledFrom([]int{0, unix.O_CREAT, unix.O_CREAT | unix.O_EXCL, unix.O_TRUNC, unix.O_CREAT | unix.O_TRUNC, unix.O_DIRECTORY}).Draw(rt, "flags")
				if flags&unix.O_CREAT != 0 && strings.HasSuffix(p, "/.") {
					continue // Linux tells one error from the other
				}
				appends := flags != unix.O_DIRECTORY && rapid.Bool().Draw(rt, "append")
				var wasi, fdFlags uint64
				for flag, bit := range map[int]uint64{unix.O_CREAT: oCreate, unix.O_EXCL: oExclusive, unix.O_TRUNC: oTruncate, unix.O_DIRECTORY: oDirectory} {
					if flags&flag != 0 {
						wasi |= bit
					}
				}
				rights, how := uint64(rightRead|rightWrite), unix.O_RDWR
				if flags == unix.O_DIRECTORY {
					rights, how = rightRead, unix.O_RDONLY
				}
				if appends {
					fdFlags, how = fdAppend, how|unix.O_APPEND
				}
				n, err := unix.Open(q, flags|how|unix.O_CLOEXEC, 0o600)
				fd, e := g.openAt(root, p, wasi, rights, fdFlags)
				if same("open "+p, e, err) {
					opened = append(opened, both{fd, os.NewFile(uintptr(n), q)})
				}
			case 6:
				if !some() {
					continue
				}
				b, s := pick(), strings.Repeat("x", rapid.IntRange(0, 3000).Draw(rt, "bytes"))+"y"
				_, err := b.file.Write([]byte(s))
				if errors.Is(err, unix.EBADF) { // a folder
					continue
				}
				same("write", g.write(b.fd, s), err)
			case 7:
				if !some() {
					continue
				}
				b, off := pick(), int64(rapid.IntRange(0, large()).Draw(rt, "offset"))
				if _, err := unix.Pwrite(int(b.file.Fd()), []byte("piece"), off); err == nil {
					// Linux appends here, WASI and POSIX do not.
					if fl, _ := unix.FcntlInt(b.file.Fd(), unix.F_GETFL, 0); fl&unix.O_APPEND != 0 {
						st, _ := b.file.Stat()
						if err := b.file.Truncate(st.Size() - 5); err != nil {
							t.Fatal(err)
						}
						continue
					}
					same("pwrite", g.pwrite(b.fd, "piece", uint64(off)), err)
				}
			case 8:
				if !some() {
					continue
				}
				b, n := pick(), int64(rapid.IntRange(0, large()).Draw(rt, "size"))
				err := unix.Ftruncate(int(b.file.Fd()), n)
				if errors.Is(err, unix.EINVAL) { // a folder
					continue
				}
				same("truncate", g.size(b.fd, uint64(n)), err)
			case 9:
				if !some() {
					continue
				}
				b := pick()
				off, whence := int64(rapid.IntRange(-5000, 5000).Draw(rt, "seek")), rapid.IntRange(0, 2).Draw(rt, "whence")
				if st, _ := b.file.Stat(); st.IsDir() {
					continue
				}
				at, err := b.file.Seek(off, whence)
				got, e := g.seek(b.fd, off, uint64(whence))
				if same("seek", e, err) && got != uint64(at) {
					rt.Fatalf("seek: %d, on Linux %d", got, at)
				}
			case 10:
				if !some() {
					continue
				}
				b, n := pick(), rapid.IntRange(1, 5000).Draw(rt, "length")
				buf := make([]byte, n)
				k, err := unix.Read(int(b.file.Fd()), buf)
				got, e := g.read(b.fd, n)
				if same("read", e, err) && got != string(buf[:k]) {
					rt.Fatalf("read %d bytes, on Linux %d, or others", len(got), k)
				}
			case 11:
				if !some() {
					continue
				}
				i := rapid.IntRange(0, len(opened)-1).Draw(rt, "close")
				g.shut(opened[i].fd)
				_ = opened[i].file.Close()
				opened = slices.Delete(opened, i, i+1)
			}
			g.sound()
		}
		g.sameTree("/scratch", host)
	})
}

// sameTree compares all files below a guest's folder with those of the host's.
func (g *guest) sameTree(p, host string) {
	g.Helper()
	fd, e := g.open(p, oDirectory, rightRead)
	g.is("open "+p, e, ok)
	names, e := g.list(fd, 100+len(p)%7)
	g.is("list "+p, e, ok)
	g.shut(fd)
	list, err := os.ReadDir(host)
	if err != nil {
		g.Fatal(err)
	}
	want := []string{"d.", "d.."}
	for _, d := range list {
		kind := "-"
		if d.IsDir() {
			kind = "d"
		}
		want = append(want, kind+d.Name())
	}
	if !slices.Equal(names, want) {
		g.Fatalf("%s has %q, on Linux %q", p, names, want)
	}
	for _, d := range list {
		here, there := p+"/"+d.Name(), filepath.Join(host, d.Name())
		if d.IsDir() {
			g.sameTree(here, there)
			continue
		}
		b, err := os.ReadFile(there)
		if err != nil {
			g.Fatal(err)
		}
		fd, e := g.open(here, 0, rightRead)
		g.is("open "+here, e, ok)
		if got, e := g.pread(fd, len(b)+10, 0); e != ok || got != string(b) {
			g.Fatalf("%s has %d bytes, on Linux %d, or others (error %d)", here, len(got), len(b), e)
		}
		g.shut(fd)
	}
}

// sound looks at what must hold of a tree at any time.
func (g *guest) sound() {
	g.Helper()
	var used [3]uint64
	nodes, files, held := 0, 0, int64(0)
	seen := map[*node]bool{}
	blocks := map[uint32]bool{}
	bytes := func(n *node) {
		if n.data == nil || seen[n] {
			return
		}
		seen[n] = true
		used[n.kind] += uint64(n.data.size)
		held += int64(cap(n.data.mem))
		for _, b := range n.data.blocks {
			if b != 0 && blocks[b-1] {
				g.Fatalf("two files share block %d", b-1)
			}
			blocks[b-1] = true
		}
	}
	var walk func(n *node) int
	walk = func(n *node) int {
		below := 0
		for i, c := range n.children {
			if i > 0 && n.children[i-1].name >= c.name || c.parent != n || c.unlinked {
				g.Fatalf("%s in %s stands wrong", c.name, n.name)
			}
			nodes++
			if !c.folder && c.kind == areaOutput {
				files++
			}
			bytes(c)
			below += 1 + walk(c)
		}
		if n.below != below {
			g.Fatalf("%s counts %d below, not %d", n.name, n.below, below)
		}
		return below
	}
	walk(g.r.tree.root)
	for _, d := range g.r.fds {
		if d != nil {
			bytes(d.node)
		}
	}
	for _, b := range g.r.tree.store.free {
		if blocks[b] {
			g.Fatalf("block %d is free and in use", b)
		}
		blocks[b] = true
	}
	if tr := g.r.tree; used != tr.used || nodes != tr.nodes || files != tr.files || held != tr.store.held {
		g.Fatalf("counts: bytes %v of %v, nodes %d of %d, files %d of %d, memory %d of %d", tr.used, used, tr.nodes, nodes, tr.files, files, tr.store.held, held)
	}
}
