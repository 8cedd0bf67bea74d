package meter

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
)

// programmer writes a whole module by the bytes that it is given, valid by
// construction whatever they are: functions that call each other directly and
// through a table, globals, a memory that grows, loops, branches, several
// values, and everything that traps. A counter of fuel in a global ends it, so
// that it can also run bare. With exact every float that arithmetic makes is
// made canonical at once, which is what the pass has to be equal to.
type programmer struct {
	in     []byte
	exact  bool
	funcs  []progFunc
	b      []byte // the body that is written
	locals string // of its function, scratch included
	self   int
	budget int
}

type progFunc struct{ params, results string }

const progTypes = "iIfF"

// The globals are one of each type, and the fuel behind them.
const progFuel = 4

// n draws a number below most; where the bytes end, it is 0.
func (p *programmer) n(most int) int {
	if len(p.in) == 0 {
		return 0
	}
	v := int(p.in[0])
	p.in = p.in[1:]
	return v % most
}

func (p *programmer) typ() byte { return progTypes[p.n(len(progTypes))] }

func (p *programmer) types(most int) string {
	b := make([]byte, p.n(most+1))
	for i := range b {
		b[i] = p.typ()
	}
	return string(b)
}

func (p *programmer) op(name string, immediates ...uint32) {
	code, ok := opcodes[name]
	if !ok {
		panic(name)
	}
	p.b = append(p.b, code...)
	for _, v := range immediates {
		p.b = putU32(p.b, v)
	}
}

func (p *programmer) i32(v int64) {
	p.op("i32.const")
	p.b = putS64(p.b, v)
}

var progWord = map[byte]string{'i': "i32", 'I': "i64", 'f': "f32", 'F': "f64"}

func (p *programmer) constant(t byte) {
	p.op(progWord[t] + ".const")
	var raw [8]byte
	for i := range raw {
		raw[i] = byte(p.n(256))
	}
	special := []uint64{0, 0x3ff8000000000000, 0x7ff0000000000000, 0xfff0000000000000, 0x8000000000000000, 0x41dfffffffc00000, 0xc1e0000000200000}
	switch v := binary.LittleEndian.Uint64(raw[:]); t {
	case 'i':
		p.b = putS64(p.b, int64(int32(v)>>(raw[7]%32)))
	case 'I':
		p.b = putS64(p.b, int64(v)>>(raw[7]%64))
	case 'f':
		p.b = binary.LittleEndian.AppendUint32(p.b, []uint32{0, 0x3fc00000, 0x7f800000, 0xff800000, 0x80000000, 0x4effffff, 0xcf000001}[v%7])
	default:
		p.b = binary.LittleEndian.AppendUint64(p.b, special[v%7])
	}
}

// local picks a local of a type: each function has one of each at least.
func (p *programmer) local(t byte) uint32 {
	var all []uint32
	for i := range len(p.locals) - 2 { // the last two are scratch
		if p.locals[i] == t {
			all = append(all, uint32(i))
		}
	}
	return all[p.n(len(all))]
}

func (p *programmer) value(t byte) {
	p.budget--
	if p.budget < 0 {
		p.op("local.get", p.local(t))
		return
	}
	w := progWord[t]
	switch p.n(16) {
	case 0:
		p.op("local.get", p.local(t))
	case 1:
		p.constant(t)
	case 2:
		p.op("global.get", uint32(strings.IndexByte(progTypes, t)))
	case 3:
		p.address()
		p.op(w+".load", 0, uint32(p.n(256)))
	case 4:
		p.value('i')
		p.open("if", t)
		p.value(t)
		p.op("else")
		p.value(t)
		p.close()
	case 5:
		p.open("block", t)
		p.value(t)
		p.value('i')
		p.op("br_if", 0)
		p.statement()
		p.close()
	case 6:
		p.value(t)
		p.value(t)
		p.value('i')
		p.op("select")
	case 7:
		p.value(t)
		p.op("local.tee", p.local(t))
	case 8:
		p.call(t)
	case 9:
		p.indirect(t)
	case 10, 11:
		p.convert(t)
	default:
		p.arithmetic(t)
	}
}

// address is inside the memory most times.
func (p *programmer) address() {
	if p.n(8) == 0 {
		p.value('i')
		return
	}
	p.i32(int64(p.n(256)) * 16)
}

func (p *programmer) arithmetic(t byte) {
	ints := strings.Fields("add sub mul and or xor shl shr_s shr_u rotl rotr div_s div_u rem_s rem_u clz ctz popcnt extend8_s")
	floats := strings.Fields("add sub mul div min max sqrt abs ceil floor trunc nearest")
	list := ints
	if t == 'f' || t == 'F' {
		list = floats
	}
	name := list[p.n(len(list))]
	p.value(t)
	if !strings.Contains(" clz ctz popcnt extend8_s sqrt abs ceil floor trunc nearest ", " "+name+" ") {
		p.value(t)
	}
	p.op(progWord[t] + "." + name)
	if t == 'f' || t == 'F' {
		p.canonical(t)
	}
}

func (p *programmer) canonical(t byte) {
	if !p.exact {
		return
	}
	s := uint32(len(p.locals) - 2)
	if t == 'F' {
		s++
	}
	p.op("local.tee", s)
	p.op(progWord[t] + ".const")
	if t == 'f' {
		p.b = append(p.b, canon32...)
	} else {
		p.b = append(p.b, canon64...)
	}
	p.op("local.get", s)
	p.op("local.get", s)
	p.op(progWord[t] + ".eq")
	p.op("select")
}

var progConversions = map[byte][]string{
	'i': strings.Fields("I:i32.wrap_i64 f:i32.trunc_f32_s F:i32.trunc_f64_u F:i32.trunc_sat_f64_s f:i32.reinterpret_f32 i:i32.eqz II:i64.lt_s FF:f64.gt ff:f32.le FF:f64.ne ii:i32.ge_u"),
	'I': strings.Fields("i:i64.extend_i32_s i:i64.extend_i32_u f:i64.trunc_f32_u F:i64.trunc_f64_s f:i64.trunc_sat_f32_u F:i64.reinterpret_f64"),
	'f': strings.Fields("i:f32.convert_i32_s I:f32.convert_i64_u F:f32.demote_f64 i:f32.reinterpret_i32"),
	'F': strings.Fields("i:f64.convert_i32_u I:f64.convert_i64_s f:f64.promote_f32 I:f64.reinterpret_i64"),
}

func (p *programmer) convert(t byte) {
	if t == 'i' {
		switch p.n(8) {
		case 0:
			p.value('i')
			p.op("memory.grow", 0)
			return
		case 1:
			p.op("memory.size", 0)
			return
		}
	}
	list := progConversions[t]
	from, name, _ := strings.Cut(list[p.n(len(list))], ":")
	for i := range len(from) {
		p.value(from[i])
	}
	p.op(name)
	if strings.Contains(name, "demote") || strings.Contains(name, "promote") {
		p.canonical(t)
	}
}

// call calls a function and keeps its last value if it is of type t.
func (p *programmer) call(t byte) {
	i := p.n(len(p.funcs))
	f := p.funcs[i]
	for j := range len(f.params) {
		p.value(f.params[j])
	}
	p.op("call", uint32(i))
	p.take(f.results, t)
}

func (p *programmer) indirect(t byte) {
	i := p.n(len(p.funcs)) // its type, whatever stands in the table
	f := p.funcs[i]
	for j := range len(f.params) {
		p.value(f.params[j])
	}
	p.i32(int64(p.n(12))) // of 10 elements
	p.op("call_indirect", uint32(i), 0)
	p.take(f.results, t)
}

// take drops results, but for the last where it is of type t; else it gives
// something of type t.
func (p *programmer) take(results string, t byte) {
	if n := len(results); n > 0 && results[n-1] == t {
		p.op("local.set", p.local(t))
		for range n - 1 {
			p.op("drop")
		}
		p.op("local.get", p.local(t))
		return
	}
	for range len(results) {
		p.op("drop")
	}
	p.op("local.get", p.local(t))
}

func (p *programmer) open(op string, t byte) {
	p.op(op)
	if t == 0 {
		p.b = append(p.b, 0x40)
	} else {
		p.b = append(p.b, valType(t))
	}
}

func (p *programmer) close() { p.op("end") }

// statement leaves the stack as it was.
func (p *programmer) statement() {
	p.budget--
	if p.budget < 0 {
		p.op("nop")
		return
	}
	t := p.typ()
	switch p.n(14) {
	case 0, 1:
		p.value(t)
		p.op("local.set", p.local(t))
	case 2:
		p.value(t)
		p.op("global.set", uint32(strings.IndexByte(progTypes, t)))
	case 3, 4:
		p.address()
		p.value(t)
		p.op(progWord[t]+".store", 0, uint32(p.n(256)))
	case 5:
		p.open("block", 0)
		p.open("loop", 0)
		p.burn(func() { p.op("br_if", 1) })
		p.statements()
		p.value('i')
		p.op("br_if", 0)
		p.close()
		p.close()
	case 6:
		p.value('i')
		p.open("if", 0)
		p.statements()
		if p.n(2) == 0 {
			p.op("else")
			p.statements()
		}
		p.close()
	case 7:
		p.open("block", 0)
		p.open("block", 0)
		p.open("block", 0)
		p.value('i')
		p.op("br_table", 2, 0, 2, 1)
		p.close()
		p.statements()
		p.op("br", 1)
		p.close()
		p.statements()
		p.close()
	case 8:
		p.address()
		p.address()
		p.i32(int64(p.n(256)) * 4)
		p.op([]string{"memory.fill", "memory.copy"}[p.n(2)])
		if p.b[len(p.b)-1] == bulkMemoryFill {
			p.b = append(p.b, 0)
		} else {
			p.b = append(p.b, 0, 0)
		}
	case 9:
		p.call('i')
		p.op("drop")
	case 10:
		// Out of a block, past what follows.
		p.open("block", 0)
		p.statements()
		p.op("br", 0)
		p.statement()
		p.close()
	case 11:
		if p.n(6) == 0 {
			p.op("unreachable")
			return
		}
		p.value('i')
		p.open("if", 0)
		f := p.funcs[p.self]
		for i := range len(f.results) {
			p.value(f.results[i])
		}
		p.op("return")
		p.close()
	case 12:
		p.i32(int64(p.n(12)))
		p.op("table.get", 0)
		p.op("ref.is_null")
		p.op("local.set", p.local('i'))
	default:
		p.value(t)
		p.op("drop")
	}
}

func (p *programmer) statements() {
	for range 1 + p.n(4) {
		p.statement()
	}
}

// burn takes fuel, or does what leaves.
func (p *programmer) burn(leave func()) {
	p.op("global.get", progFuel)
	p.op("i32.eqz")
	leave()
	p.op("global.get", progFuel)
	p.i32(1)
	p.op("i32.sub")
	p.op("global.set", progFuel)
}

func (p *programmer) body(i int) []byte {
	f := p.funcs[i]
	own := progTypes + p.types(4) + "fF"
	p.b, p.locals, p.self, p.budget = nil, f.params+own, i, 120
	p.burn(func() {
		p.op("if")
		p.b = append(p.b, 0x40)
		for j := range len(f.results) {
			p.op(progWord[f.results[j]] + ".const")
			p.b = append(p.b, make([]byte, map[byte]int{'i': 1, 'I': 1, 'f': 4, 'F': 8}[f.results[j]])...)
		}
		p.op("return")
		p.op("end")
	})
	p.statements()
	for j := range len(f.results) {
		p.value(f.results[j])
	}
	p.op("end")
	out := putU32(nil, uint32(len(own)))
	for j := range len(own) {
		out = append(out, 1, valType(own[j]))
	}
	return append(out, p.b...)
}

func progVals(s string) []byte {
	out := putU32(nil, uint32(len(s)))
	for i := range len(s) {
		out = append(out, valType(s[i]))
	}
	return out
}

// program is the module that the bytes say.
func program(in []byte, exact bool) []byte {
	p := &programmer{in: in, exact: exact}
	for range 1 + p.n(4) {
		p.funcs = append(p.funcs, progFunc{p.types(3), p.types(2)})
	}
	n := uint32(len(p.funcs))
	types, funcs, code := putU32([]byte{secType}, n), putU32([]byte{secFunction}, n), putU32([]byte{secCode}, n)
	for i, f := range p.funcs {
		types = append(append(append(types, 0x60), progVals(f.params)...), progVals(f.results)...)
		funcs = putU32(funcs, uint32(i))
		code = putBytes(code, p.body(i))
	}
	globals := putU32([]byte{secGlobal}, progFuel+1)
	for _, t := range []byte(progTypes + "i") {
		globals = append(globals, valType(t), 1)
		switch t {
		case 'i':
			globals = putS64(append(globals, opI32Const), 150)
		case 'I':
			globals = append(globals, opI64Const, 7)
		case 'f':
			globals = append(globals, opF32Const, 0, 0, 0, 0)
		default:
			globals = append(globals, opF64Const, 0, 0, 0, 0, 0, 0, 0, 0)
		}
		globals = append(globals, opEnd)
	}
	elems := []byte{secElement, 1, 0, opI32Const, 0, opEnd, 8} // two stay null
	for i := range uint32(8) {
		elems = putU32(elems, i%n)
	}
	export := append(putName([]byte{secExport, 1 + progFuel + 1}, "f"), 0, 0)
	export = append(putName(export, "memory"), 2, 0)
	for i := range progFuel {
		export = putU32(append(putName(export, fmt.Sprintf("g%d", i)), 3), uint32(i))
	}
	return plain(types, funcs, []byte{secTable, 1, funcref, 1, 10, 10}, []byte{secMemory, 1, 1, 1, 3}, globals, export, elems, code)
}

// progOutcome is all that a run leaves that can be seen.
func progOutcome(t *testing.T, r wazero.Runtime, module []byte, limit int64) (seen string, gas Account) {
	t.Helper()
	in := load(t, r, module, 16, limit)
	defer func() { _ = in.mod.Close(t.Context()) }()
	f := in.mod.ExportedFunction("f")
	args := make([]uint64, len(f.Definition().ParamTypes()))
	for i := range args {
		args[i] = uint64(3*i + 1)
	}
	results, err := f.Call(t.Context(), args...)
	trap := ""
	if err != nil {
		trap, _, _ = strings.Cut(err.Error(), "\n")
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%x %q", results, trap)
	for i := range progFuel {
		fmt.Fprintf(&b, " %x", in.mod.ExportedGlobal(fmt.Sprintf("g%d", i)).Get())
	}
	size := in.mod.Memory().Size()
	all, _ := in.mod.Memory().Read(0, size)
	h := uint64(14695981039346656037)
	for _, c := range all {
		h = (h ^ uint64(c)) * 1099511628211
	}
	fmt.Fprintf(&b, " memory %d %x", size, h)
	if limit > 0 {
		gas = in.account()
	}
	return b.String(), gas
}

// comparePrograms runs the module that the bytes say bare and metered, and
// metered on both engines.
func comparePrograms(t *testing.T, interpreted, compiled wazero.Runtime, in []byte) (trapped bool) {
	t.Helper()
	module := program(in, false)
	bare, _ := progOutcome(t, interpreted, program(in, true), 0)
	metered, gas := progOutcome(t, interpreted, module, 1<<60)
	if bare != metered {
		t.Fatalf("bare and metered differ:\n%s\n%s\nreplay with the bytes %x", bare, metered, in)
	}
	again, gas2 := progOutcome(t, compiled, module, 1<<60)
	if metered != again || gas != gas2 {
		t.Fatalf("interpreted and compiled differ:\n%s %+v\n%s %+v\nreplay with the bytes %x", metered, gas, again, gas2, in)
	}
	return strings.Contains(metered, "wasm error")
}

// progBytes are a seed's bytes.
func progBytes(seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, 200+r.IntN(1800))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// TestPrograms compares modules of random bytes in both forms.
func TestPrograms(t *testing.T) {
	interpreted, compiled := engine(t, false), engine(t, true)
	trapped, n := 0, 300
	for seed := range uint64(n) {
		if comparePrograms(t, interpreted, compiled, progBytes(seed)) {
			trapped++
		}
	}
	t.Logf("%d programs, %d of which trapped", n, trapped)
	if trapped < n/20 || trapped > n*19/20 {
		t.Errorf("%d of %d trap: the programs no longer show both", trapped, n)
	}
}

// FuzzPrograms is TestPrograms with bytes that look for new ways.
func FuzzPrograms(f *testing.F) {
	for seed := range uint64(8) {
		f.Add(progBytes(1000 + seed))
	}
	interpreted, compiled := engine(f, false), engine(f, true)
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > 1<<14 {
			return
		}
		comparePrograms(t, interpreted, compiled, in)
	})
}
