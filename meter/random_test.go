package meter

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// author writes random functions that always end: counted loops, branches,
// memory within a page, floats that become NaN, vectors.
type author struct {
	t      *rapid.T
	locals string
	budget int
	calls  int // functions f1.. that may be called
}

const letters = "iIfFv"

func (a *author) n(most int) int { return rapid.IntRange(0, most).Draw(a.t, "n") }

// local picks a local of a type, but none that counts a loop.
func (a *author) local(c byte) int {
	var all []int
	for i := range len(a.locals) - 3 {
		if a.locals[i] == c {
			all = append(all, i)
		}
	}
	return all[a.n(len(all)-1)]
}

// pure are the instructions that only calculate, by the type of their result.
// Those that turn a NaN's sign are left out: the pass makes what they give
// canonical, and not what they take, which comes to another sign.
var pure = func() map[byte][]*op {
	by := map[byte][]*op{}
	for _, table := range [][]op{coreOps[:], bulkOps[:], simdOps[:]} {
		for i := range table {
			o := &table[i]
			if in, out, ok := strings.Cut(o.sig, ":"); ok && len(out) == 1 && o.imm == immNone && in != "" &&
				(o.nan&keeps == 0 || !strings.HasSuffix(o.name, ".neg")) && o.nan&sign == 0 &&
				!strings.Contains(o.name, "div_") && !strings.Contains(o.name, "rem_") &&
				(!strings.Contains(o.name, ".trunc_f") || strings.Contains(o.name, "sat")) {
				by[out[0]] = append(by[out[0]], o)
			}
		}
	}
	return by
}()

// value writes an expression of a type.
func (a *author) value(c byte, depth int) string {
	a.budget--
	if depth > 4 || a.budget < 0 {
		return fmt.Sprintf("local.get %d ", a.local(c))
	}
	switch k := a.n(9); {
	case k == 0:
		switch c {
		case 'i', 'I':
			v := rapid.Int32().Draw(a.t, "const")
			return map[byte]string{'i': "i32", 'I': "i64"}[c] + fmt.Sprintf(".const %d ", v)
		case 'f', 'F':
			v := rapid.SampledFrom([]string{"0", "-0", "1.5", "-3e30", "inf", "-inf", "nan"}).Draw(a.t, "float")
			return map[byte]string{'f': "f32", 'F': "f64"}[c] + ".const " + v + " "
		}
		return fmt.Sprintf("v128.const %d %d ", rapid.Int64().Draw(a.t, "lo"), rapid.Int64().Draw(a.t, "hi"))
	case k == 1:
		load := map[byte]string{'i': "i32.load", 'I': "i64.load32_s", 'f': "f32.load", 'F': "f64.load", 'v': "v128.load"}[c]
		return fmt.Sprintf("i32.const %d %s %d ", a.n(60)*8, load, a.n(64))
	case k == 2:
		return a.value(c, depth+1) + a.value(c, depth+1) + a.value('i', depth+1) + "select "
	case k == 3:
		return a.value(c, depth+1) + fmt.Sprintf("local.tee %d ", a.local(c))
	case k == 4:
		return fmt.Sprintf("%s if %c %selse %send ", a.value('i', depth+1), c, a.value(c, depth+1), a.value(c, depth+1))
	case k == 5 && a.calls > 0:
		return a.value('i', depth+1) + a.value('F', depth+1) + a.value('v', depth+1) + fmt.Sprintf("call %d local.set %d ", 1+a.n(a.calls-1), a.local('F')) + a.value(c, depth+2)
	case k == 6:
		return fmt.Sprintf("block %c %s%sbr_if 0 drop %send ", c, a.value(c, depth+1), a.value('i', depth+1), a.value(c, depth+1))
	case k == 7:
		return fmt.Sprintf("local.get %d ", a.local(c))
	}
	o := pure[c][a.n(len(pure[c])-1)]
	in, _, _ := strings.Cut(o.sig, ":")
	var b strings.Builder
	for i := range len(in) {
		b.WriteString(a.value(in[i], depth+1))
	}
	return b.String() + o.name + " "
}

// statement writes something that leaves the stack as it was.
func (a *author) statement(depth int) string {
	c := letters[a.n(len(letters)-1)]
	switch k := a.n(6); {
	case k == 0 && depth < 3 && a.budget > 0:
		counter := len(a.locals) - 1 - depth // the last locals count
		return fmt.Sprintf("i32.const %d local.set %d loop 0 %slocal.get %d i32.const 1 i32.sub local.tee %d br_if 0 end ",
			1+a.n(4), counter, a.statements(depth+1), counter, counter)
	case k == 1 && depth < 3 && a.budget > 0:
		return a.value('i', 1) + "if 0 " + a.statements(depth+1) + "else " + a.statements(depth+1) + "end "
	case k == 2 && depth < 3 && a.budget > 0:
		return "block 0 block 0 " + a.value('i', 1) + "br_table 2 0 1 0 end " + a.statements(depth+1) + "end "
	case k == 3:
		return fmt.Sprintf("i32.const %d i32.const %d i32.const %d memory.copy ", a.n(400), a.n(400), a.n(100))
	case k == 4:
		store := map[byte]string{'i': "i32.store16", 'I': "i64.store", 'f': "f32.store", 'F': "f64.store", 'v': "v128.store"}[c]
		return fmt.Sprintf("i32.const %d %s%s %d ", a.n(60)*8, a.value(c, 1), store, a.n(64))
	}
	return a.value(c, 0) + fmt.Sprintf("local.set %d ", a.local(c))
}

func (a *author) statements(depth int) string {
	var b strings.Builder
	for range 1 + a.n(3) {
		b.WriteString(a.statement(depth))
	}
	return b.String()
}

const own = "iIfFvIfFvFFvv" + "iii" // locals; the last three count loops

func draw(t *rapid.T) []fn {
	helper := &author{t: t, locals: "iFv" + own, budget: 60}
	a := &author{t: t, locals: "iFv" + own, budget: 200, calls: 1}
	return []fn{
		{params: "iFv", results: "F", locals: own, body: a.statements(0) + a.value('F', 0)},
		{params: "iFv", results: "F", locals: own, body: helper.statements(0) + helper.value('F', 0)},
	}
}

// outcome is what a program left: its result and memory, or that it trapped.
func outcome(in instance, arg float64) (result uint64, memory []byte, err error) {
	res, err := in.call("f0", 7, math.Float64bits(arg), 0x7fc00001_00000001, 0xfff00000_00000001)
	if err == nil {
		result = res[0]
	}
	memory, _ = in.mod.Memory().Read(0, 1024)
	return result, memory, err
}

// exact is a body with every NaN made canonical where arithmetic makes it, as
// the deterministic profile of WebAssembly has it. It is slow, and what the
// pass has to be equal to. Scratch locals stand behind the others.
func exact(body string, scratch int) string {
	var b strings.Builder
	for _, w := range strings.Fields(body) {
		b.WriteString(w + " ")
		code, known := opcodes[w]
		if !known {
			continue
		}
		n, _ := binary.Uvarint(append(code[1:], 0))
		o, _ := lookup(code[0], uint32(n))
		if o == nil || o.nan&(makes4|makes8) == 0 {
			continue
		}
		x, constant, is := scratch, "i32.const 0x7fc00000 f32.reinterpret_i32 ", "f32.eq select "
		wide := o.nan&makes8 != 0
		if wide {
			x, constant, is = scratch+1, "i64.const 0x7ff8000000000000 f64.reinterpret_i64 ", "f64.eq select "
		}
		if strings.HasSuffix(o.sig, "v") {
			x, is = scratch+2, map[bool]string{true: "f64x2", false: "f32x4"}[wide]+".eq v128.bitselect "
			constant += map[bool]string{true: "f64x2", false: "f32x4"}[wide] + ".splat "
		}
		fmt.Fprintf(&b, "local.tee %d %s local.get %d local.get %d %s", x, constant, x, x, is)
	}
	return b.String()
}

// TestRandom runs random programs in both forms and on both engines. Metered,
// they give the same bytes and gas everywhere; bare and with every NaN made
// canonical where it arises, they give the same bytes as metered.
func TestRandom(t *testing.T) {
	interpreted, compiled := engine(t, false), engine(t, true)
	rapid.Check(t, func(rt *rapid.T) {
		fns := draw(rt)
		module := asm(t, fns...)
		written := fmt.Sprint(fns)
		for i := range fns {
			fns[i].locals += "fFv"
			fns[i].body = exact(fns[i].body, len(fns[i].params)+len(fns[i].locals)-3)
		}
		arg := rapid.SampledFrom([]float64{0, -1.5, 1e300, math.Inf(1)}).Draw(rt, "argument")
		x, y := load(t, interpreted, module, 16, 1<<40), load(t, compiled, module, 16, 1<<40)
		bare := load(t, interpreted, asm(t, fns...), 16, 0)
		defer func() {
			for _, in := range []instance{x, y, bare} {
				_ = in.mod.Close(t.Context())
			}
		}()
		rx, mx, ex := outcome(x, arg)
		ry, my, ey := outcome(y, arg)
		rb, mb, eb := outcome(bare, arg)
		ax, ay := x.account(), y.account()
		if (ex == nil) != (ey == nil) || rx != ry || string(mx) != string(my) || ax != ay {
			rt.Fatalf("interpreted and compiled differ: %x %x, %v %v, %+v %+v\n%x\n%x\n%s", rx, ry, ex, ey, ax, ay, mx, my, written)
		}
		if (ex == nil) != (eb == nil) || rx != rb || string(mx) != string(mb) {
			rt.Fatalf("metered and bare differ: %x %x, %v %v\n%x\n%x\n%s", rx, rb, ex, eb, mx, mb, written)
		}
	})
}
