package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"fallow.network"
	"fallow.network/client"
	"fallow.network/sdk"
)

// withJobs opens what is known of jobs on this home: no ledger is asked, so it
// works while the network is away.
func (a *app) withJobs(ctx context.Context, do func(*client.Reader) error) error {
	h, err := a.homeDir()
	if err != nil {
		return err
	}
	if _, err := os.Stat(h.TenantDB()); err != nil {
		return fail(exitNotFound, fmt.Errorf("no jobs in %s yet", h), "run one with: fallow run JOB-FILE")
	}
	r, err := client.Read(ctx, string(h))
	if err != nil {
		return err
	}
	return errors.Join(do(r), r.Close())
}

func newJobsCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "jobs",
		Short: "List the jobs of this home",
		Long: `List the jobs of this home with their state, and what they paid so far. It asks
nobody, so it works while the network is away.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			err := a.withJobs(c.Context(), func(s *client.Reader) error {
				all, err := s.Jobs(c.Context())
				if err != nil {
					return err
				}
				return a.printJobs(all)
			})
			if exitOf(err) == exitNotFound {
				return a.printJobs(nil)
			}
			return err
		},
	}
}

// jobFacts is a job as --json prints it, where the rules' own type of a
// placement has no names for other programs.
type jobFacts struct {
	client.Job
	Options optionFacts `json:"options"`
}

type optionFacts struct {
	client.Options
	Placement placementFacts `json:"placement"`
}

type placementFacts struct {
	Regions    []string          `json:"regions"`
	Attributes map[string]string `json:"attributes"`
	Providers  []fallow.Account  `json:"providers"`
	Excluded   []fallow.Account  `json:"excluded"`
}

func factsOf(j client.Job) jobFacts {
	p := j.Options.Placement
	f := placementFacts{list(p.Regions), map[string]string{}, list(p.Providers), list(p.Excluded)}
	for _, a := range p.Attributes {
		f.Attributes[a.Key] = a.Value
	}
	return jobFacts{j, optionFacts{j.Options, f}}
}

func (a *app) printJobs(all []client.Job) error {
	facts := make([]jobFacts, len(all))
	for i, j := range all {
		facts[i] = factsOf(j)
	}
	return a.print(facts, func(w io.Writer) {
		if len(all) == 0 {
			fmt.Fprintln(w, "no jobs yet; run one with: fallow run JOB-FILE")
			return
		}
		table(w, func(row func(...any)) {
			row("JOB", "STATE", "TASKS", "PAID", "STARTED")
			for _, j := range all {
				row(j.ID, j.State, fmt.Sprintf("%d of %d", j.Done, j.Tasks), j.Paid, j.Created.Local().Format(time.DateTime))
			}
		})
	})
}

// jobIDs completes the numbers of jobs.
func (a *app) jobIDs(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	var ids []string
	err := a.withJobs(c.Context(), func(s *client.Reader) error {
		all, err := s.Jobs(c.Context())
		for _, j := range all {
			ids = append(ids, string(j.ID)+"\t"+string(j.State))
		}
		return err
	})
	if err != nil || len(args) > 0 {
		ids = nil
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}

func newJobCommand(a *app) *cobra.Command {
	show := &cobra.Command{
		Use:   "show JOB",
		Short: "Show a job: its bill, and in words where its time and money went",
		Long: `Show a job: its bill, and in words where its time and money went: what the
market answered, the blocks that were waited for, inputs and outputs, runs,
checks, retries and lost providers. All but what the ledger says comes from
this home's own records, so it works while the network is away.`,
		Example:           `  fallow job show film-3f9a01`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.jobIDs,
		RunE: func(c *cobra.Command, args []string) error {
			return a.withJobs(c.Context(), func(s *client.Reader) error {
				b, err := s.Bill(c.Context(), client.JobID(args[0]))
				if err != nil {
					return err
				}
				report := jobReport{Bill: b}
				if report.Life, err = s.Life(c.Context(), client.JobID(args[0])); err != nil {
					return err
				}
				if ledger, done, err := a.onlooker(c.Context()); err != nil {
					report.Unknown = firstLine(err)
				} else {
					report.ask(c.Context(), ledger)
					done()
				}
				return a.print(report, func(w io.Writer) {
					report.print(w)
					printLife(w, report.Life, b, a.width())
					if b.Reason != "" {
						fmt.Fprintf(w, "\n%s\n", b.Reason)
					}
				})
			})
		},
	}
	outputs := &cobra.Command{
		Use:               "outputs JOB",
		Short:             "List the files that a job's tasks left, with their digests",
		Example:           `  fallow job outputs film-3f9a01 --json`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.jobIDs,
		RunE: func(c *cobra.Command, args []string) error {
			return a.withJobs(c.Context(), func(s *client.Reader) error {
				all, err := s.Outputs(c.Context(), client.JobID(args[0]))
				if err != nil {
					return err
				}
				return a.print(list(all), func(w io.Writer) {
					table(w, func(row func(...any)) {
						for _, o := range all {
							row(o.Label, o.Path, size(o.Size), o.Digest, o.File)
						}
					})
				})
			})
		},
	}
	var quiet bool
	resume := &cobra.Command{
		Use:               "resume JOB",
		Short:             "Go on with a job that this program left in the middle",
		Example:           `  fallow job resume film-3f9a01`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.jobIDs,
		RunE: func(c *cobra.Command, args []string) error {
			return a.withTenant(c.Context(), awayWait, func(t *sdk.Tenant) error {
				return a.runJob(c.Context(), t, client.JobID(args[0]), quiet)
			})
		},
	}
	resume.Flags().BoolVarP(&quiet, "quiet", "q", false, "print the bill alone")
	cancel := &cobra.Command{
		Use:               "cancel JOB",
		Short:             "Stop a job: pay what was done and close its leases",
		Example:           `  fallow job cancel film-3f9a01`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.jobIDs,
		RunE: func(c *cobra.Command, args []string) error {
			return a.withTenant(c.Context(), awayWait, func(t *sdk.Tenant) error {
				b, err := t.Cancel(c.Context(), client.JobID(args[0]), nil)
				if err != nil && b == nil {
					return explain(err)
				}
				report := jobReport{Bill: b}
				report.ask(c.Context(), t.Purse.Client)
				return errors.Join(err, a.print(report, report.print))
			})
		},
	}
	return group("job", "Show, cancel, resume a job, or list its outputs", `One job, by its name in fallow jobs. Whatever became of the program that ran it,
resume goes on: what is done and paid is neither done nor paid again.`,
		show, outputs, resume, cancel)
}
