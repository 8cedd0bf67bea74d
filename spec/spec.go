// Package spec is the canonical workload: what a tenant's file becomes before
// anything is asked, signed or run.
//
// Its one invariant: one workload has one sequence of bytes. Canonical writes
// it, Decode reads back exactly that and nothing else, and the hash of those
// bytes names the workload in receipts on every machine.
//
// It reads no files and knows no formats: formats parses what people write,
// and client reads the inputs.
package spec

import (
	"cmp"
	"slices"

	"fallow.network"
)

// Bounds of a workload. Whoever parses one refuses more before it costs memory.
const (
	// MaxTasks is the most tasks in one workload.
	MaxTasks = 100_000
	// MaxNameBytes bounds a workload's name.
	MaxNameBytes = 64
	// MaxArgs and MaxEnv bound a task's arguments and variables.
	MaxArgs = 1024
	MaxEnv  = 256
	// MaxArgBytes bounds one argument or variable.
	MaxArgBytes = 64 << 10
	// MaxArgsBytes bounds all arguments and variables of a task.
	MaxArgsBytes = 256 << 10
	// MaxInputs bounds the input files of a task.
	MaxInputs = 4096
	// MaxBlobs bounds the distinct blobs of a workload.
	MaxBlobs = 100_000
	// MaxOutputs bounds the output patterns of a task.
	MaxOutputs = 64
	// MaxPathBytes bounds a guest path or pattern.
	MaxPathBytes = 512
	// MaxPathDepth bounds the folders in a guest path.
	MaxPathDepth = 16
	// MaxBlobBytes bounds one module or input: 64 GiB.
	MaxBlobBytes = 64 << 30
	// MaxModuleBytes bounds the module, as the gas pass does: 64 MiB.
	MaxModuleBytes = 64 << 20
	// MaxCanonicalBytes bounds what Canonical writes: 256 MiB.
	MaxCanonicalBytes = 256 << 20

	// MaxGas is the most gas that one run may be granted.
	MaxGas fallow.Gas = 1 << 60
	// PageBytes is a page of WASM memory; MemoryBytes is rounded up to it.
	PageBytes = 64 << 10
	// MaxMemoryBytes is what 32-bit WASM can address: 4 GiB.
	MaxMemoryBytes = 4 << 30
	// MaxOutputBytes bounds what a run may write to its outputs: 16 GiB.
	MaxOutputBytes = 16 << 30
	// MaxScratchBytes bounds a run's scratch space: 64 GiB.
	MaxScratchBytes = 64 << 30
	// MaxStackDepth bounds the depth of calls, in slots of 8 bytes as the gas
	// pass counts them; DefaultStackDepth is what tasks get that don't ask.
	MaxStackDepth     = 16 << 20
	DefaultStackDepth = 2 << 20
	// MaxWallMillis bounds a run's wall time: 7 days.
	MaxWallMillis = 7 * 24 * 3600 * 1000
)

// ProfileWASM is the run profile of today, the second: docs/run-profile.md says
// what it fixes, so that (output, gas, exit) repeat on every machine.
const ProfileWASM = "wasm/2"

// Workload is a batch: one module, run once for each task.
type Workload struct {
	// Name is for people: letters, digits, dot, dash and underscore.
	Name    string
	Class   fallow.Class
	Profile string
	Module  Blob
	Limits  Limits
	Tasks   []Task
}

// Blob names content by digest and size in bytes.
type Blob struct {
	Digest fallow.Digest
	Size   uint64
}

// Limits bound each run. What is exceeded ends the run; gas, memory, output
// and stack end it with a result that repeats, wall time with an abort.
type Limits struct {
	Gas          fallow.Gas
	MemoryBytes  uint64
	OutputBytes  uint64
	ScratchBytes uint64
	StackDepth   uint32 // slots of 8 bytes
	WallMillis   uint64
}

// Task is one run of the module.
type Task struct {
	// Index is the task's position in the workload, from 0.
	Index uint32
	// Args begin with the program's name.
	Args []string
	// Env is NAME=value, sorted by name, names unique.
	Env []string
	// Stdin is the zero Blob when there is none.
	Stdin Blob
	// Inputs are sorted by path, paths unique.
	Inputs []Input
	// Outputs are patterns (see Match) of files below /out that the tenant
	// wants; sorted, unique. Stdout and stderr always come back.
	Outputs []string
}

// Input is a file that the guest reads at /in/<Path>.
type Input struct {
	Path string
	Blob Blob
}

// HasStdin says whether the task reads a blob on stdin.
func (t Task) HasStdin() bool { return t.Stdin != Blob{} }

// Blobs are the distinct blobs that a provider needs for t: module excluded.
func (t Task) Blobs() []Blob {
	var out []Blob
	if t.HasStdin() {
		out = append(out, t.Stdin)
	}
	for _, in := range t.Inputs {
		out = append(out, in.Blob)
	}
	return distinct(out)
}

// Blobs are the distinct blobs of the whole workload, module included, by
// ascending digest.
func (w Workload) Blobs() []Blob {
	out := []Blob{w.Module}
	for _, t := range w.Tasks {
		if t.HasStdin() {
			out = append(out, t.Stdin)
		}
		for _, in := range t.Inputs {
			out = append(out, in.Blob)
		}
	}
	return distinct(out)
}

func distinct(blobs []Blob) []Blob {
	slices.SortFunc(blobs, func(a, b Blob) int {
		return cmp.Or(slices.Compare(a.Digest[:], b.Digest[:]), cmp.Compare(a.Size, b.Size))
	})
	return slices.Compact(blobs)
}

// Normalize puts w into the order that Validate asks for: indices by position,
// inputs, outputs and variables sorted. It changes w's slices in place and
// drops nothing but repeated output patterns.
func Normalize(w *Workload) {
	for i := range w.Tasks {
		t := &w.Tasks[i]
		t.Index = uint32(i)
		slices.SortStableFunc(t.Inputs, func(a, b Input) int { return cmp.Compare(a.Path, b.Path) })
		slices.SortStableFunc(t.Env, func(a, b string) int { return cmp.Compare(envName(a), envName(b)) })
		slices.Sort(t.Outputs)
		t.Outputs = slices.Compact(t.Outputs)
	}
}
