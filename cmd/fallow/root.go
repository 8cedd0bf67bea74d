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
	words    string // file with the keyring's passphrase
	json     bool
	verbose  bool
	traces   string
	tenant   []sdk.TenantOption
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
	cobra.EnableCommandSorting = false // verbs stand in the order in which they are used
	root := &cobra.Command{
		Use:   "fallow",
		Short: "An open market for compute",
		Long: `Fallow is an open market for compute. Rent machines by the second or by the
task, or lend yours while it lies idle, and be paid for work really done.

Begin here:
  fallow up                             a whole market on this machine
  fallow run examples/film/job.yaml     rent from it
  fallow audit                          prove the books

With others:
  fallow init                           a home, with an account key
  fallow join NETWORK-FILE              a network for it
  fallow provider init                  prices and limits, to lend this machine
  fallow doctor                         what this machine can and can't do`,
		SilenceErrors:              true,
		SilenceUsage:               true,
		SuggestionsMinimumDistance: 2,
		Version:                    version,
		Args:                       noSuchVerb,
		RunE:                       showHelp,
	}
	root.Flags().Bool("version", false, "print the program's version")
	root.SetVersionTemplate("fallow {{.Version}}\n")
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
	f.StringVar(&a.home, "home", "", "`folder` of config, keys and state (default $FALLOW_HOME, else ~/.fallow)")
	f.StringVar(&a.words, "passphrase-file", "", "`file` (mode 0600) whose first line unlocks the keys")
	f.BoolVar(&a.json, "json", false, "print facts as JSON")
	f.StringVar(&a.traces, "trace-endpoint", "", "`URL` of a collector of traces (OTLP over HTTP), as http://127.0.0.1:4318")
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
	root.SetHelpCommand(newHelpCommand())
	root.SetCompletionCommandGroupID(groupMachine)
	markUsage(root)
	return root
}

// markUsage makes every complaint about arguments a usage failure, and keeps
// the shell from offering files where a verb takes none.
func markUsage(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error { return fail(exitUsage, check(c, args), "") }
		if c.ValidArgsFunction == nil && !strings.Contains(c.Use, "FILE") {
			c.ValidArgsFunction = cobra.NoFileCompletions
		}
	}
	for _, sub := range c.Commands() {
		markUsage(sub)
	}
}

// group is a verb that only holds others.
func group(use, short, long string, verbs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Long: long, Args: noSuchVerb, RunE: showHelp, SuggestionsMinimumDistance: 2}
	c.AddCommand(verbs...)
	return c
}

func showHelp(c *cobra.Command, _ []string) error { return c.Help() }

// noSuchVerb complains of a word that is no verb, and says which may be meant.
func noSuchVerb(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := fmt.Errorf("%s has no verb %.40q", c.CommandPath(), args[0])
	if near := c.SuggestionsFor(args[0]); len(near) > 0 {
		return fail(exitUsage, err, "did you mean: "+c.CommandPath()+" "+strings.Join(near, ", "))
	}
	return fail(exitUsage, err, "see: "+c.CommandPath()+" --help")
}

func newHelpCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "help [VERB]",
		Short:   "Explain a verb",
		GroupID: groupMachine,
		Example: `  fallow help run
  fallow help provider init
  fallow help exit-codes`,
		ValidArgsFunction: func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			at, _, err := c.Root().Find(args)
			if err != nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			var names []string
			for _, sub := range at.Commands() {
				if sub.IsAvailableCommand() || sub.IsAdditionalHelpTopicCommand() {
					names = append(names, sub.Name())
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(c *cobra.Command, args []string) error {
			at, rest, err := c.Root().Find(args)
			if err == nil && len(rest) > 0 {
				err = noSuchVerb(at, rest)
			}
			if err != nil {
				return err
			}
			at.InitDefaultHelpFlag()
			at.InitDefaultVersionFlag()
			return at.Help()
		},
	}
}

// homeDir is the home of this call: the base, or, where nobody has made a home
// of it while a local network stands in it, that network's tenant.
func (a *app) homeDir() (sdk.Home, error) {
	base, err := a.baseDir()
	if err != nil {
		return "", err
	}
	h := sdk.Home(base)
	for _, made := range []string{h.NetworkFile(), h.ConfigFile(), h.KeyDir()} {
		if _, err := os.Stat(made); err == nil {
			return h, nil
		}
	}
	tenant := sdk.Home(filepath.Join(localDir(base), "tenant"))
	if _, err := os.Stat(tenant.NetworkFile()); err == nil {
		return tenant, nil
	}
	return h, nil
}

// baseDir is --home, $FALLOW_HOME or ~/.fallow; absolute, for sandboxes run in
// folders of their own, and what a home's files say of paths stays true there.
func (a *app) baseDir() (string, error) {
	if a.home != "" {
		return filepath.Abs(a.home)
	}
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
	text(plain{a.out})
	return nil
}

// list is all as JSON wants it: [] where there is nothing, never null.
func list[T any](all []T) []T {
	if all == nil {
		return []T{}
	}
	return all
}

// table writes rows in columns.
func table(w io.Writer, rows func(row func(cells ...any))) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	rows(func(cells ...any) {
		for i, c := range cells {
			if i > 0 {
				fmt.Fprint(t, "\t")
			}
			fmt.Fprint(t, clean(fmt.Sprint(c)))
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
