package meter

import (
	"cmp"
	"math/bits"
	"slices"
)

// editKind says what is put into a body at one place. The order is the order
// in which edits of one place stand.
type editKind uint8

const (
	editF32 editKind = iota // make the top of the stack canonical
	editF64
	editF32x4
	editF64x2
	editReload   // read the quantum back after a call
	editEntry    // of the function: charge and check
	editHeader   // of a loop: charge and check
	editCharge   // of a stretch of code
	editBytes    // pay for the bytes on top of the stack
	editElements // pay for the elements on top of the stack
	editPages    // pay for the pages on top of the stack
	editFlush    // write the quantum out before a call
	editReturn   // replaces return
	editSelect   // replaces select of floats and vectors
	editConvert  // replaces f64x2.convert_low_i32x4_u
)

// edit is one change of a body: before the instruction at at.
type edit struct {
	at   int32
	kind editKind
	arg  int64
}

// needs are the scratch locals of a function: a bit for each of scratch.
type needs uint8

// scratch are the locals that the pass may add, by type.
var scratch = [...]byte{i32, f32, f32, f64, f64, v128, v128}

const (
	needI32 needs = 1 << iota
	needF32
	needF32Too
	needF64
	needF64Too
	needV128
	needV128Too
)

// wazero 1.12.0 miscompiles two kinds of instructions where registers are
// scarce: select of floats and vectors (its issue 2534), for which an if
// compiles to the same branch, and f64x2.convert_low_i32x4_u, whose lowering
// defines one register twice.

// selects are the types whose select is replaced.
var selects = map[byte]needs{f32: needF32 | needF32Too, f64: needF64 | needF64Too, v128: needV128 | needV128Too}

// layout is where the pass puts what it adds to a module.
type layout struct {
	reserve, quantum, depth uint32 // globals
	refill                  uint32 // function
}

// emitter writes one body.
type emitter struct {
	b     []byte
	l     *layout
	count uint32 // the local that holds what is left of the quantum
	// small says that no way through the function from one check to the next
	// costs more than a quantum, so that a check takes one at most.
	small bool
	at    [len(scratch)]uint32 // the locals of scratch
}

// local is one of the scratch locals.
func (e *emitter) local(n needs) uint32 { return e.at[bits.TrailingZeros8(uint8(n))] }

func (e *emitter) put(b ...byte) { e.b = append(e.b, b...) }

func (e *emitter) index(op byte, i uint32) { e.b = putU32(append(e.b, op), i) }

func (e *emitter) i64(v int64) { e.b = putS64(append(e.b, opI64Const), v) }

func (e *emitter) i32const(v int64) { e.b = putS64(append(e.b, opI32Const), v) }

// check takes a quantum when the last one is spent. The plain form of it
// stands in place, for a call there would cost every loop its registers.
func (e *emitter) check(small bool) {
	e.index(opLocalGet, e.count)
	e.i64(0)
	e.put(opI64LtS, opIf, 0x40)
	if small {
		e.index(opGlobalGet, e.l.reserve)
		e.i64(Quantum)
		e.put(opI64Sub)
		e.index(opGlobalSet, e.l.reserve)
		e.index(opGlobalGet, e.l.reserve)
		e.i64(0)
		e.put(opI64LtS, opIf, 0x40, opUnreachable, opEnd)
		e.index(opLocalGet, e.count)
		e.i64(Quantum)
		e.put(opI64Add)
	} else {
		e.index(opLocalGet, e.count)
		e.index(opCall, e.l.refill)
	}
	e.index(opLocalSet, e.count)
	e.put(opEnd)
}

func (e *emitter) charge(gas int64) {
	if gas == 0 {
		return
	}
	e.index(opLocalGet, e.count)
	e.i64(gas)
	e.put(opI64Sub)
	e.index(opLocalSet, e.count)
}

// length charges for the number on top of the stack, which stays there.
func (e *emitter) length(step byte, arg int64) {
	e.index(opLocalTee, e.local(needI32))
	e.index(opLocalGet, e.count)
	e.index(opLocalGet, e.local(needI32))
	e.put(opExtendU)
	e.i64(arg)
	e.put(step, opI64Sub)
	e.index(opLocalSet, e.count)
	e.check(false)
}

// canonNaN are the bits that NaNs get: quiet, positive, no payload.
var (
	canon32 = []byte{0, 0, 0xc0, 0x7f}
	canon64 = []byte{0, 0, 0, 0, 0, 0, 0xf8, 0x7f}
)

// scalar makes the float on top of the stack canonical: x if x >= x. That
// comparison takes one flag where x == x takes two.
func (e *emitter) scalar(local uint32, constant, ge byte, bits []byte) {
	e.index(opLocalSet, local)
	e.put(opBlock, 0x40)
	e.index(opLocalGet, local)
	e.index(opLocalGet, local)
	e.put(ge, opBrIf, 0, constant)
	e.put(bits...)
	e.index(opLocalSet, local)
	e.put(opEnd)
	e.index(opLocalGet, local)
}

// vector does so for each lane, by the mask x == x.
func (e *emitter) vector(eq uint32, bits []byte) {
	e.index(opLocalTee, e.local(needV128))
	e.splat(bits)
	e.index(opLocalGet, e.local(needV128))
	e.index(opLocalGet, e.local(needV128))
	e.index(prefixSIMD, eq)
	e.index(prefixSIMD, simdBitselect)
}

func (e *emitter) edit(d edit) {
	switch d.kind {
	case editF32:
		e.scalar(e.local(needF32), opF32Const, opF32Ge, canon32)
	case editF64:
		e.scalar(e.local(needF64), opF64Const, opF64Ge, canon64)
	case editF32x4:
		e.vector(simdF32x4Eq, canon32)
	case editF64x2:
		e.vector(simdF64x2Eq, canon64)
	case editReload:
		e.index(opGlobalGet, e.l.quantum)
		e.index(opLocalSet, e.count)
	case editEntry:
		e.index(opGlobalGet, e.l.quantum)
		e.index(opLocalSet, e.count)
		e.charge(d.arg)
		e.check(e.small)
	case editHeader:
		e.charge(d.arg)
		e.check(e.small)
	case editCharge:
		e.charge(d.arg)
	case editBytes:
		e.length(opI64ShrU, BulkShift)
	case editElements:
		e.length(opI64Mul, GasPerElement)
	case editPages:
		e.length(opI64Mul, GasPerPage)
	case editFlush:
		e.index(opLocalGet, e.count)
		e.index(opGlobalSet, e.l.quantum)
	case editReturn:
		e.index(opBr, uint32(d.arg))
	case editSelect:
		t := byte(d.arg)
		a := selects[t] & -selects[t]
		e.index(opLocalSet, e.local(needI32))
		e.index(opLocalSet, e.local(a<<1))
		e.index(opLocalSet, e.local(a))
		e.index(opLocalGet, e.local(needI32))
		e.put(opIf, t)
		e.index(opLocalGet, e.local(a))
		e.put(opElse)
		e.index(opLocalGet, e.local(a<<1))
		e.put(opEnd)
	case editConvert:
		// 2^52 + x is exact, and so is taking 2^52 away.
		offset := []byte{0, 0, 0, 0, 0, 0, 0x30, 0x43}
		e.index(prefixSIMD, simdExtendLow)
		e.splat(offset)
		e.index(prefixSIMD, simdOr)
		e.splat(offset)
		e.index(prefixSIMD, simdF64x2Sub)
	}
}

// splat puts a constant vector of equal lanes on the stack.
func (e *emitter) splat(lane []byte) {
	e.index(prefixSIMD, simdConst)
	for range 16 / len(lane) {
		e.put(lane...)
	}
}

// replaced is how many bytes of the body an edit stands for.
func (d edit) replaced() int32 {
	switch d.kind {
	case editReturn:
		return 1
	case editSelect, editConvert:
		return int32(d.arg >> 8)
	default:
		return 0
	}
}

// emit writes the body that c has checked. groups are its declarations of
// locals; multi is the index of a type that gives the function's results and
// takes nothing, used where there are several.
func (c *checker) emit(out []byte, groups vector, l *layout, multi uint32) []byte {
	edits := c.sorted()
	for _, d := range edits {
		switch d.kind {
		case editF32:
			c.needs |= needF32
		case editF64:
			c.needs |= needF64
		case editF32x4, editF64x2:
			c.needs |= needV128
		default:
		}
	}
	if c.calls {
		c.needs |= needI32
	}
	e := &emitter{b: out, l: l, count: uint32(len(c.locals)), small: c.cost() <= Quantum}
	n, next := groups.n+1, e.count+1
	var extra []byte
	for i, t := range scratch {
		if c.needs&(1<<i) != 0 {
			e.at[i] = next
			extra = append(extra, 1, t)
			n, next = n+1, next+1
		}
	}
	e.b = putU32(e.b, uint32(n))
	e.b = append(e.b, groups.b...)
	e.put(1, i64)
	e.put(extra...)

	e.edit(edits[0]) // the entry
	frame := int64(c.frame())
	if c.calls {
		e.index(opGlobalGet, l.depth)
		e.i32const(frame)
		e.put(opI32Sub)
		e.index(opLocalTee, e.local(needI32))
		e.index(opGlobalSet, l.depth)
		e.index(opLocalGet, e.local(needI32))
		e.i32const(0)
		e.put(opI32LtS, opIf, 0x40, opUnreachable, opEnd)
	}
	if c.returns {
		e.put(opBlock)
		switch len(c.ft.results) {
		case 0:
			e.put(0x40)
		case 1:
			e.put(c.ft.results[0])
		default:
			e.b = putS64(e.b, int64(multi))
		}
	}
	body := c.r.b
	p := edits[0].at
	for _, d := range edits[1:] {
		e.put(body[p:d.at]...)
		e.edit(d)
		p = d.at + d.replaced()
	}
	e.put(body[p : len(body)-1]...)
	if c.returns {
		e.put(opEnd)
	}
	e.edit(edit{kind: editFlush})
	if c.calls {
		e.index(opGlobalGet, l.depth)
		e.i32const(frame)
		e.put(opI32Add)
		e.index(opGlobalSet, l.depth)
	}
	e.put(opEnd)
	return e.b
}

// frame is what a call of the function takes of the depth.
func (c *checker) frame() int {
	n := FrameSlots + c.most + len(c.r.b)/BodySlot
	for _, t := range c.locals {
		n += width(t)
	}
	return n
}

// cost is the gas of a way through the function that passes every stretch of
// code once.
func (c *checker) cost() int64 {
	n := int64(0)
	for _, d := range c.edits {
		switch d.kind {
		case editEntry, editHeader, editCharge:
			n += d.arg
		default:
		}
	}
	return n
}

// sorted gives all edits in their order: those of the walk, which have it,
// and the mended NaNs, of which some were found for two reasons.
func (c *checker) sorted() []edit {
	order := func(a, b edit) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.kind, b.kind)) }
	found := c.nan.resolve()
	slices.SortFunc(found, order)
	found = slices.Compact(found)
	if len(found) == 0 {
		return c.edits
	}
	all := make([]edit, 0, len(c.edits)+len(found))
	for _, d := range c.edits {
		for len(found) > 0 && order(found[0], d) < 0 {
			all = append(all, found[0])
			found = found[1:]
		}
		all = append(all, d)
	}
	return append(all, found...)
}
