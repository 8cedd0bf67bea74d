package meter

import (
	"bytes"
	"slices"
	"strings"
)

type funcType struct{ params, results []byte }

type tableType struct {
	elem     byte
	min, max uint32
}

type globalType struct {
	t       byte
	mutable bool
}

type export struct {
	name  string
	kind  byte // 0 function, 1 table, 2 memory, 3 global
	index uint32
}

// vector is a section that is copied as it is, apart from items added at its
// end: how many items there are, and their bytes.
type vector struct {
	n int
	b []byte
}

// module is what the pass knows of a module once every section but the
// bodies of functions has been checked.
type module struct {
	types   []funcType
	imports int      // imported functions, which come first in funcs
	funcs   []uint32 // types by function index
	tables  []tableType
	hasMem  bool
	memMin  uint32 // pages
	memMax  uint32 // pages, as granted
	globals []globalType
	exports []export
	// declared are the functions that ref.func may name.
	declared map[uint32]bool
	start    int // function index, -1 without
	elems    []byte
	datas    int // announced by the data count section, -1 without
	bodies   []*reader
	locals   int // of all functions
	work     int // operands and branches looked at so far

	rawTypes, rawImports, rawFuncs, rawGlobals, rawExports, rawElems, rawData vector
	hostCalls                                                                 []Host
}

const (
	secCustom = iota
	secType
	secImport
	secFunction
	secTable
	secMemory
	secGlobal
	secExport
	secStart
	secElement
	secCode
	secData
	secDataCount
)

// order is where a section has to stand.
var order = [...]int{secType: 1, secImport: 2, secFunction: 3, secTable: 4, secMemory: 5, secGlobal: 6, secExport: 7, secStart: 8, secElement: 9, secDataCount: 10, secCode: 11, secData: 12}

func parse(b []byte, p Profile) (*module, error) {
	if len(b) > MaxModuleBytes {
		return nil, refuse("module of %d bytes, at most %d are allowed", len(b), MaxModuleBytes)
	}
	if len(b) < 8 || !bytes.Equal(b[:4], []byte("\x00asm")) {
		return nil, refuse("not a WebAssembly module")
	}
	if !bytes.Equal(b[4:8], []byte{1, 0, 0, 0}) {
		return nil, refuse("WebAssembly version % x: want a core module of version 1, not a component", b[4:8])
	}
	m := &module{start: -1, datas: -1, declared: map[uint32]bool{}}
	r := &reader{b: b, p: 8}
	last := 0
	for r.more() {
		id := r.u8()
		s := r.sub(r.u32())
		switch {
		case r.err != nil:
			return nil, r.err
		case id == secCustom:
			s.name()
			s.p = len(s.b)
		case id == 13:
			r.fail("exceptions are not allowed; build without them")
		case int(id) >= len(order):
			r.fail("unknown section %d", id)
		case order[id] <= last:
			r.fail("section %d stands twice or out of order", id)
		default:
			last = order[id]
			m.section(id, s, p)
		}
		if r.err != nil {
			return nil, r.err
		}
		if s.err == nil && s.p != len(s.b) {
			s.fail("section %d is longer than its content", id)
		}
		if s.err != nil {
			return nil, s.err
		}
	}
	if r.err != nil {
		return nil, r.err
	}
	if len(m.bodies) != len(m.funcs)-m.imports {
		return nil, refuse("%d functions are declared and %d have bodies", len(m.funcs)-m.imports, len(m.bodies))
	}
	if m.datas >= 0 && m.datas != m.rawData.n {
		return nil, refuse("%d data segments are announced and %d are there", m.datas, m.rawData.n)
	}
	return m, nil
}

func (m *module) section(id byte, r *reader, p Profile) {
	switch id {
	case secType:
		m.rawTypes = m.vector(r, "types", MaxTypes, m.typ)
	case secImport:
		m.rawImports = m.vector(r, "imports", MaxImports, m.imp)
	case secFunction:
		m.rawFuncs = m.vector(r, "functions", MaxFunctions, func(r *reader) { m.funcs = append(m.funcs, m.typeIndex(r)) })
	case secTable:
		m.vector(r, "tables", MaxTables, m.table)
	case secMemory:
		m.vector(r, "memories", 1, func(r *reader) { m.memory(r, p) })
	case secGlobal:
		m.rawGlobals = m.vector(r, "globals", MaxGlobals, func(r *reader) {
			g := globalType{t: m.valType(r)}
			mut := r.u8()
			if mut > 1 {
				r.fail("global is neither constant nor mutable")
			}
			g.mutable = mut == 1
			m.constExpr(r, g.t)
			m.globals = append(m.globals, g)
		})
	case secExport:
		m.rawExports = m.vector(r, "exports", MaxExports, m.export)
		names := make([]string, len(m.exports))
		for i, e := range m.exports {
			names[i] = e.name
		}
		slices.Sort(names)
		if len(slices.Compact(names)) != len(m.exports) {
			r.fail("two exports have one name")
		}
	case secStart:
		m.startFunc(r)
	case secElement:
		m.rawElems = m.vector(r, "element segments", MaxSegments, m.elem)
	case secDataCount:
		m.datas = int(r.u32())
	case secCode:
		m.vector(r, "function bodies", MaxFunctions, func(r *reader) {
			b := r.sub(r.u32())
			if len(b.b) > MaxBodyBytes {
				r.fail("function body of %d bytes, at most %d are allowed", len(b.b), MaxBodyBytes)
			}
			m.bodies = append(m.bodies, b)
		})
	case secData:
		m.rawData = m.vector(r, "data segments", MaxSegments, m.data)
	}
}

func (m *module) vector(r *reader, what string, most int, item func(*reader)) vector {
	v := vector{n: r.count(what, most)}
	start := r.p
	for i := 0; i < v.n && r.err == nil; i++ {
		item(r)
	}
	if r.err != nil {
		return vector{}
	}
	v.b = r.b[start:r.p]
	return v
}

func (m *module) valType(r *reader) byte {
	t := r.u8()
	if t < v128 && !isRef(t) || t > i32 {
		r.fail("unknown value type 0x%02x", t)
	}
	return t
}

func (m *module) refType(r *reader) byte {
	t := r.u8()
	if !isRef(t) {
		r.fail("unknown reference type 0x%02x", t)
	}
	return t
}

func (m *module) typ(r *reader) {
	if c := r.u8(); c != 0x60 {
		if c == 0x4e || c == 0x4f || c == 0x50 || c == 0x5e || c == 0x5f {
			r.fail("garbage-collected types are not allowed")
			return
		}
		r.fail("type 0x%02x is not a function type", c)
		return
	}
	var t funcType
	for range r.count("parameters", MaxParams) {
		t.params = append(t.params, m.valType(r))
	}
	for range r.count("results", MaxResults) {
		t.results = append(t.results, m.valType(r))
	}
	m.types = append(m.types, t)
}

func (m *module) typeIndex(r *reader) uint32 {
	i := r.u32()
	if int64(i) >= int64(len(m.types)) {
		r.fail("type %d is not there", i)
		return 0
	}
	return i
}

func (m *module) imp(r *reader) {
	host, name, kind := r.name(), r.name(), r.u8()
	if r.err != nil {
		return
	}
	if kind != 0 {
		r.fail("import %.80q.%.80q is not a function: a memory, table or global must be the module's own", host, name)
		return
	}
	h, ok := findHost(host, name)
	if !ok {
		if host != HostModule {
			r.fail("imports %.80q.%.80q: unknown host module, only %s is there", host, name, HostModule)
			return
		}
		r.fail("imports %s.%.80q: unknown host function", HostModule, name)
		return
	}
	t := m.typeIndex(r)
	if r.err != nil {
		return
	}
	ft := m.types[t]
	if !h.is(ft) {
		r.fail("imports %s.%s with a type other than %s", HostModule, name, h.Sig)
		return
	}
	m.funcs = append(m.funcs, t)
	m.imports++
	m.hostCalls = append(m.hostCalls, h)
}

// limits reads a size with an optional maximum, which is most without.
func (m *module) limits(r *reader, what string, most uint32) (minimum, maximum uint32) {
	maximum = most
	switch flag := r.u8(); flag {
	case 0:
		minimum = r.u32()
		maximum = max(most, minimum)
	case 1:
		minimum, maximum = r.u32(), r.u32()
	case 2, 3:
		r.fail("shared %s is not allowed; build without -pthread", what)
	case 4, 5, 6, 7:
		r.fail("64-bit %s is not allowed; build for wasm32", what)
	default:
		r.fail("unknown kind of %s 0x%02x", what, flag)
	}
	if r.err == nil && minimum > maximum {
		r.fail("%s starts larger than its maximum", what)
	}
	return minimum, maximum
}

func (m *module) table(r *reader) {
	if r.p < len(r.b) && r.b[r.p] == 0x40 {
		r.fail("tables with initial values are not allowed")
		return
	}
	t := tableType{elem: m.refType(r)}
	t.min, t.max = m.limits(r, "table", MaxTableElems)
	if t.min > MaxTableElems {
		r.fail("table of %d elements, at most %d are allowed", t.min, MaxTableElems)
	}
	t.max = min(t.max, MaxTableElems)
	m.tables = append(m.tables, t)
}

func (m *module) memory(r *reader, p Profile) {
	m.hasMem = true
	lo, hi := m.limits(r, "memory", MaxMemoryPages)
	if r.err == nil && hi > MaxMemoryPages {
		r.fail("memory of more than %d pages", MaxMemoryPages)
	}
	if r.err == nil && lo > p.MemoryPages {
		r.fail("module starts with %d pages of 64 KiB and %d are granted; ask for more memory", lo, p.MemoryPages)
	}
	m.memMin, m.memMax = lo, min(hi, p.MemoryPages)
}

func (m *module) export(r *reader) {
	e := export{name: r.name(), kind: r.u8(), index: r.u32()}
	if r.err != nil {
		return
	}
	if strings.HasPrefix(e.name, Reserved) {
		r.fail("export %.80q: names that begin with %q are reserved", e.name, Reserved)
		return
	}
	n := 0
	switch e.kind {
	case 0:
		n = len(m.funcs)
	case 1:
		n = len(m.tables)
	case 2:
		if m.hasMem {
			n = 1
		}
	case 3:
		n = len(m.globals)
	default:
		r.fail("export %.80q is of unknown kind %d", e.name, e.kind)
		return
	}
	if int64(e.index) >= int64(n) {
		r.fail("export %.80q names something that is not there", e.name)
		return
	}
	if e.kind == 0 {
		m.declared[e.index] = true
	}
	m.exports = append(m.exports, e)
}

func (m *module) funcIndex(r *reader) uint32 {
	i := r.u32()
	if int64(i) >= int64(len(m.funcs)) {
		r.fail("function %d is not there", i)
		return 0
	}
	return i
}

func (m *module) startFunc(r *reader) {
	i := m.funcIndex(r)
	if r.err != nil {
		return
	}
	if t := m.types[m.funcs[i]]; len(t.params)+len(t.results) > 0 {
		r.fail("the start function takes or returns values")
		return
	}
	if int(i) < m.imports {
		r.fail("the start function is imported")
		return
	}
	m.start = int(i)
}
