package meter_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"fallow.network/meter"
)

// specTests is the folder of the WebAssembly specification's own tests, which
// the engine's module carries.
func specTests(tb testing.TB) string {
	tb.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/tetratelabs/wazero").Output()
	if err != nil {
		tb.Fatalf("finding the specification's tests: %v", err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "internal/integration_test/spectest/v2/testdata")
}

type specValue struct {
	Type  string          `json:"type"`
	Lane  string          `json:"lane_type"`
	Value json.RawMessage `json:"value"`
}

type specCommand struct {
	Type     string `json:"type"`
	Line     int    `json:"line"`
	Filename string `json:"filename"`
	Action   struct {
		Type   string      `json:"type"`
		Module string      `json:"module"`
		Field  string      `json:"field"`
		Args   []specValue `json:"args"`
	} `json:"action"`
	Expected []specValue `json:"expected"`
}

// words gives a value's bits as the engine takes them.
func (v specValue) words(t *testing.T) ([]uint64, bool) {
	t.Helper()
	var s string
	if v.Type != "v128" {
		if json.Unmarshal(v.Value, &s) != nil {
			return nil, false
		}
		if s == "null" {
			return []uint64{0}, true
		}
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil { // signed
			m, _ := strconv.ParseInt(s, 10, 64)
			n = uint64(m)
		}
		if v.Type == "externref" {
			n++
		}
		return []uint64{n}, true
	}
	var lanes []string
	if json.Unmarshal(v.Value, &lanes) != nil || len(lanes) == 0 {
		return nil, false
	}
	out, bits := make([]uint64, 2), 128/len(lanes)
	for i, l := range lanes {
		n, err := strconv.ParseUint(l, 10, 64)
		if err != nil {
			m, err := strconv.ParseInt(l, 10, 64)
			if err != nil {
				return nil, false
			}
			n = uint64(m)
		}
		if bits < 64 {
			n &= 1<<bits - 1
		}
		out[i*bits/64] |= n << (i * bits % 64)
	}
	return out, true
}

// same compares results as the specification does: any NaN is a NaN.
func same(want specValue, a, b []uint64) bool {
	nan32 := func(x uint32) bool { return x&0x7fffffff > 0x7f800000 }
	eq64 := func(x, y uint64) bool {
		return x == y || math.Float64frombits(x) != math.Float64frombits(x) && math.Float64frombits(y) != math.Float64frombits(y)
	}
	eq32 := func(x, y uint32) bool { return x == y || nan32(x) && nan32(y) }
	for i := range a {
		x, y := a[i], b[i]
		switch {
		case want.Type == "f64" || want.Lane == "f64":
			if !eq64(x, y) {
				return false
			}
		case want.Type == "f32":
			if !eq32(uint32(x), uint32(y)) {
				return false
			}
		case want.Lane == "f32":
			if !eq32(uint32(x), uint32(y)) || !eq32(uint32(x>>32), uint32(y>>32)) {
				return false
			}
		case x != y:
			return false
		}
	}
	return true
}

// TestSpec runs the WebAssembly specification's tests in both forms: whatever
// a module does, it does as well when it counts.
func TestSpec(t *testing.T) {
	dir := specTests(t)
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests under %s: %v", dir, err)
	}
	ctx := context.Background()
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter())
	defer func() { _ = r.Close(ctx) }()
	modules, calls := 0, 0
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var test struct {
			Commands []specCommand `json:"commands"`
		}
		if err := json.Unmarshal(b, &test); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		var bare, metered api.Module
		for _, c := range test.Commands {
			at := filepath.Base(file) + ":" + strconv.Itoa(c.Line)
			switch c.Type {
			case "module":
				bare, metered = specPair(ctx, t, r, filepath.Join(dir, c.Filename), at)
				if metered != nil {
					modules++
				}
			case "assert_invalid", "assert_malformed":
				specInvalid(ctx, t, r, filepath.Join(dir, c.Filename), at)
			case "assert_return", "assert_trap", "assert_exhaustion", "action":
				if metered == nil || c.Action.Type != "invoke" || c.Action.Module != "" {
					continue
				}
				calls++
				specCall(ctx, t, bare, metered, c, at)
			}
		}
	}
	t.Logf("%d modules, %d calls", modules, calls)
	if modules < 700 || calls < 40_000 {
		t.Errorf("only %d modules and %d calls were compared", modules, calls)
	}
}

func specPair(ctx context.Context, t *testing.T, r wazero.Runtime, file, at string) (bare, metered api.Module) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	m, err := meter.Instrument(b, meter.Profile{MemoryPages: meter.MaxMemoryPages})
	if err != nil {
		if !errors.Is(err, meter.ErrRefused) {
			t.Errorf("%s: %v", at, err)
		}
		return nil, nil
	}
	cfg := wazero.NewModuleConfig().WithName("").WithStartFunctions()
	bare, err = r.InstantiateWithConfig(ctx, b, cfg)
	if err != nil {
		t.Errorf("%s: bare: %v", at, err)
		return nil, nil
	}
	metered, err = r.InstantiateWithConfig(ctx, m.Module, cfg)
	if err != nil {
		t.Errorf("%s: metered: %v", at, err)
		return nil, nil
	}
	fund(metered, 1<<40, 1<<20)
	if m.Start {
		if _, err := metered.ExportedFunction(meter.ExportStart).Call(ctx); err != nil {
			t.Errorf("%s: start: %v", at, err)
		}
	}
	return bare, metered
}

// fund opens a module's account.
func fund(m api.Module, gas int64, depth int32) {
	m.ExportedGlobal(meter.ExportReserve).(api.MutableGlobal).Set(uint64(gas &^ (meter.Quantum - 1)))
	m.ExportedGlobal(meter.ExportQuantum).(api.MutableGlobal).Set(0)
	m.ExportedGlobal(meter.ExportDepth).(api.MutableGlobal).Set(uint64(uint32(depth)))
}

// specInvalid sees to it that the pass doesn't make an invalid module valid.
func specInvalid(ctx context.Context, t *testing.T, r wazero.Runtime, file, at string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil || !bytes.HasPrefix(b, []byte("\x00asm")) {
		return // in text
	}
	if _, err := r.CompileModule(ctx, b); err == nil {
		return // the engine is more lenient than the specification
	}
	m, err := meter.Instrument(b, meter.Profile{MemoryPages: meter.MaxMemoryPages})
	if err != nil {
		return
	}
	if _, err := r.CompileModule(ctx, m.Module); err == nil {
		t.Errorf("%s: an invalid module became a valid one", at)
	}
}

func specCall(ctx context.Context, t *testing.T, bare, metered api.Module, c specCommand, at string) {
	t.Helper()
	var args []uint64
	for _, a := range c.Action.Args {
		w, ok := a.words(t)
		if !ok {
			t.Errorf("%s: argument %s", at, a.Value)
			return
		}
		args = append(args, w...)
	}
	fund(metered, 1<<40, 1<<20) // a trap leaves the depth where it was
	x, xerr := bare.ExportedFunction(c.Action.Field).Call(ctx, args...)
	y, yerr := metered.ExportedFunction(c.Action.Field).Call(ctx, args...)
	if (xerr == nil) != (yerr == nil) || len(x) != len(y) {
		t.Errorf("%s: %s: bare %v %v, metered %v %v", at, c.Action.Field, x, xerr, y, yerr)
		return
	}
	i := 0
	for _, want := range c.Expected {
		n := 1
		if want.Type == "v128" {
			n = 2
		}
		if c.Type == "assert_return" && i+n <= len(x) && !strings.HasSuffix(want.Type, "ref") && !same(want, x[i:i+n], y[i:i+n]) {
			t.Errorf("%s: %s: bare %x, metered %x", at, c.Action.Field, x, y)
		}
		i += n
	}
}
