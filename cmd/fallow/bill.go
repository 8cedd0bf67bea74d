package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"fallow.network"
	"fallow.network/client"
	"fallow.network/collect"
	"fallow.network/ledger"
	"fallow.network/sdk"
)

// jobReport is what a job came to: its bill, what the ledger says of it, and
// the files that were made of its outputs.
type jobReport struct {
	*client.Bill
	OnChain *sdk.OnChain   `json:"on_chain,omitempty"`
	Made    collect.Report `json:"made"`
	// Life is what the job went through; job show tells it.
	Life *client.Life `json:"life,omitempty"`
	// Unknown says why the ledger was not asked.
	Unknown string `json:"on_chain_unknown,omitempty"`
	// Left says that it was not to be waited for.
	Left bool `json:"-"`
}

// ask asks the ledger. A ledger that is away is no failure of the job.
func (r *jobReport) ask(ctx context.Context, c *ledger.Client) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	on, err := sdk.ReadOnChain(ctx, c, r.Bill)
	if err != nil {
		r.Unknown = firstLine(err)
		return
	}
	r.OnChain = &on
}

// print prints the report for people.
func (r jobReport) print(w io.Writer) {
	b, made := r.Bill, r.Made
	fmt.Fprintf(w, "\n%s  %s: %d of %d tasks", b.Job, b.State, b.Done, b.Tasks)
	if b.Failed > 0 {
		fmt.Fprintf(w, ", %d of them ended with a trap or an exit code", b.Failed)
	}
	fmt.Fprintln(w)
	for _, f := range made.Files {
		fmt.Fprintf(w, "  %s (%s)\n", clean(f.Path), size(uint64(f.Bytes)))
	}
	for _, n := range made.Notes {
		fmt.Fprintf(w, "  note: %s\n", clean(n))
	}

	if len(b.Providers) == 0 {
		fmt.Fprintln(w, "\nnothing was leased, and nothing is owed")
		return
	}
	fmt.Fprintln(w, "\nBILL")
	table(w, func(row func(...any)) {
		row("lease", "provider", "region", "tasks", "re-runs", "gas", "per Ggas", "per task", "charged", "paid", "checked", "ended")
		for _, l := range b.Providers {
			row(l.Lease, short(l.Provider), l.Region, l.Tasks, l.Reruns, si(uint64(l.Gas)), perGiga(l.GasPrice), l.TaskFee,
				l.Charged, l.Paid, fmt.Sprintf("%d, %d agreed", l.Checked, l.Agreed), l.Reason)
		}
	})
	fmt.Fprintln(w)
	table(w, func(row func(...any)) {
		row("charged", credits(b.Charged))
		row("paid", credits(b.Paid))
		if !b.Refused.IsZero() {
			row("refused", credits(b.Refused)+" for results found wrong")
		}
		if b.Budget > 0 {
			row("budget", credits(b.Budget.Pico()))
		}
		row("checks", checksText(b.Checks))
		row("unsecured", credits(b.Unsecured)+" of pay: not run again, and nothing can be slashed yet")
		if b.Reissued > 0 {
			row("re-issued", count(b.Reissued, "task")+" beside a slow provider")
		}
		reasons := make([]fallow.Reason, 0, len(b.Retried))
		for r := range b.Retried {
			reasons = append(reasons, r)
		}
		slices.Sort(reasons)
		for _, r := range reasons {
			row("retried", fmt.Sprintf("%s: %s", count(b.Retried[r], "attempt"), r.Text()))
		}
		row("gas", si(uint64(b.Gas)))
		r.printChain(row)
		if b.FirstOutput > 0 {
			row("first output", b.FirstOutput.Round(time.Millisecond))
		}
		row("wall time", b.Wall.Round(time.Millisecond))
		if b.Speed != nil {
			row("speed", speedText(b.Speed))
		}
	})
}

// speedText compares a job with the same work done by this machine alone, where
// there was enough of it for a comparison to mean anything.
func speedText(s *client.BillSpeed) string {
	alone := s.Alone.Round(max(s.Alone/1000, time.Microsecond))
	if s.Alone < time.Second {
		return fmt.Sprintf("%s of work for this machine's %d cores alone: too little to compare", alone, s.Bare.Cores)
	}
	return fmt.Sprintf("%.3g times the same .wasm unmetered on this machine's %d cores alone (%s)", s.Times, s.Bare.Cores, alone)
}

// printChain prints what the ledger says; without it, what this side sent.
func (r jobReport) printChain(row func(...any)) {
	b, on := r.Bill, r.OnChain
	switch {
	case !r.Left:
	case len(b.Transactions) == 0:
		row("on chain", "nothing for this job: its leases stay open")
		return
	default:
		row("on chain", fmt.Sprintf("%s of ours, %d bytes, fees %s FAL", count(len(b.Transactions), "transaction"), b.ChainBytes, fallow.Credits(b.ChainFees)))
		row("", "the leases close with the next block; providers hold their vouchers and redeem them by themselves")
		row("", "what the ledger says then: fallow job show "+string(b.Job))
		return
	}
	if on == nil {
		row("on chain", fmt.Sprintf("%s of ours, %d bytes, fees %s FAL (the ledger was not asked: %s)", count(len(b.Transactions), "transaction"), b.ChainBytes, fallow.Credits(b.ChainFees), r.Unknown))
		return
	}
	row("on chain", fmt.Sprintf("%s for the whole job, %d bytes, fees %s FAL", count(len(on.Traces), "transaction"), on.Bytes, on.Fees))
	for _, k := range tracesByKind(on.Traces) {
		row("", k)
	}
	for _, p := range on.Paid {
		row("paid out", fmt.Sprintf("%s to %s (lease %d, %s)", paidText(p), p.Provider, p.Lease, p.State))
	}
	if !on.Settled {
		row("", "providers still have time to redeem; see: fallow job show "+string(b.Job))
	}
}

// closing says that the ledger was told to close leases and nobody waited.
func closing(b *client.Bill) bool {
	return slices.ContainsFunc(b.Providers, func(l client.BillLine) bool { return l.Closing })
}

// tracesByKind sums transactions up by what they do, in the order in which the
// first of a kind came.
func tracesByKind(all []ledger.Trace) []string {
	type sum struct {
		n, bytes    int
		fee         ledger.Tokens
		first, last fallow.Height
	}
	sums := map[string]*sum{}
	var kinds []string
	for _, t := range all {
		kind := strings.Join(t.Kinds, " + ")
		s, seen := sums[kind]
		if !seen {
			s = &sum{first: t.Height}
			sums[kind] = s
			kinds = append(kinds, kind)
		}
		s.n++
		s.bytes += t.Bytes
		s.fee += t.Fee
		s.last = t.Height
	}
	lines := make([]string, 0, len(kinds))
	for _, kind := range kinds {
		s := sums[kind]
		at := fmt.Sprintf("block %d", s.first)
		if s.last != s.first {
			at = fmt.Sprintf("blocks %d to %d", s.first, s.last)
		}
		lines = append(lines, fmt.Sprintf("%d × %s, %d bytes, %s FAL, %s", s.n, kind, s.bytes, s.fee, at))
	}
	return lines
}

// paidText is what went to a provider; where rounding down took a part, or all,
// it says of what.
func paidText(p sdk.PaidLine) string {
	if whole := p.Paid.Pico(); p.State != "closed" || whole.Cmp(p.Claimed) == 0 {
		return credits(whole)
	}
	return fmt.Sprintf("%s credits (%s rounded down)", p.Paid, p.Claimed)
}

// credits says that an amount is one.
func credits(p fallow.Pico) string { return p.String() + " credits" }

func checksText(c client.BillChecks) string {
	s := fmt.Sprintf("%d run again (%d here, %d by other providers), %d agreed", c.Chosen-c.Skipped, c.Own, c.Market, c.Agreed)
	if c.Wrong+c.Cleared+c.Undecided > 0 {
		s += fmt.Sprintf("; of those that did not, %d were wrong, %d cleared, %d undecided", c.Wrong, c.Cleared, c.Undecided)
	}
	if c.Skipped > 0 {
		s += fmt.Sprintf("; %d left out", c.Skipped)
	}
	return s
}
