package receipt

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"fallow.network"
	"fallow.network/market"
)

// Bounds of what comes from outside.
const (
	MaxOutputs  = 1024
	MaxPath     = 512 // bytes of an output's path
	MaxName     = 255 // bytes of each name in it, as file systems have it
	MaxTrap     = 128
	MaxReceipts = 1 << 24 // under one voucher
)

// ErrMalformed is a message outside the bounds of its fields.
var ErrMalformed = errors.New("malformed")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
}

// Outcome is how a guest ended. Both are results: they repeat.
type Outcome uint32

// Outcomes.
const (
	Exited  Outcome = 1 // by itself, with an exit code
	Trapped Outcome = 2 // by a trap
)

// String is the outcome in one word.
func (o Outcome) String() string {
	switch o {
	case Exited:
		return "exited"
	case Trapped:
		return "trapped"
	default:
		return "unknown"
	}
}

// Output is one file that a task wrote; stdout and stderr are outputs with
// the paths "stdout" and "stderr".
type Output struct {
	Path   string
	Digest fallow.Digest
	Size   uint64 // bytes
}

// Receipt is a node's signed word on one attempt at one task.
type Receipt struct {
	Lease    fallow.LeaseID
	Workload fallow.Digest // hash of the canonical workload
	Task     uint32
	Attempt  uint32
	Input    fallow.Digest // InputDigest
	Output   fallow.Digest // OutputDigest of Outputs
	Outputs  []Output      // ascending by path
	Gas      fallow.Gas
	Outcome  Outcome
	ExitCode uint32
	Trap     string
	Profile  string
	Started  fallow.Time
	Ended    fallow.Time
	Charge   fallow.Pico // Charge of the lease's terms and Gas
}

// Voucher pays a lease's provider cumulatively, by the session key.
type Voucher struct {
	Lease        fallow.LeaseID
	Amount       fallow.Pico   // of all receipts so far
	ReceiptsRoot fallow.Digest // Root over the digests of the receipts, in order
	Receipts     uint32
}

// Horizon lets a service accrue until a moment, by the session key.
type Horizon struct {
	Lease    fallow.LeaseID
	Sequence uint64
	Until    fallow.Time
}

// Release frees everything of a reserve above an amount, by the node key.
type Release struct {
	Lease  fallow.LeaseID
	Amount fallow.Pico
}

// Check says what is out of bounds in o.
func (o Output) Check() error {
	switch {
	case len(o.Path) > MaxPath || o.Path == "." || !fs.ValidPath(o.Path) || strings.ContainsAny(o.Path, "\x00\\"):
		return malformed("output path %.80q: want a clean relative path of at most %d bytes", o.Path, MaxPath)
	case longName(o.Path):
		return malformed("output path %.80q: want names of at most %d bytes", o.Path, MaxName)
	case o.Digest.IsZero():
		return malformed("output %.80q without a digest", o.Path)
	case o.Size > market.MaxBytes:
		return malformed("output %.80q of %d bytes is above %d", o.Path, o.Size, uint64(market.MaxBytes))
	}
	return nil
}

func longName(path string) bool {
	for name := range strings.SplitSeq(path, "/") {
		if len(name) > MaxName {
			return true
		}
	}
	return false
}

// checkOutputs says what keeps outputs from being files side by side: a bad
// one, one out of order or twice, or one that lies below another.
func checkOutputs(outputs []Output) error {
	files := make(map[string]bool, len(outputs))
	for i, o := range outputs {
		if err := o.Check(); err != nil {
			return err
		}
		if i > 0 && outputs[i-1].Path >= o.Path {
			return malformed("outputs out of order at %.80q", o.Path)
		}
		for at, c := range o.Path {
			if c == '/' && files[o.Path[:at]] {
				return malformed("output %.80q lies below output %.80q", o.Path, o.Path[:at])
			}
		}
		files[o.Path] = true
	}
	return nil
}

// Check says what is out of bounds or inconsistent in r: the outputs must be
// in order and hash to Output.
func (r Receipt) Check() error {
	switch {
	case r.Lease == 0:
		return malformed("receipt without a lease")
	case r.Workload.IsZero() || r.Input.IsZero():
		return malformed("receipt without a workload or input")
	case r.Task >= market.MaxTasks:
		return malformed("receipt for task %d: want below %d", r.Task, market.MaxTasks)
	case len(r.Outputs) > MaxOutputs:
		return malformed("receipt of %d outputs is above %d", len(r.Outputs), MaxOutputs)
	case r.Outcome != Exited && r.Outcome != Trapped:
		return malformed("receipt with outcome %d: want 1 (exited) or 2 (trapped)", r.Outcome)
	case r.Outcome == Exited && r.Trap != "", r.Outcome == Trapped && (r.Trap == "" || r.ExitCode != 0):
		return malformed("receipt whose trap and exit code don't match outcome %s", r.Outcome)
	case len(r.Trap) > MaxTrap || len(r.Profile) > market.MaxName:
		return malformed("receipt with a trap or profile too long")
	case r.Started <= 0 || r.Ended < r.Started:
		return malformed("receipt that ends at %d before it starts at %d", r.Ended, r.Started)
	}
	if err := checkOutputs(r.Outputs); err != nil {
		return err
	}
	if got := OutputDigest(r.Outputs); got != r.Output {
		return malformed("outputs hash to %s and not to %s", got.Short(), r.Output.Short())
	}
	return nil
}

// Check says what is out of bounds in v.
func (v Voucher) Check() error {
	switch {
	case v.Lease == 0:
		return malformed("voucher without a lease")
	case v.Receipts > MaxReceipts:
		return malformed("voucher over %d receipts is above %d", v.Receipts, MaxReceipts)
	case v.Receipts > 0 && v.ReceiptsRoot.IsZero():
		return malformed("voucher without a receipts root")
	}
	return nil
}

// Check says what is out of bounds in h.
func (h Horizon) Check() error {
	if h.Lease == 0 || h.Sequence == 0 || h.Until <= 0 {
		return malformed("horizon without a lease, sequence or time")
	}
	return nil
}

// Check says what is out of bounds in r.
func (r Release) Check() error {
	if r.Lease == 0 {
		return malformed("release without a lease")
	}
	return nil
}
