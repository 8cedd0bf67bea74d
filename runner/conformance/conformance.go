// Package conformance holds every runner of WASM tasks to the same answers.
//
// Its one invariant: a case has one golden text, of outputs, gas and exit, and
// each runner, engine and machine has to give exactly that.
//
// Cases are data: a guest of testdata (sources beside it), what it is given,
// and the golden file. It tests results and aborts, not speed.
package conformance

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"fallow.network"
	"fallow.network/market"
	"fallow.network/receipt"
	"fallow.network/runner/wasm"
	"fallow.network/spec"
)

//go:embed testdata/*.wasm testdata/golden.txt
var testdata embed.FS

// Runner is what the suite needs of a runner; *wasm.Sandbox is one.
type Runner interface {
	Run(ctx context.Context, t wasm.Task) (wasm.Result, error)
}

// Case is one run of a guest.
type Case struct {
	Name   string
	Module string // of testdata, without .wasm
	Args   []string
	Env    []string
	Stdin  string
	Files  map[string]string // by path below /in
	Limits receipt.Limits    // zeros get defaults
}

// defaults are small, so that what is exceeded is soon exceeded.
func (c Case) limits() receipt.Limits {
	l := c.Limits
	def := func(v *uint64, d uint64) {
		if *v == 0 {
			*v = d
		}
	}
	if l.Gas == 0 {
		l.Gas = 50_000_000
	}
	def(&l.Memory, 16<<20)
	def(&l.Output, 1<<20)
	def(&l.Scratch, 1<<20)
	return l
}

// Cases are all cases, in order.
func Cases() []Case {
	input := map[string]string{"a.txt": "first\nsecond\n", "dir/b": strings.Repeat("0123456789", 1000), "dir/deep/c": "c"}
	probe := func(name string, args ...string) Case {
		return Case{Name: name, Module: "probe", Args: append([]string{"probe"}, args...)}
	}
	with := func(c Case, change func(*Case)) Case {
		change(&c)
		return c
	}
	list := []Case{
		with(probe("arguments", "args", "", "two words", "ü"), func(c *Case) { c.Env = []string{"B=2", "A=1", "EMPTY="} }),
		with(probe("no arguments"), func(c *Case) { c.Args = nil }),
		probe("exit code", "exit", "77"),
		with(probe("stdin", "echo"), func(c *Case) { c.Stdin = strings.Repeat("line\n", 500) }),
		probe("no stdin", "echo"),
		with(probe("copy", "copy", "/in/dir/b", "/out/sub"), func(c *Case) { c.Files = input }),
		with(probe("folders", "list", "/"), func(c *Case) { c.Files = input }),
		probe("clock", "clock"),
		probe("random", "random"),
		probe("scratch", "scratch"),
		with(probe("escape", "escape"), func(c *Case) { c.Files = input }),
		probe("nan", "nan"),
		probe("output in full", "fill", "/out/x", "1048000"),
		probe("output limit", "fill", "/out/x", "2000000"),
		probe("scratch limit", "fill", "/scratch/x", "2000000"),
		with(probe("large output", "fill", "/out/x", "3000000"), func(c *Case) { c.Limits.Output = 4 << 20 }),
		with(probe("large scratch", "fill", "/scratch/x", "3000000"), func(c *Case) { c.Limits.Scratch = 4 << 20 }),
		probe("stdout without end", "flood"),
		with(probe("stdout without end, little gas", "flood"), func(c *Case) { c.Limits.Gas = 1_000_000 }),
		probe("endless loop", "spin"),
		with(probe("endless recursion", "deep"), func(c *Case) { c.Limits.StackDepth = 20_000 }),
		probe("memory without end", "grow"),
		with(probe("more memory without end", "grow"), func(c *Case) { c.Limits.Memory = 40 << 20 }),
		probe("wild pointer", "wild"),
		probe("abort", "abort"),
		with(probe("files without end", "files"), func(c *Case) { c.Limits.Gas = 20_000_000_000 }),
		{Name: "start function", Module: "start"},
		{Name: "endless start function", Module: "startspin"},
		{Name: "memory by pages", Module: "grow", Limits: receipt.Limits{Memory: 10 << 16}},
		{Name: "pointers out of bounds", Module: "pointers"},
		{Name: "unknown host", Module: "env"},
		{Name: "no command", Module: "library"},
		{Name: "too little memory", Module: "probe", Limits: receipt.Limits{Memory: 1 << 16}},
		{Name: "hardly any gas", Module: "probe", Limits: receipt.Limits{Gas: 10}},
	}
	for i, trap := range []string{
		"unreachable", "out of bounds", "divide by zero", "division overflows", "nan to integer", "negative to unsigned",
		"no such element", "null element", "type of element",
	} {
		list = append(list, Case{Name: "trap: " + trap, Module: "traps", Args: []string{strings.Repeat("x", i)}})
	}
	return list
}

// Run holds each runner to the golden file.
func Run(t *testing.T, runners map[string]Runner) {
	t.Helper()
	b, err := testdata.ReadFile("testdata/golden.txt")
	if err != nil {
		t.Fatal(err)
	}
	golden := sections(string(b))
	var all strings.Builder
	names := make([]string, 0, len(runners))
	for name := range runners {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, c := range Cases() {
		t.Run(strings.ReplaceAll(c.Name, " ", "_"), func(t *testing.T) {
			want, written := golden[c.Name]
			for i, name := range names {
				got := c.run(t, runners[name])
				if i == 0 {
					all.WriteString("== " + c.Name + "\n" + got)
				}
				if got != want || !written {
					t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
				}
			}
		})
	}
	if os.Getenv("FALLOW_WRITE") != "" {
		if err := os.WriteFile("testdata/golden.txt", []byte(all.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// sections cuts the golden file at its headings.
func sections(text string) map[string]string {
	m := map[string]string{}
	for _, s := range strings.Split("\n"+text, "\n== ")[1:] {
		name, body, _ := strings.Cut(s, "\n")
		if !strings.HasSuffix(body, "\n") {
			body += "\n"
		}
		m[name] = body
	}
	return m
}

// run runs the case and puts into words what it came to.
func (c Case) run(t *testing.T, r Runner) string {
	t.Helper()
	task := c.task(t)
	res, err := r.Run(t.Context(), task)
	var a *wasm.Abort
	switch {
	case errors.As(err, &a):
		return fmt.Sprintf("aborted: %s: %s\n", a.Reason, a.Detail)
	case err != nil:
		return fmt.Sprintf("failed: %v\n", err)
	}
	var b strings.Builder
	switch res.Outcome {
	case receipt.Exited:
		fmt.Fprintf(&b, "exited %d", res.ExitCode)
	case receipt.Trapped:
		fmt.Fprintf(&b, "trapped: %s", res.Trap)
	}
	fmt.Fprintf(&b, ", %d gas\n", res.Gas)
	for _, o := range res.Outputs {
		content := o.Small
		if o.File != "" {
			if content, err = os.ReadFile(o.File); err != nil {
				t.Errorf("%s: output %s: %v", c.Name, o.Path, err)
			}
		}
		if fallow.Sum(content) != o.Digest || uint64(len(content)) != o.Size {
			t.Errorf("%s: output %s is not what its digest and size say", c.Name, o.Path)
		}
		fmt.Fprintf(&b, "%s %d %s\n", o.Path, o.Size, o.Digest.Short())
		if len(content) <= 1024 {
			for line := range strings.Lines(string(content)) {
				b.WriteString("| " + strings.TrimSuffix(line, "\n") + "\n")
			}
		}
	}
	return b.String()
}

// task lays a case out on this machine.
func (c Case) task(t *testing.T) wasm.Task {
	t.Helper()
	dir := t.TempDir()
	task := wasm.Task{
		Task: receipt.Task{
			Args: c.Args, Env: c.Env, Limits: c.limits(), Profile: spec.ProfileWASM1,
			Seed: []byte("conformance, a seed of 32 bytes!"),
		},
		Paths: map[fallow.Digest]string{}, Out: filepath.Join(dir, "out"), Wall: 2 * time.Minute,
	}
	put := func(content []byte) fallow.Digest {
		d := fallow.Sum(content)
		task.Paths[d] = filepath.Join(dir, d.Short())
		if err := os.WriteFile(task.Paths[d], content, 0o600); err != nil {
			t.Fatal(err)
		}
		return d
	}
	module, err := testdata.ReadFile("testdata/" + c.Module + ".wasm")
	if err != nil {
		t.Fatal(err)
	}
	task.Module = put(module)
	if c.Stdin != "" {
		d := put([]byte(c.Stdin))
		task.Stdin = &d
	}
	paths := make([]string, 0, len(c.Files))
	for p := range c.Files {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	for _, p := range paths {
		d := put([]byte(c.Files[p]))
		task.Files = append(task.Files, receipt.File{Path: p, Blob: market.Blob{Digest: d, Size: uint64(len(c.Files[p]))}})
	}
	return task
}
