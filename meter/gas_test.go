package meter

import (
	"errors"
	"strings"
	"testing"
)

// TestGas counts by hand what the pass counts.
func TestGas(t *testing.T) {
	tests := []struct {
		name string
		fns  []fn
		args []uint64
		want int64
	}{
		{"empty", []fn{{}}, nil, 0},
		{"straight", []fn{{body: "i32.const 1 i32.const 2 i32.add drop"}}, nil, 1 + 1 + 1 + 1},
		{"dead code", []fn{{body: "return i32.const 1 drop"}}, nil, 2},
		{"arm taken", []fn{{params: "i", body: "local.get 0 if 0 nop i32.const 1 drop else i64.const 1 i64.const 2 i64.mul drop end"}}, []uint64{1}, 1 + 2 + 2},
		{"arm not taken", []fn{{params: "i", body: "local.get 0 if 0 nop i32.const 1 drop else i64.const 1 i64.const 2 i64.mul drop end"}}, []uint64{0}, 1 + 2 + 6},
		{"branch out", []fn{{params: "i", body: "block 0 local.get 0 br_if 0 i32.const 1 drop end i32.const 1 drop"}}, []uint64{1}, 3 + 2},
		{"no branch", []fn{{params: "i", body: "block 0 local.get 0 br_if 0 i32.const 1 drop end i32.const 1 drop"}}, []uint64{0}, 3 + 2 + 2},
		{"loop ten times", []fn{{params: "i", body: "loop 0 local.get 0 i32.const 1 i32.sub local.tee 0 br_if 0 end"}}, []uint64{10}, 10 * (1 + 1 + 1 + 1 + 1 + 2)},
		{"loop without branches", []fn{{body: "loop 0 i32.const 1 drop end"}}, nil, 1 + 2},
		{"call", []fn{{body: "call 1 call 1"}, {body: "i32.const 1 drop"}}, nil, 20 + 2*2},
		{"indirect", []fn{{body: "i32.const 1 call_indirect 0 0"}, {}}, nil, 1 + 16},
		{"fill", []fn{{params: "i", body: "i32.const 0 i32.const 7 local.get 0 memory.fill"}}, []uint64{8007}, 1 + 1 + 1 + 12 + 1000},
		{"grow", []fn{{body: "i32.const 3 memory.grow drop"}}, nil, 1 + 100 + 3*8192 + 1},
		{"grow in vain", []fn{{body: "i32.const 30 memory.grow drop"}}, nil, 1 + 100 + 30*8192 + 1},
		{"switch", []fn{{params: "i", body: "block 0 block 0 local.get 0 br_table 1 0 1 end i32.const 1 drop end"}}, []uint64{0}, 1 + 4 + 2},
		{"switch past", []fn{{params: "i", body: "block 0 block 0 local.get 0 br_table 1 0 1 end i32.const 1 drop end"}}, []uint64{5}, 1 + 4},
	}
	for _, compiled := range []bool{false, true} {
		r := engine(t, compiled)
		for _, test := range tests {
			in := load(t, r, asm(t, test.fns...), 8, 1<<40+777)
			if _, err := in.call("f0", test.args...); err != nil {
				t.Errorf("%s: %v", test.name, err)
				continue
			}
			a := in.account()
			if got := int64(a.Used()); got != test.want {
				t.Errorf("%s: %d gas, want %d", test.name, got, test.want)
			}
		}
	}
}

const spin = "loop 0 br 0 end"

// TestLimit ends endless loops, endless recursion and long instructions.
func TestLimit(t *testing.T) {
	deep := fn{params: "i", results: "i", body: "local.get 0 i32.const 1 i32.add call 0"}
	tests := []struct {
		name  string
		fns   []fn
		limit int64
		stack bool
	}{
		{"loop", []fn{{body: spin}}, 10 * Quantum, false},
		{"loop, small limit", []fn{{body: spin}}, 5, false},
		{"loop of calls", []fn{{body: "loop 0 call 1 br 0 end"}, {}}, 3*Quantum + 5, false},
		{"two that call each other", []fn{{body: "call 1"}, {body: "call 0"}}, 1 << 40, true},
		{"depth", []fn{deep}, 1 << 40, true},
		{"gas before depth", []fn{deep}, 100, false},
		{"fill", []fn{{body: "loop 0 i32.const 0 i32.const 0 i32.const 65536 memory.fill br 0 end"}}, 5 * Quantum, false},
		{"fill beyond the limit", []fn{{body: "i32.const 0 i32.const 0 i32.const -1 memory.fill"}}, 1000, false},
		{"grow", []fn{{body: "loop 0 i32.const 1 memory.grow drop br 0 end"}}, 99 * Quantum, false},
		{"long block", []fn{{body: "loop 0 " + strings.Repeat("i32.const 1 drop ", Quantum) + "br 0 end"}}, 1 << 20, false},
	}
	for _, compiled := range []bool{false, true} {
		r := engine(t, compiled)
		for _, test := range tests {
			in := load(t, r, asm(t, test.fns...), 8, test.limit)
			in.fund(4000) // few enough frames for the interpreter
			_, err := in.call("f0", make([]uint64, len(test.fns[0].params))...)
			a := in.account()
			depth := int32(in.global(ExportDepth).Get())
			switch {
			case err == nil || !strings.Contains(err.Error(), "unreachable"):
				t.Errorf("%s: ended with %v", test.name, err)
			case test.stack && (depth >= 0 || a.Reserve < 0):
				t.Errorf("%s: depth %d, reserve %d: want the depth spent", test.name, depth, a.Reserve)
			case !test.stack && (a.Reserve >= 0 || int64(a.Trapped()) != test.limit):
				t.Errorf("%s: reserve %d, used %d: want all of %d", test.name, a.Reserve, a.Trapped(), test.limit)
			}
		}
	}
}

// TestTrapKeepsQuantum: a trap between checks costs up to a quantum.
func TestTrapKeepsQuantum(t *testing.T) {
	r := engine(t, true)
	for _, test := range []struct{ before, want int64 }{{1, Quantum}, {9000, Quantum}, {20_000, 3 * Quantum}} {
		in := load(t, r, asm(t, fn{params: "i", body: "loop 0 local.get 0 i32.const 1 i32.sub local.tee 0 br_if 0 end unreachable"}), 1, 100*Quantum)
		_, err := in.call("f0", uint64(test.before)) // 7 gas each
		if a := in.account(); err == nil || int64(a.Trapped()) != test.want {
			t.Errorf("after %d rounds: %d gas, %v; want %d", test.before, a.Trapped(), err, test.want)
		}
	}
}

// TestAccount holds the host's charges to the module's.
func TestAccount(t *testing.T) {
	a := Open(3*Quantum + 10)
	if !a.Charge(10) || a.Used() != 10 || a.Reserve != 3*Quantum {
		t.Fatalf("the limit's part of a quantum comes first: %+v", a)
	}
	if !a.Charge(1) || a.Reserve != 2*Quantum || a.Used() != 11 || a.Trapped() != Quantum+10 {
		t.Fatalf("one quantum more: %+v", a)
	}
	if !a.Charge(2*Quantum) || a.Used() != 2*Quantum+11 || a.Reserve != 0 {
		t.Fatalf("two at once: %+v", a)
	}
	if a.Charge(Quantum) || a.Trapped() != 3*Quantum+10 || a.Used() > a.Limit {
		t.Fatalf("beyond the limit: %+v", a)
	}
}

// TestMemory: the memory ends where the grant ends.
func TestMemory(t *testing.T) {
	module := asm(t, fn{results: "i", body: "i32.const 3 memory.grow drop i32.const 1 memory.grow"})
	for grant, want := range map[uint32]int32{4: -1, 5: 4, 100: 4} {
		in := load(t, engine(t, true), module, grant, 1<<30)
		if got, err := in.call("f0"); err != nil || int32(got[0]) != want {
			t.Errorf("grant of %d pages: %v %v, want %d", grant, got, err, want)
		}
	}
	if _, err := Instrument(module, Profile{}); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "ask for more memory") {
		t.Errorf("no grant: %v", err)
	}
}

// TestLocalNaN follows NaNs through locals, labels and calls into memory.
func TestLocalNaN(t *testing.T) {
	zero := "f64.const 0 f64.const 0 f64.div "
	quiet := "i64.const 0x7ff8000000000abc f64.reinterpret_i64 "
	const canon, payload = 0x7ff8000000000000, 0x7ff8000000000abc
	tests := []struct {
		name string
		fns  []fn
		want uint64
	}{
		{"fresh", []fn{{results: "I", body: zero + "i64.reinterpret_f64"}}, canon},
		{"local", []fn{{results: "I", locals: "F", body: zero + "local.set 0 local.get 0 i64.reinterpret_f64"}}, canon},
		{"negated", []fn{{results: "I", locals: "F", body: zero + "f64.neg local.tee 0 i64.reinterpret_f64"}}, canon},
		{"stored", []fn{{results: "I", body: "i32.const 0 " + zero + "f64.store 0 i32.const 0 i64.load 0"}}, canon},
		{"label", []fn{{results: "I", body: "block F " + zero + "br 0 end i64.reinterpret_f64"}}, canon},
		{"result", []fn{{results: "I", body: "call 1 i64.reinterpret_f64"}, {results: "F", body: zero}}, canon},
		{"parameter", []fn{{results: "I", body: zero + "call 1"}, {params: "F", results: "I", body: "local.get 0 i64.reinterpret_f64"}}, canon},
		{"sign", []fn{{results: "I", body: "f64.const 1 " + zero + "f64.copysign i64.reinterpret_f64"}}, 0x3ff0000000000000},
		{"around a loop", []fn{{results: "I", locals: "Fi", body: "loop 0 local.get 0 i64.reinterpret_f64 i32.const 0 i32.const 1 i32.const 0 i32.eqz drop drop drop drop " + zero +
			"local.set 0 local.get 1 i32.const 1 i32.add local.tee 1 i32.const 3 i32.lt_u br_if 0 end local.get 0 i64.reinterpret_f64"}}, canon},
		{"select", []fn{{results: "I", body: zero + quiet + "i32.const 1 select i64.reinterpret_f64"}}, canon},
		{"lane", []fn{{results: "I", body: zero + "f64x2.splat i64x2.extract_lane 1"}}, canon},
		{"lanes", []fn{{results: "I", body: zero + "f64x2.splat f64.const 1 f64x2.splat f64x2.mul i64x2.extract_lane 0"}}, canon},
		{"payload moved", []fn{{results: "I", locals: "F", body: quiet + "local.set 0 i32.const 0 local.get 0 f64.store 0 i32.const 0 f64.load 0 i64.reinterpret_f64"}}, payload},
		{"payload negated", []fn{{results: "I", body: quiet + "f64.neg i64.reinterpret_f64"}}, payload | 1<<63},
		{"payload through a call", []fn{{results: "I", body: quiet + "call 1 i64.reinterpret_f64"}, {params: "F", results: "F", body: "local.get 0"}}, payload},
		{"payload through a label", []fn{{results: "I", body: "block F " + quiet + "br 0 end i64.reinterpret_f64"}}, payload},
		// The vector's local holds floats at one time and integers at another.
		{"integers in a vector", []fn{{results: "I", locals: "vi", body: zero + "f64x2.splat f64.const 1 f64x2.splat f64x2.add local.set 0 " +
			"local.get 1 i32.eqz if 0 v128.const 0x7ff8000000000abc 0 local.set 0 end local.get 0 i64x2.extract_lane 0"}}, payload},
		{"floats in that vector", []fn{{results: "I", locals: "vi", body: zero + "f64x2.splat f64.const 1 f64x2.splat f64x2.add local.set 0 " +
			"local.get 1 if 0 v128.const 0x7ff8000000000abc 0 local.set 0 end local.get 0 i64x2.extract_lane 0"}}, canon},
	}
	for _, compiled := range []bool{false, true} {
		r := engine(t, compiled)
		for _, test := range tests {
			in := load(t, r, asm(t, test.fns...), 1, 1<<30)
			if got, err := in.call("f0"); err != nil || got[0] != test.want {
				t.Errorf("%s: %x %v, want %x", test.name, got, err, test.want)
			}
		}
	}
}
