package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"fallow.network/ledger"
)

// TestPatiently: a ledger that comes back is waited for with one line; one that
// stays away ends with code 6, and no other error is tried again.
func TestPatiently(t *testing.T) {
	t.Parallel()
	away := fmt.Errorf("dial: %w", ledger.ErrAway)
	other := errors.New("no such key")
	for _, c := range []struct {
		name  string
		wait  time.Duration
		says  []error // call by call
		want  error
		lines int
	}{
		{"there", time.Hour, []error{nil}, nil, 0},
		{"comes back", time.Hour, []error{away, away, nil}, nil, 1},
		{"stays away", 0, []error{away}, away, 0},
		{"fails otherwise", time.Hour, []error{other}, other, 0},
		{"fails otherwise when back", time.Hour, []error{away, other}, other, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var said bytes.Buffer
			a := &app{err: &said}
			calls := 0
			err := a.patiently(t.Context(), c.wait, func() error {
				calls++
				return c.says[calls-1]
			})
			if !errors.Is(err, c.want) || calls != len(c.says) {
				t.Errorf("%d calls, %v", calls, err)
			}
			if n := strings.Count(said.String(), "the ledger does not answer"); n != c.lines {
				t.Errorf("said %q", said.String())
			}
			if c.want != nil && errors.Is(c.want, ledger.ErrAway) && exitOf(err) != exitAway {
				t.Errorf("code %d", exitOf(err).code)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	a := &app{err: new(bytes.Buffer)}
	if err := a.patiently(ctx, time.Hour, func() error { return away }); exitOf(err) != exitCancelled {
		t.Errorf("interrupted: %v", err)
	}
}
