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

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

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

// engine runs tasks one after the other inside a child.
type engine struct {
	cache       string
	interpreted bool
	compiled    map[string]*program
	order       []string // least recently used first
	inputs      *inputs
	prepare     time.Duration // processor time for one module; 0 is any
	spent       bool          // a module took longer: its work goes on, so this engine ends
}

// program is a module that is ready to run, in a runtime of its own: closing
// it leaves nothing behind.
type program struct {
	rt     wazero.Runtime
	cache  wazero.CompilationCache
	module wazero.CompiledModule
	start  bool
}

// newEngine makes an engine; cache is a folder for compiled code, empty for
// none. The interpreter is for comparison and for machines without a compiler.
func newEngine(cache string, interpreted bool) *engine {
	// A collection that began while a guest computes would wait for it and spin,
	// for compiled code has no points to stop at. So none begins by itself: host
	// calls collect (sweep), and tidy does between runs.
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(softMemory)
	return &engine{
		cache: cache, interpreted: interpreted,
		compiled: map[string]*program{},
		inputs:   &inputs{seen: map[string]stamp{}},
	}
}

func (e *engine) close(ctx context.Context) error {
	var err error
	for _, p := range e.compiled {
		err = errors.Join(err, p.close(ctx))
	}
	return err
}

func (p *program) close(ctx context.Context) error {
	err := p.rt.Close(ctx)
	if p.cache != nil {
		err = errors.Join(err, p.cache.Close(ctx))
	}
	return err
}

// load reads, meters and compiles a task's module, once.
func (e *engine) load(ctx context.Context, t Task) (*program, error) {
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
	p, err := e.within(func() (*program, error) { return e.prepared(ctx, t, pages) })
	if err != nil {
		return nil, err
	}
	e.compiled[key] = p
	e.order = append(e.order, key)
	return p, nil
}

// within makes a program in the processor time that it may take. Neither the
// pass nor the compiler can be stopped, so after that this engine is spent.
func (e *engine) within(create func() (*program, error)) (*program, error) {
	type made struct {
		p   *program
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
func (e *engine) prepared(ctx context.Context, t Task, pages uint32) (*program, error) {
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
	p, err := e.compile(ctx, code)
	if err != nil {
		return nil, err
	}
	p.start = started
	return p, nil
}

// compile compiles with the cache where that works. Only what the engine says
// without it counts against the module.
func (e *engine) compile(ctx context.Context, code []byte) (*program, error) {
	if e.cache != "" && !e.interpreted {
		dir := filepath.Join(e.cache, fallow.Sum(code).String())
		if p, err := e.compileIn(ctx, code, dir); err == nil {
			now := time.Now()
			_ = os.Chtimes(dir, now, now) // for the eviction of what nobody uses
			return p, nil
		}
		_ = os.RemoveAll(dir) // it may be broken, or the disk full
	}
	p, err := e.compileIn(ctx, code, "")
	if err != nil {
		return nil, abort(fallow.ReasonModuleRefused, "the engine refuses the module: %s", clip(err.Error()))
	}
	return p, nil
}

func (e *engine) compileIn(ctx context.Context, code []byte, dir string) (*program, error) {
	config := wazero.NewRuntimeConfig()
	if e.interpreted {
		config = wazero.NewRuntimeConfigInterpreter()
	}
	p := &program{}
	if dir != "" {
		c, err := wazero.NewCompilationCacheWithDir(dir)
		if err != nil {
			return nil, err
		}
		p.cache = c
		config = config.WithCompilationCache(c)
	}
	p.rt = wazero.NewRuntimeWithConfig(ctx, config.WithCoreFeatures(api.CoreFeaturesV2))
	err := instantiateHost(ctx, p.rt)
	if err == nil {
		p.module, err = p.rt.CompileModule(ctx, code)
	}
	if err != nil {
		return nil, errors.Join(err, p.close(ctx))
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
	res.Took, res.CPU = time.Since(began), processCPU()-cpu
	if err == nil {
		res.Outputs, err = r.collect()
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
