package provider

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"fallow.network"
)

// A node that no hub reaches makes no offers and says why, until it moves to
// where one does.
func TestNobodyReachesIt(t *testing.T) {
	var open atomic.Bool
	w := newWorld(t, func(w *world) {
		w.reach = func() Reach {
			if open.Load() {
				return Reach{Asked: 2, Answered: 2, Relays: []string{"hub-1"}}
			}
			return Reach{Asked: 2, Answered: 2, Errors: []string{"dial tcp: no route to host"}}
		}
	})
	c := w.tenant("anna", 10_000_000)
	if a := c.ask(nil); a.Reason != fallow.ReasonUnreachable || !strings.Contains(a.Detail, "no route to host") {
		t.Errorf("asked, it says %q: %s", a.Reason, a.Detail)
	}
	if s, err := w.d.Status(t.Context()); err != nil || s.Reach.Path != PathNone || s.DeclineCounts[fallow.ReasonUnreachable] != 1 {
		t.Errorf("status %+v, %v", s.Reach, err)
	}
	open.Store(true)
	close(w.moved)
	w.until("it is tested again", func() bool { return w.d.reach().Path == PathRelayed })
	if a := c.ask(nil); a.Reason != "" {
		t.Errorf("reached, it says %q: %s", a.Reason, a.Detail)
	}
}

// A hub that doesn't answer the test tells nothing of the node.
func TestJudge(t *testing.T) {
	now := time.Unix(100, 0)
	found := ReachStatus{Path: PathRelayed, Text: "as it was", Relays: []string{"hub-1"}}
	for _, c := range []struct {
		name string
		r    Reach
		last ReachStatus
		want PathKind
	}{
		{"no hub is configured", Reach{}, ReachStatus{Path: PathTesting}, PathUntested},
		{"none answers the first test", Reach{Asked: 2}, ReachStatus{Path: PathTesting}, PathUntested},
		{"none answers a later one", Reach{Asked: 2}, found, PathRelayed},
		{"nobody gets through", Reach{Asked: 2, Answered: 1}, found, PathNone},
		{"by a relay", Reach{Asked: 2, Answered: 1, Relays: []string{"hub-1"}}, ReachStatus{Path: PathNone}, PathRelayed},
		{"directly", Reach{Asked: 2, Answered: 1, Direct: []string{"/ip4/192.0.0.150/tcp/1"}, Relays: []string{"hub-1"}}, found, PathDirect},
	} {
		s := judge(c.r, c.last, now)
		if s.Path != c.want || s.Text == "" {
			t.Errorf("%s: %+v, want %s", c.name, s, c.want)
		}
		reason, why := s.reached()
		if (reason == fallow.ReasonUnreachable) != (c.want == PathNone) || (reason == "") != (why == "") {
			t.Errorf("%s: no offer for %q: %s", c.name, reason, why)
		}
	}
}
