package wasm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strconv"
	"time"

	"fallow.network"
	"fallow.network/meter"
)

const (
	// maxCompiled is how many modules stay compiled in one child.
	maxCompiled = 4
	// maxGarbage is how much heap may gather between two runs, in bytes.
	maxGarbage = 32 << 20
	// prepareTick is how often the time for a module is looked at.
	prepareTick = 20 * time.Millisecond
	// softMemory is the heap, in bytes, at which the garbage collector runs
	// whatever it costs.
	softMemory = 1 << 30
)

// Engines that run modules. All of them give the same results: they run the
// same metered module under the same host functions.
const (
	// Wazero compiles, and is in every build.
	Wazero = "wazero"
	// Interpreter is wazero's interpreter: for comparison, and for machines
	// that it has no compiler for.
	Interpreter = "wazero-interpreter"
	// Wasmtime compiles to faster code and needs C: it is in builds with the tag
	// wasmtime.
	Wasmtime = "wasmtime"
)

// Engines are those of this build.
func Engines() []string {
	if wasmtimeBuilt {
		return []string{Wazero, Interpreter, Wasmtime}
	}
	return []string{Wazero, Interpreter}
}

// compiler makes modules ready on one engine.
type compiler interface {
	// compile makes a module ready, with compiled code kept in dir unless that
	// is empty.
	compile(ctx context.Context, code []byte, dir string) (program, error)
	// caches says whether compiled code can be kept.
	caches() bool
}

// program is a module that is ready to run; closing it leaves nothing behind.
type program interface {
	// instantiate makes a module's memory and globals. It runs nothing but the
	// start function of bare modules. The error is errNoRoom where the machine
	// failed and not the module.
	instantiate(ctx context.Context, r *run) (instance, error)
	close(ctx context.Context) error
}

// instance is a module's memory, globals and functions during a run.
type instance interface {
	// call calls a function that takes and gives nothing. The error is errNoFunction,
	// errStopped, a trap, or whatever made the engine give up.
	call(ctx context.Context, name string) error
	// global is an exported mutable global, nil where there is none.
	global(name string) cell
	close(ctx context.Context)
}

// cell is a mutable global.
type cell interface {
	Get() uint64
	Set(v uint64)
}

// memory is what host functions see of a guest's memory; false is a range that
// isn't inside.
type memory interface {
	Read(at, n uint32) ([]byte, bool)
	WriteUint32Le(at, v uint32) bool
	WriteUint64Le(at uint32, v uint64) bool
}

var (
	// errNoRoom is a host that can't give a module what it was granted.
	errNoRoom = errors.New("no room for the guest here")
	// errStopped is a guest that a host function ended.
	errStopped = errors.New("stopped")
	// errNoFunction is a call of what isn't exported.
	errNoFunction = errors.New("no such function")
)

// trapError is a trap that every engine has, by the run profile's word.
type trapError string

func (t trapError) Error() string { return "trap: " + string(t) }

// engine runs tasks one after the other inside a child.
type engine struct {
	name     string
	compiler compiler
	cache    string
	compiled map[string]*ready
	order    []string // least recently used first
	inputs   *inputs
	prepare  time.Duration // processor time for one module; 0 is any
	spent    bool          // a module took longer: its work goes on, so this engine ends
}

// ready is a compiled module, and whether its start function is to be called.
type ready struct {
	program
	start bool
}

// newEngine makes an engine by its name; cache is a folder for compiled code,
// empty for none.
func newEngine(name, cache string) (*engine, error) {
	// A collection that began while a guest computes would wait for it and spin,
	// for wazero's compiled code has no points to stop at. So none begins by
	// itself: host calls collect (sweep), and tidy does between runs.
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(softMemory)
	e := &engine{name: name, cache: cache, compiled: map[string]*ready{}, inputs: &inputs{seen: map[string]stamp{}}}
	switch name {
	case Wazero, Interpreter:
		e.compiler = wazeroCompiler{interpreted: name == Interpreter}
	case Wasmtime:
		var err error
		if e.compiler, err = newWasmtime(); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("no engine is named %.40q", name)
	}
	return e, nil
}

func (e *engine) close(ctx context.Context) error {
	var err error
	for _, p := range e.compiled {
		err = errors.Join(err, p.close(ctx))
	}
	return err
}

// load reads, meters and compiles a task's module, once.
func (e *engine) load(ctx context.Context, t Task) (*ready, error) {
	pages := uint32(min(t.Limits.Memory/meter.PageBytes, meter.MaxMemoryPages))
	key := t.Module.String() + "/" + strconv.Itoa(int(pages))
	if t.Bare {
		key = t.Module.String() + "/bare"
	}
	if p, known := e.compiled[key]; known {
		i := slices.Index(e.order, key)
		e.order = append(slices.Delete(e.order, i, i+1), key)
		return p, nil
	}
	debug.SetGCPercent(100)
	defer debug.SetGCPercent(-1)
	if len(e.order) >= maxCompiled {
		old := e.order[0]
		err := e.compiled[old].close(ctx)
		delete(e.compiled, old)
		e.order = e.order[1:]
		if err != nil {
			return nil, fmt.Errorf("free a module: %w", err)
		}
	}
	p, err := e.within(func() (*ready, error) { return e.prepared(ctx, t, pages) })
	if err != nil {
		return nil, err
	}
	e.compiled[key] = p
	e.order = append(e.order, key)
	return p, nil
}

// within makes a program in the processor time that it may take. Neither the
// pass nor the compiler can be stopped, so after that this engine is spent.
func (e *engine) within(create func() (*ready, error)) (*ready, error) {
	type made struct {
		p   *ready
		err error
	}
	done := make(chan made, 1)
	began := processCPU()
	go func() {
		p, err := create()
		done <- made{p, err}
	}()
	tick := time.NewTicker(prepareTick)
	defer tick.Stop()
	for {
		select {
		case m := <-done:
			return m.p, m.err
		case <-tick.C:
			if e.prepare > 0 && processCPU()-began > e.prepare {
				e.spent = true
				return nil, abort(fallow.ReasonTooLarge, "metering and compiling the module takes more than %s of processor time", e.prepare)
			}
		}
	}
}

// prepared reads, meters and compiles a task's module.
func (e *engine) prepared(ctx context.Context, t Task, pages uint32) (*ready, error) {
	code, err := readModule(t)
	if err != nil {
		return nil, err
	}
	started := false
	if !t.Bare {
		m, err := meter.Instrument(code, meter.Profile{MemoryPages: pages})
		switch {
		case err != nil:
			return nil, abort(fallow.ReasonModuleRefused, "%v", err)
		case !m.Command:
			return nil, abort(fallow.ReasonModuleRefused, "the module exports no _start: it is no WASI command")
		}
		code, started = m.Module, m.Start
	}
	made, err := e.compile(ctx, code)
	if err != nil {
		return nil, err
	}
	return &ready{made, started}, nil
}

// compile compiles with the cache where that works. Only what the engine says
// without it counts against the module.
func (e *engine) compile(ctx context.Context, code []byte) (program, error) {
	if e.cache != "" && e.compiler.caches() {
		dir := filepath.Join(e.cache, e.name+"-"+fallow.Sum(code).String())
		if p, err := e.compiler.compile(ctx, code, dir); err == nil {
			now := time.Now()
			_ = os.Chtimes(dir, now, now) // for the eviction of what nobody uses
			return p, nil
		}
		_ = os.RemoveAll(dir) // it may be broken, or the disk full
	}
	p, err := e.compiler.compile(ctx, code, "")
	if err != nil {
		return nil, abort(fallow.ReasonModuleRefused, "the engine refuses the module: %s", clip(err.Error()))
	}
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
	defer f.Close() //nolint:errcheck // read only
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

// run runs one task to a result. An error is an abort.
func (e *engine) run(ctx context.Context, t Task) (Result, error) {
	load := time.Now()
	p, err := e.load(ctx, t)
	if err != nil {
		return Result{}, err
	}
	r, err := newRun(t, e.inputs)
	defer e.inputs.close()
	if err != nil {
		return Result{}, err
	}
	defer r.close()
	began, cpu := time.Now(), processCPU()
	res, err := p.run(ctx, r)
	res.Took, res.CPU, res.Load = time.Since(began), processCPU()-cpu, began.Sub(load)
	if err == nil {
		ended := time.Now()
		res.Outputs, err = r.collect()
		res.Collect = time.Since(ended)
	}
	e.tidy()
	return res, err
}

// tidy collects between runs once enough has gathered.
func (e *engine) tidy() {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindUint64 || sample[0].Value.Uint64() > maxGarbage {
		runtime.GC()
	}
}
