package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"fallow.network/sdk"
)

// app is what every verb is given: the streams, and the flags of the root.
type app struct {
	in       io.Reader
	out, err io.Writer
	home     string
	json     bool
	verbose  bool
}

// Groups of verbs, by who uses them.
const (
	groupRent    = "rent"
	groupLend    = "lend"
	groupMoney   = "money"
	groupNetwork = "network"
	groupMachine = "machine"
)

func newRoot(stdin io.Reader, stdout, stderr io.Writer) *cobra.Command {
	a := &app{in: stdin, out: stdout, err: stderr}
	root := &cobra.Command{
		Use:   "fallow",
		Short: "An open market for compute",
		Long: `Fallow is an open market for compute. Rent machines by the second or by the
task, or lend yours while it lies idle, and be paid for work really done.

Begin here:
  fallow up                                  a whole market on this machine
  fallow run examples/film/job.yaml          rent from it
  fallow audit                               prove the books`,
		SilenceErrors:              true,
		SilenceUsage:               true,
		SuggestionsMinimumDistance: 2,
		Args:                       cobra.NoArgs,
		RunE:                       func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return fail(exitUsage, err, "") })
	root.AddGroup(
		&cobra.Group{ID: groupRent, Title: "Rent compute (tenants):"},
		&cobra.Group{ID: groupLend, Title: "Lend compute (providers):"},
		&cobra.Group{ID: groupMoney, Title: "Keys and money (everyone):"},
		&cobra.Group{ID: groupNetwork, Title: "The network (operators, and anyone who wants to see):"},
		&cobra.Group{ID: groupMachine, Title: "This machine:"},
	)
	f := root.PersistentFlags()
	f.StringVar(&a.home, "home", "", "folder of config, keys and state (default $FALLOW_HOME, else ~/.fallow)")
	f.BoolVar(&a.json, "json", false, "print facts as JSON")
	f.BoolVarP(&a.verbose, "verbose", "v", false, "log what happens to standard error")

	for _, group := range []struct {
		id    string
		verbs []*cobra.Command
	}{
		{groupRent, rentVerbs(a)},
		{groupLend, lendVerbs(a)},
		{groupMoney, moneyVerbs(a)},
		{groupNetwork, networkVerbs(a)},
		{groupMachine, machineVerbs(a)},
	} {
		for _, v := range group.verbs {
			v.GroupID = group.id
			root.AddCommand(v)
		}
	}
	root.AddCommand(newExitCodesTopic(), newManCommand(a))
	root.SetHelpCommandGroupID(groupMachine)
	root.SetCompletionCommandGroupID(groupMachine)
	markUsage(root)
	return root
}

// markUsage makes every complaint about arguments a usage failure.
func markUsage(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error { return fail(exitUsage, check(c, args), "") }
	}
	for _, sub := range c.Commands() {
		markUsage(sub)
	}
}

// homeDir is the home of this call: the flag, the environment, the default;
// and where the default has joined nothing while a local network stands in it,
// that network's tenant.
func (a *app) homeDir() (sdk.Home, error) {
	if a.home != "" {
		abs, err := filepath.Abs(a.home) // sandboxes run in folders of their own
		return sdk.Home(abs), err
	}
	base, err := baseDir()
	if err != nil {
		return "", err
	}
	h := sdk.Home(base)
	if _, err := os.Stat(h.NetworkFile()); err == nil {
		return h, nil
	}
	tenant := sdk.Home(filepath.Join(localDir(base), "tenant"))
	if _, err := os.Stat(tenant.NetworkFile()); err == nil {
		return tenant, nil
	}
	return h, nil
}

// baseDir is $FALLOW_HOME or ~/.fallow.
func baseDir() (string, error) {
	if dir := os.Getenv("FALLOW_HOME"); dir != "" {
		return filepath.Abs(dir)
	}
	user, err := os.UserHomeDir()
	if err != nil {
		return "", fail(exitUsage, fmt.Errorf("no home folder: %w", err), "name one with --home DIR or FALLOW_HOME")
	}
	return filepath.Join(user, ".fallow"), nil
}

// localDir is where `fallow up` keeps a local network by default.
func localDir(base string) string { return filepath.Join(base, "local") }

// print writes v as JSON with --json, and otherwise as text does.
func (a *app) print(v any, text func(w io.Writer)) error {
	if a.json {
		e := json.NewEncoder(a.out)
		e.SetIndent("", "  ")
		return e.Encode(v)
	}
	text(a.out)
	return nil
}

// table writes rows in columns.
func table(w io.Writer, rows func(row func(cells ...any))) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	rows(func(cells ...any) {
		for i, c := range cells {
			if i > 0 {
				fmt.Fprint(t, "\t")
			}
			fmt.Fprint(t, c)
		}
		fmt.Fprintln(t)
	})
	if err := t.Flush(); err != nil {
		fmt.Fprintln(w, err)
	}
}

func newExitCodesTopic() *cobra.Command {
	var b strings.Builder
	b.WriteString("Every verb ends with one of these:\n\n")
	table(&b, func(row func(...any)) {
		row("CODE", "NAME", "MEANING")
		for _, e := range exits {
			row(e.code, e.name, e.text)
		}
	})
	return &cobra.Command{Use: "exit-codes", Short: "The table of exit codes", Long: b.String()}
}
