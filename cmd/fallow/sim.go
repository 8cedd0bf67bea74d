package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fallow.network/sim"
)

func newSimCommand(a *app) *cobra.Command { return simCommand(a, sim.Run) }

// simCommand has run stand for the simulation.
func simCommand(a *app, run func(context.Context, sim.Options) (sim.Report, error)) *cobra.Command {
	o := sim.Default()
	var shares string
	var kinds strings.Builder
	for _, k := range sim.Adversaries() {
		side := "tenant"
		if k.Lends {
			side = "provider"
		}
		fmt.Fprintf(&kinds, "  %s (%s)\n", k.Name, side)
		for _, text := range []string{"hopes for: " + k.Gains, "stopped by: " + k.Stops} {
			line := "   "
			for _, word := range strings.Fields(text) {
				if len(line)+1+len(word) > 78 {
					fmt.Fprintln(&kinds, line)
					line = "     "
				}
				line += " " + word
			}
			fmt.Fprintln(&kinds, line)
		}
	}
	c := &cobra.Command{
		Use:   "sim",
		Short: "Simulate a market of thousands, cheats among them, and look for a broken invariant",
		Long: `Simulate a market in virtual time: the real policy of providers and the real
rules of the ledger, for thousands of parties, with adversaries among them. At
every block the invariants are looked at. A seed and its flags fix every event.

Adversaries (NAME=PERCENT of their side, with commas between):
` + kinds.String() + `
It exits with 8 and prints the command that shows it again when an invariant
breaks. Latency and run time are modelled, and no guest runs.`,
		Example: `  fallow sim --seed 1 --providers 1000
  fallow sim --seed 7 --adversaries withhold=20,never-pay=30 --for 6h`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var err error
			if o.Adversaries, err = sim.ParseShares(shares); err == nil {
				err = o.Validate()
			}
			if err != nil {
				return typed(err)
			}
			began, told := time.Now(), time.Now()
			o.Progress = func(percent int) {
				if time.Since(began) > 3*time.Second && time.Since(told) > 2*time.Second {
					told = time.Now()
					fmt.Fprintf(a.err, "%d%% of %s\n", percent, o.For)
				}
			}
			report, err := run(c.Context(), o)
			if _, broken := errors.AsType[*sim.Breach](err); err != nil && !broken {
				return err
			}
			if printed := a.print(report, func(w io.Writer) { report.Print(w) }); printed != nil {
				return printed
			}
			return fail(exitBreach, err, "")
		},
	}
	f := c.Flags()
	f.Uint64Var(&o.Seed, "seed", o.Seed, "`number` that fixes every event, with the other flags")
	f.IntVar(&o.Providers, "providers", o.Providers, "`number` of providers, at most 10000")
	f.IntVar(&o.Tenants, "tenants", o.Tenants, "`number` of tenants, at most 5000")
	f.DurationVar(&o.For, "for", o.For, "virtual `time` in which jobs begin, at most 744h")
	f.StringVar(&shares, "adversaries", "", "`shares`, as withhold=20,never-pay=30")
	return c
}
