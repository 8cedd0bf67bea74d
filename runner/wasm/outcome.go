package wasm

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"

	"fallow.network"
	"fallow.network/meter"
	"fallow.network/receipt"
)

// run instantiates the module and calls it.
func (p *ready) run(ctx context.Context, r *run) (Result, error) {
	mod, err := p.instantiate(ctx, r)
	if mod != nil {
		defer mod.close(ctx)
	}
	switch {
	case errors.Is(err, errNoRoom):
		return Result{}, err
	case err != nil && r.task.Bare: // its start function has run
		return r.outcome(err)
	case err != nil:
		return Result{}, abort(fallow.ReasonModuleRefused, "the module can't be instantiated: %s", clip(err.Error()))
	}
	if !r.task.Bare {
		if err := r.meterWith(mod); err != nil {
			return Result{}, err
		}
		if p.start {
			err = mod.call(ctx, meter.ExportStart)
		}
	}
	if err == nil {
		err = mod.call(ctx, "_start")
	}
	if errors.Is(err, errNoFunction) {
		return Result{}, abort(fallow.ReasonModuleRefused, "the module exports no _start: it is no WASI command")
	}
	return r.outcome(err)
}

// meterWith sets the module's counters from the task's limits.
func (r *run) meterWith(mod instance) error {
	for _, g := range []struct {
		to   *cell
		name string
	}{{&r.reserve, meter.ExportReserve}, {&r.quantum, meter.ExportQuantum}, {&r.depth, meter.ExportDepth}} {
		if *g.to = mod.global(g.name); *g.to == nil {
			return fmt.Errorf("the metered module has no %s", g.name)
		}
	}
	slots := r.task.Limits.StackDepth
	if slots == 0 {
		slots = meter.DefaultStackSlots
	}
	r.metered = true
	r.account = meter.Open(r.task.Limits.Gas)
	r.reserve.Set(uint64(r.account.Reserve))
	r.quantum.Set(uint64(r.account.Quantum))
	r.depth.Set(uint64(min(slots, math.MaxInt32)))
	return nil
}

// gas is what the run used.
func (r *run) gas(trapped bool) fallow.Gas {
	if !r.metered {
		return 0
	}
	r.account.Reserve, r.account.Quantum = int64(r.reserve.Get()), int64(r.quantum.Get())
	if trapped {
		return r.account.Trapped()
	}
	return r.account.Used()
}

// outcome reads how the guest ended. What isn't an exit or a trap that every
// engine has is an abort, the engine's own stack overflow too.
func (r *run) outcome(err error) (Result, error) {
	stopped := errors.Is(err, errStopped)
	switch {
	case r.host != nil:
		return Result{}, r.host
	case err == nil, stopped && r.exited:
		return Result{Outcome: receipt.Exited, ExitCode: r.exitCode, Gas: r.gas(false)}, nil
	case stopped && r.trap != "":
		return r.trapped(r.trap), nil
	case r.metered && int64(r.reserve.Get()) < 0:
		return r.trapped(TrapOutOfGas), nil
	case r.metered && int32(r.depth.Get()) < 0:
		return r.trapped(TrapStack), nil
	}
	var t trapError
	if errors.As(err, &t) {
		return r.trapped(string(t)), nil
	}
	text, _, _ := strings.Cut(err.Error(), "\n")
	return Result{}, abort(fallow.ReasonAborted, "the engine gave up: %s", clip(text))
}

func (r *run) trapped(word string) Result {
	return Result{Outcome: receipt.Trapped, Trap: word, Gas: r.gas(true)}
}

// collect gathers what the guest left, few bytes in the result itself and the
// rest as files in the task's folder.
func (r *run) collect() ([]Output, error) {
	type left struct {
		path string
		data *content
	}
	var all []left
	for _, n := range r.tree.outputs() {
		all = append(all, left{n.outPath(), n.data})
	}
	for _, n := range []*node{r.stderr, r.stdout} {
		if n.data.size > 0 {
			all = append(all, left{n.name, n.data})
		}
	}
	slices.SortFunc(all, func(a, b left) int { return strings.Compare(a.path, b.path) })
	list := make([]Output, len(all))
	small := 0
	for i, l := range all {
		o := Output{Output: receipt.Output{Path: l.path, Size: uint64(l.data.size)}}
		var err error
		if !l.data.spilled && small+len(l.data.mem) <= maxSmall {
			small += len(l.data.mem)
			o.Small = l.data.mem
			o.Digest = fallow.Sum(o.Small)
		} else if o.File, o.Digest, err = r.export(i, l.data); err != nil {
			return nil, err
		}
		list[i] = o
	}
	return list, nil
}

// export writes an output to a file of the host's.
func (r *run) export(i int, c *content) (string, fallow.Digest, error) {
	if err := os.MkdirAll(r.task.Out, 0o700); err != nil {
		return "", fallow.Digest{}, fmt.Errorf("keep an output: %w", err)
	}
	at := r.task.outputFile(i)
	f, err := os.OpenFile(at, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return "", fallow.Digest{}, fmt.Errorf("keep an output: %w", err)
	}
	d, err := c.copyTo(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return "", fallow.Digest{}, fmt.Errorf("keep an output: %w", err)
	}
	return at, d, nil
}
