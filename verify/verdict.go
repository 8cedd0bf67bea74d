package verify

import (
	"fallow.network"
	"fallow.network/receipt"
)

// Result is what repeats under a run profile, and is compared.
type Result struct {
	Output   fallow.Digest
	Gas      fallow.Gas
	Outcome  receipt.Outcome
	ExitCode uint32
	Trap     string
}

// ResultOf is what a receipt claims.
func ResultOf(r receipt.Receipt) Result {
	return Result{Output: r.Output, Gas: r.Gas, Outcome: r.Outcome, ExitCode: r.ExitCode, Trap: r.Trap}
}

// Verdict is what runs of one task say about who is paid for it.
type Verdict uint8

// Verdicts.
const (
	// Agreed: claim and check are equal, the claim is paid.
	Agreed Verdict = iota + 1
	// Suspended: they are not, both wait for a third run.
	Suspended
	// ClaimWrong: check and third run agree against the claim.
	ClaimWrong
	// CheckWrong: claim and third run agree against the check.
	CheckWrong
	// Unresolved: three runs, three results; nobody is paid, since the task
	// does not repeat or two of them are wrong.
	Unresolved
)

// String is the verdict in one word.
func (v Verdict) String() string {
	switch v {
	case Agreed:
		return "agreed"
	case Suspended:
		return "suspended"
	case ClaimWrong:
		return "claim_wrong"
	case CheckWrong:
		return "check_wrong"
	case Unresolved:
		return "unresolved"
	default:
		return "unknown"
	}
}

// PaysClaim says whether the one who claimed the task is paid for it.
func (v Verdict) PaysClaim() bool { return v == Agreed || v == CheckWrong }

// PaysCheck says whether the one who checked it is paid for that.
func (v Verdict) PaysCheck() bool { return v == Agreed || v == ClaimWrong }

// Judge compares a claim with its check, and with a third run once there is
// one. A mismatch accuses both sides alike.
func Judge(claim, check Result, third *Result) Verdict {
	switch {
	case claim == check:
		return Agreed
	case third == nil:
		return Suspended
	case *third == check:
		return ClaimWrong
	case *third == claim:
		return CheckWrong
	default:
		return Unresolved
	}
}
