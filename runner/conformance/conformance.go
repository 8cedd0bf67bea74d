// Package conformance holds every runner of WASM tasks to the same answers.
//
// Its one invariant: a case has one golden text, of outputs, gas and exit, and
// each runner, engine and machine has to give exactly that.
//
// Cases are data: a guest of testdata (sources beside it), what it is given,
// and the golden file. A new runner's test gives Run its engines. It tests results and aborts, not speed.
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

// Runner is what the suite needs of a runner; *wasm.Sandbox is one. Open sees to
// its end.
type Runner interface {
	Run(ctx context.Context, t wasm.Task) (wasm.Result, error)
}

// Engine is one way of running tasks, as compiled or interpreted.
type Engine struct {
	Name string
	// Open gives a fresh runner: a process of its own, where it has one.
	Open func(t *testing.T) Runner
}

// Run holds each engine to the golden file: twice in one runner, and in a
// second one in the opposite order, so that nothing that a run leaves behind
// can show in another. With FALLOW_WRITE set it writes the file by what the
// first engine gives.
func Run(t *testing.T, engines ...Engine) {
	t.Helper()
	b, err := testdata.ReadFile("testdata/golden.txt")
	if err != nil {
		t.Fatal(err)
	}
	golden := sections(string(b))
	if os.Getenv("FALLOW_WRITE") != "" && len(engines) > 0 {
		golden = write(t, engines[0].Open(t))
	}
	cases := Cases()
	if len(golden) != len(cases) {
		t.Errorf("%d golden texts for %d cases", len(golden), len(cases))
	}
	for _, e := range engines {
		t.Run(e.Name, func(t *testing.T) {
			r := e.Open(t)
			check := func(r Runner, c Case) {
				t.Run(strings.ReplaceAll(c.Name, " ", "_"), func(t *testing.T) {
					if got, want := c.Text(t, r), golden[c.Name]; got != want {
						t.Errorf("got\n%s\nwant\n%s", got, want)
					}
				})
			}
			for _, c := range cases {
				check(r, c)
				check(r, c)
			}
			r = e.Open(t)
			for _, c := range slices.Backward(cases) {
				check(r, c)
			}
		})
	}
}

// write makes the golden file.
func write(t *testing.T, r Runner) map[string]string {
	t.Helper()
	var all strings.Builder
	for _, c := range Cases() {
		all.WriteString("== " + c.Name + "\n" + c.Text(t, r))
	}
	if err := os.WriteFile("testdata/golden.txt", []byte(all.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	return sections(all.String())
}

// maxShown is how many outputs stand in a golden text by their names.
const maxShown = 16

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

// Text runs the case and puts into words what it came to.
func (c Case) Text(t *testing.T, r Runner) string {
	t.Helper()
	task := c.Task(t)
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
	if n := len(res.Outputs); n > maxShown {
		fmt.Fprintf(&b, "%d outputs %s\n", n, res.Digest().Short())
	}
	for i, o := range res.Outputs {
		content := o.Small
		if o.File != "" {
			if content, err = os.ReadFile(o.File); err != nil {
				t.Errorf("%s: output %s: %v", c.Name, o.Path, err)
			}
		}
		if fallow.Sum(content) != o.Digest || uint64(len(content)) != o.Size {
			t.Errorf("%s: output %s is not what its digest and size say", c.Name, o.Path)
		}
		if i >= maxShown {
			continue
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

// Task lays a case out on this machine.
func (c Case) Task(t *testing.T) wasm.Task {
	t.Helper()
	dir := t.TempDir()
	task := wasm.Task{
		Task: receipt.Task{
			Args: c.Args, Env: c.Env, Limits: c.limits(), Profile: spec.ProfileWASM,
			Seed: []byte("conformance, a seed of 32 bytes!" + c.Seed)[len(c.Seed):],
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
