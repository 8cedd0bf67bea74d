package meter

import (
	"context"
	"encoding/binary"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"fallow.network"
)

// fn is a function of a test's module, its body in the words of the schedule.
type fn struct {
	params, results, locals string // in the letters of the schedule
	body                    string
}

// asm writes a module of functions, all exported as f0, f1 and so on, with a
// memory of one page and a table of all of them.
func asm(tb testing.TB, fns ...fn) []byte {
	tb.Helper()
	letters := func(s string) (b []byte) {
		for _, c := range []byte(s) {
			b = append(b, valType(c))
		}
		return b
	}
	n := uint32(len(fns))
	types, funcs, exports, code := putU32(nil, n), putU32(nil, n), putU32(nil, n+1), putU32(nil, n)
	elems := putU32([]byte{1, 0, opI32Const, 0, opEnd}, n)
	for i, f := range fns {
		types = putType(types, funcType{letters(f.params), letters(f.results)})
		funcs = putU32(funcs, uint32(i))
		exports = putU32(append(putName(exports, "f"+strconv.Itoa(i)), 0), uint32(i))
		elems = putU32(elems, uint32(i))
		body := putU32(nil, uint32(len(f.locals)))
		for _, l := range letters(f.locals) {
			body = append(body, 1, l)
		}
		code = putBytes(code, append(append(body, words(tb, f.body)...), opEnd))
	}
	exports = append(putName(exports, "memory"), 2, 0)
	out := []byte("\x00asm\x01\x00\x00\x00")
	out = section(out, secType, types)
	out = section(out, secFunction, funcs)
	out = section(out, secTable, putU32([]byte{1, funcref, 0}, n))
	out = section(out, secMemory, []byte{1, 0, 1})
	out = section(out, secExport, exports)
	out = section(out, secElement, elems)
	return section(out, secCode, code)
}

var opcodes = func() map[string][]byte {
	m := map[string][]byte{}
	for i, o := range coreOps {
		m[o.name] = []byte{byte(i)}
	}
	for i, o := range bulkOps {
		m[o.name] = putU32([]byte{prefixBulk}, uint32(i))
	}
	for i, o := range simdOps {
		m[o.name] = putU32([]byte{prefixSIMD}, uint32(i))
	}
	return m
}()

// words assembles instructions. What follows a word are its immediates;
// block types are 0 for none or letters.
func words(tb testing.TB, text string) (out []byte) {
	tb.Helper()
	f := strings.Fields(text)
	next := func() string {
		if len(f) == 0 {
			tb.Fatalf("assembling %q: an immediate is missing", text)
		}
		s := f[0]
		f = f[1:]
		return s
	}
	num := func() int64 {
		s := next()
		v, err := strconv.ParseInt(s, 0, 64)
		if err != nil {
			tb.Fatalf("assembling %q: %v", s, err)
		}
		return v
	}
	for len(f) > 0 {
		name := next()
		code, ok := opcodes[name]
		if !ok {
			tb.Fatalf("assembling: no instruction %q", name)
		}
		out = append(out, code...)
		o, _ := lookup(code[0], uint32(code[len(code)-1]))
		if code[0] >= prefixBulk {
			v, _ := binary.Uvarint(code[1:])
			o, _ = lookup(code[0], uint32(v))
		}
		switch o.imm {
		case immNone:
		case immIndex:
			out = putU32(out, uint32(num()))
		case immIndex2:
			out = putU32(putU32(out, uint32(num())), uint32(num()))
		case immIndexZero:
			out = append(putU32(out, uint32(num())), 0)
		case immZero:
			out = append(out, 0)
		case immZero2:
			out = append(out, 0, 0)
		case immMem:
			out = putU32(append(out, 0), uint32(num()))
		case immMemLane:
			out = append(putU32(append(out, 0), uint32(num())), byte(num()))
		case immLane:
			out = append(out, byte(num()))
		case immShuffle, immV128:
			lo, hi := num(), num()
			out = binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(out, uint64(lo)), uint64(hi))
		case immBlock:
			if s := next(); s == "0" {
				out = append(out, 0x40)
			} else {
				out = append(out, valType(s[0]))
			}
		case immTable:
			n := num()
			out = putU32(out, uint32(n))
			for range n + 1 {
				out = putU32(out, uint32(num()))
			}
		case immTypes:
			out = append(out, 1, valType(next()[0]))
		case immRefType:
			out = append(out, funcref)
			next()
		case immI32:
			out = putS64(out, int64(int32(num())))
		case immI64:
			out = putS64(out, num())
		case immF32:
			v, err := strconv.ParseFloat(next(), 32)
			if err != nil {
				tb.Fatal(err)
			}
			out = binary.LittleEndian.AppendUint32(out, math.Float32bits(float32(v)))
		case immF64:
			v, err := strconv.ParseFloat(next(), 64)
			if err != nil {
				tb.Fatal(err)
			}
			out = binary.LittleEndian.AppendUint64(out, math.Float64bits(v))
		}
	}
	return out
}

// instance is a module in an engine.
type instance struct {
	mod   api.Module
	limit int64
}

// load instantiates a module as it is, or metered with a limit.
func load(tb testing.TB, r wazero.Runtime, module []byte, pages uint32, limit int64) instance {
	tb.Helper()
	if limit > 0 {
		m, err := Instrument(module, Profile{MemoryPages: pages})
		if err != nil {
			tb.Fatal(err)
		}
		module = m.Module
	}
	mod, err := r.InstantiateWithConfig(context.Background(), module, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	if err != nil {
		tb.Fatal(err)
	}
	in := instance{mod, limit}
	if limit > 0 {
		in.fund(1 << 20)
	}
	return in
}

func (in instance) global(name string) api.MutableGlobal {
	return in.mod.ExportedGlobal(name).(api.MutableGlobal)
}

func (in instance) fund(depth int32) {
	a := Open(fallow.Gas(in.limit))
	in.global(ExportReserve).Set(uint64(a.Reserve))
	in.global(ExportQuantum).Set(uint64(a.Quantum))
	in.global(ExportDepth).Set(uint64(uint32(depth)))
}

// account reads the gas back.
func (in instance) account() Account {
	return Account{Limit: fallow.Gas(in.limit), Reserve: int64(in.global(ExportReserve).Get()), Quantum: int64(in.global(ExportQuantum).Get())}
}

func (in instance) call(name string, args ...uint64) ([]uint64, error) {
	return in.mod.ExportedFunction(name).Call(context.Background(), args...)
}

// engine is the interpreter or the compiler.
func engine(tb testing.TB, compiled bool) wazero.Runtime {
	tb.Helper()
	c := wazero.NewRuntimeConfigInterpreter()
	if compiled {
		c = wazero.NewRuntimeConfigCompiler()
	}
	r := wazero.NewRuntimeWithConfig(context.Background(), c)
	tb.Cleanup(func() { _ = r.Close(context.Background()) })
	return r
}
