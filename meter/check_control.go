package meter

// control checks the instructions of structured control.
func (c *checker) control(first byte, at int) {
	r := c.r
	switch first {
	case opUnreachable:
		c.die()
	case opBlock, opLoop, opIf:
		ft := c.blockType()
		if first == opIf {
			c.pop(i32)
		}
		dead := c.seg < 0
		in := c.leave(ft.params, 0)
		c.open(first, ft, in)
		f := &c.frames[len(c.frames)-1]
		switch {
		case dead:
			f.dead, f.unborn = true, true
		case first == opLoop:
			f.label = c.nan.loop(f.id)
			f.header = len(c.edits)
			c.segment(editHeader)
			c.edits[c.seg].arg = int64(coreOps[opLoop].cost)
		case first == opIf:
			f.other = c.nan.save()
			c.segment(editCharge)
		}
	case opElse:
		f := &c.frames[len(c.frames)-1]
		if f.op != opIf {
			r.fail("else without if")
			return
		}
		c.close(f)
		c.fall(f)
		f.op = opElse
		if f.dead = f.unborn; !f.dead {
			copy(c.nan.cur, f.other)
			c.segment(editCharge)
		}
		c.enter(f.params, f.in)
	case opEnd:
		c.end()
	case opBr:
		f := c.target(r.u32())
		*f.carries() = c.leave(f.takes(), *f.carries())
		c.die()
	case opBrIf:
		f := c.target(r.u32())
		c.pop(i32)
		*f.carries() = c.leave(f.takes(), *f.carries())
		c.enter(f.takes(), *f.carries())
		c.after(editCharge)
	case opBrTable:
		c.brTable()
	case opReturn:
		c.returns = true
		c.leave(c.ft.results, clean)
		c.edit(at, editReturn, int64(len(c.frames)-1))
		c.die()
	case opCall:
		i := c.m.funcIndex(r)
		if r.err == nil {
			c.call(c.m.types[c.m.funcs[i]], at)
		}
	case opCallIndirect:
		t := c.m.typeIndex(r)
		if table := r.u32(); r.err == nil && (int64(table) >= int64(len(c.m.tables)) || c.m.tables[table].elem != funcref) {
			r.fail("call_indirect through table %d, which is not there", table)
		}
		if r.err == nil {
			c.pop(i32)
			c.call(c.m.types[t], at)
		}
	}
}

// after begins a new segment unless the code is dead.
func (c *checker) after(kind editKind) {
	if c.seg >= 0 {
		c.segment(kind)
	}
}

// fall carries what the locals hold from the end of a block to what follows.
func (c *checker) fall(f *frame) {
	if c.seg >= 0 {
		f.label = c.nan.join(f.label, f.id)
	}
}

// close checks that the values on the stack are the block's results.
func (c *checker) close(f *frame) {
	f.out = c.leave(f.results, f.out)
	if c.r.err == nil && len(c.stack) != f.height {
		c.r.fail("block leaves values behind")
	}
}

func (c *checker) end() {
	f := c.frames[len(c.frames)-1]
	c.close(&f)
	if c.r.err != nil {
		return
	}
	if f.op == opIf && string(f.params) != string(f.results) {
		c.r.fail("if without else changes the stack")
		return
	}
	if f.header >= 0 && !f.targeted {
		c.edits[f.header].kind = editCharge // it runs once each time
	}
	c.frames = c.frames[:len(c.frames)-1]
	if len(c.frames) == 0 {
		c.returns = c.returns || f.targeted
		return
	}
	if f.op != opLoop {
		c.fall(&f)
		if f.op == opIf && !f.unborn { // the arm that isn't there
			copy(c.nan.cur, f.other)
			f.label = c.nan.join(f.label, f.id)
		}
		copy(c.nan.cur, f.label)
	}
	if f.op == opIf {
		f.out = c.nan.either(f.out, f.in)
	}
	c.enter(f.results, f.out)
	// What follows a block is a stretch of its own if it can be reached by
	// any way but the one through the block's last instruction.
	switch {
	case f.unborn:
		c.seg = -1
	case f.op == opLoop && f.targeted:
		c.after(editCharge)
	case f.op == opIf, f.op == opElse, f.op == opBlock && f.targeted:
		c.segment(editCharge)
	}
	if c.seg < 0 {
		c.die()
	}
}

func (c *checker) brTable() {
	r := c.r
	n := r.count("branches", MaxBranches)
	c.pop(i32)
	c.ways = c.ways[:0]
	var first []byte
	var values int32
	for i := 0; i <= n && r.err == nil; i++ {
		f := c.target(r.u32())
		ts := f.takes()
		c.m.work += 1 + len(ts)
		if i == 0 {
			first = ts
		}
		if len(ts) != len(first) || !c.dead() && string(ts) != string(first) {
			r.fail("branches of one table take different values")
		}
		if *f.carries() == clean {
			values = clean
		}
		c.ways = append(c.ways, f.carries())
	}
	values = c.leave(first, values)
	for _, w := range c.ways {
		*w = c.nan.either(*w, values)
	}
	c.die()
}

func (c *checker) dead() bool { return c.frames[len(c.frames)-1].dead }

// call checks a call whose instruction begins at at.
func (c *checker) call(ft funcType, at int) {
	for i := len(ft.params) - 1; i >= 0; i-- {
		c.nan.see(c.pop(ft.params[i]), 0)
	}
	if c.seg >= 0 {
		c.calls = true
		c.edit(at, editFlush, 0)
		c.edit(c.r.p, editReload, 0)
	}
	c.enter(ft.results, 0)
}

// variable checks the parametric, variable, table and reference instructions.
func (c *checker) variable(first byte, at int) {
	r := c.r
	switch first {
	case opDrop:
		c.pop(unknown)
	case opSelect:
		c.pop(i32)
		b := c.pop(unknown)
		a := c.pop(b.t)
		if isRef(a.t) || isRef(b.t) {
			r.fail("select of references has to name their type")
		}
		c.choose(a, b, at)
	case opSelectTyped:
		if r.u32() != 1 {
			r.fail("select of other than one type")
		}
		t := c.m.valType(r)
		c.pop(i32)
		b := c.pop(t)
		a := c.pop(t)
		a.t = t
		c.choose(a, b, at)
	case opLocalGet, opLocalSet, opLocalTee:
		i := r.u32()
		if int64(i) >= int64(len(c.locals)) {
			r.fail("local %d is not there", i)
			return
		}
		t := c.locals[i]
		if first != opLocalGet {
			v := c.pop(t)
			v.t = t
			c.nan.set(i, v)
			if first == opLocalTee {
				w := c.push(t, v.dirt)
				w.node, w.zero = v.node, v.zero
			}
			return
		}
		c.push(t, 0).node = c.nan.get(i)
	case opGlobalGet, opGlobalSet:
		i := r.u32()
		if int64(i) >= int64(len(c.m.globals)) {
			r.fail("global %d is not there", i)
			return
		}
		g := c.m.globals[i]
		if first == opGlobalGet {
			c.push(g.t, 0)
			return
		}
		if !g.mutable {
			r.fail("global %d is constant", i)
		}
		c.nan.see(c.pop(g.t), 0)
	case opTableGet:
		t := c.table()
		c.pop(i32)
		c.push(t, 0)
	case opTableSet:
		c.pop(c.table())
		c.pop(i32)
	case opRefNull:
		c.push(c.m.refType(r), 0)
	case opRefIsNull:
		if v := c.pop(unknown); v.t != unknown && !isRef(v.t) {
			r.fail("ref.is_null of a value that is no reference")
		}
		c.push(i32, 0)
	case opRefFunc:
		if i := c.m.funcIndex(r); r.err == nil && !c.m.declared[i] {
			r.fail("reference to function %d, which is not declared", i)
		}
		c.push(funcref, 0)
	}
}

func (c *checker) choose(a, b value, at int) {
	t := a.t
	if t == unknown {
		t = b.t
	}
	if t != unknown && b.t != unknown && a.t != unknown && a.t != b.t {
		c.r.fail("select between types %s and %s", typeName(a.t), typeName(b.t))
	}
	if need, ok := selects[t]; ok && c.seg >= 0 {
		c.needs |= need | needI32
		c.edit(at, editSelect, int64(c.r.p-at)<<8|int64(t))
	}
	node := c.nan.choose(a, b)
	c.push(t, 0).node = node
}

func (c *checker) table() byte {
	i := c.r.u32()
	if c.r.err == nil && int64(i) >= int64(len(c.m.tables)) {
		c.r.fail("table %d is not there", i)
	}
	if c.r.err != nil {
		return funcref
	}
	return c.m.tables[i].elem
}

// bulk checks the instructions that work on stretches of memory or tables.
// Their length is on top of the stack and is paid for beforehand.
func (c *checker) bulk(n uint32, o *op, at int) {
	r := c.r
	kind := editBytes
	switch n {
	case bulkMemoryInit:
		if i := r.u32(); r.err == nil && int64(i) >= int64(c.m.datas) {
			r.fail("data segment %d is not announced", i)
		}
		c.immediate(immZero)
	case bulkMemoryCopy, bulkMemoryFill:
		c.immediate(o.imm)
	case bulkTableInit:
		if i := r.u32(); r.err == nil && int64(i) >= int64(len(c.m.elems)) {
			r.fail("element segment %d is not there", i)
		}
		c.table()
		kind = editElements
	case bulkTableCopy:
		c.table()
		c.table()
		kind = editElements
	case bulkTableGrow:
		t := c.table()
		c.pop(i32)
		c.pop(t)
		c.push(i32, 0)
		kind = editElements
	case bulkTableSize:
		c.table()
		c.push(i32, 0)
		return
	case bulkTableFill:
		t := c.table()
		c.pop(i32)
		c.pop(t)
		c.pop(i32)
		kind = editElements
	default: // data.drop, elem.drop
		r.u32()
		return
	}
	if o.sig != "" {
		c.simple(o)
	}
	if c.seg >= 0 {
		c.needs |= needI32
		c.edit(at, kind, 0)
	}
}
