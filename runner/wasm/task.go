package wasm

import (
	"errors"
	"fmt"
	"time"

	"fallow.network"
	"fallow.network/receipt"
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

// Task is one run: what its result depends on, and where this machine has it.
type Task struct {
	receipt.Task
	// Paths are the host paths of the module, stdin and inputs, by digest.
	Paths map[fallow.Digest]string
	// Out is a folder of this machine for outputs too large to stand in the
	// result; it is made when the first one comes.
	Out string
	// Wall bounds the run; 0 is an hour. Past it the run is aborted.
	Wall time.Duration
	// Bare runs the module without metering, for comparison: no gas, no stack
	// count, the same WASI.
	Bare bool
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

// Abort is a run without a result.
type Abort struct {
	Reason fallow.Reason
	Detail string
}

// Error says why there is no result.
func (a *Abort) Error() string { return fmt.Sprintf("%s: %s", a.Reason, a.Detail) }

func abort(r fallow.Reason, format string, args ...any) error {
	return &Abort{r, fmt.Sprintf(format, args...)}
}

// ErrClosed is a sandbox that was closed.
var ErrClosed = errors.New("the sandbox is closed")

// maxSmall is how many bytes of outputs stand in a result rather than in files.
const maxSmall = 16 << 10
