// Command fallow is everything that people run: tenant, provider, hub, local
// network, keys, money and audit. The ledger's node is fallowd.
//
// Its one invariant: what it prints with --json is stable and complete, and
// every failure ends with one line that says what to do and an exit code from
// the table in exit.go.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// version is set by the build.
var version = "dev"

func main() {
	os.Exit(doMain(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// doMain is main with the world as arguments, so that tests run it.
func doMain(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if code, ok := childMain(args); ok {
		return code
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The first Ctrl-C settles and leaves; the second just leaves.
	defer context.AfterFunc(ctx, stop)()
	root := newRoot(stdin, stdout, stderr)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	return report(cmd, err)
}
