package wasm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/sys"

	"fallow.network"
	"fallow.network/meter"
	"fallow.network/receipt"
)

// maxCompiled is how many modules stay compiled in one child.
const maxCompiled = 4

// engine runs tasks one after the other inside a child.
type engine struct {
	rt       wazero.Runtime
	cache    wazero.CompilationCache
	compiled map[string]*program
	order    []string // least recently used first
}

// program is a module that is ready to run.
type program struct {
	module  wazero.CompiledModule
	metered meter.Metered
}

// newEngine makes a runtime; cache is a folder for compiled code, empty for
// none. The interpreter is for comparison and for machines without a compiler.
func newEngine(ctx context.Context, cache string, interpreted bool) (*engine, error) {
	config := wazero.NewRuntimeConfigCompiler()
	if interpreted {
		config = wazero.NewRuntimeConfigInterpreter()
	}
	e := &engine{compiled: map[string]*program{}}
	if cache != "" && !interpreted {
		c, err := wazero.NewCompilationCacheWithDir(cache)
		if err != nil {
			return nil, fmt.Errorf("compilation cache: %w", err)
		}
		e.cache = c
		config = config.WithCompilationCache(c)
	}
	e.rt = wazero.NewRuntimeWithConfig(ctx, config.WithCoreFeatures(api.CoreFeaturesV2))
	if err := instantiateHost(ctx, e.rt); err != nil {
		return nil, errors.Join(err, e.close(ctx))
	}
	return e, nil
}

func (e *engine) close(ctx context.Context) error {
	err := e.rt.Close(ctx)
	if e.cache != nil {
		err = errors.Join(err, e.cache.Close(ctx))
	}
	return err
}

// load reads, meters and compiles a task's module, once.
func (e *engine) load(ctx context.Context, t Task) (*program, error) {
	pages := uint32(min(t.Limits.Memory/meter.PageBytes, meter.MaxMemoryPages))
	key := t.Module.String() + "/" + strconv.Itoa(int(pages))
	if t.Bare {
		key += "/bare"
	}
	if p, known := e.compiled[key]; known {
		return p, nil
	}
	raw, err := readModule(t)
	if err != nil {
		return nil, err
	}
	p := &program{}
	code := raw
	if t.Bare {
		p.metered.Command = true
	} else {
		if p.metered, err = meter.Instrument(raw, meter.Profile{MemoryPages: pages}); err != nil {
			return nil, abort(fallow.ReasonModuleRefused, "%v", err)
		}
		code = p.metered.Module
		p.metered.Module = nil
		if !p.metered.Command {
			return nil, abort(fallow.ReasonModuleRefused, "the module exports no _start: it is no WASI command")
		}
	}
	if p.module, err = e.rt.CompileModule(ctx, code); err != nil {
		return nil, abort(fallow.ReasonModuleRefused, "the engine refuses the module: %v", firstLine(err))
	}
	if len(e.order) >= maxCompiled {
		if err := e.compiled[e.order[0]].module.Close(ctx); err != nil {
			return nil, err
		}
		delete(e.compiled, e.order[0])
		e.order = e.order[1:]
	}
	e.compiled[key] = p
	e.order = append(e.order, key)
	return p, nil
}

func readModule(t Task) ([]byte, error) {
	path, known := t.Paths[t.Module]
	if !known {
		return nil, abort(fallow.ReasonAborted, "the module has no file here")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the module: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, meter.MaxModuleBytes+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the module: %w", err)
	case len(raw) > meter.MaxModuleBytes:
		return nil, abort(fallow.ReasonModuleRefused, "the module is larger than %d bytes", meter.MaxModuleBytes)
	case fallow.Sum(raw) != t.Module:
		return nil, abort(fallow.ReasonAborted, "the module's file does not hash to %s", t.Module.Short())
	}
	return raw, nil
}

func fileSize(path string) (int64, error) {
	st, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// run runs one task to a result. An error is an abort.
func (e *engine) run(ctx context.Context, t Task) (Result, error) {
	if !profileKnown(t.Profile) {
		return Result{}, abort(fallow.ReasonUnsupported, "run profile %.40q is not known here", t.Profile)
	}
	if t.Limits.Gas > meter.MaxGas {
		return Result{}, abort(fallow.ReasonMalformed, "gas limit %d is above %d", t.Limits.Gas, meter.MaxGas)
	}
	p, err := e.load(ctx, t)
	if err != nil {
		return Result{}, err
	}
	r, err := newRun(t)
	if err != nil {
		return Result{}, err
	}
	defer r.close()

	// A collection that begins while a guest computes would wait for it, and
	// spin: compiled code has no points to stop at. So none begins.
	gc := debug.SetGCPercent(-1)
	limit := debug.SetMemoryLimit(int64(min(t.Limits.Memory, 1<<40))*2 + 512<<20)
	began, cpu := time.Now(), processCPU()
	res, err := e.guest(ctx, p, r)
	res.Took, res.CPU = time.Since(began), processCPU()-cpu
	debug.SetMemoryLimit(limit)
	debug.SetGCPercent(gc)
	if err == nil {
		res.Outputs, err = r.collect()
	}
	tidy()
	return res, err
}

// tidy collects between runs once enough has gathered.
func tidy() {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if m.HeapAlloc > 64<<20 {
		runtime.GC()
	}
}

// guest instantiates the module and calls it.
func (e *engine) guest(ctx context.Context, p *program, r *run) (Result, error) {
	ctx = context.WithValue(ctx, runKey{}, r)
	ctx = experimental.WithMemoryAllocator(ctx, allocator{r.task.Limits.Memory})
	mod, err := e.rt.InstantiateModule(ctx, p.module, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	if err != nil {
		return Result{}, r.instantiation(err)
	}
	defer mod.Close(ctx) //nolint:errcheck // it holds nothing but memory
	r.memory = mod.ExportedMemory("memory")
	if !r.task.Bare {
		if err := r.meterWith(mod); err != nil {
			return Result{}, err
		}
		if p.metered.Start {
			_, err = mod.ExportedFunction(meter.ExportStart).Call(ctx)
		}
	}
	if err == nil {
		start := mod.ExportedFunction("_start")
		if start == nil {
			return Result{}, abort(fallow.ReasonModuleRefused, "the module exports no _start: it is no WASI command")
		}
		_, err = start.Call(ctx)
	}
	return r.outcome(err)
}

// meterWith sets the module's counters from the task's limits.
func (r *run) meterWith(mod api.Module) error {
	get := func(name string) (api.MutableGlobal, error) {
		g, is := mod.ExportedGlobal(name).(api.MutableGlobal)
		if !is {
			return nil, fmt.Errorf("the metered module has no %s", name)
		}
		return g, nil
	}
	for _, g := range []struct {
		to   *api.MutableGlobal
		name string
	}{{&r.reserve, meter.ExportReserve}, {&r.quantum, meter.ExportQuantum}, {&r.depth, meter.ExportDepth}} {
		var err error
		if *g.to, err = get(g.name); err != nil {
			return err
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

// outcome reads how the guest ended.
func (r *run) outcome(err error) (Result, error) {
	var exit *sys.ExitError
	stopped := errors.As(err, &exit)
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
	text := err.Error()
	for _, w := range []struct{ text, word string }{
		{"wasm error: unreachable", TrapUnreachable},
		{"wasm error: out of bounds memory access", TrapMemory},
		{"wasm error: invalid table access", TrapTable},
		{"wasm error: indirect call type mismatch", TrapSignature},
		{"wasm error: integer overflow", TrapOverflow},
		{"wasm error: integer divide by zero", TrapDivide},
		{"wasm error: invalid conversion to integer", TrapConversion},
	} {
		if strings.Contains(text, w.text) {
			return r.trapped(w.word), nil
		}
	}
	return Result{}, abort(fallow.ReasonAborted, "the engine gave up: %s", firstLine(err))
}

func (r *run) trapped(word string) Result {
	return Result{Outcome: receipt.Trapped, Trap: word, Gas: r.gas(true)}
}

// instantiation tells a module's own fault (a data segment out of bounds,
// which repeats) from the host's.
func (r *run) instantiation(err error) error {
	return abort(fallow.ReasonModuleRefused, "the module can't be instantiated: %s", firstLine(err))
}

func firstLine(err error) string {
	s, _, _ := strings.Cut(err.Error(), "\n")
	return s
}

// collect gathers what the guest left, few bytes in the result itself and the
// rest as files in the task's folder.
func (r *run) collect() ([]Output, error) {
	var list []Output
	small := 0
	keep := func(path string, n *node) error {
		if len(list) >= receipt.MaxOutputs {
			return abort(fallow.ReasonTooLarge, "the guest left more than %d files", receipt.MaxOutputs)
		}
		if len(path) > receipt.MaxPath {
			return abort(fallow.ReasonTooLarge, "the guest left a path of %d bytes, at most %d are allowed", len(path), receipt.MaxPath)
		}
		d, err := n.data.digest()
		if err != nil {
			return err
		}
		o := Output{Output: receipt.Output{Path: path, Digest: d, Size: uint64(n.data.size)}}
		if n.data.file == nil && small+len(n.data.mem) <= maxSmall {
			small += len(n.data.mem)
			o.Small = append([]byte{}, n.data.mem...)
		} else if o.File, err = r.export(len(list), n.data); err != nil {
			return err
		}
		list = append(list, o)
		return nil
	}
	for _, n := range r.tree.outputs() {
		if err := keep(n.outPath(), n); err != nil {
			return nil, err
		}
	}
	for _, n := range []*node{r.stderr, r.stdout} {
		if n.data.size > 0 {
			if err := keep(n.name, n); err != nil {
				return nil, err
			}
		}
	}
	slices.SortFunc(list, func(a, b Output) int { return strings.Compare(a.Path, b.Path) })
	return list, nil
}

// export writes an output to a file of the host's.
func (r *run) export(i int, c *content) (string, error) {
	if err := os.MkdirAll(r.task.Out, 0o700); err != nil {
		return "", fmt.Errorf("keep an output: %w", err)
	}
	at := filepath.Join(r.task.Out, "output-"+strconv.Itoa(i))
	f, err := os.OpenFile(at, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return "", fmt.Errorf("keep an output: %w", err)
	}
	_, err = io.Copy(f, c.reader())
	if err = errors.Join(err, f.Close()); err != nil {
		return "", fmt.Errorf("keep an output: %w", err)
	}
	return at, nil
}
