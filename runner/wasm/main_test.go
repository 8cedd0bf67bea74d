package wasm

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fallow.network"
	"fallow.network/market"
	"fallow.network/receipt"
	"fallow.network/spec"
)

// Verbs under which the test's binary is something else than a test.
const (
	spyVerb    = "spy"    // a child that tells what it has instead of running a task
	liarVerb   = "liar"   // a child that answers with the bytes that the task's Args[0] names
	parentVerb = "parent" // a program that runs an endless task in a sandbox
)

// TestMain lets the test's binary be the child that it starts.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case ChildVerb:
			os.Exit(ChildMain(os.Stdin, os.Stdout, os.Stderr))
		case spyVerb:
			os.Exit(spy())
		case liarVerb:
			os.Exit(liar())
		case parentVerb:
			os.Exit(parent(os.Args[2]))
		}
	}
	os.Exit(m.Run())
}

// watched is what a spy tells.
type watched struct {
	Env    []string
	Files  map[string]string
	Limits map[string]uint64
	NoNew  int
	Dir    string
}

func spy() int {
	var s setup
	if err := getFrame(os.Stdin, &s); err != nil {
		return 1
	}
	w := watched{Env: os.Environ(), Files: map[string]string{}, Limits: map[string]uint64{}}
	os.Clearenv()
	if err := confine(s.AddressSpace); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	list, _ := os.ReadDir("/proc/self/fd")
	for _, e := range list {
		if at, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil {
			w.Files[e.Name()] = at
		}
	}
	for name, what := range map[string]int{"core": unix.RLIMIT_CORE, "files": unix.RLIMIT_NOFILE, "space": unix.RLIMIT_AS} {
		var l unix.Rlimit
		if err := unix.Getrlimit(what, &l); err == nil {
			w.Limits[name] = l.Max
		}
	}
	w.NoNew, _ = unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	w.Dir, _ = os.Getwd()
	var t Task
	if err := getFrame(os.Stdin, &t); err != nil {
		return 1
	}
	b, _ := json.Marshal(w)
	_ = os.WriteFile(filepath.Join(t.Out, "spy"), b, 0o600)
	_ = putFrame(os.Stdout, reply{Abort: &Abort{fallow.ReasonAborted, "look at the file"}})
	return 0
}

// liar answers what it is told to, and then waits for its end.
func liar() int {
	var s setup
	var t Task
	if getFrame(os.Stdin, &s) != nil || getFrame(os.Stdin, &t) != nil {
		return 1
	}
	b, err := os.ReadFile(t.Args[0])
	if err != nil {
		return 1
	}
	_, _ = os.Stdout.Write(b)
	if len(t.Args) > 1 {
		return 3
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// parent runs the module at path in two children until it is killed.
func parent(path string) int {
	raw, err := os.ReadFile(path)
	if err != nil {
		return 1
	}
	self, _ := os.Executable()
	r, err := New(Config{Child: []string{self, ChildVerb}})
	if err != nil {
		return 1
	}
	s := r.Open(2)
	for range 2 {
		go func() {
			_, _ = s.Run(context.Background(), Task{Task: receipt.Task{
				Module: fallow.Sum(raw), Profile: spec.ProfileWASM, Limits: receipt.Limits{Gas: 1 << 60, Memory: 1 << 20},
			}, Paths: map[fallow.Digest]string{fallow.Sum(raw): path}, Out: filepath.Dir(path)})
		}()
	}
	time.Sleep(time.Minute)
	return 0
}

// runnerWith makes a runner whose children are this binary under a verb.
func runnerWith(tb testing.TB, c Config, verb string) *Runner {
	tb.Helper()
	self, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	c.Child = []string{self, verb}
	r, err := New(c)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// open opens a sandbox that closes with the test and leaves nothing behind.
func open(tb testing.TB, slots int) *Sandbox {
	tb.Helper()
	return openWith(tb, Config{}, ChildVerb, slots)
}

// onEngine has every test that names none run on another engine:
// go test -tags wasmtime ./runner/wasm -engine wasmtime
var onEngine = flag.String("engine", Wazero, "run the guests on this `engine`")

func openWith(tb testing.TB, c Config, verb string, slots int) *Sandbox {
	tb.Helper()
	if c.Engine == "" {
		c.Engine = *onEngine
	}
	s := runnerWith(tb, c, verb).Open(slots)
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

// blobs lays bytes out as files.
type blobs struct {
	t     testing.TB
	dir   string
	paths map[fallow.Digest]string
}

func (b *blobs) put(content []byte) fallow.Digest {
	b.t.Helper()
	d := fallow.Sum(content)
	b.paths[d] = filepath.Join(b.dir, d.String())
	if err := os.WriteFile(b.paths[d], content, 0o600); err != nil {
		b.t.Fatal(err)
	}
	return d
}

// taskOf is a task that runs a module, with ample limits.
func taskOf(tb testing.TB, module []byte, args ...string) (Task, *blobs) {
	tb.Helper()
	b := &blobs{tb, tb.TempDir(), map[fallow.Digest]string{}}
	return Task{
		Task: receipt.Task{
			Module: b.put(module), Args: args, Profile: spec.ProfileWASM, Seed: make([]byte, 32),
			Limits: receipt.Limits{Gas: 1e9, Memory: 16 << 20, Output: 8 << 20, Scratch: 8 << 20},
		},
		Paths: b.paths, Out: filepath.Join(b.dir, "out"), Wall: time.Minute,
	}, b
}

func (b *blobs) file(path string, content []byte) receipt.File {
	return receipt.File{Path: path, Blob: market.Blob{Digest: b.put(content), Size: uint64(len(content))}}
}

// mustRun runs a task to a result.
func mustRun(tb testing.TB, s *Sandbox, task Task) Result {
	tb.Helper()
	r, err := s.Run(tb.Context(), task)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// outputOf reads an output of a result.
func outputOf(tb testing.TB, r Result, path string) []byte {
	tb.Helper()
	for _, o := range r.Outputs {
		if o.Path != path {
			continue
		}
		b := o.Small
		if o.File != "" {
			var err error
			if b, err = os.ReadFile(o.File); err != nil {
				tb.Fatal(err)
			}
		}
		if uint64(len(b)) != o.Size || fallow.Sum(b) != o.Digest {
			tb.Fatalf("output %s is not what it says", path)
		}
		return b
	}
	tb.Fatalf("no output %s among %d", path, len(r.Outputs))
	return nil
}

// wantAbort fails unless err is an abort for a reason whose detail has a text.
func wantAbort(tb testing.TB, err error, reason fallow.Reason, text string) {
	tb.Helper()
	var a *Abort
	if !errors.As(err, &a) || a.Reason != reason || !strings.Contains(a.Detail, text) {
		tb.Errorf("got %v, want an abort: %s: …%s…", err, reason, text)
	}
}

// gone waits until a process has ended: a zombie of somebody else's has.
func gone(tb testing.TB, pid int) {
	tb.Helper()
	for range 500 {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(b), ") Z ") || syscall.Kill(pid, 0) != nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	tb.Errorf("process %d is still there", pid)
}

// children are the processes of pid that haven't ended.
func children(tb testing.TB, pid int) (pids []int) {
	tb.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil || len(stats) == 0 {
		tb.Fatal("no /proc here")
	}
	for _, f := range stats {
		b, _ := os.ReadFile(f) // it may have ended
		_, rest, _ := strings.Cut(string(b), ") ")
		var state string
		var of, id int
		if _, err := fmt.Sscan(rest, &state, &of); err == nil && of == pid && state != "Z" {
			_, _ = fmt.Sscan(string(b), &id)
			pids = append(pids, id)
		}
	}
	return pids
}
