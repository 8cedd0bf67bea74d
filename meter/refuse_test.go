package meter

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
)

// plain is a module around sections written by hand.
func plain(sections ...[]byte) []byte {
	out := []byte("\x00asm\x01\x00\x00\x00")
	for _, s := range sections {
		out = section(out, s[0], s[1:])
	}
	return out
}

// oneBody is a module of one function of type ()->() with these instructions.
func oneBody(code ...byte) []byte {
	body := putBytes([]byte{1}, append(append([]byte{0}, code...), opEnd))
	return plain([]byte{secType, 1, 0x60, 0, 0}, []byte{secFunction, 1, 0}, []byte{secMemory, 1, 0, 1}, append([]byte{secCode}, body...))
}

func imports(module, name string, t byte) []byte {
	s := putName(putName([]byte{secImport, 1}, module), name)
	return plain([]byte{secType, 2, 0x60, 0, 0, 0x60, 2, i32, i32, 1, i32}, append(s, 0, t))
}

// TestRefused gives each kind of bad module its reason.
func TestRefused(t *testing.T) {
	voidType := []byte{secType, 1, 0x60, 0, 0}
	tests := []struct {
		name   string
		module []byte
		reason string
	}{
		{"nothing", nil, "not a WebAssembly module"},
		{"text", []byte("#!/bin/sh\necho hello\n"), "not a WebAssembly module"},
		{"an ELF binary", append([]byte("\x7fELF"), make([]byte, 60)...), "not a WebAssembly module"},
		{"component", []byte("\x00asm\x0d\x00\x01\x00"), "not a component"},
		{"truncated", asm(t, fn{body: "nop"})[:40], "truncated"},
		{"section twice", plain(voidType, voidType), "twice or out of order"},
		{"sections out of order", plain([]byte{secMemory, 1, 0, 1}, voidType), "twice or out of order"},
		{"body missing", plain(voidType, []byte{secFunction, 1, 0}), "have bodies"},
		{"unknown section", plain([]byte{77}), "unknown section 77"},
		{"tag section", plain([]byte{13, 0}), "exceptions"},
		{"atomic", oneBody(0xfe, 0x03, 0), "threads"},
		{"shared memory", plain([]byte{secMemory, 1, 3, 1, 1}), "shared memory"},
		{"memory64", plain([]byte{secMemory, 1, 4, 1}), "64-bit memory"},
		{"two memories", plain([]byte{secMemory, 2, 0, 1, 0, 1}), "2 memories"},
		{"memory too large", plain([]byte{secMemory, 1, 0, 17}), "17 pages of 64 KiB and 16 are granted"},
		{"relaxed SIMD", oneBody(0xfd, 0x80, 0x02), "relaxed SIMD"},
		{"unknown SIMD", oneBody(0xfd, 0x9a, 0x01), "unknown instruction"},
		{"tail call", oneBody(0x12, 0), "tail calls"},
		{"try", oneBody(0x06, 0x40), "exceptions"},
		{"try_table", oneBody(0x1f, 0x40), "exceptions"},
		{"call_ref", oneBody(0x14, 0), "typed function references"},
		{"struct", plain([]byte{secType, 1, 0x5f, 0}), "garbage-collected"},
		{"recursive types", plain([]byte{secType, 1, 0x4e, 0}), "garbage-collected"},
		{"struct.new", oneBody(0xfb, 0), "garbage-collected"},
		{"unknown instruction", oneBody(0xff), "unknown instruction"},
		{"unknown host", imports("env", "emscripten_memcpy", 0), `unknown host module, only wasi_snapshot_preview1`},
		{"unknown host function", imports(HostModule, "fd_open_all", 0), "unknown host function"},
		{"host function of another type", imports(HostModule, "args_get", 0), "type other than ii:i"},
		{"imported memory", plain(append(putName(putName([]byte{secImport, 1}, HostModule), "memory"), 2, 0, 1)), "is not a function"},
		{"start takes values", plain([]byte{secType, 1, 0x60, 1, i32, 0}, []byte{secFunction, 1, 0}, []byte{secStart, 0}), "takes or returns values"},
		{"start is imported", plain([]byte{secType, 1, 0x60, 0, 1, i32}, append(putName(putName([]byte{secImport, 1}, HostModule), "sched_yield"), 0, 0), []byte{secStart, 0}), "start function"},
		{"start is not there", plain(voidType, []byte{secStart, 3}), "function 3 is not there"},
		{"_start returns", plain([]byte{secType, 1, 0x60, 0, 1, i32}, []byte{secFunction, 1, 0}, append(putName([]byte{secExport, 1}, "_start"), 0, 0), append([]byte{secCode}, putBytes([]byte{1}, []byte{0, opI32Const, 1, opEnd})...)), "_start is not"},
		{"reserved export", plain([]byte{secMemory, 1, 0, 1}, append(putName([]byte{secExport, 1}, "fallow.reserve"), 2, 0)), "reserved"},
		{"data beyond the memory", plain([]byte{secMemory, 1, 0, 0}, []byte{secData, 1, 0, opI32Const, 0, opEnd, 1, 7}), "outside the memory"},
		{"global of a global", plain([]byte{secGlobal, 2, i32, 0, opI32Const, 0, opEnd, i32, 0, opGlobalGet, 0, opEnd}), "reads a global"},
		{"extended constant", plain([]byte{secGlobal, 1, i32, 0, opI32Const, 0, opI32Const, 0, opI32Add, opEnd}), "extended constant"},
		{"global of the pass", oneBody(opGlobalGet, 0, opDrop), "global 0 is not there"},
		{"function of the pass", oneBody(opCall, 1), "function 1 is not there"},
		{"local of the pass", oneBody(opLocalGet, 0, opDrop), "local 0 is not there"},
		{"operand missing", oneBody(opDrop), "missing"},
		{"operand of another type", oneBody(opI64Const, 0, opI32Const, 0, opI32Add, opDrop), "of type i64 where i32"},
		{"values left behind", oneBody(opI32Const, 0), "leaves values behind"},
		{"label not there", oneBody(opBr, 9), "label 9"},
		{"many locals", plain(voidType, []byte{secFunction, 1, 0}, append([]byte{secCode}, putBytes([]byte{1}, []byte{1, 0xff, 0xff, 0x7f, i32, opEnd})...)), "locals"},
		{"code after the end", oneBody(opEnd, 0x01), "after the end"},
		{"long name", plain(append(putU32([]byte{secImport, 1}, MaxNameBytes+1), make([]byte, MaxNameBytes+1)...)), "name of"},
	}
	for _, test := range tests {
		_, err := Instrument(test.module, Profile{MemoryPages: 16})
		switch {
		case err == nil:
			t.Errorf("%s: was not refused", test.name)
		case !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), test.reason):
			t.Errorf("%s: %v; want %q", test.name, err, test.reason)
		}
	}
}

// TestTooLarge: a module beyond the bound isn't even looked at.
func TestTooLarge(t *testing.T) {
	if _, err := Instrument(make([]byte, MaxModuleBytes+1), Profile{}); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("got %v", err)
	}
}

// TestTruncated cuts a module everywhere: nothing but the whole is taken.
func TestTruncated(t *testing.T) {
	b := asm(t, fn{body: "call 1 i32.const 7 memory.grow drop"}, fn{params: "F", results: "F", body: "loop F local.get 0 end"})
	for n := range b {
		if _, err := Instrument(b[:n], Profile{MemoryPages: 16}); n > 8 && err == nil {
			// Cut between sections, a module may still be whole.
			if _, err := Instrument(append(b[:n:n], 0xff), Profile{MemoryPages: 16}); err == nil {
				t.Errorf("cut at %d of %d and still taken", n, len(b))
			}
		}
	}
}

// FuzzInstrument: no input makes the pass panic, its output is valid when its
// input is, and it says the same each time.
func FuzzInstrument(f *testing.F) {
	f.Add(asm(f, fn{params: "iF", results: "F", locals: "vFi", body: "loop F local.get 0 if 0 i32.const 1 memory.grow drop call 1 end local.get 1 f64.sqrt local.tee 3 i32.const 0 br_if 0 end"}, fn{}))
	f.Add(asm(f, fn{locals: "v", body: "i32.const 0 local.get 0 f32x4.sqrt local.tee 0 v128.store 0 i32.const 0 i32.const 0 i32.const 9 memory.copy"}))
	f.Add(imports(HostModule, "args_get", 1))
	ctx := context.Background()
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter())
	f.Cleanup(func() { _ = r.Close(ctx) })
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Instrument(b, Profile{MemoryPages: 64})
		if err != nil {
			if !errors.Is(err, ErrRefused) {
				t.Fatalf("not a refusal: %v", err)
			}
			return
		}
		again, err := Instrument(b, Profile{MemoryPages: 64})
		if err != nil || !bytes.Equal(m.Module, again.Module) {
			t.Fatal("the pass is not a function of its input")
		}
		if len(b) > 1<<16 {
			return
		}
		before, err := r.CompileModule(ctx, b)
		if err != nil {
			return
		}
		_ = before.Close(ctx)
		after, err := r.CompileModule(ctx, m.Module)
		if err != nil {
			t.Fatalf("a valid module became invalid: %v", err)
		}
		_ = after.Close(ctx)
	})
}
