package wasm

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"fallow.network"
	"fallow.network/market"
	"fallow.network/receipt"
	"fallow.network/spec"
)

// resident is the memory that a process has, in bytes.
func resident(tb testing.TB, pid int) (bytes int64) {
	tb.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		tb.Fatal(err)
	}
	var size, pages int64
	if _, err := fmt.Sscan(string(b), &size, &pages); err != nil {
		tb.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// TestManyTasks runs many tasks in one child, of which some trap, some leave
// files and some use much memory. What the child holds must stay flat.
func TestManyTasks(t *testing.T) {
	s := open(t, 1)
	touch := assemble(t, source{pages: 1, funcs: []string{
		// Touches each page of 8 MiB.
		"locals 1 i32.const 127 memory.grow drop " +
			"loop local.get 0 i32.const 1 i32.store local.get 0 i32.const 4096 i32.add local.tee 0 i32.const 8388608 i32.lt_u br_if 0 end",
	}})
	var tasks []Task
	for _, m := range [][]byte{noop(t), says(t, "hello"), floods(t, 4), touch, assemble(t, source{pages: 1, funcs: []string{"unreachable"}}), endless(t)} {
		task, _ := taskOf(t, m)
		task.Limits.Gas = 1e6
		tasks = append(tasks, task)
	}
	run := func(n int) int {
		for i := range n {
			mustRun(t, s, tasks[i%len(tasks)])
		}
		all := children(t, os.Getpid())
		if len(all) != 1 {
			t.Fatalf("children %v", all)
		}
		return all[0]
	}
	first := run(600)
	before := resident(t, first)
	if run(2000) != first {
		t.Fatal("it is another child")
	}
	after := resident(t, first)
	t.Logf("%d MiB after 600 tasks, %d MiB after 2600", before>>20, after>>20)
	if after > before+32<<20 {
		t.Errorf("%d MiB after 600 tasks, %d MiB after 2600", before>>20, after>>20)
	}
}

// BenchmarkNoop is what a task costs that does nothing, from call to result.
func BenchmarkNoop(b *testing.B) {
	s := open(b, 1)
	task, _ := taskOf(b, noop(b))
	mustRun(b, s, task)
	var took []time.Duration
	for b.Loop() {
		began := time.Now()
		mustRun(b, s, task)
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}

// BenchmarkFilm renders one frame of the film metered and bare, turn about in
// one child, and reports the ratio of the fastest of each by processor time.
func BenchmarkFilm(b *testing.B) {
	const dir = "../../examples/film/"
	module, err := os.ReadFile(dir + "film.wasm")
	if err != nil {
		b.Fatalf("%v; build it with: make guest", err)
	}
	teapot, err := os.ReadFile(dir + "teapot.txt")
	if err != nil {
		b.Fatal(err)
	}
	s := openWith(b, Config{Cache: b.TempDir()}, ChildVerb, 1)
	task := Task{
		Task: receipt.Task{
			Module: fallow.Sum(module), Args: strings.Fields("film 20 48 320 180 16"), Profile: spec.ProfileWASM, Seed: make([]byte, 32),
			Files:  []receipt.File{{Path: "teapot.txt", Blob: market.Blob{Digest: fallow.Sum(teapot), Size: uint64(len(teapot))}}},
			Limits: receipt.Limits{Gas: 200e9, Memory: 256 << 20, Output: 4 << 20},
		},
		Paths: map[fallow.Digest]string{fallow.Sum(module): dir + "film.wasm", fallow.Sum(teapot): dir + "teapot.txt"},
	}
	best := map[bool]time.Duration{false: time.Hour, true: time.Hour}
	digests := map[fallow.Digest]bool{}
	var gas fallow.Gas
	for b.Loop() {
		for _, task.Bare = range []bool{false, true} {
			task.Out = b.TempDir()
			r := mustRun(b, s, task)
			if r.Outcome != receipt.Exited || r.ExitCode != 0 {
				b.Fatalf("got %+v", r)
			}
			best[task.Bare] = min(best[task.Bare], r.CPU)
			digests[r.Digest()] = true
			gas = max(gas, r.Gas)
		}
	}
	if len(digests) != 1 {
		b.Errorf("%d different frames", len(digests))
	}
	b.ReportMetric(best[false].Seconds()/best[true].Seconds(), "x-bare")
	b.ReportMetric(float64(gas)/best[false].Seconds()/1e9, "Ggas/s")
}
