package main

import (
	"context"
	"fmt"
	"time"
)

// How long a verb that takes long asks a ledger that is away when it begins, and
// how often. A node that is started anew is back within it.
const (
	awayWait  = 20 * time.Second
	awayPause = 500 * time.Millisecond
)

// patiently does what needs the ledger, again while that is away, for at most
// wait; it says once that it waits. What it returns then is exit code 6.
func (a *app) patiently(ctx context.Context, wait time.Duration, do func() error) error {
	until := time.Now().Add(wait)
	for said := false; ; {
		err := do()
		if err == nil || exitOf(err) != exitAway || !time.Now().Before(until) {
			return err
		}
		if !said {
			said = true
			fmt.Fprintf(plain{a.err}, "the ledger does not answer; asking for up to %s\n", wait)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(awayPause):
		}
	}
}
