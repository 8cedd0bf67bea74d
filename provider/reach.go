package provider

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"fallow.network"
)

// Reach is what hubs found when they dialled this node anew, as a tenant would.
type Reach struct {
	// Asked and Answered count hubs.
	Asked, Answered int
	// Direct are addresses at which a new connection arrived, Relays hubs
	// through whose relay one did.
	Direct, Relays []string
	// Errors are what went wrong, for people.
	Errors []string
}

// Traffic is what requests and answers have moved, in bytes by their path.
type Traffic struct {
	DirectIn   uint64 `json:"direct_in"`
	DirectOut  uint64 `json:"direct_out"`
	RelayedIn  uint64 `json:"relayed_in"`
	RelayedOut uint64 `json:"relayed_out"`
}

// Paths is how peers reach a node.
type Paths interface {
	// Reach asks the hubs to dial this node, and returns what they found.
	Reach(ctx context.Context) Reach
	// Traffic is what has moved so far.
	Traffic() Traffic
}

// PathKind is how far peers get to a node by themselves.
type PathKind string

const (
	// PathTesting is a node that has not been tested yet.
	PathTesting PathKind = "testing"
	// PathUntested is one whose test no hub answered.
	PathUntested PathKind = "untested"
	// PathDirect is one at which new connections arrive.
	PathDirect PathKind = "direct"
	// PathRelayed is one behind a NAT or firewall, reached through a relay.
	PathRelayed PathKind = "relayed"
	// PathNone is one that nobody reaches.
	PathNone PathKind = "unreachable"
)

// ReachStatus is the last test of how peers reach this node.
type ReachStatus struct {
	Path   PathKind `json:"path"`
	Text   string   `json:"text"`
	Direct []string `json:"direct"`
	Relays []string `json:"relays"`
	Errors []string `json:"errors,omitempty"`
	AtMS   int64    `json:"at_unix_ms"`
}

const (
	// reachAgain is the time between tests while all is well, reachSoon the
	// first between tests while it is not, doubled up to reachLate.
	reachAgain = 5 * time.Minute
	reachSoon  = 2 * time.Second
	reachLate  = time.Minute
	// reachLeast keeps tests apart when addresses change often, in the bounds
	// that hubs set.
	reachLeast = 2 * time.Second
)

// judge turns what hubs found into a status. While no hub answers, what the
// last test found stands.
func judge(r Reach, last ReachStatus, now time.Time) ReachStatus {
	s := ReachStatus{Direct: r.Direct, Relays: r.Relays, Errors: r.Errors, AtMS: unixMS(now)}
	switch {
	case r.Answered == 0 && (last.Path == PathTesting || last.Path == PathUntested):
		s.Path = PathUntested
		s.Text = fmt.Sprintf("not tested: none of %d hubs answers the test", r.Asked)
		if r.Asked == 0 {
			s.Text = "not tested: no hub is configured"
		}
	case r.Answered == 0:
		last.Errors = r.Errors
		return last
	case len(r.Direct) > 0:
		s.Path = PathDirect
		s.Text = "new connections arrive at " + strings.Join(r.Direct, ", ")
	case len(r.Relays) > 0:
		s.Path = PathRelayed
		s.Text = fmt.Sprintf("behind a NAT or firewall: tenants come through the relays of %d hubs, and are met halfway where the NAT allows", len(r.Relays))
		if len(r.Relays) == 1 {
			s.Text = "behind a NAT or firewall: tenants come through the relay of one hub, and are met halfway where the NAT allows"
		}
	default:
		s.Path = PathNone
		s.Text = "no hub reached this node, neither directly nor through its relay"
		if len(r.Errors) > 0 {
			s.Text += "; " + r.Errors[0]
		}
	}
	return s
}

// probe tests how peers reach this node: at the start, when its addresses
// change, and now and then, until ctx ends.
func (d *Daemon) probe(ctx context.Context) {
	retry := reachSoon
	for {
		changed := d.courier.Changed()
		s := judge(d.courier.Reach(ctx), d.reach(), d.now())
		if ctx.Err() != nil {
			return
		}
		d.setReach(ctx, s)
		wait := reachAgain
		if s.Path == PathDirect || s.Path == PathRelayed {
			retry = reachSoon
		} else {
			wait, retry = retry, min(2*retry, reachLate)
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-t.C:
		}
		t.Stop()
		if !sleep(ctx, reachLeast) {
			return
		}
	}
}

// reach is the last test's outcome.
func (d *Daemon) reach() ReachStatus {
	var s ReachStatus
	d.gate.set(func(g *gate) { s = g.reach })
	if s.Path == "" {
		s = ReachStatus{Path: PathTesting, Text: "hubs are asked to dial this node"}
	}
	return s
}

func (d *Daemon) setReach(ctx context.Context, s ReachStatus) {
	was := d.reach()
	d.gate.set(func(g *gate) { g.reach = s })
	if was.Path == s.Path {
		return
	}
	level := slog.LevelInfo
	if s.Path == PathNone {
		level = slog.LevelWarn
	}
	d.log.Log(ctx, level, "tested how peers reach this node", slog.String("path", string(s.Path)), slog.String("text", s.Text), slog.Any("errors", s.Errors))
}

// reached says why no offer is made for want of a path; empty when there is
// one, or none of the hubs could tell: who asks has found one then.
func (s ReachStatus) reached() (fallow.Reason, string) {
	switch s.Path {
	case "", PathTesting:
		return fallow.ReasonUnreachable, "it is being tested whether peers reach this node"
	case PathNone:
		return fallow.ReasonUnreachable, s.Text
	default:
		return "", ""
	}
}

// traffic is what has moved so far.
func (d *Daemon) traffic() Traffic {
	d.mu.Lock()
	c := d.courier
	d.mu.Unlock()
	if c == nil {
		return Traffic{}
	}
	return c.Traffic()
}
