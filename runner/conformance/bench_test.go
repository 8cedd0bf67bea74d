package conformance_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"fallow.network"
	"fallow.network/receipt"
	"fallow.network/runner/wasm"
	"fallow.network/spec"
)

// BenchmarkMetered runs each kernel metered and bare, turn about on each
// compiling engine of this build, and reports ratios of the fastest of each, by
// processor time: metered to bare on wazero, and with wasmtime its metered form
// to wazero's bare and to its own. Gas per second is wazero's.
func BenchmarkMetered(b *testing.B) {
	inGo := buildGo(b, "testdata/kernels/main.go")
	inC, err := filepath.Abs("testdata/kernels.wasm")
	if err != nil {
		b.Fatal(err)
	}
	type contender struct {
		engine string
		bare   bool
	}
	var contenders []contender
	sandboxes := map[string]*wasm.Sandbox{}
	for _, engine := range wasm.Engines() {
		if engine == wasm.Interpreter {
			continue
		}
		r, err := wasm.New(wasm.Config{Child: []string{os.Args[0], wasm.ChildVerb}, Cache: b.TempDir(), Engine: engine})
		if err != nil {
			b.Fatal(err)
		}
		s := r.Open(1)
		defer func() { _ = s.Close() }()
		sandboxes[engine] = s
		contenders = append(contenders, contender{engine, false}, contender{engine, true})
	}
	for _, g := range []struct {
		name, file string
		kernels    []string
	}{
		{"C", inC, []string{"tight", "sha256", "nbody", "mandelbrot", "matmul", "saxpy", "saxpy32", "collatz", "calls"}},
		{"Go", inGo, []string{"tight", "sha256", "nbody", "mandelbrot", "matmul"}},
	} {
		module, err := os.ReadFile(g.file)
		if err != nil {
			b.Fatal(err)
		}
		for _, kernel := range g.kernels {
			b.Run(g.name+"/"+kernel, func(b *testing.B) {
				t := wasm.Task{
					Task: receipt.Task{
						Module: fallow.Sum(module), Args: []string{"kernels", kernel}, Profile: spec.ProfileWASM,
						Limits: receipt.Limits{Gas: 1 << 40, Memory: 64 << 20, Output: 1 << 20},
					},
					Paths: map[fallow.Digest]string{fallow.Sum(module): g.file}, Out: b.TempDir(),
				}
				best := map[contender]time.Duration{}
				var gas fallow.Gas
				for range b.N {
					for _, c := range contenders {
						t.Bare = c.bare
						res, err := sandboxes[c.engine].Run(b.Context(), t)
						if err != nil || res.Outcome != receipt.Exited || res.ExitCode != 0 {
							b.Fatalf("%+v %v", res, err)
						}
						if best[c] == 0 || res.CPU < best[c] {
							best[c] = res.CPU
						}
						gas = max(gas, res.Gas)
					}
				}
				metered, bare := best[contender{wasm.Wazero, false}].Seconds(), best[contender{wasm.Wazero, true}].Seconds()
				b.ReportMetric(metered/bare, "x-bare")
				b.ReportMetric(float64(gas)/metered/1e9, "Ggas/s")
				if slices.Contains(wasm.Engines(), wasm.Wasmtime) {
					other := best[contender{wasm.Wasmtime, false}].Seconds()
					b.ReportMetric(other/bare, "wasmtime-x-bare")
					b.ReportMetric(other/best[contender{wasm.Wasmtime, true}].Seconds(), "wasmtime-x-own-bare")
				}
			})
		}
	}
}
