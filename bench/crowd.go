package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"fallow.network"
	"fallow.network/client"
	"fallow.network/sdk"
)

// crowd is a job of many tasks that do nothing, on three leases.
type crowd struct {
	bill *client.Bill
	// took is from the first task sent to the last result verified.
	took time.Duration
	// used is processor time by the kind of party; sandboxes are their
	// provider's.
	used map[string]time.Duration
}

// crowd runs one; at is called after each result with how many there are.
func (b *bench) crowd(ctx context.Context, t *sdk.Tenant, name string, tasks int, reserve fallow.Credits, at func(done int) error) (c crowd, err error) {
	if err := rested(ctx, t); err != nil {
		return c, err
	}
	var first, last time.Time
	err = onLeases(ctx, t, client.LeaseWish{Leases: 3, Slots: 2, Reserve: reserve}, func(ids []fallow.LeaseID) (err error) {
		before, err := b.used()
		if err != nil {
			return err
		}
		var failed error
		c.bill, err = b.begin(ctx, t, name, tasks, func(o *client.Options) { o.Leases = ids }, func(e client.Event) {
			switch e := e.(type) {
			case client.TaskIssued:
				if first.IsZero() {
					first = time.Now()
				}
			case client.TaskDone:
				last = time.Now()
				if failed == nil {
					failed = at(e.Done)
				}
			}
		})
		if err == nil {
			err = failed
		}
		if err != nil {
			return err
		}
		c.used, err = b.used()
		for kind := range c.used {
			c.used[kind] -= before[kind]
		}
		return err
	})
	c.took = last.Sub(first)
	return c, err
}

// rate runs many tasks on three providers, receipts and vouchers included.
func (b *bench) rate(ctx context.Context) error {
	return b.withTenant(ctx, func(t *sdk.Tenant) error {
		c, err := b.crowd(ctx, t, "rate", b.many, 50_000, func(int) error { return nil })
		if err != nil {
			return err
		}
		rate := float64(b.many) / c.took.Seconds()
		row := Row{
			What: "no-op tasks a second, three providers, receipts and vouchers", Value: rate, Unit: "tasks/s", Goal: 1000, Over: true,
			Note: fmt.Sprintf("%d tasks, no checks; from the first sent to the last verified; on %s", b.many, counted(len(c.bill.Providers), "lease")),
		}
		if b.noop > 0 {
			row.Ratio, row.Baseline = rate*b.noop.Seconds(), "one sandbox alone"
		}
		var all time.Duration
		var parts []string
		for _, kind := range []string{"tenant", "provider", "hub", "node"} {
			all += c.used[kind]
			parts = append(parts, fmt.Sprintf("%s %.0f µs", kind, micros(c.used[kind])/float64(b.many)))
		}
		b.add(row, Row{
			What: "processor time of such a task, all parties", Value: micros(all) / float64(b.many), Unit: "µs",
			Note: strings.Join(parts, ", ") + "; providers with their sandboxes; opening and closing of the job included",
		})
		return nil
	})
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// endurance runs a job that is long enough to show what grows, and what it
// leaves on the ledger.
func (b *bench) endurance(ctx context.Context) error {
	return b.withTenant(ctx, func(t *sdk.Tenant) error {
		var early, late map[string]float64
		warm := b.endure / 5
		c, err := b.crowd(ctx, t, "endurance", b.endure, 1_000_000, func(done int) (err error) {
			switch done {
			case warm:
				early, err = b.memory()
			case b.endure:
				late, err = b.memory()
			}
			return err
		})
		if err != nil {
			return err
		}
		if early == nil || late == nil {
			return fmt.Errorf("the job ended, and it was not seen at %d and %d tasks", warm, b.endure)
		}
		most, who := 0.0, ""
		for party := range late {
			if grown := late[party] - early[party]; strings.HasPrefix(party, "provider") && (who == "" || grown > most) {
				most, who = grown, party
			}
		}
		b.add(Row{
			What: fmt.Sprintf("provider's memory from task %d to %d", warm, b.endure), Value: most, Unit: "MB", Goal: flat,
			Ratio: late[who] / early[who], Baseline: fmt.Sprintf("at task %d", warm),
			Note: fmt.Sprintf("anonymous memory of %s, which grew most, %.1f MB to %.1f MB; %.0f tasks/s", who, early[who], late[who], float64(b.endure)/c.took.Seconds()),
		})
		on, err := sdk.ReadOnChain(ctx, t.Purse.Client, c.bill)
		if err != nil {
			return err
		}
		settling := 0
		for _, tr := range on.Traces {
			if !slices.Contains(tr.Kinds, "open") {
				settling += tr.Bytes
			}
		}
		row := Row{
			What: fmt.Sprintf("bytes on chain a task, %d tasks", b.endure), Value: float64(on.Bytes) / float64(b.endure), Unit: "B",
			Note: fmt.Sprintf("%d B in %s, %d B of them to settle; the goal is for 100,000 tasks", on.Bytes, counted(len(on.Traces), "transaction"), settling),
		}
		if b.endure >= 100_000 {
			row.Goal = 0.05
		}
		b.add(row)
		return nil
	})
}

// flat is how much a provider may grow from a fifth of a long job to its end, in
// MB: less than its garbage collector lets its memory swing.
const flat = 10

// memory is the anonymous memory of each party, in MB: what it has for itself,
// without the pages of its program's file.
func (b *bench) memory() (map[string]float64, error) {
	all := map[string]float64{}
	for party, pid := range b.net.pids {
		mb, err := memoryOf(pid, "RssAnon")
		if err != nil {
			return nil, err
		}
		all[party] = mb
	}
	return all, nil
}

// used is the processor time that each kind of party has used, and its
// children that live.
func (b *bench) used() (map[string]time.Duration, error) {
	parents, err := parents()
	if err != nil {
		return nil, err
	}
	all := map[string]time.Duration{}
	for party, pid := range b.net.pids {
		kind, _, _ := strings.Cut(party, "-")
		took, err := processorTime(pid)
		if err != nil {
			return nil, err
		}
		all[kind] += took
		for child, parent := range parents {
			if parent != pid {
				continue
			}
			if took, err := processorTime(child); err == nil { // it may have ended
				all[kind] += took
			}
		}
	}
	all["tenant"], err = spent()
	return all, err
}

// parents gives each process' parent.
func parents() (map[int]int, error) {
	folders, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	all := map[int]int{}
	for _, f := range folders {
		pid, err := strconv.Atoi(filepath.Base(f))
		if err != nil {
			continue
		}
		fields, err := statOf(pid)
		if err != nil {
			continue // it has ended
		}
		if parent, err := strconv.Atoi(fields[1]); err == nil {
			all[pid] = parent
		}
	}
	return all, nil
}
