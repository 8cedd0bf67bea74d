//go:build wasmtime && linux

package wasm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/bytecodealliance/wasmtime-go/v40"
	"github.com/tetratelabs/wazero/sys"
	"golang.org/x/sys/unix"

	"fallow.network/meter"
)

const (
	wasmtimeBuilt = true
	// stackMargin is what host functions have of a thread's stack, in bytes.
	stackMargin = 16 << 20
	// compiledFile is a module's compiled code in its folder of the cache.
	compiledFile = "wasmtime"
)

// growStack starts this program again with larger stacks where it was asked to:
// wasmtime's guests run on a thread's own, whose size is settled before main.
func growStack() error {
	text, asked := os.LookupEnv(stackVariable)
	if !asked {
		return nil
	}
	size, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return fmt.Errorf("stack of %.40q bytes: %w", text, err)
	}
	if err := os.Unsetenv(stackVariable); err != nil {
		return err
	}
	if err := unix.Setrlimit(unix.RLIMIT_STACK, &unix.Rlimit{Cur: size, Max: unix.RLIM_INFINITY}); err != nil {
		// Without the right to lift the bound, what there is is used.
		var have unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_STACK, &have); err != nil {
			return fmt.Errorf("stack: %w", err)
		}
		have.Cur = min(size, have.Max)
		if err := unix.Setrlimit(unix.RLIMIT_STACK, &have); err != nil {
			return fmt.Errorf("stack of %d bytes: %w", have.Cur, err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return fmt.Errorf("start again: %w", syscall.Exec(self, os.Args, os.Environ()))
}

// wasmtimeCompiler is the engine under the build tag.
type wasmtimeCompiler struct{ engine *wasmtime.Engine }

func newWasmtime() (compiler, error) {
	var stack unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_STACK, &stack); err != nil {
		return nil, fmt.Errorf("stack: %w", err)
	}
	c := wasmtime.NewConfig()
	if n := min(stack.Cur, wasmtimeStack); n > 2*stackMargin {
		c.SetMaxWasmStack(int(n - stackMargin))
	}
	// The features of the gas schedule. The pass refuses others; what makes NaNs
	// canonical is the pass too.
	c.SetWasmThreads(false)
	c.SetWasmTailCall(false)
	c.SetWasmMultiMemory(false)
	c.SetWasmMemory64(false)
	c.SetWasmRelaxedSIMD(false)
	c.SetParallelCompilation(false)
	c.SetCraneliftOptLevel(wasmtime.OptLevelSpeed)
	return wasmtimeCompiler{wasmtime.NewEngineWithConfig(c)}, nil
}

func (c wasmtimeCompiler) caches() bool { return true }

// wasmtimeProgram is a compiled module and the host functions that it is linked
// to. Every run has a store of its own; runs come one after the other.
type wasmtimeProgram struct {
	engine *wasmtime.Engine
	module *wasmtime.Module
	linker *wasmtime.Linker
	now    *wasmtimeInstance // whose host functions are called
}

func (c wasmtimeCompiler) compile(_ context.Context, code []byte, dir string) (program, error) {
	p := &wasmtimeProgram{engine: c.engine}
	var err error
	if p.module, err = c.module(code, dir); err != nil {
		return nil, err
	}
	calls, err := hostCalls()
	if err != nil {
		return nil, err
	}
	p.linker = wasmtime.NewLinker(c.engine)
	for i := range calls {
		if err := p.link(&calls[i]); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// module compiles, or takes what another child has compiled.
func (c wasmtimeCompiler) module(code []byte, dir string) (*wasmtime.Module, error) {
	if dir == "" {
		return wasmtime.NewModule(c.engine, code)
	}
	at := filepath.Join(dir, compiledFile)
	if kept, err := os.ReadFile(at); err == nil {
		return wasmtime.NewModuleDeserialize(c.engine, kept)
	}
	m, err := wasmtime.NewModule(c.engine, code)
	if err != nil {
		return nil, err
	}
	kept, err := m.Serialize()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	// Whole or not at all: another child may read it.
	half := at + "." + strconv.Itoa(os.Getpid())
	if err := os.WriteFile(half, kept, 0o600); err != nil {
		return nil, err
	}
	return m, os.Rename(half, at)
}

func (p *wasmtimeProgram) close(context.Context) error {
	p.linker.Close()
	p.module.Close()
	return nil
}

func (p *wasmtimeProgram) instantiate(_ context.Context, r *run) (instance, error) {
	i := &wasmtimeInstance{store: wasmtime.NewStore(p.engine), run: r}
	p.now = i
	var err error
	if i.mod, err = p.linker.Instantiate(i.store, p.module); err == nil {
		return i, nil
	}
	i.store.Close()
	if i.stopped {
		return nil, errStopped
	}
	end := wasmtimeEnd(err)
	var t trapError
	if !r.task.Bare && !errors.As(end, &t) {
		end = fmt.Errorf("%w: %w", errNoRoom, end) // the pass has seen everything else
	}
	return nil, end
}

// link gives the guest a host function.
func (p *wasmtimeProgram) link(h *hostCall) error {
	params, results := wasmtimeTypes(h.Sig)
	return p.linker.FuncNew(meter.HostModule, h.Name, wasmtime.NewFuncType(params, results),
		func(caller *wasmtime.Caller, args []wasmtime.Val) (given []wasmtime.Val, trap *wasmtime.Trap) {
			i := p.now
			defer func() {
				switch what := recover().(type) {
				case nil:
				case *sys.ExitError: // by run.stop
					i.stopped = true
					given, trap = nil, wasmtime.NewTrap(errStopped.Error())
				default:
					panic(what)
				}
			}()
			if i.run.memory == nil {
				if e := caller.GetExport("memory"); e != nil && e.Memory() != nil {
					i.run.memory = wasmtimeMemory{e.Memory(), i.store}
				}
			}
			s := make([]uint64, max(len(args), 1))
			for n, a := range args {
				if a.Kind() == wasmtime.KindI64 {
					s[n] = uint64(a.I64())
				} else {
					s[n] = uint64(uint32(a.I32()))
				}
			}
			h.on(i.run, s)
			if h.result {
				given = []wasmtime.Val{wasmtime.ValI32(int32(uint32(s[0])))}
			}
			return given, nil
		})
}

// wasmtimeTypes turns the schedule's letters into value types.
func wasmtimeTypes(sig string) (params, results []*wasmtime.ValType) {
	to := &params
	for _, c := range sig {
		switch c {
		case ':':
			to = &results
		case 'I':
			*to = append(*to, wasmtime.NewValType(wasmtime.KindI64))
		default:
			*to = append(*to, wasmtime.NewValType(wasmtime.KindI32))
		}
	}
	return params, results
}

type wasmtimeInstance struct {
	store   *wasmtime.Store
	mod     *wasmtime.Instance
	run     *run
	stopped bool
}

func (i *wasmtimeInstance) call(_ context.Context, name string) error {
	f := i.mod.GetFunc(i.store, name)
	if f == nil {
		return errNoFunction
	}
	_, err := f.Call(i.store)
	if i.stopped {
		return errStopped
	}
	return wasmtimeEnd(err)
}

func (i *wasmtimeInstance) global(name string) cell {
	e := i.mod.GetExport(i.store, name)
	if e == nil || e.Global() == nil {
		return nil
	}
	return &wasmtimeCell{global: e.Global(), store: i.store}
}

func (i *wasmtimeInstance) close(context.Context) { i.store.Close() }

// wasmtimeCell is a global of 32 or 64 bits.
type wasmtimeCell struct {
	global *wasmtime.Global
	store  *wasmtime.Store
}

func (c *wasmtimeCell) Get() uint64 {
	v := c.global.Get(c.store)
	if v.Kind() == wasmtime.KindI32 {
		return uint64(uint32(v.I32()))
	}
	return uint64(v.I64())
}

// Set panics where the global is not mutable, which the pass doesn't make.
func (c *wasmtimeCell) Set(v uint64) {
	to := wasmtime.ValI64(int64(v))
	if c.global.Get(c.store).Kind() == wasmtime.KindI32 {
		to = wasmtime.ValI32(int32(uint32(v)))
	}
	if err := c.global.Set(c.store, to); err != nil {
		panic(err)
	}
}

// wasmtimeMemory is asked anew each time: growing may move it.
type wasmtimeMemory struct {
	memory *wasmtime.Memory
	store  *wasmtime.Store
}

// Read gives the guest's bytes themselves, good until the guest goes on.
func (m wasmtimeMemory) Read(at, n uint32) ([]byte, bool) {
	all := m.memory.UnsafeData(m.store)
	end := uint64(at) + uint64(n)
	if end > uint64(len(all)) {
		return nil, false
	}
	return all[at:end:end], true
}

func (m wasmtimeMemory) WriteUint32Le(at, v uint32) bool {
	b, inside := m.Read(at, 4)
	if inside {
		binary.LittleEndian.PutUint32(b, v)
	}
	return inside
}

func (m wasmtimeMemory) WriteUint64Le(at uint32, v uint64) bool {
	b, inside := m.Read(at, 8)
	if inside {
		binary.LittleEndian.PutUint64(b, v)
	}
	return inside
}

// wasmtimeEnd turns wasmtime's errors into ours.
func wasmtimeEnd(err error) error {
	var trap *wasmtime.Trap
	if !errors.As(err, &trap) {
		return err
	}
	code := trap.Code()
	if code == nil {
		return err
	}
	switch *code {
	case wasmtime.UnreachableCodeReached:
		return trapError(TrapUnreachable)
	case wasmtime.MemoryOutOfBounds:
		return trapError(TrapMemory)
	case wasmtime.TableOutOfBounds, wasmtime.IndirectCallToNull:
		return trapError(TrapTable)
	case wasmtime.BadSignature:
		return trapError(TrapSignature)
	case wasmtime.IntegerOverflow:
		return trapError(TrapOverflow)
	case wasmtime.IntegerDivisionByZero:
		return trapError(TrapDivide)
	case wasmtime.BadConversionToInteger:
		return trapError(TrapConversion)
	case wasmtime.StackOverflow, wasmtime.HeapMisaligned, wasmtime.Interrupt, wasmtime.OutOfFuel:
		return err // no result
	}
	return err
}
