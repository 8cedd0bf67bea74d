package receipt

import (
	"fmt"

	"fallow.network"
	"fallow.network/market"
)

// Expected is what a tenant asked for, and so what a receipt must say.
type Expected struct {
	Lease    fallow.LeaseID
	Workload fallow.Digest
	Task     uint32
	Attempt  uint32
	Input    fallow.Digest
	Profile  string
	Gas      fallow.Gas // the task's limit; zero is none
	Output   uint64     // the task's limit on bytes of outputs; zero is none
	Terms    market.Terms
}

// Accept says why a receipt does not answer what was asked: another lease,
// task or input, another profile, more gas or bytes than the limits, or another
// charge than the terms make of its gas. Whether the result is right is
// verify's to say.
func (r Receipt) Accept(e Expected) error {
	switch {
	case r.Lease != e.Lease:
		return malformed("receipt for lease %d, not %d", r.Lease, e.Lease)
	case r.Workload != e.Workload || r.Task != e.Task || r.Attempt != e.Attempt:
		return malformed("receipt for task %d attempt %d of workload %s, not task %d attempt %d of %s",
			r.Task, r.Attempt, r.Workload.Short(), e.Task, e.Attempt, e.Workload.Short())
	case r.Input != e.Input:
		return malformed("receipt for other inputs: %s, not %s", r.Input.Short(), e.Input.Short())
	case r.Profile != e.Profile:
		return malformed("receipt under profile %q, not %q", r.Profile, e.Profile)
	case e.Gas > 0 && r.Gas > e.Gas:
		return malformed("receipt over %d gas, above the limit of %d", r.Gas, e.Gas)
	}
	if left := e.Output; left > 0 {
		for _, o := range r.Outputs {
			if o.Size > left {
				return malformed("receipt over outputs above the limit of %d bytes", e.Output)
			}
			left -= o.Size
		}
	}
	charge, err := Charge(e.Terms, r.Gas)
	if err != nil {
		return fmt.Errorf("charge of %d gas: %w", r.Gas, err)
	}
	if charge != r.Charge {
		return malformed("receipt charges %s credits for %d gas, the terms make it %s", r.Charge, r.Gas, charge)
	}
	return nil
}

// Equivocates says whether two receipts, both signed by one node key, prove
// fraud: they are for the same lease, task and attempt, and claim different
// things. Times alone prove nothing: a node that was killed may have run its
// task again.
func Equivocates(a, b Receipt) bool {
	if a.Lease != b.Lease || a.Task != b.Task || a.Attempt != b.Attempt {
		return false
	}
	return a.Workload != b.Workload || a.Input != b.Input || a.Output != b.Output || a.Gas != b.Gas ||
		a.Outcome != b.Outcome || a.ExitCode != b.ExitCode || a.Trap != b.Trap ||
		a.Profile != b.Profile || a.Charge != b.Charge
}
