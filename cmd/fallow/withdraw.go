package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"fallow.network"
	leasev1 "fallow.network/api/lease"
	"fallow.network/ledger"
	"fallow.network/sdk"
)

// reservedLease is a lease that keeps credits of an account's escrow.
type reservedLease struct {
	Lease   fallow.LeaseID `json:"lease"`
	Reserve fallow.Credits `json:"reserve_ucredit"`
	// Until is when a lease that closes gives back at the latest what is left of
	// its reserve; empty while it is open.
	Until string `json:"until,omitempty"`
}

// withdrawn is what withdraw prints.
type withdrawn struct {
	sent
	// Reserved are the leases that keep something back still.
	Reserved []reservedLease `json:"reserved,omitempty"`
}

// reserved lists the leases that keep credits of an account's escrow.
func reserved(ctx context.Context, l *ledger.Client, account fallow.Account) (list []reservedLease, err error) {
	for lease, err := range l.Leases(ctx, ledger.LeaseFilter{Tenant: account, Open: true}) {
		if err != nil {
			return nil, err
		}
		r := reservedLease{Lease: fallow.LeaseID(lease.GetId()), Reserve: fallow.Credits(lease.GetReserve() - min(lease.GetReserve(), lease.GetPaid()))}
		if lease.GetState() == leasev1.State_STATE_CLOSING {
			r.Until = time.UnixMilli(lease.GetDeadlineUnixMs()).Format(time.DateTime)
		}
		list = append(list, r)
	}
	return list, nil
}

// mostReserved bounds how many leases are told one by one.
const mostReserved = 5

// printReserved says what escrow keeps, and when it comes back.
func printReserved(w io.Writer, list []reservedLease) {
	for i, r := range list {
		if i == mostReserved {
			fmt.Fprintf(w, "  and %d leases more: fallow balance\n", len(list)-i)
			return
		}
		if r.Until != "" {
			fmt.Fprintf(w, "  lease %d closes and keeps up to %s credits until %s at the latest\n", r.Lease, r.Reserve, r.Until)
		} else {
			fmt.Fprintf(w, "  lease %d is open and keeps up to %s credits\n", r.Lease, r.Reserve)
		}
	}
}

// reservePause is how often leases are looked at, about once a block.
const reservePause = 500 * time.Millisecond

// unreserved waits until no lease keeps anything of the account's escrow.
func (a *app) unreserved(ctx context.Context, l *ledger.Client, account fallow.Account) error {
	for said := false; ; said = true {
		var list []reservedLease
		err := a.patiently(ctx, awayWait, func() (err error) {
			list, err = reserved(ctx, l, account)
			return err
		})
		if err != nil || len(list) == 0 {
			return err
		}
		if !said {
			fmt.Fprintf(plain{a.err}, "waiting for the reserves of %d leases\n", len(list))
			printReserved(plain{a.err}, list)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(reservePause):
		}
	}
}

func newWithdrawCommand(a *app) *cobra.Command {
	var wait bool
	c := &cobra.Command{
		Use:   "withdraw CREDITS|all",
		Short: "Take free credits out of escrow",
		Long: `Take free credits out of escrow.

What leases reserve is not free. A job that has just ended leaves the closing of
its leases to the ledger, which gives back the rest of their reserves a few blocks
later, or at the end of their claim window if a provider is away: withdraw takes
what is free and tells which leases keep something. With --wait it waits for them
first; for one that stays open it waits until that is closed.`,
		Example: `  fallow withdraw 10
  fallow withdraw all --wait`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			var amount fallow.Credits
			if args[0] != "all" {
				var err error
				if amount, err = fallow.ParseCredits(args[0]); err != nil {
					return fail(exitUsage, err, "")
				}
				if amount == 0 {
					return usage("nothing to withdraw: want an amount, or all")
				}
			}
			return a.withPurse(c.Context(), func(p *sdk.Purse) error {
				return a.withdraw(c.Context(), p, amount, wait)
			})
		},
	}
	c.Flags().BoolVar(&wait, "wait", false, "wait first until no lease reserves anything")
	return c
}

// withdraw takes an amount out of escrow, 0 for all that is free.
func (a *app) withdraw(ctx context.Context, p *sdk.Purse, amount fallow.Credits, wait bool) error {
	account := p.Secret.Account()
	if wait {
		if err := a.unreserved(ctx, p.Client, account); err != nil {
			return err
		}
	}
	got, tx, err := p.Sender.Withdraw(ctx, amount)
	if err != nil && exitOf(err) != exitFunds {
		return err
	}
	var list []reservedLease
	var unknown error
	if err != nil || amount == 0 {
		list, unknown = reserved(ctx, p.Client, account)
	}
	if err != nil {
		if unknown == nil && len(list) > 0 {
			err = fail(exitFunds, err, fmt.Sprintf("%d leases reserve credits still; with --wait it waits for them", len(list)))
		}
		return err
	}
	out := withdrawn{sent{tx.Hash, tx.Height, tx.Bytes, tx.Fee, got.String()}, list}
	if err := a.print(out, func(w io.Writer) {
		fmt.Fprintf(w, "withdrew %s credits in block %d (fee %s FAL, tx %s)\n", got, tx.Height, tx.Fee, tx.Hash)
		printReserved(w, list)
		if len(list) > 0 {
			fmt.Fprintln(w, "  to wait for all of it: fallow withdraw all --wait")
		}
	}); err != nil {
		return err
	}
	if unknown != nil { // the credits are out, whatever came of the question after them
		fmt.Fprintf(plain{a.err}, "what leases keep back is not known: %v\n", unknown)
	}
	return nil
}
