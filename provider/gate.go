package provider

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"fallow.network"
	"fallow.network/hardware"
)

// gate decides whether work is taken at all: the owner's word, the hours, and
// the owner's own use of the machine.
type gate struct {
	mu       sync.Mutex
	paused   bool // the owner's word
	draining bool
	activity hardware.Activity
	sampled  bool
	// lastUse is when somebody was last seen at the machine.
	lastUse time.Time
	reach   ReachStatus
}

// inUse says whether a asks for the machine to be left alone, and why.
func (i Idle) inUse(a hardware.Activity) (string, bool) {
	switch {
	case a.Session.Known && !a.Session.Idle:
		return "somebody is at the machine", true
	case a.OthersMilliCPU >= 0 && float64(a.OthersMilliCPU) > i.Cores*1000:
		return fmt.Sprintf("other programs use %d.%02d cores", a.OthersMilliCPU/1000, a.OthersMilliCPU%1000/10), true
	case a.GPUBusyPercent > i.GPUPercent:
		return fmt.Sprintf("a GPU is %d%% busy", a.GPUBusyPercent), true
	default:
		return "", false
	}
}

// sample takes what was seen of the owner's use. It says whether that may
// have opened or shut the gate.
func (g *gate) sample(i Idle, a hardware.Activity, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, used := i.inUse(a); used || !g.sampled {
		// Before the first sample nothing is known, so idleness begins with it;
		// unless logind knows since when nobody was there.
		g.lastUse = now
		if !used && a.Session.Known && a.Session.Idle && a.Session.SinceUnixMS > 0 {
			if since := time.UnixMilli(a.Session.SinceUnixMS); since.Before(now) {
				g.lastUse = since
			}
		}
	}
	g.activity, g.sampled = a, true
}

// offers says why no offer is made now; empty when the gate is open.
func (g *gate) offers(c Config, s schedule, now time.Time) (fallow.Reason, string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.draining:
		return fallow.ReasonDraining, "the daemon finishes what it has and ends"
	case g.paused:
		return fallow.ReasonPaused, "the owner has paused lending"
	case !s.open(now):
		return fallow.ReasonPaused, "outside the hours of lending, which begin at " + s.next(now).Format("Mon 15:04 MST")
	}
	if reason, why := g.reach.reached(); reason != "" {
		return reason, why
	}
	if !c.Idle.Only && !c.Idle.Pause {
		return "", ""
	}
	why, used := c.Idle.inUse(g.activity)
	quiet := time.Duration(c.Idle.Quiet)
	switch {
	case used:
		return fallow.ReasonPaused, "the owner comes first: " + why
	case c.Idle.Only && (!g.sampled || now.Sub(g.lastUse) < quiet):
		return fallow.ReasonPaused, fmt.Sprintf("the machine counts as idle once it was left alone for %s", quiet)
	default:
		return "", ""
	}
}

// tasks says whether a further task may start, and why not. A pause by the
// owner does not void what was promised; the owner's presence does, where the
// config says so.
func (g *gate) tasks(c Config) (string, bool) {
	if !c.Idle.Pause {
		return "", true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	why, used := c.Idle.inUse(g.activity)
	return why, !used
}

func (g *gate) set(f func(g *gate)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f(g)
}

func (g *gate) is() (paused, draining bool, a hardware.Activity) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.paused, g.draining, g.activity
}

// watch looks at the owner's use until ctx ends, where the config cares.
func (d *Daemon) watch(ctx context.Context) {
	for {
		c, _ := d.config()
		if c.Idle.Only || c.Idle.Pause {
			before, _ := d.gate.tasks(c)
			d.gate.sample(c.Idle, d.deps.Watcher.Sample(ctx), d.now())
			after, _ := d.gate.tasks(c)
			if before != after {
				d.log.InfoContext(ctx, "owner's use of the machine changed", slog.String("use", after))
				d.pump()
			}
		}
		if !sleep(ctx, time.Duration(c.Idle.Every)) {
			return
		}
	}
}

// sleep waits and says whether ctx still stands.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
