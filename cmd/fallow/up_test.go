//go:build unix

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"fallow.network/local"
)

// TestMain makes the test binary the program where a test says so: up starts
// itself again.
func TestMain(m *testing.M) {
	if os.Getenv("FALLOW_IS_MAIN") == "1" {
		os.Exit(doMain(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// process runs the program as a process of its own, with a ledger's binary that is
// a script.
func process(t *testing.T, home, node string, args ...string) result {
	t.Helper()
	at := filepath.Join(t.TempDir(), "fallowd")
	if err := os.WriteFile(at, []byte("#!/bin/sh\n"+node+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append(os.Environ(), "FALLOW_IS_MAIN=1", "FALLOW_HOME="+home, "FALLOWD="+at)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// A network that does not come up says why, in the foreground and detached, and
// leaves nobody behind.
func TestUpThatFails(t *testing.T) {
	home := t.TempDir()
	for _, args := range [][]string{{"up"}, {"up", "--detach"}, {"up", "--json"}} {
		r := process(t, home, "echo no room on this disk >&2; exit 1", args...).want(t, exitFailed)
		has(t, r.err, "fallowd init", "no room on this disk")
		if strings.Contains(r.out, "is up") {
			t.Errorf("%v: %s", args, r.out)
		}
		has(t, fallowIn(t, home, "", "down").want(t, exitNotFound).err, "no local network is up")
	}
	has(t, process(t, home, "", "up", "--dir", filepath.Join(home, "other"), "--detach").want(t, exitFailed).err, "did not come up", "fallowd init")

	// A node that ends as soon as it starts is not waited for a minute.
	genesis := `case "$1" in init) echo '{"genesis_hash":"sha256:` + strings.Repeat("ab", 32) + `"}';; *) echo "bad genesis" >&2; exit 1;; esac`
	for _, args := range [][]string{{"up", "--restart=false"}, {"up", "--restart=false", "-d"}} {
		r := process(t, home, genesis, args...).want(t, exitFailed)
		has(t, r.err, "node ends as soon as it starts", "bad genesis", filepath.Join(home, "local", "logs", "node.log"))
	}
	if _, err := os.Stat(filepath.Join(home, "local", "up.json")); !os.IsNotExist(err) {
		t.Errorf("up.json was left: %v", err)
	}
	private(t, home)
}

// Every flag of up reaches the process that detach starts.
func TestUpArgs(t *testing.T) {
	given := []string{"up", "--dir", "/x", "--block-time", "300ms", "--hubs", "3", "--restart=false", "--credits", "70", "--escrow", "7", "--check-window", "9s", "--engine", "wasmtime"}
	c := newUpCommand(&app{})
	var names []string
	for _, g := range given[1:] {
		if name, ok := strings.CutPrefix(g, "--"); ok {
			name, _, _ = strings.Cut(name, "=")
			names = append(names, name)
		}
	}
	n := 0
	c.Flags().VisitAll(func(*pflag.Flag) { n++ })
	if n != len(names)+1 { // detach itself
		t.Errorf("up has %d flags, and detach passes %d on", n, len(names))
	}
	config := local.Default("/x")
	if err := c.ParseFlags(given[1:]); err != nil {
		t.Fatal(err)
	}
	config.BlockTime, config.Hubs, config.Restart, config.Credits, config.Escrow, config.CheckWindow, config.Engine = 300e6, 3, false, 70, 7, 9e9, "wasmtime"
	if got := strings.Join(upArgs(config), " "); got != strings.Join(given, " ") {
		t.Errorf("passes %s", got)
	}
}
