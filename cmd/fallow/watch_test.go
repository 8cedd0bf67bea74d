package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"charm.land/lipgloss/v2"

	"fallow.network"
	"fallow.network/client"
	"fallow.network/collect"
	"fallow.network/ledger"
	"fallow.network/sdk"
)

const (
	ann = fallow.Account("fal1annannannannannannannannannann00001")
	bob = fallow.Account("fal1bobbobbobbobbobbobbobbobbobbob00002")
)

func pico(t *testing.T, s string) fallow.Pico {
	t.Helper()
	p, err := fallow.ParsePico(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// story is a job of three tasks, told as the client tells it, with the line that
// each event leaves.
func story(t *testing.T) []struct {
	e    client.Event
	line string
} {
	t.Helper()
	return []struct {
		e    client.Event
		line string
	}{
		{client.StateChanged{State: client.StateRunning}, "running"},
		{client.DemandSent{Hubs: 1, Providers: 2, Tasks: 3}, "asked 1 hub and 2 providers directly for 3 tasks"},
		{client.OfferSeen{Provider: ann, Region: "eu", GasPrice: pico(t, "0.000000004"), Slots: 1, Latency: 12345 * time.Microsecond}, "offer of fal1ann…00001 in 12ms: 0.000004 credits per Ggas, 1 slot, eu, score "},
		{client.Declined{Provider: bob, Reason: fallow.ReasonDraining}, "fal1bob…00002 makes no offer: " + fallow.ReasonDraining.Text()},
		{client.LeaseOpened{Lease: 7, Provider: ann, Reserve: 1_000_000, Slots: 2}, "lease 7 with fal1ann…00001: 1 credits reserved, 2 slots"},
		{client.LeaseOpened{Lease: 3, Provider: bob, Reserve: 500_000, Slots: 1}, "lease 3 with fal1bob…00002: 0.5 credits reserved, 1 slot"},
		{client.TaskIssued{Task: 0, Lease: 7, Provider: ann}, ""},
		{client.TaskIssued{Task: 1, Lease: 7, Provider: ann}, ""},
		{client.TaskIssued{Task: 2, Lease: 3, Provider: bob}, ""},
		{client.TaskDone{Task: 0, Label: "a", Lease: 7, Provider: ann, Gas: 5, Charge: pico(t, "0.25"), Took: 1234 * time.Millisecond, Done: 1, Of: 3}, "a by fal1ann…00001 in 1.23s (1 of 3)"},
		{client.Paid{Lease: 7, Amount: pico(t, "0.25"), Total: pico(t, "0.25")}, ""},
		{client.CheckChosen{Task: 0, Provider: ann, By: "own"}, ""},
		{client.CheckDone{Task: 0, Provider: ann, By: "own", Agreed: true}, ""},
		{client.ProviderLost{Lease: 3, Provider: bob, Detail: "reset"}, "lost fal1bob…00002: reset"},
		{client.ProviderBack{Lease: 3, Provider: bob}, "fal1bob…00002 is back"},
		{client.ProviderLost{Lease: 3, Provider: bob, Gone: true}, "fal1bob…00002 is gone; its tasks go elsewhere"},
		{client.TaskIssued{Task: 2, Lease: 7, Provider: ann}, ""},
		{client.AttemptEnded{Task: 2, Lease: 7, Provider: ann, Cancelled: true}, ""},
		{client.TaskFailed{Task: 1, Label: "b", Provider: ann, Reason: fallow.ReasonAborted, Again: true}, "; tried again"},
		{client.CheckDone{Task: 1, Provider: ann, By: "own", Detail: "output"}, "CHECK of task 1 by own disagrees with fal1ann…00001: output"},
		{client.CheckDone{Task: 2, Skipped: "no time"}, "check of task 2 was left out: no time"},
		{client.Verdict{Task: 1, Wrong: bob, Reopened: 1}, "third run of task 1: fal1bob…00002 was wrong; 1 task run again"},
		{client.Verdict{Task: 1, Detail: "all differ"}, "decided nothing: all differ"},
		{client.LeaseSkipped{Provider: bob, Reason: fallow.ReasonDraining}, "no lease with fal1bob…00002"},
		{client.Away{What: "the ledger", For: 61 * time.Second}, "the ledger is away for 1m1s; work goes on"},
		{client.Back{What: "the ledger"}, "the ledger is back"},
		{client.Warning{Text: "low"}, "note: low"},
		{client.LeaseEnded{Lease: 7, Provider: ann, Reason: fallow.ReasonCompleted, Paid: pico(t, "0.25")}, "lease 7 ended: " + fallow.ReasonCompleted.Text() + ", 0.25 credits paid"},
		{client.StateChanged{State: client.StateFailed, Reason: "why"}, "failed: why"},
	}
}

func TestWatch(t *testing.T) {
	begun := time.Now()
	w := newWatch("film-1", 3, 2_000_000, begun)
	for i, s := range story(t) {
		if got := w.take(s.e, begun); !strings.Contains(got, s.line) || s.line == "" && got != "" {
			t.Errorf("%T: %q, want %q", s.e, got, s.line)
		}
		if s.e == (client.ProviderLost{Lease: 3, Provider: bob, Gone: true}) && len(w.seat(3).running) != 0 {
			t.Errorf("event %d: a provider that is gone runs %v", i, w.seat(3).running)
		}
	}
	if len(w.last) != w.lines || w.last[len(w.last)-1] != "failed: why" {
		t.Errorf("keeps %q", w.last)
	}
	if len(w.seats) != 2 || w.seats[0].lease != 3 || w.seats[1].done != 1 || w.seats[1].gas != 5 || len(w.seats[1].running) != 0 {
		t.Errorf("seats %+v %+v", w.seats[0], w.seats[1])
	}
	if w.done != 1 || w.of != 3 || w.chosen != 1 || w.agreed != 1 || w.differ != 1 || w.skipped != 1 || w.paid != pico(t, "0.25") || w.owed != pico(t, "0.25") {
		t.Errorf("%+v", w)
	}
}

// The display fits its window at every moment, and tells what is known.
func TestDisplayFits(t *testing.T) {
	begun := time.Now()
	d := &display{watch: newWatch("film-1", 3, 2_000_000, begun), now: begun.Add(10 * time.Second)}
	for _, width := range []int{0, 60, 80, 200} {
		d.width = width
		for range 2 {
			for line := range strings.Lines(d.draw()) {
				if n := lipgloss.Width(strings.TrimRight(line, "\n")); n > 110 {
					t.Errorf("%d columns in a window of %d: %s", n, width, line)
				}
			}
			for _, s := range story(t) {
				d.take(s.e, begun)
			}
		}
	}
	has(t, d.draw(), "film-1", "failed", "demand", "offers", "leases", "checks", "1 of 3", "budget 2", "disagreed")
}

func TestBar(t *testing.T) {
	for _, c := range []struct {
		n, of, width int
		want         string
	}{{0, 4, 4, "░░░░"}, {1, 4, 4, "█░░░"}, {4, 4, 4, "████"}, {9, 4, 4, "████"}, {1, 0, 4, ""}, {1, 4, -3, ""}} {
		if got := bar(c.n, c.of, c.width); got != c.want {
			t.Errorf("bar(%d, %d, %d) = %q, want %q", c.n, c.of, c.width, got, c.want)
		}
	}
	if clip("abcdef", 4) != "abc…" || clip("abc", 4) != "abc" || clip("abc", 0) != "…" {
		t.Error("clip")
	}
	for n, want := range map[uint64]string{0: "0", 999: "999", 1000: "1 k", 17_900_000_000: "17.9 G", 1 << 63: "9.22 E", 999_999: "1000 k", 2870: "2.87 k", 100_000: "100 k", 12_340_000: "12.3 M"} {
		if got := si(n); got != want {
			t.Errorf("si(%d) = %q, want %q", n, got, want)
		}
	}
	for n, want := range map[uint64]string{0: "0 B", 1023: "1023 B", 1536: "1.5 KiB", 3 << 30: "3.0 GiB"} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestBill(t *testing.T) {
	b := &client.Bill{
		Job: "film-1", State: client.StateDone, Tasks: 48, Done: 48, Failed: 1, Gas: 17_900_000_000, Budget: 2_000_000,
		Charged: pico(t, "0.5"), Paid: pico(t, "0.4"), Refused: pico(t, "0.1"), Unsecured: pico(t, "0.3"),
		Checks:      client.BillChecks{Chosen: 5, Skipped: 1, Agreed: 3, Wrong: 1, Own: 1, Market: 3},
		Reissued:    2,
		Retried:     map[fallow.Reason]int{fallow.ReasonAborted: 1},
		FirstOutput: 1234567 * time.Microsecond, Wall: 2 * time.Minute,
		Providers: []client.BillLine{{Lease: 7, Provider: ann, Region: "eu", Tasks: 47, Reruns: 3, Gas: 17_000_000_000, GasPrice: pico(t, "0.000000004"), TaskFee: pico(t, "0.01"), Charged: pico(t, "0.5"), Paid: pico(t, "0.4"), Checked: 4, Agreed: 3, Reason: fallow.ReasonCompleted}},
		Speed:     &client.BillSpeed{Bare: client.Bare{Cores: 2}, Alone: 90 * time.Second, Times: 0.75},
	}
	r := jobReport{Bill: b, Made: collect.Report{Files: []collect.File{{Path: "out/film.gif", Bytes: 1 << 20}}, Notes: []string{"no ffmpeg"}}, Unknown: "away"}
	show := func() string {
		var out bytes.Buffer
		r.print(&out)
		return out.String()
	}
	has(t, show(),
		"film-1  done: 48 of 48 tasks, 1 of them ended with a trap", "out/film.gif (1.0 MiB)", "note: no ffmpeg",
		"fal1ann…00001", "17 G", "0.000004", "4, 3 agreed", "completed",
		"refused       0.1 credits for results found wrong", "budget        2 credits",
		"4 run again (1 here, 3 by other providers), 3 agreed; of those that did not, 1 were wrong, 0 cleared, 0 undecided; 1 left out",
		"unsecured     0.3 credits", "re-issued     2 tasks", "retried       1 attempt", "first output  1.235s", "wall time     2m0s",
		"0.75 times the same .wasm unmetered on this machine's 2 cores alone (1m30s)", "the ledger was not asked: away")

	r.OnChain = &sdk.OnChain{
		Traces: []ledger.Trace{{Height: 9, Bytes: 500, Fee: 240, Kinds: []string{"close", "release"}}}, Bytes: 500, Fees: 240,
		Paid: []sdk.PaidLine{
			{Lease: 7, Provider: ann, State: "closed", Claimed: pico(t, "0.4000009"), Paid: 400_000},
			{Lease: 8, Provider: bob, State: "closed", Claimed: pico(t, "0.1"), Paid: 100_000},
			{Lease: 9, Provider: bob, State: "closing", Claimed: pico(t, "0.1"), Paid: 0},
		},
	}
	b.Speed.Alone = 120 * time.Microsecond
	has(t, show(), "on chain      1 transaction for the whole job, 500 bytes, fees 0.00024 FAL", "close + release, 500 bytes",
		"0.4 credits (0.4000009 rounded down) to "+string(ann)+" (lease 7, closed)", "paid out      0.1 credits to "+string(bob),
		"0 credits to "+string(bob)+" (lease 9, closing)", "fallow job show film-1", "120µs of work", "too little to compare")
	if b.FirstOutput = 0; strings.Contains(show(), "first output") {
		t.Error("tells of a first output that there is not")
	}
	b.Providers = nil
	if text := show(); !strings.Contains(text, "nothing was leased") || strings.Contains(text, "BILL") {
		t.Errorf("a job without a lease:\n%s", text)
	}
}

// An error of the client ends with its code, whatever wraps it.
func TestExplain(t *testing.T) {
	for _, c := range []struct {
		err  error
		want exit
	}{
		{nil, exitOK},
		{client.ErrCancelled, exitCancelled},
		{context.Canceled, exitCancelled},
		{&client.BudgetError{}, exitFunds},
		{&client.NoOffersError{}, exitNoOffers},
		{&client.TaskError{}, exitTasks},
		{client.ErrDeadline, exitTasks},
		{client.ErrRunning, exitBusy},
		{client.ErrNoJob, exitNotFound},
		{client.ErrAway, exitAway},
		{errors.New("x"), exitFailed},
	} {
		err := c.err
		if err != nil {
			err = fmt.Errorf("run: %w", err)
		}
		if got := exitOf(explain(err)); got != c.want {
			t.Errorf("%v ends with %s, want %s", c.err, got.name, c.want.name)
		}
	}
}
