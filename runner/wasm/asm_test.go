package wasm

import (
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
	"testing"

	"fallow.network/meter"
)

// program in words, put together by assemble: functions of a module, the first
// of which is exported as _start, beside its memory.
type source struct {
	imports []string // functions of WASI
	pages   uint32   // of memory
	most    uint32   // pages it may grow to; 0 is no maximum
	data    string   // at address 0
	start   bool     // the second function is the start function
	hidden  bool     // _start isn't exported
	funcs   []string // bodies; "locals N" first gives i32 locals
}

var opcodes = map[string]byte{
	"unreachable": 0x00, "nop": 0x01, "block": 0x02, "loop": 0x03, "if": 0x04, "else": 0x05, "end": 0x0b,
	"br": 0x0c, "br_if": 0x0d, "return": 0x0f, "call": 0x10, "drop": 0x1a,
	"local.get": 0x20, "local.set": 0x21, "local.tee": 0x22,
	"i32.load": 0x28, "i32.load8_u": 0x2d, "i32.store": 0x36, "i32.store8": 0x3a, "memory.size": 0x3f, "memory.grow": 0x40,
	"i32.const": 0x41, "i64.const": 0x42, "i32.eqz": 0x45, "i32.eq": 0x46, "i32.lt_u": 0x49,
	"i32.add": 0x6a, "i32.sub": 0x6b, "i32.mul": 0x6c, "i32.div_u": 0x6e,
}

func uleb(b []byte, v uint64) []byte { return binary.AppendUvarint(b, v) }

func sleb(b []byte, v int64) []byte {
	for {
		c := byte(v & 0x7f)
		if v >>= 7; v == 0 && c&0x40 == 0 || v == -1 && c&0x40 != 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

func section(out []byte, id byte, items ...[]byte) []byte {
	body := uleb(nil, uint64(len(items)))
	for _, i := range items {
		body = append(body, i...)
	}
	return append(uleb(append(out, id), uint64(len(body))), body...)
}

func name(s string) []byte { return append(uleb(nil, uint64(len(s))), s...) }

// assemble writes a module in the binary format.
func assemble(tb testing.TB, s source) []byte {
	tb.Helper()
	var types, imports, funcs, exports, code [][]byte
	for i, f := range s.imports {
		at := slices.IndexFunc(meter.Hosts[:], func(h meter.Host) bool { return h.Name == f })
		if at < 0 {
			tb.Fatalf("no host function %s", f)
		}
		params, results, _ := strings.Cut(meter.Hosts[at].Sig, ":")
		kinds := func(letters string) []byte {
			b := uleb(nil, uint64(len(letters)))
			for _, c := range letters {
				b = append(b, map[rune]byte{'i': 0x7f, 'I': 0x7e}[c])
			}
			return b
		}
		types = append(types, slices.Concat([]byte{0x60}, kinds(params), kinds(results)))
		imports = append(imports, slices.Concat(name(meter.HostModule), name(f), []byte{0}, uleb(nil, uint64(i))))
	}
	plain := uint64(len(types))
	types = append(types, []byte{0x60, 0, 0})
	for _, body := range s.funcs {
		funcs = append(funcs, uleb(nil, plain))
		words := strings.Fields(body)
		locals := []byte{0}
		if len(words) > 1 && words[0] == "locals" {
			n, _ := strconv.Atoi(words[1])
			locals = append(uleb([]byte{1}, uint64(n)), 0x7f)
			words = words[2:]
		}
		b := append(instructions(tb, locals, words, s.imports), 0x0b)
		code = append(code, append(uleb(nil, uint64(len(b))), b...))
	}
	if !s.hidden {
		exports = append(exports, slices.Concat(name("_start"), []byte{0}, uleb(nil, uint64(len(s.imports)))))
	}
	exports = append(exports, append(name("memory"), 2, 0))
	out := section([]byte("\x00asm\x01\x00\x00\x00"), 1, types...)
	out = section(out, 2, imports...)
	out = section(out, 3, funcs...)
	memory := uleb([]byte{0}, uint64(s.pages))
	if s.most > 0 {
		memory = uleb(uleb([]byte{1}, uint64(s.pages)), uint64(s.most))
	}
	out = section(out, 5, memory)
	out = section(out, 7, exports...)
	if s.start {
		at := uleb(nil, uint64(len(s.imports)+1))
		out = append(append(out, 8, byte(len(at))), at...)
	}
	out = section(out, 10, code...)
	if s.data != "" {
		out = section(out, 11, slices.Concat([]byte{0, 0x41, 0, 0x0b}, name(s.data)))
	}
	return out
}

func instructions(tb testing.TB, b []byte, words, imports []string) []byte {
	tb.Helper()
	for len(words) > 0 {
		w := words[0]
		words = words[1:]
		op, known := opcodes[w]
		if !known {
			tb.Fatalf("no instruction %q", w)
		}
		b = append(b, op)
		next := func() int64 {
			v := words[0]
			words = words[1:]
			if i := slices.Index(imports, v); i >= 0 {
				return int64(i)
			}
			n, err := strconv.ParseInt(v, 0, 64)
			if err != nil {
				tb.Fatalf("%s %s: %v", w, v, err)
			}
			return n
		}
		switch w {
		case "block", "loop", "if":
			b = append(b, 0x40)
		case "br", "br_if", "call", "local.get", "local.set", "local.tee":
			b = uleb(b, uint64(next()))
		case "i32.const", "i64.const":
			b = sleb(b, next())
		case "i32.load", "i32.store", "i32.load8_u", "i32.store8":
			b = append(b, 0, 0) // no alignment, no offset
		case "memory.size", "memory.grow":
			b = append(b, 0)
		}
	}
	return b
}

// Modules that many tests use.
func noop(tb testing.TB) []byte {
	tb.Helper()
	return assemble(tb, source{pages: 1, funcs: []string{""}})
}

func endless(tb testing.TB) []byte {
	tb.Helper()
	return assemble(tb, source{pages: 1, funcs: []string{"loop br 0 end"}})
}

// says writes a text to stdout.
func says(tb testing.TB, text string) []byte {
	tb.Helper()
	head := binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, 8), uint32(len(text)))
	return assemble(tb, source{imports: []string{"fd_write"}, pages: 1, data: string(head) + text, funcs: []string{
		"i32.const 1 i32.const 0 i32.const 1 i32.const 4 call fd_write drop",
	}})
}

// floods writes n times 32 KiB of zeros to stdout.
func floods(tb testing.TB, n int) []byte {
	tb.Helper()
	head := string(binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, 64), 32<<10))
	return assemble(tb, source{imports: []string{"fd_write"}, pages: 1, data: head, funcs: []string{
		"locals 1 loop i32.const 1 i32.const 0 i32.const 1 i32.const 16 call fd_write drop " +
			"local.get 0 i32.const 1 i32.add local.tee 0 i32.const " + strconv.Itoa(n) + " i32.lt_u br_if 0 end",
	}})
}
