package conformance_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"fallow.network"
	"fallow.network/market"
	"fallow.network/receipt"
	"fallow.network/runner/conformance"
	"fallow.network/runner/wasm"
	"fallow.network/spec"
)

// TestMain lets the test's binary be the child that it starts.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == wasm.ChildVerb {
		os.Exit(wasm.ChildMain(os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// TestGo runs a program of Go's own, metered twice and bare: a runtime with
// threads of its own, a heap and a clock is a guest like any other.
func TestGo(t *testing.T) {
	file := buildGo(t, "testdata/guest/main.go")
	r, err := wasm.New(wasm.Config{Child: []string{os.Args[0], wasm.ChildVerb}, Cache: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	s := r.Open(1)
	defer func() { _ = s.Close() }()
	module, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	stdin := filepath.Join(t.TempDir(), "stdin")
	if err := os.WriteFile(stdin, []byte("a line\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	in := fallow.Sum([]byte("a line\n"))
	task := wasm.Task{
		Task: receipt.Task{
			Module: fallow.Sum(module), Args: []string{"guest", "x"}, Env: []string{"NAME=fallow"}, Stdin: &in,
			Files:   []receipt.File{{Path: "f", Blob: market.Blob{Digest: in, Size: 7}}},
			Profile: spec.ProfileWASM, Limits: receipt.Limits{Gas: 1 << 36, Memory: 128 << 20, Output: 1 << 20},
		},
		Paths: map[fallow.Digest]string{fallow.Sum(module): file, in: stdin}, Out: t.TempDir(), Wall: time.Minute,
	}
	var results []wasm.Result
	for _, task.Bare = range []bool{false, false, true} {
		res, err := s.Run(t.Context(), task)
		if err != nil {
			t.Fatal(err)
		}
		results = append(results, res)
	}
	first := results[0]
	if first.Outcome != receipt.Exited || first.ExitCode != 3 || first.Gas == 0 || first.Gas != results[1].Gas {
		t.Errorf("metered: %+v and %+v", first, results[1])
	}
	for i, r := range results {
		if r.Digest() != first.Digest() || r.ExitCode != first.ExitCode {
			t.Errorf("run %d differs: %+v and %+v", i, r, first)
		}
	}
	for _, o := range first.Outputs {
		if o.Path == "stdout" && !strings.HasPrefix(string(o.Small), "2024 [4 3 2 1 0] true\n") {
			t.Errorf("printed\n%s", o.Small)
		}
	}
	if len(first.Outputs) != 2 {
		t.Errorf("%d outputs, want stdout and a file", len(first.Outputs))
	}
}

// buildGo builds a Go program for WASI.
func buildGo(tb testing.TB, source string) string {
	tb.Helper()
	out := filepath.Join(tb.TempDir(), "guest.wasm")
	build := exec.CommandContext(tb.Context(), "go", "build", "-o", out, source)
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	if text, err := build.CombinedOutput(); err != nil {
		tb.Fatalf("building %s: %v\n%s", source, err, text)
	}
	return out
}

// engine is an engine in a child.
func engine(name string, c wasm.Config) conformance.Engine {
	return conformance.Engine{Name: name, Open: func(t *testing.T) conformance.Runner {
		t.Helper()
		return open(t, c)
	}}
}

func open(t *testing.T, c wasm.Config) *wasm.Sandbox {
	t.Helper()
	c.Child = []string{os.Args[0], wasm.ChildVerb}
	r, err := wasm.New(c)
	if err != nil {
		t.Fatal(err)
	}
	s := r.Open(1)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// TestWASM holds every engine of this build to the golden file; under the race
// detector the interpreter is too slow.
func TestWASM(t *testing.T) {
	var engines []conformance.Engine
	for _, name := range wasm.Engines() {
		if name != wasm.Interpreter || !raced {
			engines = append(engines, engine(name, wasm.Config{Engine: name, Cache: t.TempDir()}))
		}
	}
	conformance.Run(t, engines...)
}

// bare runs tasks without metering.
type bare struct{ *wasm.Sandbox }

func (b bare) Run(ctx context.Context, t wasm.Task) (wasm.Result, error) {
	t.Bare = true
	return b.Sandbox.Run(ctx, t)
}

// TestBare compares what guests come to by themselves, metered and not. NaNs
// are left out: only the pass makes them canonical.
func TestBare(t *testing.T) {
	metered := open(t, wasm.Config{})
	plain := bare{open(t, wasm.Config{})}
	gas := regexp.MustCompile(`, \d+ gas`)
	for _, c := range conformance.Cases() {
		want := c.Text(t, metered)
		if !strings.HasPrefix(want, "exited") && !strings.HasPrefix(c.Name, "trap: ") || c.Name == "nan" {
			continue
		}
		if got := c.Text(t, plain); gas.ReplaceAllString(got, "") != gas.ReplaceAllString(want, "") {
			t.Errorf("%s: bare\n%s\nmetered\n%s", c.Name, got, want)
		}
	}
}
