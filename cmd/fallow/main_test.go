package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"fallow.network"
	"fallow.network/sdk"
)

// result is what a call of the program leaves.
type result struct {
	code     int
	out, err string
}

// fallowIn runs the program in a home; stdin is what is typed to it.
func fallowIn(t *testing.T, home, stdin string, args ...string) result {
	t.Helper()
	for _, v := range []string{"FALLOW_PASSPHRASE_FILE", "CREDENTIALS_DIRECTORY", "FALLOWD"} {
		t.Setenv(v, "")
	}
	t.Setenv("FALLOW_HOME", home)
	var out, errs bytes.Buffer
	code := doMain(args, strings.NewReader(stdin), &out, &errs)
	return result{code, out.String(), errs.String()}
}

// want fails the test when the call did not end with the code.
func (r result) want(t *testing.T, e exit) result {
	t.Helper()
	if r.code != e.code {
		t.Fatalf("code %d, want %d (%s)\nstdout: %s\nstderr: %s", r.code, e.code, e.name, r.out, r.err)
	}
	return r
}

// has fails the test when a text lacks one of the words.
func has(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("lacks %q:\n%s", w, text)
		}
	}
}

// facts reads what --json printed.
func (r result) facts(t *testing.T) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(r.out), &v); err != nil {
		t.Fatalf("not JSON: %v\n%s", err, r.out)
	}
	return v
}

// made is a home with an account whose keyring unlocks by itself.
func made(t *testing.T) string {
	t.Helper()
	home := filepath.Join(t.TempDir(), "home")
	fallowIn(t, home, "", "init", "--draw-passphrase").want(t, exitOK)
	return home
}

// verbs walks all verbs that people see.
func verbs(c *cobra.Command, see func(*cobra.Command)) {
	for _, sub := range c.Commands() {
		if sub.Hidden || sub.IsAdditionalHelpTopicCommand() {
			continue
		}
		see(sub)
		if sub.Name() != "completion" { // cobra's own
			verbs(sub, see)
		}
	}
}

func newTestRoot() *cobra.Command {
	c := newRoot(strings.NewReader(""), &bytes.Buffer{}, &bytes.Buffer{})
	c.InitDefaultCompletionCmd()
	return c
}

func TestHelpTeaches(t *testing.T) {
	r := fallowIn(t, t.TempDir(), "", "help").want(t, exitOK)
	at := -1
	for _, part := range []string{"Begin here:", "Rent compute", "\n  run ", "\n  jobs ", "Lend compute", "Keys and money", "The network", "\n  up ", "This machine"} {
		next := strings.Index(r.out, part)
		if next <= at {
			t.Errorf("%q stands at %d, after %d", part, next, at)
		}
		at = next
	}
	if bare := fallowIn(t, t.TempDir(), "").want(t, exitOK); bare.out != r.out {
		t.Error("fallow alone and fallow help differ")
	}
	has(t, fallowIn(t, t.TempDir(), "", "help", "keys", "export").want(t, exitOK).out, "--unsafe-hex", "Examples:")
	has(t, fallowIn(t, t.TempDir(), "", "help", "exit-codes").want(t, exitOK).out, "11", "busy")
}

// Each verb has words of its own, an example where it takes anything, and help
// that fits a terminal.
func TestEveryVerbExplainsItself(t *testing.T) {
	root := newTestRoot()
	groups := map[string]bool{}
	for _, g := range root.Groups() {
		groups[g.ID] = true
	}
	n := 0
	verbs(root, func(c *cobra.Command) {
		n++
		if c.Short == "" || strings.HasSuffix(c.Short, ".") || strings.ToUpper(c.Short[:1]) != c.Short[:1] {
			t.Errorf("%s: short text %q", c.CommandPath(), c.Short)
		}
		if c.Parent() == root && !groups[c.GroupID] {
			t.Errorf("%s is in no group", c.CommandPath())
		}
		if takes := strings.Contains(c.Use, " "); takes && c.Example == "" && c.Name() != "completion" && c.Parent().Name() != "completion" {
			t.Errorf("%s takes arguments and shows no example", c.CommandPath())
		}
		for line := range strings.Lines(c.Long + "\n" + c.Example) {
			if c.Parent().Name() != "completion" && c.Name() != "completion" && len([]rune(strings.TrimRight(line, "\n"))) > 100 {
				t.Errorf("%s: a line of %d characters: %s", c.CommandPath(), len(line), line)
			}
		}
		for line := range strings.Lines(c.Example) {
			args := strings.Fields(line)
			if len(args) == 0 {
				continue
			}
			found, _, err := root.Find(args[1:])
			if args[0] != "fallow" || err != nil || found == root {
				t.Errorf("%s: the example %q calls no verb", c.CommandPath(), strings.TrimSpace(line))
				continue
			}
			for _, a := range args {
				if name, ok := strings.CutPrefix(a, "--"); ok {
					name, _, _ = strings.Cut(name, "=")
					if found.Flags().Lookup(name) == nil && found.InheritedFlags().Lookup(name) == nil {
						t.Errorf("%s: the example's --%s is no flag of %s", c.CommandPath(), name, found.CommandPath())
					}
				}
			}
		}
	})
	if n < 30 {
		t.Errorf("only %d verbs", n)
	}
}

func TestExitCodes(t *testing.T) {
	for i, e := range exits {
		if e.code != i || e.name == "" || e.text == "" {
			t.Errorf("row %d is %+v", i, e)
		}
	}
	for _, row := range sdk.Failures() {
		if !slices.ContainsFunc(exits, func(e exit) bool { return e.name == row.Name }) {
			t.Errorf("%v ends with %q, which is no exit code", row.Err, row.Name)
		}
		if got := exitOf(fmt.Errorf("somewhere: %w", row.Err)); got.name != row.Name {
			t.Errorf("%v ends with %s, want %s", row.Err, got.name, row.Name)
		}
	}
	hinted := fail(exitFunds, fmt.Errorf("inner"), "do this")
	if again := fail(exitUsage, fmt.Errorf("outer: %w", hinted), ""); exitOf(again) != exitFunds {
		t.Error("an error that has a code lost it")
	}
	if fail(exitUsage, nil, "x") != nil || exitOf(nil) != exitOK {
		t.Error("no error is a failure")
	}
}

var oneLine = regexp.MustCompile(`^fallow: [^\n]+\n(  [^\n]+\n)?$`)

// What was typed wrongly ends with 2, one line of what and one of what to do.
func TestUsage(t *testing.T) {
	home := made(t)
	bad := filepath.Join(t.TempDir(), "bad.toml")
	if err := os.WriteFile(bad, []byte("chain_id = 7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	to := "fal1" + strings.Repeat("q", 38)
	for _, c := range []struct {
		args string
		says []string
	}{
		{"balence", []string{`no verb "balence"`, "did you mean: fallow balance"}},
		{"keys lst", []string{`fallow keys has no verb "lst"`, "did you mean: fallow keys list"}},
		{"zzzzzz", []string{"see: fallow --help"}},
		{"help zzzzzz", []string{`no verb "zzzzzz"`}},
		{"help keys zzzzzz", []string{`fallow keys has no verb "zzzzzz"`}},
		{"--nosuch", []string{"unknown flag: --nosuch", "see: fallow --help"}},
		{"up --nosuch", []string{"unknown flag: --nosuch", "see: fallow up --help"}},
		{"run", []string{"accepts 1 arg", "see: fallow run --help"}},
		{"run absent.yaml", []string{"absent.yaml"}},
		{"up --block-time 10ms", []string{"want 250ms to 1m"}},
		{"up --hubs 0", []string{"want 1 to 4"}},
		{"up --hubs 5", []string{"want 1 to 4"}},
		{"up --credits 3 --escrow 4", []string{"escrow of 4 credits from 3"}},
		{"up --check-window 10m", []string{"unbonding"}},
		{"balance fal1zz", []string{"not an account address"}},
		{"balance " + to, []string{"not an account address"}},
		{"send " + to + " 1", []string{"not an account address"}},
		{"deposit 0", []string{"nothing to deposit"}},
		{"deposit x", []string{`"x"`}},
		{"deposit 0.0000001", []string{"0.0000001"}},
		{"withdraw 0", []string{"want an amount, or all"}},
		{"provider bond 0", []string{"is nothing"}},
		{"provider unbond 0", []string{"is nothing"}},
		{"provider init --slots -1", []string{"want 1 to 4096"}},
		{"provider init --gas-price x", []string{`"x"`}},
		{"provider init --owner x", []string{"not an account address"}},
		{"provider start", []string{"fallow provider init"}},
		{"hub start", []string{"fallow hub init"}},
		{"hub init --status 0.0.0.0:80", []string{"loopback"}},
		{"init --draw-passphrase --passphrase-file x", []string{"want one of the two"}},
		{"join absent.toml", []string{"absent.toml", "network file"}},
		{"join " + bad, []string{bad, "line 1"}},
		{"status", []string{"fallow up", "fallow join NETWORK-FILE"}},
		{"audit", []string{"fallow join"}},
		{"hub status", []string{"fallow join"}},
		{"balance", []string{"fallow join"}},
		{"deposit 1", []string{"fallow join"}},
		{"lease ls", []string{"fallow join"}},
		{"lease close", []string{"--all"}},
		{"lease close x", []string{"no lease's number"}},
		{"keys add a/b", []string{"a/b"}},
		{"keys add main", []string{"exists"}},
		{"keys delete main", []string{"--yes"}},
		{"keys import x absent.txt", []string{"absent.txt"}},
		{"man", []string{"accepts 1 arg"}},
	} {
		t.Run(c.args, func(t *testing.T) {
			r := fallowIn(t, home, "", strings.Fields(c.args)...).want(t, exitUsage)
			has(t, r.err, c.says...)
			if !oneLine.MatchString(r.err) {
				t.Errorf("want one line, and a hint:\n%s", r.err)
			}
			if r.out != "" {
				t.Errorf("an error on stdout: %s", r.out)
			}
		})
	}
}

func TestOtherEnds(t *testing.T) {
	home := made(t)
	for _, c := range []struct {
		args string
		ends exit
		says string
	}{
		{"down", exitNotFound, "fallow up"},
		{"keys show nobody", exitNotFound, "fallow keys list"},
		{"keys export nobody", exitNotFound, "fallow keys list"},
		{"keys delete nobody --yes", exitNotFound, "fallow keys list"},
		{"job show x-1", exitNotFound, "fallow run"},
		{"init", exitBusy, "is a home already"},
		{"provider status", exitAway, "fallow provider start"},
		{"provider drain", exitAway, "fallow provider start"},
	} {
		r := fallowIn(t, home, "", strings.Fields(c.args)...).want(t, c.ends)
		has(t, r.err, c.says)
		if !oneLine.MatchString(r.err) {
			t.Errorf("%s: want one line, and a hint:\n%s", c.args, r.err)
		}
	}
	has(t, fallowIn(t, home, "", "jobs").want(t, exitOK).out, "fallow run")
	if r := fallowIn(t, home, "", "jobs", "--json").want(t, exitOK); strings.TrimSpace(r.out) != "[]" {
		t.Errorf("no jobs are %s", r.out)
	}
}

func TestVersion(t *testing.T) {
	has(t, fallowIn(t, t.TempDir(), "", "version").want(t, exitOK).out, "fallow "+version, fallow.Protocol)
	has(t, fallowIn(t, t.TempDir(), "", "--version").want(t, exitOK).out, "fallow "+version)
	v := fallowIn(t, t.TempDir(), "", "version", "--json").want(t, exitOK).facts(t)
	if v["version"] != version || v["protocol"] != fallow.Protocol {
		t.Errorf("%v", v)
	}
}

func TestCompletion(t *testing.T) {
	home := made(t)
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if r := fallowIn(t, home, "", "completion", shell).want(t, exitOK); len(r.out) < 1000 {
			t.Errorf("%s: %d bytes", shell, len(r.out))
		}
	}
	for args, want := range map[string]string{
		"__complete keys show ":   "main\n",
		"__complete provider st":  "start\t",
		"__complete help key":     "keys\n",
		"__complete keys show x ": ":4\n",
		"__complete balance ":     ":4\n",
		"__complete job show ":    ":4\n",
		"__complete run ":         ":0\n",
	} {
		has(t, fallowIn(t, home, "", strings.Split(args, " ")...).want(t, exitOK).out, want)
	}
}

func TestManPages(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "man")
	r := fallowIn(t, t.TempDir(), "", "man", dir).want(t, exitOK)
	pages, err := filepath.Glob(filepath.Join(dir, "*.1"))
	if err != nil {
		t.Fatal(err)
	}
	want := 1 // fallow's own
	verbs(newTestRoot(), func(c *cobra.Command) {
		if c.Name() != "help" {
			want++
			page := strings.ReplaceAll(c.CommandPath(), " ", "-") + ".1"
			if !slices.Contains(pages, filepath.Join(dir, page)) {
				t.Errorf("no page %s", page)
			}
		}
	})
	has(t, r.out, fmt.Sprintf("%d pages", len(pages)))
	b, err := os.ReadFile(filepath.Join(dir, "fallow-keys-export.1"))
	if err != nil {
		t.Fatal(err)
	}
	has(t, string(b), "unsafe", "EXAMPLE", "fallow keys export main")
}
