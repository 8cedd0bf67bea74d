package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"fallow.network/sdk"
)

// exit is a row of the table of exit codes.
type exit struct {
	code int
	name string
	text string
}

// The one table of exit codes; `fallow help exit-codes` prints it.
var (
	exitOK        = exit{0, "ok", "done"}
	exitFailed    = exit{1, "failed", "something failed that no other code names"}
	exitUsage     = exit{2, "usage", "a flag, an argument or a file is wrong; the line says where"}
	exitNotFound  = exit{3, "not found", "no such job, lease, key or account"}
	exitFunds     = exit{4, "funds", "the balance, the escrow or the budget is too small"}
	exitNoOffers  = exit{5, "no offers", "no provider made an offer; the reasons are printed"}
	exitAway      = exit{6, "away", "the ledger, every hub or this home's daemon does not answer"}
	exitTasks     = exit{7, "tasks failed", "some tasks ended with a trap or an exit code, or have no result; fallow job resume goes on"}
	exitBreach    = exit{8, "breach", "an audit or a check found something false"}
	exitCancelled = exit{9, "cancelled", "interrupted; settled and closed"}
	exitVersion   = exit{10, "version", "programs of unequal protocol versions"}
	exitBusy      = exit{11, "busy", "the home is taken: another process uses it, or it is made already"}

	exits = []exit{exitOK, exitFailed, exitUsage, exitNotFound, exitFunds, exitNoOffers, exitAway, exitTasks, exitBreach, exitCancelled, exitVersion, exitBusy}
)

// failure is an error that knows its exit code and what to do.
type failure struct {
	exit exit
	err  error
	hint string
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// fail gives err an exit code; the hint says what to do, and may be empty. An
// err that has a code and a hint already keeps them, unless a hint is given.
func fail(e exit, err error, hint string) error {
	if _, ok := errors.AsType[*failure](err); err == nil || ok && hint == "" {
		return err
	}
	return &failure{exit: e, err: err, hint: hint}
}

// usage is a failure of what was typed.
func usage(format string, args ...any) error {
	return fail(exitUsage, fmt.Errorf(format, args...), "")
}

// typed is usage for an error that another room has worded.
func typed(err error) error { return fail(exitUsage, err, "") }

// exitOf finds the row for an error.
func exitOf(err error) exit {
	var f *failure
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &f):
		return f.exit
	case errors.Is(err, context.Canceled):
		return exitCancelled
	}
	for _, row := range sdk.Failures() {
		if errors.Is(err, row.Err) {
			for _, e := range exits {
				if e.name == row.Name {
					return e
				}
			}
		}
	}
	return exitFailed
}

// report prints what went wrong, once, and returns the exit code.
func report(cmd *cobra.Command, err error) int {
	if err == nil {
		return exitOK.code
	}
	e := exitOf(err)
	w := plain{cmd.ErrOrStderr()}
	fmt.Fprintf(w, "fallow: %s\n", strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "\n  "))
	hint := ""
	if f, ok := errors.AsType[*failure](err); ok {
		hint = f.hint
		if hint == "" && e == exitUsage {
			hint = "see: " + cmd.CommandPath() + " --help"
		}
	} else if e == exitAway {
		hint = "look with: fallow doctor"
	}
	if hint != "" {
		fmt.Fprintf(w, "  %s\n", hint)
	}
	return e.code
}
