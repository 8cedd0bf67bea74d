package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// pause waits, unless it is all called off.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// idleGoals are in MB, by the kind of party.
var idleGoals = map[string]float64{"node": 200, "hub": 50, "provider": 50}

// idleMemory reads what each party holds when it has had nothing to do for a
// while, and how much of a core the node uses meanwhile.
func (b *bench) idleMemory(ctx context.Context) error {
	before, err := b.used()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := pause(ctx, b.idle); err != nil {
		return err
	}
	after, err := b.used()
	if err != nil {
		return err
	}
	took := time.Since(began).Seconds()
	part := func(kind string) float64 { return (after[kind] - before[kind]).Seconds() / took }
	b.idleCPU = part("node")
	for _, party := range slices.Sorted(maps.Keys(b.net.pids)) {
		kind, _, _ := strings.Cut(party, "-")
		var mb, own, file float64
		for what, to := range map[string]*float64{"VmRSS": &mb, "RssAnon": &own, "RssFile": &file} {
			if *to, err = memoryOf(b.net.pids[party], what); err != nil {
				return err
			}
		}
		b.add(Row{
			What: "idle resident memory, " + party, Value: mb, Unit: "MB", Goal: idleGoals[kind],
			Note: fmt.Sprintf("%.1f MB its own, %.1f MB pages of its program, which parties share; after %s", own, file, b.idle),
		})
	}
	b.add(
		Row{What: "idle node, blocks of 1 s", Value: b.idleCPU * 1000, Unit: "ms of CPU a second"},
		Row{What: "idle hub", Value: part("hub") * 1000, Unit: "ms of CPU a second"},
		Row{What: "idle provider", Value: part("provider") * 1000 / 3, Unit: "ms of CPU a second", Note: "mean of three"},
	)
	return nil
}
