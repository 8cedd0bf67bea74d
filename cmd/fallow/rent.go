package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"fallow.network"
	"fallow.network/client"
	"fallow.network/collect"
	"fallow.network/formats"
	"fallow.network/sdk"
)

func rentVerbs(a *app) []*cobra.Command {
	return []*cobra.Command{newRunCommand(a), newJobsCommand(a), newJobCommand(a), newLeaseCommand(a)}
}

// withTenant opens the home's tenant for one verb; a ledger that is away then is
// asked for up to wait.
func (a *app) withTenant(ctx context.Context, wait time.Duration, do func(*sdk.Tenant) error) error {
	h, _, ring, err := a.ring()
	if err != nil {
		return err
	}
	return a.traced(ctx, h, "tenant", a.logger(), func(ctx context.Context) error {
		var t *sdk.Tenant
		if err := a.patiently(ctx, wait, func() (err error) {
			t, err = sdk.OpenTenant(ctx, h, ring, a.logger(), a.tenant...)
			return err
		}); err != nil {
			return err
		}
		return errors.Join(do(t), t.Close())
	})
}

// runFlags stand over a job file.
type runFlags struct {
	out, budget, check, rate string
	deadline                 time.Duration
	slots                    uint32
	leases                   []uint
	quiet, wait, punch       bool
}

func newRunCommand(a *app) *cobra.Command {
	var f runFlags
	c := &cobra.Command{
		Use:   "run JOB-FILE",
		Short: "Run a batch: ask the market, lease, run, check, pay, and print the bill",
		Long: `Run a batch: ask the market, lease, run, check, pay, and print the bill.

JOB-FILE is Fallow's own short form (docs/job-file.md) or a Bacalhau WASM job.
Ctrl-C settles what was done and closes. Whatever happens to this program, the
job goes on with: fallow job resume ID

It ends when the results are here, the providers hold the vouchers for them, and
the ledger was told to close the leases; what the ledger made of that, fallow job
show ID says a moment later. --wait waits for it.`,
		Example: `  fallow run examples/hello/job.yaml
  fallow run examples/film/job.yaml --budget 0.10 --out film
  fallow run noop.yaml --lease 12`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			job, err := client.ReadJob(args[0])
			if err != nil {
				return fail(exitUsage, err, "")
			}
			options := client.OptionsOf(job)
			if err := f.over(&options, job.Name); err != nil {
				return err
			}
			if !f.punch {
				a.tenant = append(a.tenant, sdk.RelayOnly)
			}
			return a.withTenant(c.Context(), awayWait, func(t *sdk.Tenant) error {
				id, err := t.Submit(c.Context(), job, client.Folder(filepath.Dir(args[0])), options)
				if err != nil {
					return fail(exitUsage, err, "")
				}
				return a.runJob(c.Context(), t, id, f.quiet)
			})
		},
	}
	fl := c.Flags()
	fl.StringVar(&f.out, "out", "", "folder for outputs (default: out/NAME)")
	fl.StringVar(&f.budget, "budget", "", "most that the job may cost, in credits")
	fl.DurationVar(&f.deadline, "deadline", 0, "most wall time that it may take")
	fl.Uint32Var(&f.slots, "slots", 0, "most tasks at once")
	fl.StringVar(&f.check, "check", "", "where samples run again: own, market or both")
	fl.StringVar(&f.rate, "check-rate", "", "how many: auto, always or never")
	fl.UintSliceVar(&f.leases, "lease", nil, "run on leases that are open already (fallow lease open)")
	fl.BoolVar(&f.wait, "wait", false, "wait until everything is settled on the ledger")
	fl.BoolVar(&f.punch, "punch", true, "open a socket while a provider behind a NAT is met halfway; without, it is reached through a relay")
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "print the bill alone")
	return c
}

// over sets the flags over a job file's options.
func (f runFlags) over(o *client.Options, name string) error {
	o.Out, o.Leave = f.out, !f.wait
	if o.Out == "" {
		o.Out = filepath.Join("out", name)
	}
	if f.budget != "" {
		var err error
		if o.Budget, err = fallow.ParseCredits(f.budget); err != nil {
			return fail(exitUsage, fmt.Errorf("--budget: %w", err), "")
		}
	}
	if f.deadline < 0 {
		return usage("--deadline %s is below zero", f.deadline)
	}
	override(&o.Deadline, f.deadline)
	override(&o.Slots, f.slots)
	override(&o.Checks.Where, formats.CheckWhere(f.check))
	override(&o.Checks.Mode, formats.CheckMode(f.rate))
	for _, l := range f.leases {
		o.Leases = append(o.Leases, fallow.LeaseID(l))
	}
	return nil
}

// override sets what is not zero.
func override[T comparable](at *T, v T) {
	var zero T
	if v != zero {
		*at = v
	}
}

// runJob runs a job that was submitted, showing its progress, then gathers
// what the job file asks for and prints the bill.
func (a *app) runJob(ctx context.Context, t *sdk.Tenant, id client.JobID, quiet bool) error {
	job, err := t.Job(ctx, id)
	if err != nil {
		return err
	}
	begun := time.Now()
	w := newWatch(string(id), job.Tasks, job.Options.Budget, begun)
	var events client.Events
	stop := func() error { return nil }
	file, isFile := a.out.(*os.File)
	switch {
	case quiet:
	case a.json:
		events = linesTo(a.err, w)
	case isFile && term.IsTerminal(int(file.Fd())):
		events, stop = drawTo(a.out, w)
	default:
		events = linesTo(a.out, w)
	}
	bill, err := t.Run(ctx, id, events)
	err = errors.Join(err, stop())
	if bill == nil {
		return explain(err)
	}
	report := jobReport{Bill: bill}
	if err == nil {
		report.Made, err = gather(ctx, t, id)
	}
	if job.Options.Leave && err == nil && !job.State.Ended() && (len(bill.Transactions) == 0 || closing(bill)) {
		report.Left, report.Unknown = true, "not waited for; it is settled a moment from now: fallow job show "+string(id)
	} else {
		report.ask(context.WithoutCancel(ctx), t.Purse.Client)
	}
	if perr := a.print(report, report.print); perr != nil {
		return perr
	}
	if err != nil && !bill.State.Ended() {
		return fail(exitOf(explain(err)), err, "go on with: fallow job resume "+string(id))
	}
	if err == nil && bill.Failed > 0 {
		return fail(exitTasks, fmt.Errorf("%d of %d tasks ended with a trap or an exit code", bill.Failed, bill.Tasks), "what they wrote: fallow job outputs "+string(id))
	}
	return explain(err)
}

// explain gives an error of the client its exit code.
func explain(err error) error {
	var (
		budget *client.BudgetError
		offers *client.NoOffersError
		task   *client.TaskError
	)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, client.ErrCancelled), errors.Is(err, context.Canceled):
		return fail(exitCancelled, err, "")
	case errors.As(err, &budget):
		return fail(exitFunds, err, "")
	case errors.As(err, &offers):
		return fail(exitNoOffers, err, "")
	case errors.As(err, &task), errors.Is(err, client.ErrDeadline):
		return fail(exitTasks, err, "")
	}
	return err
}

// gather makes the films and sheets that the job file asks for.
func gather(ctx context.Context, t *sdk.Tenant, id client.JobID) (collect.Report, error) {
	job, err := t.Job(ctx, id)
	if err != nil {
		return collect.Report{}, err
	}
	want := job.Options.Collect
	if want.Frames == "" {
		return collect.Report{}, nil
	}
	outputs, err := t.Outputs(ctx, id)
	if err != nil {
		return collect.Report{}, err
	}
	var frames []string
	for _, o := range outputs {
		if match, err := filepath.Match(want.Frames, o.Path); err == nil && match {
			frames = append(frames, o.File)
		}
	}
	slices.SortFunc(frames, func(x, y string) int { return strings.Compare(filepath.Base(x), filepath.Base(y)) })
	r, err := collect.Film(ctx, frames, collect.Options{GIF: want.GIF, MP4: want.MP4, ContactSheet: want.ContactSheet, FPS: int(want.FPS)})
	if err != nil {
		return r, fmt.Errorf("gather the frames: %w", err)
	}
	return r, nil
}
