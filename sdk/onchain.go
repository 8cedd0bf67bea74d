package sdk

import (
	"context"
	"slices"
	"time"

	"fallow.network"
	"fallow.network/client"
	"fallow.network/ledger"
	"fallow.network/settle"
)

// OnChain is what the ledger says of a job: every transaction that touched its
// leases, whoever sent it, and what became of the money.
type OnChain struct {
	Traces []ledger.Trace `json:"transactions"`
	Bytes  int            `json:"bytes"`
	Fees   ledger.Tokens  `json:"fees_ufal"`
	// Settled says that every lease that ended is closed; otherwise providers
	// still have time to redeem.
	Settled bool       `json:"settled"`
	Paid    []PaidLine `json:"paid"`
}

// PaidLine is one lease's money on the ledger.
type PaidLine struct {
	Lease    fallow.LeaseID `json:"lease"`
	Provider fallow.Account `json:"provider"`
	State    string         `json:"state"`
	Reserve  fallow.Credits `json:"reserve_ucredit"`
	Claimed  fallow.Pico    `json:"claimed"`
	// Paid went to the provider, rounded down to whole ucredit.
	Paid   fallow.Credits `json:"paid_ucredit"`
	Reason fallow.Reason  `json:"reason"`
}

// settleWait is how long ReadOnChain waits for providers to redeem what they hold.
const settleWait = 8 * time.Second

// maxLook is how many blocks back a job's transactions are looked for: those of
// a standing lease may lie further back and are another job's anyway.
const maxLook = 5000

// ReadOnChain reads what the ledger has of a bill's leases. It waits a little for
// providers that have not redeemed their vouchers yet.
func ReadOnChain(ctx context.Context, c *ledger.Client, b *client.Bill) (OnChain, error) {
	var (
		out OnChain
		ids []fallow.LeaseID
	)
	leased := slices.DeleteFunc(slices.Clone(b.Providers), func(l client.BillLine) bool { return l.Lease == 0 })
	for _, l := range leased {
		ids = append(ids, l.Lease)
	}
	if len(ids) == 0 {
		out.Settled = true
		return out, nil
	}
	until := time.Now().Add(settleWait)
	first := fallow.Height(0)
	for {
		out.Paid, out.Settled = nil, true
		for _, line := range leased {
			l, err := c.Lease(ctx, line.Lease)
			if err != nil {
				return out, err
			}
			lease, err := leaseOf(l)
			if err != nil {
				return out, err
			}
			if first == 0 || lease.Opened.Height < first {
				first = lease.Opened.Height
			}
			out.Paid = append(out.Paid, PaidLine{
				Lease: lease.ID, Provider: lease.Provider, State: lease.State.String(), Reserve: lease.Reserve,
				Claimed: lease.Claimed, Paid: lease.Paid, Reason: lease.Reason,
			})
			// A standing lease stays open when a job on it ends. A closed one
			// takes no voucher any more: who was killed may never have come.
			out.Settled = out.Settled && (line.Reason == "" || lease.State == settle.Closed)
		}
		if out.Settled || time.Now().After(until) {
			break
		}
		head, err := c.Head(ctx)
		if err != nil {
			return out, err
		}
		if _, err := c.WaitHeight(ctx, head.Height+1); err != nil {
			return out, err
		}
	}
	head, err := c.Head(ctx)
	if err != nil {
		return out, err
	}
	if out.Traces, err = c.Footprint(ctx, ids, max(first, head.Height-maxLook), head.Height); err != nil {
		return out, err
	}
	for _, tr := range out.Traces {
		out.Bytes += tr.Bytes
		out.Fees += tr.Fee
	}
	return out, nil
}
