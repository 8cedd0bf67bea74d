package wasm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"fallow.network"
	"fallow.network/receipt"
)

// reads writes the first n bytes of stdin to stdout.
func reads(tb testing.TB, n uint32) []byte {
	tb.Helper()
	head := binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, 64), n)
	return assemble(tb, source{imports: []string{"fd_read", "fd_write"}, pages: 64, data: string(head), funcs: []string{
		"i32.const 0 i32.const 0 i32.const 1 i32.const 16 call fd_read drop " +
			"i32.const 4 i32.const 16 i32.load i32.store " +
			"i32.const 1 i32.const 0 i32.const 1 i32.const 16 call fd_write drop",
	}})
}

// TestDiskFull has a guest write what the host can't keep.
func TestDiskFull(t *testing.T) {
	s := open(t, 1)
	task, _ := taskOf(t, floods(t, 3))
	if err := os.Mkdir(task.Out, 0o700); err != nil {
		t.Fatal(err)
	}
	// Whatever is written to this file meets a full disk.
	if err := os.Symlink("/dev/full", task.outputFile(0)); err != nil {
		t.Fatal(err)
	}
	_, err := s.Run(t.Context(), task)
	wantAbort(t, err, fallow.ReasonDiskFull, "no space")
	if strings.Contains(err.Error(), task.Out) {
		t.Errorf("the reason names a path of this machine: %v", err)
	}
	// The same, where a file is in the place of the folder.
	task.Out = task.Paths[task.Module]
	_, err = s.Run(t.Context(), task)
	wantAbort(t, err, fallow.ReasonAborted, "keep an output")
	// And with files that spill.
	task, _ = taskOf(t, floods(t, 100))
	task.Out = task.Paths[task.Module]
	_, err = s.Run(t.Context(), task)
	wantAbort(t, err, fallow.ReasonAborted, "keep a guest's files")
	// A guest whose host failed got no say in it.
	task, _ = taskOf(t, floods(t, 100))
	if r := mustRun(t, s, task); len(outputOf(t, r, "stdout")) != 100*32<<10 {
		t.Error("the output is not whole")
	}
}

// TestFullStore meets a full disk in the middle of a write.
func TestFullStore(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	st := &store{file: full}
	defer st.close()
	c := &content{in: st}
	if err := c.writeAt(make([]byte, spillAt), 0); err != nil {
		t.Fatal(err)
	}
	err = c.writeAt([]byte("x"), spillAt)
	if !errors.Is(err, syscall.ENOSPC) || blame(err).Reason != fallow.ReasonDiskFull {
		t.Errorf("got %v", err)
	}
}

// TestBadInputs changes files of the host's under a task's feet.
func TestBadInputs(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcdef"), 1000)
	tests := map[string]func(path string) error{
		"truncated": func(p string) error { return os.Truncate(p, 100) },
		"longer":    func(p string) error { return os.WriteFile(p, append(content, 'x'), 0o600) },
		"one bit": func(p string) error {
			b := bytes.Clone(content)
			b[7000] ^= 1
			return os.WriteFile(p, b, 0o600)
		},
		"gone":   os.Remove,
		"folder": func(p string) error { return errors.Join(os.Remove(p), os.Mkdir(p, 0o700)) },
	}
	s := open(t, 1)
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			task, b := taskOf(t, reads(t, 32))
			d := b.put(content)
			task.Stdin = &d
			if r := mustRun(t, s, task); !bytes.Equal(outputOf(t, r, "stdout"), content[:32]) {
				t.Fatal("the good file isn't read")
			}
			time.Sleep(10 * time.Millisecond) // the kernel's clock for files is coarse
			if err := spoil(b.paths[d]); err != nil {
				t.Fatal(err)
			}
			_, err := s.Run(t.Context(), task)
			wantAbort(t, err, fallow.ReasonAborted, "stdin")
		})
	}
	// A size that the tenant got wrong.
	task, b := taskOf(t, noop(t))
	f := b.file("a", content)
	f.Blob.Size++
	task.Files = []receipt.File{f}
	in := &inputs{seen: map[string]stamp{}}
	one, err := in.of(task, f)
	if err != nil {
		t.Fatal(err)
	}
	_, err = in.readAt(one, make([]byte, 10), 0)
	wantAbort(t, err, fallow.ReasonMalformed, "bytes")
}

// TestManyInputs reads more files than are open at once.
func TestManyInputs(t *testing.T) {
	task, b := taskOf(t, noop(t))
	s := &inputs{seen: map[string]stamp{}}
	defer s.close()
	var all []*input
	for i := range 3 * maxOpenInputs {
		in, err := s.of(task, b.file(fmt.Sprint(i), fmt.Appendf(nil, "content %d", i)))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, in)
	}
	for range 2 {
		for i, in := range all {
			p := make([]byte, 100)
			n, err := s.readAt(in, p, 8)
			if err != nil || string(p[:n]) != fmt.Sprint(i) {
				t.Fatalf("input %d: %q, %v", i, p[:n], err)
			}
			if len(s.open) > maxOpenInputs {
				t.Fatalf("%d inputs are open", len(s.open))
			}
		}
	}
}

// TestBrokenCache spoils compiled code on disk: it costs time and nothing else.
func TestBrokenCache(t *testing.T) {
	cache := t.TempDir()
	run := func() {
		t.Helper()
		s := runnerWith(t, Config{Cache: cache}, ChildVerb).Open(1)
		defer func() { _ = s.Close() }()
		task, _ := taskOf(t, says(t, "cached"))
		if r := mustRun(t, s, task); string(outputOf(t, r, "stdout")) != "cached" {
			t.Error("a wrong result")
		}
	}
	each := func(change func(path string) error) (n int) {
		err := filepath.WalkDir(cache, func(p string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				n++
				err = change(p)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	run()
	if each(func(string) error { return nil }) == 0 {
		t.Fatal("nothing was cached")
	}
	run()
	each(func(p string) error { return os.Truncate(p, 40) })
	run()
	each(func(p string) error { return os.WriteFile(p, []byte("something else"), 0o600) })
	run()
	each(func(p string) error {
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		b[len(b)/2] ^= 0x40
		return os.WriteFile(p, b, 0o600)
	})
	run()
	// Nor does a cache that can't be written.
	if err := os.RemoveAll(cache); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(cache, 0o700); err != nil {
		t.Fatal(err)
	}
	s := runnerWith(t, Config{Cache: cache}, ChildVerb).Open(1)
	defer func() { _ = s.Close() }()
	if err := errors.Join(os.Remove(cache), os.WriteFile(cache, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	task, _ := taskOf(t, says(t, "uncached"))
	if r := mustRun(t, s, task); string(outputOf(t, r, "stdout")) != "uncached" {
		t.Error("a wrong result")
	}
}

func TestEviction(t *testing.T) {
	cache := t.TempDir()
	now := time.Now()
	for i, n := range []string{"new", "middle", "old"} {
		dir := filepath.Join(cache, n, "wazero")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "code"), make([]byte, 1000), 0o600); err != nil {
			t.Fatal(err)
		}
		at := now.Add(-time.Duration(i) * time.Hour)
		if err := os.Chtimes(filepath.Join(cache, n), at, at); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		most uint64
		left int
	}{{3000, 3}, {2999, 2}, {1500, 1}, {0, 0}} {
		evict(cache, tt.most)
		list, err := os.ReadDir(cache)
		if err != nil || len(list) != tt.left {
			t.Errorf("%d bytes: %v are left, %v", tt.most, list, err)
		}
		if tt.left == 1 && list[0].Name() != "new" {
			t.Errorf("%s is left", list[0].Name())
		}
	}
	evict("", 0)
	evict(filepath.Join(cache, "nothing"), 0)
}

// TestNoMemory gives a child less address space than a guest is granted.
func TestNoMemory(t *testing.T) {
	task, _ := taskOf(t, assemble(t, source{pages: 0, funcs: []string{"i32.const 1 memory.grow drop"}}))
	task.Limits.Memory = 4 << 30
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, ChildVerb)
	cmd.Stdin = bytes.NewReader(append(framed(t, setup{Engine: *onEngine, AddressSpace: 4 << 30}), framed(t, task)...))
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, errs.String())
	}
	var r reply
	if err := getFrame(&out, &r); err != nil {
		t.Fatal(err)
	}
	if r.Abort == nil {
		t.Fatalf("a guest without memory came to %+v", r.Result)
	}
	wantAbort(t, r.Abort, fallow.ReasonAborted, "no room")
}

func TestLargeStdin(t *testing.T) {
	content := make([]byte, 40<<20)
	for i := range content {
		content[i] = byte(i>>16) ^ byte(i*7)
	}
	s := open(t, 1)
	task, b := taskOf(t, reads(t, 3<<20))
	d := b.put(content)
	task.Stdin = &d
	r := mustRun(t, s, task)
	if !bytes.Equal(outputOf(t, r, "stdout"), content[:3<<20]) {
		t.Error("stdin isn't read whole")
	}
	if files, err := filepath.Glob(filepath.Join(task.Out, "*")); err != nil || len(files) != 1 {
		t.Errorf("in the task's folder are %v", files)
	}
}
