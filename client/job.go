package client

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"regexp"
	"time"

	"fallow.network"
	"fallow.network/formats"
	"fallow.network/market"
	"fallow.network/spec"
)

// JobID names a job on this home, as film-3f9a2c.
type JobID string

var jobID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,70}$`)

func newJobID(name string) JobID {
	var b [3]byte
	_, _ = rand.Read(b[:]) // never fails
	return JobID(name + "-" + hex.EncodeToString(b[:]))
}

// State is where a job stands.
type State string

// States of a job.
const (
	StateNew       State = "new"       // built, nothing asked yet
	StateRunning   State = "running"   // asking, leasing, working
	StateSettling  State = "settling"  // all results are here; last vouchers and closes
	StateDone      State = "done"      // every task has a result
	StateFailed    State = "failed"    // it stopped, and what was leased is closed
	StateCancelled State = "cancelled" // the tenant stopped it
)

// Ended says whether nothing more will happen.
func (s State) Ended() bool { return s == StateDone || s == StateFailed || s == StateCancelled }

// Job is what is known of one.
type Job struct {
	ID    JobID  `json:"id"`
	Name  string `json:"name"`
	State State  `json:"state"`
	// Reason is why it failed.
	Reason   string        `json:"reason"`
	Workload fallow.Digest `json:"workload"`
	Tasks    int           `json:"tasks"`
	Done     int           `json:"done"`
	Paid     fallow.Pico   `json:"paid"`
	Options  Options       `json:"options"`
	Created  time.Time     `json:"created"`
	Started  time.Time     `json:"started"` // zero before
	Ended    time.Time     `json:"ended"`   // zero before
	// FirstOutput is when the first outputs lay in their place; zero before.
	FirstOutput time.Time `json:"first_output"`
}

// Options are what a job is run with beside its workload.
type Options struct {
	// Out is the absolute folder that outputs go to.
	Out string `json:"out"`
	// Budget bounds what the job may cost; 0 is what free escrow covers.
	Budget fallow.Credits `json:"budget_ucredit"`
	// Deadline bounds the wall time from the first start; 0 is none.
	Deadline time.Duration `json:"deadline_ns"`
	// Slots bounds the tasks at once; 0 is as many as are offered.
	Slots     uint32           `json:"slots"`
	Checks    formats.Checks   `json:"checks"`
	Placement market.Placement `json:"placement"`
	Collect   formats.Collect  `json:"collect"`
	// Labels tell tasks apart for people.
	Labels []string `json:"labels"`
	// Leases are standing leases to run on, in place of new ones.
	Leases []fallow.LeaseID `json:"leases"`
	// Leave has a job that is done end once a node has taken the closing of its
	// leases, with every voucher signed and at its provider: it does not wait
	// for the block. A later verb of this home looks whether it came there.
	Leave bool `json:"leave"`
}

// label is a task's label, or its number.
func (o Options) label(task uint32) string {
	if int(task) < len(o.Labels) && o.Labels[task] != "" {
		return o.Labels[task]
	}
	return fmt.Sprintf("task %d", task)
}

// Output is a file that a task left on this machine.
type Output struct {
	Task   uint32        `json:"task"`
	Label  string        `json:"label"`
	Path   string        `json:"path"` // as the guest wrote it, or stdout or stderr
	Digest fallow.Digest `json:"digest"`
	Size   uint64        `json:"size"`
	File   string        `json:"file"` // absolute
}

// record is a job with all that running it needs.
type record struct {
	Job
	workload spec.Workload
	salt     [32]byte
}
