package meter

import (
	"bytes"
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// hostile are modules that give the pass as much as it can be given for each
// of their bytes; size is about how many bytes they have.
var hostile = []struct {
	name   string
	write  func(size int) []byte
	reason string // of the refusal at full size; empty where it is metered
}{
	{"branches that carry 255 values", func(size int) []byte {
		values := bytes.Repeat([]byte{opI32Const, 0}, MaxParams)
		wide := append(putBytes([]byte{0x60}, bytes.Repeat([]byte{i32}, MaxParams)), 0)
		return hostileModule(size, [][]byte{{0x60, 0, 0}, wide}, loopOf(values, 1_700_000))
	}, "steps to meter"},
	{"tables of 65536 branches", func(size int) []byte {
		var code []byte
		for range 100 {
			code = append(code, opBlock, 0x40, opI32Const, 0, opBrTable)
			code = putU32(code, MaxBranches)
			code = append(code, make([]byte, MaxBranches+1)...)
			code = append(code, opEnd)
		}
		return hostileModule(size, [][]byte{{0x60, 0, 0}}, code)
	}, ""},
	{"blocks in blocks", func(size int) []byte {
		code := append(bytes.Repeat([]byte{opBlock, 0x40}, MaxNesting-8), bytes.Repeat([]byte{opEnd}, MaxNesting-8)...)
		return hostileModule(size, [][]byte{{0x60, 0, 0}}, bytes.Repeat(code, 30))
	}, ""},
	{"loops with many locals", func(size int) []byte {
		code := bytes.Repeat([]byte{opLoop, 0x40, opI32Const, 0, opBrIf, 0, opEnd}, 900_000)
		return hostileModule(size, [][]byte{{0x60, 0, 0}}, code, putU32([]byte{1}, 40_000)...)
	}, "metered code of more than"},
	{"short stretches", func(size int) []byte {
		return hostileModule(size, [][]byte{{0x60, 0, 0}}, bytes.Repeat([]byte{opI32Const, 0, opBrIf, 0}, 1_900_000))
	}, "metered code of more than"},
	{"many small functions", func(size int) []byte {
		return hostileModule(size, [][]byte{{0x60, 0, 0}}, bytes.Repeat([]byte{opI32Const, 0, opDrop}, 50))
	}, ""},
}

// loopOf is a loop that takes the values and is branched to n times.
func loopOf(values []byte, n int) []byte {
	code := append(append([]byte{}, values...), opLoop, 1)
	code = append(code, bytes.Repeat([]byte{opI32Const, 0, opBrIf, 0}, n)...)
	code = append(code, opUnreachable, opEnd)
	return append(code, opUnreachable)
}

// hostileModule repeats one body until the module has about size bytes, or as
// many functions as there may be. groups are the body's locals, f64 each.
func hostileModule(size int, types [][]byte, code []byte, groups ...byte) []byte {
	if len(groups) == 0 {
		groups = []byte{0}
	} else {
		groups = append(groups, f64)
	}
	body := putBytes(nil, append(append(groups, code...), opEnd))
	n := min(max(size/len(body), 1), MaxFunctions)
	typ := putU32([]byte{secType}, uint32(len(types)))
	for _, t := range types {
		typ = append(typ, t...)
	}
	funcs := append(putU32([]byte{secFunction}, uint32(n)), make([]byte, n)...)
	return plain(typ, funcs, []byte{secMemory, 1, 0, 1}, append(putU32([]byte{secCode}, uint32(n)), bytes.Repeat(body, n)...))
}

// TestHostile meters modules that are made to be dear. With FALLOW_LONG they
// have nearly the 64 MiB that a module may have.
func TestHostile(t *testing.T) {
	full := os.Getenv("FALLOW_LONG") != ""
	size := 8 << 20
	if full {
		size = 61 << 20
	}
	for _, h := range hostile {
		module := h.write(size)
		if len(module) > MaxModuleBytes {
			t.Fatalf("%s: %d bytes", h.name, len(module))
		}
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		began := time.Now()
		m, err := Instrument(module, Profile{MemoryPages: 16})
		took := time.Since(began)
		runtime.ReadMemStats(&after)
		t.Logf("%s: %d MiB in %s, %d MiB allocated in all: %d bytes, %v", h.name, len(module)>>20, took.Round(time.Millisecond),
			(after.TotalAlloc-before.TotalAlloc)>>20, len(m.Module), err)
		if err != nil && !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", h.name, err)
		}
		if err == nil && len(m.Module) > MaxMetered+MaxModuleBytes {
			t.Errorf("%s: %d bytes came out", h.name, len(m.Module))
		}
		if full && (err == nil) != (h.reason == "") || full && err != nil && !strings.Contains(err.Error(), h.reason) {
			t.Errorf("%s: %v, want %q", h.name, err, h.reason)
		}
	}
}
