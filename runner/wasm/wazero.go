package wasm

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/sys"

	"fallow.network/meter"
)

// wazeroCompiler is the engine in every build.
type wazeroCompiler struct{ interpreted bool }

func (c wazeroCompiler) caches() bool { return !c.interpreted }

// wazeroProgram has a runtime of its own: closing that leaves nothing behind.
type wazeroProgram struct {
	rt     wazero.Runtime
	cache  wazero.CompilationCache
	module wazero.CompiledModule
}

func (c wazeroCompiler) compile(ctx context.Context, code []byte, dir string) (program, error) {
	config := wazero.NewRuntimeConfig()
	if c.interpreted {
		config = wazero.NewRuntimeConfigInterpreter()
	}
	p := &wazeroProgram{}
	if dir != "" {
		cache, err := wazero.NewCompilationCacheWithDir(dir)
		if err != nil {
			return nil, err
		}
		p.cache = cache
		config = config.WithCompilationCache(cache)
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

func (p *wazeroProgram) close(ctx context.Context) error {
	err := p.rt.Close(ctx)
	if p.cache != nil {
		err = errors.Join(err, p.cache.Close(ctx))
	}
	return err
}

// runKey finds the run in a host call's context.
type runKey struct{}

// instantiate turns the engine's panic over memory that it didn't get into
// errNoRoom: the machine's failure and not the module's.
func (p *wazeroProgram) instantiate(ctx context.Context, r *run) (made instance, err error) {
	defer func() {
		if what := recover(); what != nil {
			made, err = nil, fmt.Errorf("%w: %v", errNoRoom, what)
		}
	}()
	ctx = context.WithValue(ctx, runKey{}, r)
	ctx = experimental.WithMemoryAllocator(ctx, allocator{r.task.Limits.Memory})
	mod, err := p.rt.InstantiateModule(ctx, p.module, wazero.NewModuleConfig().WithName("").WithStartFunctions().WithRandSource(still{}))
	if mod != nil {
		made = wazeroInstance{mod, r}
	}
	return made, wazeroEnd(err)
}

// still stands where wazero would seed a source of its own for its WASI, which
// nothing here uses: that cost each instance more than the rest of its making.
type still struct{}

func (still) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

type wazeroInstance struct {
	mod api.Module
	r   *run
}

func (i wazeroInstance) call(ctx context.Context, name string) error {
	f := i.mod.ExportedFunction(name)
	if f == nil {
		return errNoFunction
	}
	_, err := f.Call(context.WithValue(ctx, runKey{}, i.r))
	return wazeroEnd(err)
}

func (i wazeroInstance) global(name string) cell {
	if g, is := i.mod.ExportedGlobal(name).(api.MutableGlobal); is {
		return g
	}
	return nil
}

func (i wazeroInstance) close(ctx context.Context) {
	_ = i.mod.Close(ctx) // it holds nothing but memory
}

// wazeroTraps are wazero's words for traps.
var wazeroTraps = []struct{ text, word string }{
	{"wasm error: unreachable", TrapUnreachable},
	{"wasm error: out of bounds memory access", TrapMemory},
	{"wasm error: invalid table access", TrapTable},
	{"wasm error: indirect call type mismatch", TrapSignature},
	{"wasm error: integer overflow", TrapOverflow},
	{"wasm error: integer divide by zero", TrapDivide},
	{"wasm error: invalid conversion to integer", TrapConversion},
}

// wazeroEnd turns wazero's errors into ours.
func wazeroEnd(err error) error {
	var exit *sys.ExitError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &exit):
		return errStopped
	}
	text, _, _ := strings.Cut(err.Error(), "\n")
	for _, w := range wazeroTraps {
		if strings.HasSuffix(text, w.text) {
			return trapError(w.word)
		}
	}
	return err
}

// instantiateHost gives the runtime its WASI.
func instantiateHost(ctx context.Context, rt wazero.Runtime) error {
	all, err := hostCalls()
	if err != nil {
		return err
	}
	b := rt.NewHostModuleBuilder(meter.HostModule)
	for i := range all {
		h := &all[i]
		params, results := signature(h.Sig)
		b.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(func(ctx context.Context, mod api.Module, s []uint64) {
			r := ctx.Value(runKey{}).(*run)
			if r.memory == nil {
				if m := mod.ExportedMemory("memory"); m != nil {
					r.memory = m
				}
			}
			h.on(r, s)
		}), params, results).Export(h.Name)
	}
	_, err = b.Instantiate(ctx)
	return err
}

// signature turns the schedule's letters into value types.
func signature(sig string) (params, results []api.ValueType) {
	to := &params
	for _, c := range sig {
		switch c {
		case ':':
			to = &results
		case 'I':
			*to = append(*to, api.ValueTypeI64)
		default:
			*to = append(*to, api.ValueTypeI32)
		}
	}
	return params, results
}
