package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"fallow.network"
	"fallow.network/client"
	"fallow.network/sdk"
)

func newLeaseCommand(a *app) *cobra.Command {
	return group("lease", "Standing leases: open, ls, close; jobs run on them without waiting", `Standing leases. A lease that is open already spares a job the question, the
answers and a block: it begins in milliseconds. What is reserved and not spent
goes back when the lease is closed.`,
		newLeaseOpenCommand(a), newLeaseListCommand(a), newLeaseCloseCommand(a))
}

func newLeaseOpenCommand(a *app) *cobra.Command {
	var (
		wish    client.LeaseWish
		reserve string
	)
	c := &cobra.Command{
		Use:   "open",
		Short: "Lease capacity that jobs run on later, with no asking and no waiting for a block",
		Example: `  fallow lease open --reserve 0.10 --slots 2
  fallow run noop.yaml --lease 7
  fallow lease close 7`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var err error
			if wish.Reserve, err = fallow.ParseCredits(reserve); err != nil {
				return fail(exitUsage, fmt.Errorf("--reserve: %w", err), "")
			}
			return a.withTenant(c.Context(), awayWait, func(t *sdk.Tenant) error {
				all, err := t.OpenLeases(c.Context(), wish, nil)
				if err != nil {
					return explain(err)
				}
				return a.print(all, func(w io.Writer) { printLeases(w, all) })
			})
		},
	}
	f := c.Flags()
	f.StringVar(&reserve, "reserve", "0.10", "`credits` of each lease")
	f.IntVar(&wish.Leases, "leases", 1, "how many, each with another provider")
	f.Uint32Var(&wish.Slots, "slots", 1, "tasks at once in each, at most")
	f.DurationVar(&wish.For, "for", time.Hour, "how long it is wanted, for the provider's planning")
	f.Uint64Var(&wish.Limits.MemoryBytes, "memory", 256<<20, "bytes of memory that a task may be granted")
	f.StringSliceVar(&wish.Placement.Regions, "region", nil, "where they may be")
	return c
}

func newLeaseListCommand(a *app) *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List the standing leases of this home",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withTenant(c.Context(), 0, func(t *sdk.Tenant) error {
				leases, err := t.StandingLeases(c.Context(), all)
				if err != nil {
					return err
				}
				return a.print(list(leases), func(w io.Writer) { printLeases(w, leases) })
			})
		},
	}
	c.Flags().BoolVar(&all, "all", false, "those that have ended, too")
	return c
}

func printLeases(w io.Writer, all []client.StandingLease) {
	if len(all) == 0 {
		fmt.Fprintln(w, "no standing leases; open one with: fallow lease open")
		return
	}
	table(w, func(row func(...any)) {
		row("LEASE", "PROVIDER", "REGION", "STATE", "SLOTS", "PER GGAS", "RESERVE", "PAID", "TASKS")
		for _, l := range all {
			state := l.State
			if l.Reason != "" {
				state += ": " + l.Reason.Text()
			}
			row(l.ID, short(l.Provider), l.Region, state, l.Slots, perGiga(l.GasPrice), l.Reserve, l.Paid, l.Tasks)
		}
	})
}

func newLeaseCloseCommand(a *app) *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:   "close LEASE...",
		Short: "Pay what is owed on standing leases and close them",
		Example: `  fallow lease close 7 8
  fallow lease close --all`,
		RunE: func(c *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return fail(exitUsage, errors.New("want the numbers of leases, or --all"), "")
			}
			var ids []fallow.LeaseID
			for _, s := range args {
				n, err := strconv.ParseUint(s, 10, 64)
				if err != nil || n == 0 {
					return usage("%.40q is no lease's number", s)
				}
				ids = append(ids, fallow.LeaseID(n))
			}
			return a.withTenant(c.Context(), awayWait, func(t *sdk.Tenant) error {
				if all {
					open, err := t.StandingLeases(c.Context(), false)
					if err != nil {
						return err
					}
					for _, l := range open {
						ids = append(ids, l.ID)
					}
				}
				if len(ids) > 0 {
					if err := t.CloseLeases(c.Context(), ids, nil); err != nil {
						return explain(err)
					}
				}
				return a.print(map[string]any{"closed": list(ids)}, func(w io.Writer) { fmt.Fprintf(w, "closed %s\n", count(len(ids), "lease")) })
			})
		},
	}
	c.Flags().BoolVar(&all, "all", false, "every open one")
	return c
}
