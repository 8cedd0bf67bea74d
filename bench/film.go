package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"fallow.network"
	"fallow.network/client"
	"fallow.network/formats"
	"fallow.network/market"
	"fallow.network/receipt"
	"fallow.network/runner/wasm"
	"fallow.network/sdk"
	"fallow.network/spec"
)

const filmJob = "examples/film/job.yaml"

// bareFilm runs every task of a job without gas, market or checks on wazero,
// one on each core at a time. Starting and compiling come before the clock.
func bareFilm(ctx context.Context, job *formats.Job, folder string) (time.Duration, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp("", "fallow-bench-film-")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	r, err := wasm.New(wasm.Config{Child: []string{self, wasm.ChildVerb}, Cache: filepath.Join(dir, "cache")})
	if err != nil {
		return 0, err
	}
	paths := map[fallow.Digest]string{}
	blob := func(file string) (market.Blob, error) {
		file = filepath.Join(folder, file)
		content, err := os.ReadFile(file)
		if err != nil {
			return market.Blob{}, fmt.Errorf("%w; make it with: make guest", err)
		}
		d := fallow.Sum(content)
		paths[d] = file
		return market.Blob{Digest: d, Size: uint64(len(content))}, nil
	}
	module, err := blob(job.Module)
	if err != nil {
		return 0, err
	}
	tasks := make([]wasm.Task, len(job.Tasks))
	for n, t := range job.Tasks {
		tasks[n] = wasm.Task{
			Task: receipt.Task{
				Module: module.Digest, Args: t.Args, Env: t.Env, Profile: spec.ProfileWASM,
				Limits: receipt.Limits{Memory: job.Limits.MemoryBytes, Output: job.Limits.OutputBytes},
			},
			Paths: paths, Out: filepath.Join(dir, strconv.Itoa(n)), Bare: true, Wall: 10 * time.Minute,
		}
		for _, in := range t.Inputs {
			b, err := blob(in.File)
			if err != nil {
				return 0, err
			}
			tasks[n].Files = append(tasks[n].Files, receipt.File{Path: in.Path, Blob: b})
		}
	}
	box := r.Open(runtime.NumCPU())
	defer func() { _ = box.Close() }()
	render := func(tasks []wasm.Task) error {
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(runtime.NumCPU())
		for _, t := range tasks {
			g.Go(func() error {
				res, err := box.Run(ctx, t)
				if err == nil && (res.Outcome != receipt.Exited || res.ExitCode != 0) {
					err = fmt.Errorf("%q: %+v", t.Args, res)
				}
				return err
			})
		}
		return g.Wait()
	}
	if err := render(tasks[:min(len(tasks), runtime.NumCPU())]); err != nil { // each child has compiled it then
		return 0, err
	}
	began := time.Now()
	err = render(tasks)
	return time.Since(began), err
}

// film renders the film bare and then on the market, as often as is wanted: by
// providers that nobody knows, which are checked in full at first, and again by
// the same, which have earned some trust. Its time is from the first task sent
// to the last result and the last check.
func (b *bench) film(ctx context.Context, engine string) error {
	file, err := filepath.Abs(filmJob)
	if err != nil {
		return err
	}
	job, err := client.ReadJob(file)
	if err != nil {
		return err
	}
	for i := range b.films {
		bare, err := bareFilm(ctx, job, filepath.Dir(file))
		if err != nil {
			return err
		}
		var first, last time.Time
		var bill *client.Bill
		err = b.withTenant(ctx, func(t *sdk.Tenant) error {
			o := client.OptionsOf(job)
			o.Out = filepath.Join(b.net.dir, "film")
			id, err := t.Submit(ctx, job, client.Folder(filepath.Dir(file)), o)
			if err != nil {
				return err
			}
			bill, err = t.Run(ctx, id, func(e client.Event) {
				switch e.(type) {
				case client.TaskIssued:
					if first.IsZero() {
						first = time.Now()
					}
				case client.TaskDone, client.CheckDone:
					last = time.Now()
				}
			})
			return err
		})
		if err != nil {
			return err
		}
		if bill.Done != len(job.Tasks) {
			return fmt.Errorf("%d of %d frames", bill.Done, len(job.Tasks))
		}
		took := last.Sub(first)
		x := took.Seconds() / bare.Seconds()
		row := Row{
			What: "film on " + engine + ", newcomers", Value: x, Unit: "x", Ratio: x, Baseline: "bare on wazero, all cores",
			Note: fmt.Sprintf("%.3g s to %.3g s; %d checks; with start and closing %.3g s", took.Seconds(), bare.Seconds(), bill.Checks.Chosen, bill.Wall.Seconds()),
		}
		if i > 0 {
			row.What, row.Goal = fmt.Sprintf("film on %s, the same providers again (%d)", engine, i+1), 1.25
		}
		b.add(row)
	}
	return nil
}

// filmOnWasmtime does so on a network of its own whose parties have the other
// engine; the baseline stays bare on wazero.
func (b *bench) filmOnWasmtime(ctx context.Context) (err error) {
	if !slices.Contains(wasm.Engines(), wasm.Wasmtime) {
		return errors.New("this program is without wasmtime: go run -tags wasmtime ./bench")
	}
	dir, err := os.MkdirTemp("", "fallow-bench-wasmtime-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if out, err := exec.CommandContext(ctx, "go", "build", "-tags", wasm.Wasmtime, "-o", dir+"/fallow", "./cmd/fallow").CombinedOutput(); err != nil {
		return fmt.Errorf("build with wasmtime: %w: %s", err, out)
	}
	node, err := filepath.Abs(filepath.Join(programs, "fallowd"))
	if err != nil {
		return err
	}
	if err := os.Symlink(node, dir+"/fallowd"); err != nil {
		return err
	}
	film := func(ctx context.Context) error { return b.film(ctx, wasm.Wasmtime) }
	return b.onNetwork(ctx, film, dir, "--engine", wasm.Wasmtime)
}
