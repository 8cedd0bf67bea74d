package meter

// constExpr reads a constant expression of type t and gives its value where
// it is an i32.
func (m *module) constExpr(r *reader, t byte) uint32 {
	var got byte
	var v uint32
	switch c := r.u8(); c {
	case opI32Const:
		got, v = i32, uint32(r.sleb(32))
	case opI64Const:
		got = i64
		r.sleb(64)
	case opF32Const:
		got = f32
		r.skip(4)
	case opF64Const:
		got = f64
		r.skip(8)
	case prefixSIMD:
		if r.u32() != simdConst {
			r.fail("expression is not constant")
		}
		got = v128
		r.skip(16)
	case opRefNull:
		got = m.refType(r)
	case opRefFunc:
		got = funcref
		m.declared[m.funcIndex(r)] = true
	case opGlobalGet:
		r.fail("constant expression reads a global; link the module without dynamic linking")
	default:
		if r.err == nil {
			r.fail("expression is not constant (instruction 0x%02x)", c)
		}
	}
	if end := r.u8(); r.err == nil && end != opEnd {
		r.fail("extended constant expressions are not allowed; build without -mextended-const")
	}
	if r.err == nil && got != t {
		r.fail("constant of type %s where %s is wanted", typeName(got), typeName(t))
	}
	return v
}

// elem reads an element segment. An active one must fit its table, so that
// instantiation can't trap.
func (m *module) elem(r *reader) {
	flag := r.u32()
	if flag > 7 {
		r.fail("unknown kind of element segment %d", flag)
		return
	}
	active, explicit, exprs := flag&1 == 0, flag&2 != 0, flag&4 != 0
	table, offset, t := uint32(0), uint32(0), funcref
	if active {
		if explicit {
			table = r.u32()
		}
		offset = m.constExpr(r, i32)
	}
	if flag&3 != 0 { // the short forms 0 and 4 leave the type out
		if exprs {
			t = m.refType(r)
		} else if kind := r.u8(); kind != 0 {
			r.fail("unknown kind of element 0x%02x", kind)
		}
	}
	n := r.count("elements", MaxTableElems)
	for i := 0; i < n && r.err == nil; i++ {
		if exprs {
			m.constExpr(r, t)
		} else {
			m.declared[m.funcIndex(r)] = true
		}
	}
	if r.err != nil {
		return
	}
	if active {
		if int64(table) >= int64(len(m.tables)) {
			r.fail("element segment for table %d, which is not there", table)
			return
		}
		if to := m.tables[table]; to.elem != t || uint64(offset)+uint64(n) > uint64(to.min) {
			r.fail("element segment does not fit its table")
			return
		}
	}
	m.elems = append(m.elems, t)
}

// data reads a data segment. An active one must fit the memory that the
// module starts with, so that instantiation can't trap.
func (m *module) data(r *reader) {
	flag := r.u32()
	switch {
	case flag > 2:
		r.fail("unknown kind of data segment %d", flag)
	case flag == 2 && r.u32() != 0:
		r.fail("data segment for a second memory; only one is allowed")
	}
	offset := uint32(0)
	if flag != 1 {
		offset = m.constExpr(r, i32)
		if r.err == nil && !m.hasMem {
			r.fail("data segment without a memory")
		}
	}
	n := r.u32()
	r.sub(n)
	if r.err == nil && flag != 1 && uint64(offset)+uint64(n) > uint64(m.memMin)*PageBytes {
		r.fail("data segment lies outside the memory")
	}
}
