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
	"fallow.network/market"
	"fallow.network/receipt"
	"fallow.network/runner/wasm"
	"fallow.network/sdk"
	"fallow.network/spec"
)

// filmJob is the job, and filmFrames, filmArgs and filmInput what it says, for
// the baseline without a market.
const (
	filmJob    = "examples/film/job.yaml"
	filmModule = "examples/film/film.wasm"
	filmInput  = "examples/film/teapot.txt"
	filmFrames = 48
)

func filmArgs(frame int, small bool) []string {
	if small {
		return []string{"film", strconv.Itoa(frame), strconv.Itoa(filmFrames), "16", "9", "1"}
	}
	return []string{"film", strconv.Itoa(frame), strconv.Itoa(filmFrames), "320", "180", "16"}
}

// bareFilm renders every frame without gas, market or checks on wazero, one on
// each core at a time. Starting and compiling come before the clock.
func (b *bench) bareFilm(ctx context.Context) (time.Duration, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp("", "fallow-bench-film-")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	r, err := wasm.New(wasm.Config{Child: []string{self, wasm.ChildVerb}, Cache: dir + "/cache"})
	if err != nil {
		return 0, err
	}
	task := wasm.Task{
		Task:  receipt.Task{Profile: spec.ProfileWASM, Limits: receipt.Limits{Memory: 256 << 20, Output: 4 << 20}},
		Paths: map[fallow.Digest]string{}, Bare: true, Wall: 10 * time.Minute,
	}
	for _, file := range []string{filmModule, filmInput} {
		content, err := os.ReadFile(file)
		if err != nil {
			return 0, fmt.Errorf("%w; make it with: make guest", err)
		}
		d := fallow.Sum(content)
		task.Paths[d] = file
		if file == filmModule {
			task.Module = d
		} else {
			task.Files = []receipt.File{{Path: filepath.Base(file), Blob: market.Blob{Digest: d, Size: uint64(len(content))}}}
		}
	}
	box := r.Open(runtime.NumCPU())
	defer func() { _ = box.Close() }()
	render := func(frames int, small bool) error {
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(runtime.NumCPU())
		for i := range frames {
			g.Go(func() error {
				t := task
				t.Args, t.Out = filmArgs(i, small), filepath.Join(dir, strconv.Itoa(i))
				res, err := box.Run(ctx, t)
				if err == nil && (res.Outcome != receipt.Exited || res.ExitCode != 0) {
					err = fmt.Errorf("frame %d: %+v", i, res)
				}
				return err
			})
		}
		return g.Wait()
	}
	if err := render(2*runtime.NumCPU(), true); err != nil {
		return 0, err
	}
	began := time.Now()
	err = render(filmFrames, false)
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
		bare, err := b.bareFilm(ctx)
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
		if bill.Done != filmFrames || bill.Tasks != filmFrames {
			return fmt.Errorf("%d of %d frames", bill.Done, bill.Tasks)
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
	whole := b.net
	defer func() { b.net = whole }()
	if b.net, err = startNetwork(ctx, dir, "--engine", wasm.Wasmtime); err != nil {
		return err
	}
	defer func(n *network) { err = errors.Join(err, n.end(ctx)) }(b.net)
	return b.film(ctx, wasm.Wasmtime)
}
