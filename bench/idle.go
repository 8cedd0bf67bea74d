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

// rest leaves the network alone for a while, and gives the part of a core that a
// party of each kind used meanwhile, the mean of them.
func (b *bench) rest(ctx context.Context) (map[string]float64, error) {
	before, err := b.used()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := pause(ctx, b.idle); err != nil {
		return nil, err
	}
	after, err := b.used()
	if err != nil {
		return nil, err
	}
	took := time.Since(began).Seconds()
	mean := map[string]float64{}
	for kind, n := range b.net.kinds() {
		mean[kind] = (after[kind] - before[kind]).Seconds() / took / float64(n)
	}
	b.idleCPU = mean["node"]
	return mean, nil
}

// idleMemory reads what each party holds when it has had nothing to do for a
// while, and how much of a core it uses meanwhile.
func (b *bench) idleMemory(ctx context.Context) error {
	mean, err := b.rest(ctx)
	if err != nil {
		return err
	}
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
	const unit = "ms of CPU a second"
	b.add(
		Row{What: "idle node, blocks of 1 s", Value: mean["node"] * 1000, Unit: unit},
		Row{What: "idle hub", Value: mean["hub"] * 1000, Unit: unit},
		Row{What: "idle provider", Value: mean["provider"] * 1000, Unit: unit, Note: fmt.Sprintf("mean of %d", b.net.kinds()["provider"])},
	)
	return nil
}
