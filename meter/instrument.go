package meter

import "fmt"

// Instrument rewrites a module so that it counts its gas. Every error wraps
// ErrRefused and says why the module can't be metered. The same module and
// profile give the same bytes.
func Instrument(b []byte, p Profile) (Metered, error) {
	if p.MemoryPages > MaxMemoryPages {
		return Metered{}, refuse("%d pages of memory are granted, at most %d can be", p.MemoryPages, MaxMemoryPages)
	}
	m, err := parse(b, p)
	if err != nil {
		return Metered{}, err
	}
	w := &writer{m: m, multis: map[string]uint32{}}
	code, err := w.code()
	if err != nil {
		return Metered{}, err
	}
	out := Metered{
		Module: w.module(code), Start: m.start >= 0, MinPages: m.memMin, MaxPages: m.memMax, Imports: m.hostCalls,
	}
	for _, e := range m.exports {
		switch {
		case e.kind == 0 && e.name == "_start":
			t := m.types[m.funcs[e.index]]
			if int(e.index) < m.imports || len(t.params)+len(t.results) > 0 {
				return Metered{}, refuse("_start is not a function of the module's own that takes and returns nothing")
			}
			out.Command = true
		case e.kind == 2 && e.name == "memory":
			out.Memory = true
		}
	}
	return out, nil
}

// writer puts the metered module together. Everything new stands behind what
// was there, so no index of the module changes.
type writer struct {
	m      *module
	types  []funcType // added
	multis map[string]uint32
}

// addType gives the index of a new type.
func (w *writer) addType(t funcType) uint32 {
	w.types = append(w.types, t)
	return uint32(len(w.m.types) + len(w.types) - 1)
}

// code writes the code section.
func (w *writer) code() ([]byte, error) {
	m := w.m
	g := uint32(len(m.globals))
	l := &layout{reserve: g, quantum: g + 1, depth: g + 2, refill: uint32(len(m.funcs))}
	w.addType(funcType{params: []byte{i64}, results: []byte{i64}}) // of refill
	room := 0
	for _, r := range m.bodies {
		room += len(r.b)
	}
	out := putU32(make([]byte, 0, min(2*room+64, MaxMetered)), uint32(len(m.bodies)+1))
	c := &checker{m: m}
	var body []byte
	for i, r := range m.bodies {
		ft := m.types[m.funcs[m.imports+i]]
		locals, again := m.locals, *r
		c.reset(r, ft)
		groups := c.body(false)
		if c.nan.full() {
			*r, m.locals = again, locals
			c.reset(r, ft)
			groups = c.body(true)
		}
		if frame := c.frame(); r.err == nil && frame > MaxFrameSlots {
			r.fail("function takes %d slots of stack, at most %d are allowed", frame, MaxFrameSlots)
		}
		if r.err != nil {
			return nil, fmt.Errorf("function %d: %w", m.imports+i, r.err)
		}
		multi := uint32(0)
		if n := len(ft.results); n > 1 && c.returns {
			var ok bool
			if multi, ok = w.multis[string(ft.results)]; !ok {
				multi = w.addType(funcType{results: ft.results})
				w.multis[string(ft.results)] = multi
			}
		}
		body = c.emit(body[:0], groups, l, multi)
		out = putBytes(out, body)
		if len(out) > MaxMetered {
			return nil, refuse("metered code of more than %d bytes", MaxMetered)
		}
	}
	return putBytes(out, refillBody(l)), nil
}

// refillBody is Account.Charge's refill in WebAssembly: it takes what is left
// of the quantum, below zero, pays the debt in quanta and gives what is left
// then, or traps.
func refillBody(l *layout) []byte {
	e := &emitter{l: l}
	const left, take = 0, 1
	e.put(1, 1, i64) // one local
	e.i64(Quantum - 1)
	e.index(opLocalGet, left)
	e.put(opI64Sub)
	e.i64(-Quantum)
	e.put(opI64And)
	e.index(opLocalSet, take)
	e.index(opGlobalGet, l.reserve)
	e.index(opLocalGet, take)
	e.put(opI64Sub)
	e.index(opGlobalSet, l.reserve)
	e.index(opGlobalGet, l.reserve)
	e.i64(0)
	e.put(opI64LtS, opIf, 0x40, opUnreachable, opEnd)
	e.index(opLocalGet, left)
	e.index(opLocalGet, take)
	e.put(opI64Add, opEnd)
	return e.b
}

func section(out []byte, id byte, body []byte) []byte {
	return putBytes(append(out, id), body)
}

// grown is a vector section with n items added.
func grown(out []byte, id byte, v vector, n int, items []byte) []byte {
	if v.n+n == 0 {
		return out
	}
	body := putU32(nil, uint32(v.n+n))
	body = append(body, v.b...)
	return section(out, id, append(body, items...))
}

func putType(b []byte, t funcType) []byte {
	b = putBytes(append(b, 0x60), t.params)
	return putBytes(b, t.results)
}

// module writes all sections around the code.
func (w *writer) module(code []byte) []byte {
	m := w.m
	room := len(code) + 1<<16
	for _, v := range []vector{m.rawTypes, m.rawImports, m.rawFuncs, m.rawGlobals, m.rawExports, m.rawElems, m.rawData} {
		room += len(v.b) + 16
	}
	out := append(make([]byte, 0, room), "\x00asm\x01\x00\x00\x00"...)
	var types []byte
	for _, t := range w.types {
		types = putType(types, t)
	}
	out = grown(out, secType, m.rawTypes, len(w.types), types)
	out = grown(out, secImport, m.rawImports, 0, nil)
	out = grown(out, secFunction, m.rawFuncs, 1, putU32(nil, uint32(len(m.types))))
	var tables []byte
	for _, t := range m.tables {
		tables = putU32(putU32(append(tables, t.elem, 1), t.min), t.max)
	}
	out = grown(out, secTable, vector{}, len(m.tables), tables)
	if m.hasMem {
		out = section(out, secMemory, putU32(putU32([]byte{1, 1}, m.memMin), m.memMax))
	}
	out = grown(out, secGlobal, m.rawGlobals, 3, []byte{
		i64, 1, opI64Const, 0, opEnd,
		i64, 1, opI64Const, 0, opEnd,
		i32, 1, opI32Const, 0, opEnd,
	})
	var exports []byte
	added := 0
	for i, name := range []string{ExportReserve, ExportQuantum, ExportDepth} {
		exports = putU32(append(putName(exports, name), 3), uint32(len(m.globals)+i))
		added++
	}
	if m.start >= 0 {
		exports = putU32(append(putName(exports, ExportStart), 0), uint32(m.start))
		added++
	}
	out = grown(out, secExport, m.rawExports, added, exports)
	out = grown(out, secElement, m.rawElems, 0, nil)
	if m.datas >= 0 {
		out = section(out, secDataCount, putU32(nil, uint32(m.datas)))
	}
	out = section(out, secCode, code)
	return grown(out, secData, m.rawData, 0, nil)
}
