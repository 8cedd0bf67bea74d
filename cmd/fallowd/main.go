// Command fallowd is the ledger's node: it founds or joins a network, runs a
// node in process, and audits the books.
//
// Its one invariant: one daemon a home. What it prints with --json is stable,
// and version and status answer without building the ledger.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the build.
var version = "dev"

// Exit codes, as in the table of fallow help exit-codes.
const (
	exitFailed = 1
	exitUsage  = 2
	exitAway   = 6
	exitBreach = 8
	exitBusy   = 11
)

// failure is an error with an exit code of its own.
type failure struct {
	code int
	err  error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

func main() {
	os.Exit(doMain(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// doMain is main with the world as arguments, so that tests run it.
func doMain(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := newRoot(args, stdin, stdout, stderr)
	ctx, err := addCosmos(ctx, root, args)
	if err == nil {
		err = root.ExecuteContext(ctx)
	}
	if err == nil {
		return 0
	}
	fmt.Fprintf(stderr, "fallowd: %v\n", err)
	if f, ok := errors.AsType[*failure](err); ok {
		return f.code
	}
	return exitFailed
}

// home is where a node lives unless --home says otherwise.
func home() string {
	if dir := os.Getenv("FALLOWD_HOME"); dir != "" {
		return dir
	}
	dir, err := os.UserHomeDir()
	if err != nil {
		dir = "."
	}
	return filepath.Join(dir, ".fallowd")
}

func newRoot(args []string, stdin io.Reader, stdout, stderr io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:   "fallowd",
		Short: "The node of Fallow's ledger",
		Long: `Fallowd runs the ledger of Fallow, an open market for compute. fallow up runs
one for you; run it yourself to validate, or to need nobody's word.

  fallowd init --chain-id NAME     found a network with this node as validator
  fallowd init --genesis FILE      join one
  fallowd testnet DIR              write the homes of a whole network
  fallowd start                    run the node
  fallowd audit                    prove the books`,
		SilenceErrors: true, SilenceUsage: true, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &failure{exitUsage, err} })
	root.PersistentFlags().String("home", home(), "folder of settings, keys and state (or $FALLOWD_HOME)")
	root.AddCommand(newInitCommand(), newTestnetCommand(), newStartCommand(), newStatusCommand(), newVersionCommand(), newExportCommand(), newRollbackCommand(), newAuditCommand(), newTrustCommand())
	return root
}
