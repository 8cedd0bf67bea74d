package wasm

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"fallow.network"
	"fallow.network/meter"
	"fallow.network/receipt"
	"fallow.network/spec"
)

// Trap words: how a guest's run ended other than by itself. They are part of a
// result, the same on every engine.
const (
	TrapOutOfGas    = "out_of_gas"
	TrapStack       = "stack"
	TrapOutput      = "output_limit"
	TrapUnreachable = "unreachable"
	TrapMemory      = "memory"
	TrapTable       = "table"
	TrapSignature   = "signature"
	TrapOverflow    = "overflow"
	TrapDivide      = "divide"
	TrapConversion  = "conversion"
)

var traps = []string{
	TrapOutOfGas, TrapStack, TrapOutput, TrapUnreachable, TrapMemory, TrapTable,
	TrapSignature, TrapOverflow, TrapDivide, TrapConversion,
}

// Task is one run: what its result depends on, and where this machine has it.
type Task struct {
	receipt.Task
	// Paths are the host paths of the module, stdin and inputs, by digest.
	Paths map[fallow.Digest]string
	// Out is a folder of this machine for outputs too large to stand in the
	// result; it is made when the first one comes, and the caller's to remove,
	// after an error as well.
	Out string
	// Wall bounds the run; 0 is an hour, more than 7 days are 7 days. Past it
	// the run is aborted.
	Wall time.Duration
	// Bare runs the module without metering, for comparison: no gas, no stack
	// count, the same WASI.
	Bare bool
}

// Bounds of a task.
const (
	defaultWall  = time.Hour
	maxWall      = spec.MaxWallMillis * time.Millisecond
	maxArgsBytes = spec.MaxArgsBytes
	maxArgs      = spec.MaxArgs + spec.MaxEnv
)

// bound gives the task with absolute paths, or says why it can't be run. It
// looks at everything that doesn't need the module.
func (t Task) bound(memory uint64) (Task, error) {
	switch {
	case t.Profile != spec.ProfileWASM:
		return t, abort(fallow.ReasonUnsupported, "run profile %.40q is not known here", t.Profile)
	case t.Limits.Memory > memory:
		return t, abort(fallow.ReasonTooLarge, "%d bytes of memory are above the %d granted here", t.Limits.Memory, memory)
	case t.Limits.Gas > meter.MaxGas:
		return t, abort(fallow.ReasonMalformed, "gas limit %d is above %d", t.Limits.Gas, meter.MaxGas)
	case t.Limits.Output > spec.MaxOutputBytes || t.Limits.Scratch > spec.MaxScratchBytes:
		return t, abort(fallow.ReasonTooLarge, "%d bytes of output and %d of scratch are above %d and %d", t.Limits.Output, t.Limits.Scratch, spec.MaxOutputBytes, spec.MaxScratchBytes)
	case t.Limits.StackDepth > spec.MaxStackDepth:
		return t, abort(fallow.ReasonTooLarge, "a stack of %d slots is above %d", t.Limits.StackDepth, spec.MaxStackDepth)
	case len(t.Files) > spec.MaxInputs:
		return t, abort(fallow.ReasonTooLarge, "%d inputs are above %d", len(t.Files), spec.MaxInputs)
	case t.Out == "":
		return t, errors.New("runner: a task without a folder for its outputs")
	}
	if err := t.boundText(); err != nil {
		return t, err
	}
	if t.Wall <= 0 {
		t.Wall = defaultWall
	}
	t.Wall = min(t.Wall, maxWall)
	var err error
	if t.Out, err = filepath.Abs(t.Out); err != nil {
		return t, fmt.Errorf("runner: %w", err)
	}
	paths := make(map[fallow.Digest]string, len(t.Paths))
	for d, p := range t.Paths {
		if paths[d], err = filepath.Abs(p); err != nil {
			return t, fmt.Errorf("runner: %w", err)
		}
	}
	t.Paths = paths
	return t, nil
}

// boundText refuses what would not reach the guest as it stands.
func (t Task) boundText() error {
	sum := 0
	for _, s := range slices.Concat(t.Args, t.Env) {
		sum += len(s) + 1
		if !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
			return abort(fallow.ReasonMalformed, "argument or variable %.80q: want UTF-8 without zero bytes", s)
		}
	}
	if sum > maxArgsBytes || len(t.Args)+len(t.Env) > maxArgs {
		return abort(fallow.ReasonTooLarge, "%d arguments and variables of %d bytes are above %d of %d", len(t.Args)+len(t.Env), sum, maxArgs, maxArgsBytes)
	}
	for _, f := range t.Files {
		if len(f.Path) > receipt.MaxPath || !utf8.ValidString(f.Path) {
			return abort(fallow.ReasonMalformed, "input path %.80q: want UTF-8 of at most %d bytes", f.Path, receipt.MaxPath)
		}
	}
	return nil
}

// Result is what a run came to.
type Result struct {
	Outcome  receipt.Outcome
	ExitCode uint32
	Trap     string
	Gas      fallow.Gas
	// Outputs ascend by path. stdout and stderr are there when not empty.
	Outputs []Output
	// Took is how long the guest ran and CPU what it used, with the module
	// compiled beforehand; they are no part of what repeats.
	Took, CPU time.Duration
	// Load is how long the module took to be made ready before that, and
	// Collect how long its outputs took afterwards; no part of what repeats.
	Load, Collect time.Duration
}

// Output is one file that a guest wrote: its bytes where they are few, or a
// file below Task.Out.
type Output struct {
	receipt.Output
	Small []byte `json:",omitempty"`
	File  string `json:",omitempty"`
}

// Digest is the digest of all outputs, as a receipt has it.
func (r Result) Digest() fallow.Digest {
	list := make([]receipt.Output, len(r.Outputs))
	for i, o := range r.Outputs {
		list[i] = o.Output
	}
	return receipt.OutputDigest(list)
}

// outputFile is where the i-th output stands that doesn't stand in the result.
func (t Task) outputFile(i int) string { return filepath.Join(t.Out, fmt.Sprintf("output-%d", i)) }

// accept looks at what a child answered. A child has run a stranger's program:
// its word is bounded like anything else from outside.
func (t Task) accept(r Result) error {
	trapped := r.Outcome == receipt.Trapped
	switch {
	case !trapped && r.Outcome != receipt.Exited:
		return fmt.Errorf("outcome %d", r.Outcome)
	case trapped && (r.ExitCode != 0 || !slices.Contains(traps, r.Trap)), !trapped && r.Trap != "":
		return fmt.Errorf("trap %.40q with exit code %d", r.Trap, r.ExitCode)
	case min(r.Took, r.Load, r.Collect) < 0:
		return errors.New("a time below zero")
	case r.Gas > t.Limits.Gas, t.Bare && r.Gas != 0:
		return fmt.Errorf("gas %d of %d", r.Gas, t.Limits.Gas)
	case len(r.Outputs) > receipt.MaxOutputs:
		return fmt.Errorf("%d outputs", len(r.Outputs))
	}
	sum, small, last := uint64(0), 0, ""
	for i, o := range r.Outputs {
		switch {
		case o.Path <= last || len(o.Path) > receipt.MaxPath || !fs.ValidPath(o.Path) || !nameable(o.Path):
			return fmt.Errorf("output path %.80q", o.Path)
		case o.Size > t.Limits.Output:
			return fmt.Errorf("output of %d bytes", o.Size)
		case o.File == "" && (uint64(len(o.Small)) != o.Size || fallow.Sum(o.Small) != o.Digest):
			return fmt.Errorf("output %.80q is not what it says", o.Path)
		case o.File != "" && (len(o.Small) > 0 || o.File != t.outputFile(i)):
			return fmt.Errorf("output in file %.80q", o.File)
		}
		sum, small, last = sum+o.Size, small+len(o.Small), o.Path
	}
	if sum > t.Limits.Output || small > maxSmall {
		return fmt.Errorf("outputs of %d bytes, %d of them in the answer", sum, small)
	}
	return nil
}

// Abort is a run without a result.
type Abort struct { //nolint:errname // the word for it in this house
	Reason fallow.Reason
	Detail string
}

// Error says why there is no result.
func (a *Abort) Error() string { return fmt.Sprintf("%s: %s", a.Reason, a.Detail) }

func abort(r fallow.Reason, format string, args ...any) error {
	return &Abort{r, fmt.Sprintf(format, args...)}
}

// maxDetail bounds what an abort says, in bytes.
const maxDetail = 400

// blame makes an abort of what went wrong on the host. Its reason reaches the
// tenant, who has no business with the paths of this machine.
func blame(err error) *Abort {
	var a *Abort
	if errors.As(err, &a) {
		return a
	}
	text := err.Error()
	var p *fs.PathError
	if errors.As(err, &p) {
		text = strings.ReplaceAll(text, p.Path, "…")
	}
	reason := fallow.ReasonAborted
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG) {
		reason = fallow.ReasonDiskFull
	}
	return &Abort{reason, clip(text)}
}

func clip(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return strings.ToValidUTF8(s[:min(len(s), maxDetail)], "")
}

// ErrClosed is a sandbox that was closed.
var ErrClosed = errors.New("the sandbox is closed")

// maxSmall is how many bytes of outputs stand in a result rather than in files.
const maxSmall = 16 << 10
