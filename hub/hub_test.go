package hub_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"connectrpc.com/connect"

	"fallow.network"
	hubv1 "fallow.network/api/hub"
	"fallow.network/hub"
	"fallow.network/p2p"
)

func TestTwoHubsOneDies(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("parties", func(t *testing.T) {
		n := newTenant(t, "tenant")
		e := &escrow{}
		e.set(n.account, 1_000_000)
		a, b := start(t, hub.Default(), e), start(t, hub.Default(), e)
		var ps []*provider
		for i := range 3 {
			p := newProvider(t, fmt.Sprintf("provider-%d", i))
			p.hold(t, a, b)
			ps = append(ps, p)
		}
		h := host(t, p2p.RoleTenant)
		s := n.demand(t, 5*time.Second, nil)
		for _, r := range []*running{a, b} {
			got, err := n.ask(t, h, r, s)
			if err != nil || got.number != 3 || len(got.answers) != 3 {
				t.Fatalf("asked %d, %d answers: %v", got.number, len(got.answers), err)
			}
			for _, x := range got.answers {
				if x.Reason != fallow.ReasonPaused {
					t.Errorf("answer %+v", x)
				}
			}
		}

		// One dies in the middle: those on the other are reached still.
		a.kill(t)
		if _, err := n.ask(t, h, a, n.demand(t, time.Second, nil)); err == nil {
			t.Error("a dead hub answers")
		}
		got, err := n.ask(t, h, b, n.demand(t, 5*time.Second, nil))
		if err != nil || len(got.answers) != 3 {
			t.Fatalf("%d answers: %v", len(got.answers), err)
		}
		for _, p := range ps {
			eventually(t, "the dead hub is noticed", func() bool { return !p.isOn(a) })
			if !p.isOn(b) {
				t.Error("the other stream broke")
			}
		}
		st, err := status(t, h, b)
		if err != nil || st.GetProviders() != 3 || st.GetDemands() != 2 || st.GetAnswers() != 6 || st.GetChainId() != chainID || len(st.GetAddrs()) == 0 {
			t.Errorf("status %v %v", st, err)
		}
	})
	settled(t, before)
}

func status(t *testing.T, h *p2p.Host, r *running) (*hubv1.StatusResponse, error) {
	t.Helper()
	c, err := hub.Dial(t.Context(), h, r.host.Addrs()...)
	if err != nil {
		return nil, err
	}
	resp, err := c.Status(t.Context(), connect.NewRequest(&hubv1.StatusRequest{}))
	if err != nil {
		return nil, err
	}
	return resp.Msg, nil
}

func TestProviderComesBackAfterACut(t *testing.T) {
	r := start(t, hub.Default(), &escrow{})
	p := newProvider(t, "p")
	p.hold(t, r)
	for range 3 {
		if err := r.host.Disconnect(p.Key()); err != nil {
			t.Fatal(err)
		}
		eventually(t, "gone", func() bool { return !p.isOn(r) })
		eventually(t, "back", func() bool { return p.isOn(r) && r.OnBoard(p.Key()) })
	}
}

func TestGracefulClose(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("parties", func(t *testing.T) {
		n := newTenant(t, "tenant")
		e := &escrow{}
		e.set(n.account, 1_000_000)
		r := start(t, hub.Default(), e)
		p, silent := newProvider(t, "p"), newProvider(t, "silent")
		stream := raw(t, silent, r)
		p.hold(t, r)
		h := host(t, p2p.RoleTenant)
		got := make(chan int, 1)
		go func() {
			a, _ := n.ask(t, h, r, n.demand(t, 30*time.Second, nil))
			got <- len(a.answers)
		}()
		eventually(t, "the demand with the provider", func() bool { return p.heard.Load() == 1 })
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		begun := time.Now()
		r.Close(ctx)
		if d := time.Since(begun); d > 5*time.Second {
			t.Errorf("closing took %v", d)
		}
		if n := <-got; n != 1 {
			t.Errorf("%d answers before the end", n)
		}
		if reason := ends(t, stream); reason != fallow.ReasonDraining {
			t.Errorf("the provider's stream ended with %q", reason)
		}
		if _, err := n.ask(t, h, r, n.demand(t, time.Second, nil)); connect.CodeOf(err) != connect.CodeUnavailable || hub.ReasonOf(err) != fallow.ReasonDraining {
			t.Errorf("a closed hub answers %v", err)
		}
	})
	settled(t, before)
}

func TestLimitsAreChecked(t *testing.T) {
	for _, change := range []func(*hub.Limits){
		func(l *hub.Limits) { l.Providers = 0 },
		func(l *hub.Limits) { l.Queue = 1 << 20 },
		func(l *hub.Limits) { l.PeerRate = 0 },
		func(l *hub.Limits) { l.UnfundedRate = -1 },
	} {
		l := hub.Default()
		change(&l)
		if _, err := hub.New(l, hub.Deps{ChainID: chainID}); err == nil {
			t.Errorf("accepted %+v", l)
		}
	}
	if _, err := hub.New(hub.Default(), hub.Deps{}); err == nil {
		t.Error("accepted without a chain id")
	}
}

func TestMetrics(t *testing.T) {
	r := start(t, hub.Default(), nil)
	newProvider(t, "p").hold(t, r)
	families, err := r.Metrics().Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			found[f.GetName()] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	if found["fallow_hub_providers"] != 1 {
		t.Errorf("metrics %v", found)
	}
	if _, ok := found["fallow_hub_demands_total"]; !ok {
		t.Errorf("metrics %v", found)
	}
}
