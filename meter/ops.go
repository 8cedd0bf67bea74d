package meter

// Value types as the binary format writes them.
const (
	i32     byte = 0x7f
	i64     byte = 0x7e
	f32     byte = 0x7d
	f64     byte = 0x7c
	v128    byte = 0x7b
	funcref byte = 0x70
	extref  byte = 0x6f
	unknown byte = 0 // of a value in code that can't be reached
)

// Opcodes that the pass treats by name.
const (
	opUnreachable  = 0x00
	opBlock        = 0x02
	opLoop         = 0x03
	opIf           = 0x04
	opElse         = 0x05
	opEnd          = 0x0b
	opBr           = 0x0c
	opBrIf         = 0x0d
	opBrTable      = 0x0e
	opReturn       = 0x0f
	opCall         = 0x10
	opCallIndirect = 0x11
	opDrop         = 0x1a
	opSelect       = 0x1b
	opSelectTyped  = 0x1c
	opLocalGet     = 0x20
	opLocalSet     = 0x21
	opLocalTee     = 0x22
	opGlobalGet    = 0x23
	opGlobalSet    = 0x24
	opTableGet     = 0x25
	opTableSet     = 0x26
	opMemoryGrow   = 0x40
	opI32Const     = 0x41
	opI64Const     = 0x42
	opF32Const     = 0x43
	opF64Const     = 0x44
	opI64LtS       = 0x53
	opF32Ge        = 0x60
	opF64Ge        = 0x66
	opI32LtS       = 0x48
	opI32Add       = 0x6a
	opI32Sub       = 0x6b
	opI64Add       = 0x7c
	opI64Sub       = 0x7d
	opI64Mul       = 0x7e
	opI64And       = 0x83
	opI64ShrU      = 0x88
	opExtendU      = 0xad // i64.extend_i32_u
	opRefNull      = 0xd0
	opRefIsNull    = 0xd1
	opRefFunc      = 0xd2
	prefixBulk     = 0xfc
	prefixSIMD     = 0xfd

	bulkMemoryInit = 8
	bulkMemoryCopy = 10
	bulkMemoryFill = 11
	bulkTableInit  = 12
	bulkTableCopy  = 14
	bulkTableGrow  = 15
	bulkTableSize  = 16
	bulkTableFill  = 17

	simdConst     = 12
	simdF32x4Eq   = 65
	simdF64x2Eq   = 71
	simdOr        = 80
	simdBitselect = 82
	simdExtendLow = 201 // i64x2.extend_low_i32x4_u
	simdF64x2Sub  = 241
	simdConvert   = 255 // f64x2.convert_low_i32x4_u
)

// immKind is what follows an opcode.
type immKind uint8

const (
	immNone immKind = iota
	immIndex
	immIndex2
	immIndexZero
	immZero
	immZero2
	immMem
	immMemLane
	immLane
	immShuffle
	immBlock
	immTable
	immTypes
	immRefType
	immI32
	immI64
	immF32
	immF64
	immV128
)

// Flags of op.nan: how an instruction treats the bits of NaNs.
const (
	tol4   uint8 = 1 << iota // reads 32-bit floats, whatever the bits of a NaN
	tol8                     // reads 64-bit floats, whatever the bits of a NaN
	makes4                   // may make a 32-bit NaN whose bits differ by machine
	makes8                   // may make a 64-bit NaN whose bits differ by machine
	keeps                    // passes its operands' bits on
	sign                     // shows the sign of its second operand
)

// op is one row of the schedule.
type op struct {
	name string
	sig  string // operands:results, i I f F v for i32 i64 f32 f64 v128
	imm  immKind
	cost uint8 // gas each time it is executed
	nan  uint8
}

// lookup finds an instruction by its first byte and, behind a prefix, its
// number. The error says which proposal an instruction belongs to.
func lookup(first byte, n uint32) (*op, string) {
	switch {
	case first == prefixBulk && n < uint32(len(bulkOps)):
		return &bulkOps[n], ""
	case first == prefixSIMD && n < uint32(len(simdOps)) && simdOps[n].name != "":
		return &simdOps[n], ""
	case first == prefixSIMD && n >= 0x100 && n < 0x140:
		return nil, "relaxed SIMD gives different results on different machines"
	case first == prefixBulk || first == prefixSIMD:
		return nil, "unknown instruction"
	case first == 0xfe:
		return nil, "threads and atomics are not allowed; build without -pthread"
	case first == 0xfb:
		return nil, "garbage-collected types are not allowed"
	case first >= 0x06 && first <= 0x0a, first == 0x18, first == 0x19, first == 0x1f:
		return nil, "exceptions are not allowed; build without them"
	case first == 0x12, first == 0x13, first == 0x15:
		return nil, "tail calls are not allowed"
	case first == 0x14, first >= 0xd3 && first <= 0xd6:
		return nil, "typed function references are not allowed"
	case coreOps[first].name == "":
		return nil, "unknown instruction"
	}
	return &coreOps[first], ""
}

func valType(c byte) byte {
	switch c {
	case 'i':
		return i32
	case 'I':
		return i64
	case 'f':
		return f32
	case 'F':
		return f64
	}
	return v128
}

func typeName(t byte) string {
	switch t {
	case i32:
		return "i32"
	case i64:
		return "i64"
	case f32:
		return "f32"
	case f64:
		return "f64"
	case v128:
		return "v128"
	case funcref:
		return "funcref"
	case extref:
		return "externref"
	}
	return "unknown"
}

func isRef(t byte) bool { return t == funcref || t == extref }
