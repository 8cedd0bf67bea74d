package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// result is one line of go test -bench: its figures by their units.
type result struct {
	name    string
	figures map[string]float64
}

// goBench runs one benchmark of a package.
func goBench(ctx context.Context, name, times, room string, flags ...string) ([]result, error) {
	args := append([]string{"test", "-run", "^$", "-bench", "^" + name + "$", "-benchtime", times}, flags...)
	cmd := exec.CommandContext(ctx, "go", append(args, room)...)
	var told bytes.Buffer
	cmd.Stderr = &told
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go test -bench %s %s: %w: %s%s", name, room, err, out, told.Bytes())
	}
	return parseBench(string(out))
}

// parseBench reads the lines that testing prints for benchmarks:
// Benchmark<name>-<procs> <times> <figure> <unit> <figure> <unit>...
func parseBench(out string) ([]result, error) {
	var all []result
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) < 4 || len(f)%2 != 0 || !strings.HasPrefix(f[0], "Benchmark") {
			continue
		}
		name := f[0]
		if i := strings.LastIndexByte(name, '-'); i > 0 {
			name = name[:i]
		}
		if _, sub, ok := strings.Cut(name, "/"); ok {
			name = sub
		}
		r := result{name: name, figures: map[string]float64{}}
		for i := 2; i < len(f); i += 2 {
			v, err := strconv.ParseFloat(f[i], 64)
			if err != nil {
				return nil, fmt.Errorf("read %q: %w", strings.TrimSpace(line), err)
			}
			r.figures[f[i+1]] = v
		}
		all = append(all, r)
	}
	if len(all) == 0 {
		return nil, errors.New("no benchmark printed a figure")
	}
	return all, nil
}

// sandbox measures what a task costs where there is no market: the baseline of
// those inside a lease.
func (b *bench) sandbox(ctx context.Context) error {
	all, err := goBench(ctx, "BenchmarkNoop", fmt.Sprintf("%dx", b.tasks), "./runner/wasm")
	if err != nil {
		return err
	}
	b.noop = time.Duration(all[0].figures["p50-µs"] * float64(time.Microsecond))
	b.add(Row{What: "no-op task in a sandbox alone, p50", Value: millis(b.noop), Unit: "ms", Note: "one slot, no market; a baseline for the rows below"})
	return nil
}

// matching takes the worst of the demands: many, few or no offers fit.
func (b *bench) matching(ctx context.Context) error {
	all, err := goBench(ctx, "BenchmarkMatch", "200x", "./hub")
	if err != nil {
		return err
	}
	worst := all[0]
	for _, r := range all {
		if r.figures["ns/op"] > worst.figures["ns/op"] {
			worst = r
		}
	}
	b.add(Row{
		What: "one demand against 100,000 announcements", Value: worst.figures["ns/op"] / 1e6, Unit: "ms", Goal: 1,
		Note: fmt.Sprintf("the slowest of %d demands (%q)", len(all), worst.name),
	})
	return nil
}

// metered compares guests with gas and without by the processor time that they
// used, the fastest of each, turn about in one process for each engine.
func (b *bench) metered(ctx context.Context) error {
	all, err := goBench(ctx, "BenchmarkMetered", b.kernels, "./runner/conformance", "-tags", "wasmtime")
	if err != nil {
		return fmt.Errorf("%w (wasmtime needs a C compiler: apt-get install gcc libc6-dev)", err)
	}
	for _, engine := range []struct{ name, figure string }{{"wazero", "x-bare"}, {"wasmtime", "wasmtime-x-bare"}} {
		for _, r := range all {
			x, measured := r.figures[engine.figure]
			if !measured {
				return fmt.Errorf("%s: no figure %s", r.name, engine.figure)
			}
			row := Row{What: "metered guest on " + engine.name + ", " + r.name, Value: x, Unit: "x", Ratio: x, Baseline: "bare on wazero"}
			if engine.name == "wazero" {
				row.Note = fmt.Sprintf("%.3g Ggas/s", r.figures["Ggas/s"])
			} else {
				row.Note = fmt.Sprintf("%.3gx bare on wasmtime", r.figures["wasmtime-x-own-bare"])
			}
			if goalKernels[r.name[strings.IndexByte(r.name, '/')+1:]] {
				row.Goal = 1.10
			}
			b.add(row)
		}
	}
	return nil
}

// goalKernels are those that the goal is set for; the others are the worst that
// could be found.
var goalKernels = map[string]bool{"tight": true, "sha256": true, "nbody": true, "mandelbrot": true, "matmul": true}
