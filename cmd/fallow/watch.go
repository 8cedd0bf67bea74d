package main

import (
	"fmt"
	"io"
	"sort"
	"time"

	"fallow.network"
	"fallow.network/client"
)

// watch is what a person wants to know of a running job, gathered from its
// events. It draws nothing: display.go does.
type watch struct {
	name    string
	budget  fallow.Credits
	begun   time.Time
	state   client.State
	asked   client.DemandSent
	offers  []client.OfferSeen
	decline []client.Declined
	seats   []*seat
	done    int
	of      int
	paid    fallow.Pico
	owed    fallow.Pico
	chosen  int
	agreed  int
	differ  int
	skipped int
	last    []string // newest last
	lines   int      // of last that are kept
}

// seat is one leased provider.
type seat struct {
	lease    fallow.LeaseID
	provider fallow.Account
	slots    uint32
	running  map[uint32]time.Time
	done     int
	gas      fallow.Gas
	paid     fallow.Pico
	gone     bool
	ended    fallow.Reason
}

func newWatch(name string, tasks int, budget fallow.Credits, begun time.Time) *watch {
	return &watch{name: name, of: tasks, budget: budget, begun: begun, state: client.StateNew, lines: 4}
}

// short is an account for a narrow column.
func short(a fallow.Account) string {
	if len(a) <= 14 {
		return string(a)
	}
	return string(a[:7]) + "…" + string(a[len(a)-5:])
}

func (w *watch) seat(lease fallow.LeaseID) *seat {
	for _, s := range w.seats {
		if s.lease == lease {
			return s
		}
	}
	s := &seat{lease: lease, running: map[uint32]time.Time{}}
	w.seats = append(w.seats, s)
	sort.Slice(w.seats, func(i, j int) bool { return w.seats[i].lease < w.seats[j].lease })
	return s
}

// take takes an event and returns the line that tells of it, or nothing for
// what only moves a number.
func (w *watch) take(e client.Event, now time.Time) string {
	line := clean(w.tell(e, now))
	if line != "" {
		w.last = append(w.last, line)
		if len(w.last) > w.lines {
			w.last = w.last[len(w.last)-w.lines:]
		}
	}
	return line
}

func (w *watch) tell(e client.Event, now time.Time) string {
	switch e := e.(type) {
	case client.StateChanged:
		w.state = e.State
		if e.Reason != "" {
			return fmt.Sprintf("%s: %s", e.State, e.Reason)
		}
		return string(e.State)
	case client.DemandSent:
		w.asked = e
		if !e.Again {
			w.offers, w.decline = nil, nil
		}
		return fmt.Sprintf("asked %s and %s directly for %s", count(e.Hubs, "hub"), count(e.Providers, "provider"), count(e.Tasks, "task"))
	case client.OfferSeen:
		e.Region, e.Provider = clean(e.Region), fallow.Account(clean(string(e.Provider)))
		w.offers = append(w.offers, e)
		return fmt.Sprintf("offer of %s in %s: %s credits per Ggas, %s, %s, score %s", short(e.Provider), e.Latency.Round(time.Millisecond), perGiga(e.GasPrice), count(int(e.Slots), "slot"), e.Region, e.Score)
	case client.Declined:
		e.Provider, e.Reason, e.Detail = fallow.Account(clean(string(e.Provider))), fallow.Reason(clean(string(e.Reason))), clean(e.Detail)
		w.decline = append(w.decline, e)
		return fmt.Sprintf("%s makes no offer: %s", short(e.Provider), because(e.Reason, e.Detail))
	case client.CheckChosen:
		w.chosen++
		return ""
	case client.CheckDone:
		return w.checked(e)
	case client.Verdict:
		if e.Wrong == "" {
			return fmt.Sprintf("third run of task %d decided nothing: %s", e.Task, e.Detail)
		}
		return fmt.Sprintf("third run of task %d: %s was wrong; %s run again. %s", e.Task, short(e.Wrong), count(e.Reopened, "task"), e.Detail)
	case client.Paid:
		w.seat(e.Lease).paid, w.paid = e.Amount, e.Total
		return ""
	case client.Away:
		return fmt.Sprintf("%s is away for %s; work goes on", e.What, e.For.Round(time.Second))
	case client.Back:
		return e.What + " is back"
	case client.Warning:
		return "note: " + e.Text
	default:
		return w.tellWork(e, now)
	}
}

func (w *watch) tellWork(e client.Event, now time.Time) string {
	switch e := e.(type) {
	case client.LeaseOpened:
		s := w.seat(e.Lease)
		s.provider, s.slots = fallow.Account(clean(string(e.Provider))), e.Slots
		return fmt.Sprintf("lease %d with %s: %s credits reserved, %s", e.Lease, short(e.Provider), e.Reserve, count(int(e.Slots), "slot"))
	case client.LeaseSkipped:
		return fmt.Sprintf("no lease with %s: %s", short(e.Provider), e.Reason.Text())
	case client.LeaseEnded:
		w.seat(e.Lease).ended = fallow.Reason(clean(string(e.Reason)))
		return fmt.Sprintf("lease %d ended: %s, %s credits paid", e.Lease, e.Reason.Text(), e.Paid)
	case client.ProviderLost:
		s := w.seat(e.Lease)
		s.gone = true
		if e.Gone {
			s.running = map[uint32]time.Time{}
			return fmt.Sprintf("%s is gone; its tasks go elsewhere", short(e.Provider))
		}
		return fmt.Sprintf("lost %s: %s", short(e.Provider), e.Detail)
	case client.ProviderBack:
		w.seat(e.Lease).gone = false
		return short(e.Provider) + " is back"
	case client.TaskIssued:
		w.seat(e.Lease).running[e.Task] = now
		return ""
	case client.TaskDone:
		s := w.seat(e.Lease)
		delete(s.running, e.Task)
		s.gone = false
		s.done++
		s.gas += e.Gas
		w.done, w.of = e.Done, e.Of
		if sum, err := w.owed.Add(e.Charge); err == nil {
			w.owed = sum
		}
		exit := ""
		if e.Exit != "" {
			exit = ", " + e.Exit
		}
		return fmt.Sprintf("%s by %s in %s (%d of %d%s)", e.Label, short(e.Provider), e.Took.Round(10*time.Millisecond), e.Done, e.Of, exit)
	case client.AttemptEnded:
		delete(w.seat(e.Lease).running, e.Task)
		return ""
	case client.TaskFailed:
		for _, s := range w.seats {
			if s.provider == e.Provider {
				delete(s.running, e.Task)
			}
		}
		again := ""
		if e.Again {
			again = "; tried again"
		}
		return fmt.Sprintf("%s failed at %s: %s%s", e.Label, short(e.Provider), because(e.Reason, e.Detail), again)
	default:
		return ""
	}
}

func (w *watch) checked(e client.CheckDone) string {
	switch {
	case e.Skipped != "":
		w.skipped++
		return fmt.Sprintf("check of task %d was left out: %s", e.Task, e.Skipped)
	case e.Agreed:
		w.agreed++
		return ""
	default:
		w.differ++
		return fmt.Sprintf("CHECK of task %d by %s disagrees with %s: %s", e.Task, e.By, short(e.Provider), e.Detail)
	}
}

// because is a reason with what is known beyond it.
func because(r fallow.Reason, detail string) string {
	if detail == "" {
		return r.Text()
	}
	return r.Text() + ": " + detail
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// perGiga turns a price for 1,000,000 gas into one for 1,000,000,000, which
// people can read.
func perGiga(p fallow.Pico) string {
	v, err := p.Mul(1000)
	if err != nil {
		return p.String() + " per Mgas"
	}
	return v.String()
}

// linesTo writes each event as a line, for logs and pipes.
func linesTo(out io.Writer, w *watch) client.Events {
	return func(e client.Event) {
		if line := w.take(e, time.Now()); line != "" {
			fmt.Fprintf(out, "%7.2fs  %s\n", time.Since(w.begun).Seconds(), line)
		}
	}
}
