package meter

import "bytes"

// value is one entry of the operand stack as the checker sees it.
type value struct {
	t    byte
	dirt uint8 // width (4, 8) in which NaNs of machine-dependent bits may stand
	zero bool  // a constant that is no NaN in any width
	node int32 // where it was read from a local: its node in nanFlow, else 0
	at   int32 // where in the body the value has just been pushed
}

// frame is one open block.
type frame struct {
	op              byte
	params, results []byte
	height          int
	dead            bool // what follows can't be reached
	unborn          bool // nor could the block itself
	targeted        bool // by a branch
	header          int  // of a loop: its charge among the edits
	id              int32
	label           []int32 // what the locals may hold where branches lead
	other           []int32 // of an if: what they hold where its other arm begins
	in, out         int32   // nodes of a float that it takes and gives
}

func (f *frame) takes() []byte {
	if f.op == opLoop {
		return f.params
	}
	return f.results
}

// carries is the node of the float that branches to f carry.
func (f *frame) carries() *int32 {
	if f.op == opLoop {
		return &f.in
	}
	return &f.out
}

// checker walks one body, checks the types that the rewriting relies on, and
// collects the edits that make the body count its gas.
type checker struct {
	m      *module
	r      *reader
	ft     funcType
	locals []byte
	stack  []value
	frames []frame
	edits  []edit
	seg    int // the charge that instructions add to, -1 in dead code
	nan    nanFlow
	opened int32 // frames so far
	ways   []*int32

	calls, returns bool
	needs          needs // scratch locals
	slots, most    int   // operand slots now and at most
}

func width(t byte) int {
	if t == v128 {
		return 2
	}
	return 1
}

func (c *checker) push(t byte, dirt uint8) *value {
	c.stack = append(c.stack, value{t: t, dirt: dirt, at: int32(c.r.p)})
	c.slots += width(t)
	c.most = max(c.most, c.slots)
	c.m.work++
	if len(c.stack) > MaxOperands {
		c.r.fail("function holds more than %d operands", MaxOperands)
	}
	return &c.stack[len(c.stack)-1]
}

// pop takes the top value, which has to be of type t (unknown takes any).
func (c *checker) pop(t byte) value {
	f := &c.frames[len(c.frames)-1]
	c.m.work++
	if len(c.stack) == f.height {
		if !f.dead {
			c.r.fail("operand of type %s is missing", typeName(t))
		}
		return value{t: t}
	}
	v := c.stack[len(c.stack)-1]
	c.stack = c.stack[:len(c.stack)-1]
	c.slots -= width(v.t)
	if t != unknown && v.t != unknown && v.t != t {
		c.r.fail("operand is of type %s where %s is wanted", typeName(v.t), typeName(t))
	}
	return v
}

// clean stands for values that have to be canonical when they leave.
const clean = -1

// leave takes the values that cross a label or leave the function. One float
// may cross a label as it is, and to gives its node, made on first use and
// given back; vectors and several values are made canonical before they do.
func (c *checker) leave(ts []byte, to int32) int32 {
	for i := len(ts) - 1; i >= 0; i-- {
		v := c.pop(ts[i])
		if v.t == unknown {
			continue
		}
		if len(ts) > 1 || v.t == v128 || to == clean || c.nan.plain {
			c.nan.see(v, 0)
		} else if scalarDirt(v.t) != 0 {
			to = c.nan.either(to, c.nan.of(v))
		}
	}
	return to
}

// enter pushes the values that come out of a label or a call.
func (c *checker) enter(ts []byte, node int32) {
	for _, t := range ts {
		v := c.push(t, 0)
		if node > 0 && len(ts) == 1 {
			v.node = node
		}
	}
}

func (c *checker) open(op byte, ft funcType, in int32) {
	c.opened++
	c.frames = append(c.frames, frame{op: op, params: ft.params, results: ft.results, height: len(c.stack), header: -1, id: c.opened, in: in})
	if len(c.frames) > MaxNesting {
		c.r.fail("blocks are nested more than %d deep", MaxNesting)
	}
	c.enter(ft.params, in)
}

// die marks the rest of the block as unreachable.
func (c *checker) die() {
	f := &c.frames[len(c.frames)-1]
	for len(c.stack) > f.height {
		c.pop(unknown)
	}
	f.dead = true
	c.seg = -1
}

// segment begins a new stretch of code that is charged at once.
func (c *checker) segment(kind editKind) {
	c.seg = len(c.edits)
	c.edits = append(c.edits, edit{at: int32(c.r.p), kind: kind})
}

func (c *checker) edit(at int, kind editKind, arg int64) {
	c.edits = append(c.edits, edit{at: int32(at), kind: kind, arg: arg})
}

// target finds the frame of a branch.
func (c *checker) target(n uint32) *frame {
	if int64(n) >= int64(len(c.frames)) {
		c.r.fail("branch to label %d, which is not there", n)
		return &c.frames[0]
	}
	f := &c.frames[len(c.frames)-1-int(n)]
	f.targeted = true
	if c.seg >= 0 && n < uint32(len(c.frames)-1) { // not out of the function
		f.label = c.nan.join(f.label, f.id)
	}
	return f
}

func (c *checker) blockType() funcType {
	n := c.r.sleb(33)
	if n >= 0 {
		if n >= int64(len(c.m.types)) {
			c.r.fail("type %d is not there", n)
			return funcType{}
		}
		return c.m.types[n]
	}
	if n == -64 {
		return funcType{}
	}
	t := byte(n & 0x7f)
	if n < -64 || t < v128 && !isRef(t) {
		c.r.fail("unknown type of a block")
	}
	return funcType{results: []byte{t}}
}

// reset makes c ready for another body.
func (c *checker) reset(r *reader, ft funcType) {
	*c = checker{
		m: c.m, r: r, ft: ft, locals: append(c.locals[:0], ft.params...),
		stack: c.stack[:0], frames: c.frames[:0], edits: c.edits[:0], nan: c.nan,
	}
}

// body checks a whole body, from its locals to its last end. plain is for
// functions that are too large to follow their NaNs through locals.
func (c *checker) body(plain bool) (localGroups vector) {
	r := c.r
	localGroups = vector{n: r.count("groups of locals", MaxLocals)}
	start := r.p
	for range localGroups.n {
		n := r.u32()
		t := c.m.valType(r)
		if int64(n)+int64(len(c.locals)) > MaxLocals+MaxParams {
			r.fail("more than %d locals in one function", MaxLocals)
		}
		if r.err != nil {
			return
		}
		c.locals = append(c.locals, bytes.Repeat([]byte{t}, int(n))...)
	}
	localGroups.b = r.b[start:r.p]
	c.m.locals += len(c.locals)
	if c.m.locals > MaxAllLocals {
		r.fail("more than %d locals in one module", MaxAllLocals)
	}
	c.nan.reset(c.locals, len(c.ft.params), plain)
	c.frames = append(c.frames[:0], frame{op: opBlock, results: c.ft.results, header: -1, out: clean})
	c.segment(editEntry)
	for r.err == nil && len(c.frames) > 0 && !c.nan.full() {
		if r.p >= len(r.b) {
			r.fail("function body is truncated")
			return
		}
		// Two bytes of a branch may carry hundreds of values.
		if c.m.work > MaxWork {
			r.fail("module takes more than %d steps to meter", MaxWork)
			return
		}
		c.instruction()
	}
	if r.err == nil && r.p != len(r.b) && !c.nan.full() {
		r.fail("code stands after the end of a function")
	}
	return localGroups
}

// instruction checks the next instruction and adds its cost.
func (c *checker) instruction() {
	r := c.r
	at := r.p
	first := r.u8()
	var n uint32
	if first == prefixBulk || first == prefixSIMD {
		n = r.u32()
	}
	o, why := lookup(first, n)
	if o == nil {
		r.p = at
		r.fail("%s: instruction 0x%02x %d", why, first, n)
		return
	}
	if c.seg >= 0 && first != opLoop { // a loop is paid for at its header
		c.edits[c.seg].arg += int64(o.cost)
	}
	switch {
	case first == prefixBulk && n >= bulkMemoryInit:
		c.bulk(n, o, at)
	case o.sig != "":
		c.immediate(o.imm)
		if first == opMemoryGrow && c.seg >= 0 {
			c.needs |= needI32
			c.edit(at, editPages, 0)
		}
		if first == prefixSIMD && n == simdConvert && c.seg >= 0 {
			c.edit(at, editConvert, int64(r.p-at)<<8)
		}
		c.simple(o)
	case first < opDrop:
		c.control(first, at)
	default:
		c.variable(first, at)
	}
}

// immediate skips what follows an opcode of fixed type.
func (c *checker) immediate(k immKind) {
	r := c.r
	switch k {
	case immNone:
	case immZero, immZero2:
		for range k - immZero + 1 {
			if r.u8() != 0 {
				r.fail("a second memory is not allowed")
			}
		}
	case immMem, immMemLane:
		if align := r.u32(); align >= 64 {
			r.fail("a second memory is not allowed")
		}
		r.u32()
		if k == immMemLane {
			r.skip(1)
		}
	case immLane:
		r.skip(1)
	case immShuffle, immV128:
		r.skip(16)
	case immI32:
		r.sleb(32)
	case immI64:
		r.sleb(64)
	case immF32:
		r.skip(4)
	case immF64:
		r.skip(8)
	default:
		r.u32()
	}
}

// plainConst says whether the constant just read has no lane that could be a
// NaN in either width: no exponent of all ones.
func (c *checker) plainConst(k immKind) bool {
	n := map[immKind]int{immF32: 4, immF64: 8, immV128: 16}[k]
	if c.r.err != nil || n == 0 {
		return false
	}
	b := c.r.b[c.r.p-n : c.r.p]
	for i := 3; i < n; i += 4 {
		if b[i]&0x7f == 0x7f && b[i-1]&0x80 != 0 {
			return false
		}
		if i%8 == 7 && b[i]&0x7f == 0x7f && b[i-1]&0xf0 == 0xf0 {
			return false
		}
	}
	return true
}

// simple pops and pushes by the signature of o.
func (c *checker) simple(o *op) {
	sig := o.sig
	colon := len(sig) - 1
	if sig[colon] != ':' {
		colon--
	}
	tol := o.nan & (tol4 | tol8) << 2 // as dirt: 4 or 8
	var dirt uint8
	switch {
	case o.nan&makes4 != 0:
		dirt = 4
	case o.nan&makes8 != 0:
		dirt = 8
	}
	var node int32
	result := unknown
	if colon+1 < len(sig) {
		result = valType(sig[colon+1])
	}
	for i := colon - 1; i >= 0; i-- {
		v := c.pop(valType(sig[i]))
		if o.nan&sign != 0 && i == 1 {
			c.nan.see(v, 0)
			continue
		}
		c.nan.see(v, tol)
		switch {
		case o.nan&keeps == 0 || v.dirt == 0 && v.node == 0:
		case v.t == result && !c.nan.plain:
			node = c.nan.either(node, c.nan.of(v))
		default:
			dirt |= tol
		}
	}
	if result != unknown {
		v := c.push(result, dirt)
		v.zero = c.plainConst(o.imm)
		if dirt == 0 {
			v.node = node
		}
	}
}
