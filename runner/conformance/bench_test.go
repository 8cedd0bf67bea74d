package conformance_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"fallow.network"
	"fallow.network/receipt"
	"fallow.network/runner/wasm"
	"fallow.network/spec"
)

// BenchmarkMetered runs each kernel metered and bare, turn about in one child,
// and reports the ratio of the fastest of each, and gas per second.
func BenchmarkMetered(b *testing.B) {
	inGo := buildGo(b, "testdata/kernels/main.go")
	inC, err := filepath.Abs("testdata/kernels.wasm")
	if err != nil {
		b.Fatal(err)
	}
	r, err := wasm.New(wasm.Config{Child: []string{os.Args[0], wasm.ChildVerb}, Cache: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	s := r.Open(1)
	defer func() { _ = s.Close() }()
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
				best := map[bool]time.Duration{false: time.Hour, true: time.Hour}
				var gas fallow.Gas
				for range b.N {
					for _, t.Bare = range []bool{false, true} {
						res, err := s.Run(b.Context(), t)
						if err != nil || res.Outcome != receipt.Exited || res.ExitCode != 0 {
							b.Fatalf("%+v %v", res, err)
						}
						best[t.Bare] = min(best[t.Bare], res.CPU)
						gas = max(gas, res.Gas)
					}
				}
				b.ReportMetric(best[false].Seconds()/best[true].Seconds(), "x-bare")
				b.ReportMetric(float64(gas)/best[false].Seconds()/1e9, "Ggas/s")
			})
		}
	}
}
