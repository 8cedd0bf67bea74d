package provider

import (
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"fallow.network"
	hubv1 "fallow.network/api/hub"
	"fallow.network/api/hub/hubv1connect"
	nodev1 "fallow.network/api/node"
	"fallow.network/api/node/nodev1connect"
	"fallow.network/market"
	"fallow.network/settle"
	"fallow.network/wire"
)

func TestAnswersHaveReasons(t *testing.T) {
	w := newWorld(t, nil)
	rich := w.tenant("anna", 10_000_000)
	poor := w.tenant("carl", 1)
	for _, c := range []struct {
		name string
		ask  func() market.Answer
		want fallow.Reason
	}{
		{"an offer", func() market.Answer { return rich.ask(nil) }, ""},
		{"no money", func() market.Answer { return poor.ask(nil) }, fallow.ReasonUnfunded},
		{"another region", func() market.Answer {
			return rich.ask(func(d *market.Demand) { d.Placement.Regions = []string{"moon"} })
		}, fallow.ReasonPlacement},
		{"a slot too large", func() market.Answer { return rich.ask(func(d *market.Demand) { d.Slot.MilliCPU = 1 << 20 }) }, fallow.ReasonTooLarge},
		{"an unregistered client key", func() market.Answer {
			return poor.ask(func(d *market.Demand) { d.Tenant = rich.account })
		}, fallow.ReasonClientKey},
		{"a registered client key", func() market.Answer {
			w.ledger.set(func(f *fakeLedger) {
				e := f.escrows[rich.account]
				e.Keys = []settle.ClientKey{{Address: poor.account, Limit: 1000, Expires: 1000}}
				f.escrows[rich.account] = e
			})
			w.d.desk.mu.Lock()
			clear(w.d.desk.escrows)
			w.d.desk.mu.Unlock()
			return poor.ask(func(d *market.Demand) { d.Tenant = rich.account })
		}, ""},
		{"all is held", func() market.Answer { return rich.ask(nil) }, fallow.ReasonNoCapacity},
	} {
		a := c.ask()
		if a.Reason != c.want {
			t.Errorf("%s: %q %s, want %q", c.name, a.Reason, a.Detail, c.want)
		}
		if a.Reason != "" && a.Detail == "" {
			t.Errorf("%s: no detail", c.name)
		}
		if a.Provider != w.config.Provider || a.Region != "eu" || a.Protocol != fallow.Protocol {
			t.Errorf("%s: %+v", c.name, a)
		}
	}
	if s, err := w.d.Status(t.Context()); err != nil || s.DeclineCounts[fallow.ReasonUnfunded] != 1 || len(s.Declines) != 5 {
		t.Errorf("%+v %v", s.DeclineCounts, err)
	}
}

func TestBadDemands(t *testing.T) {
	w := newWorld(t, nil)
	c := w.tenant("anna", 10_000_000)
	client := nodev1connect.NewNodeServiceClient(c.client, w.url)
	s, _ := c.demand(nil)
	forged := market.Signed{Message: s.Message, Signature: append([]byte{1}, s.Signature[1:]...)}
	for _, b := range []struct {
		name     string
		s        market.Signed
		protocol string
		want     fallow.Reason
	}{
		{"forged", forged, fallow.Protocol, fallow.ReasonSignature},
		{"garbage", market.Signed{Message: []byte("hi"), Signature: s.Signature}, fallow.Protocol, fallow.ReasonMalformed},
		{"no signature", market.Signed{Message: s.Message}, fallow.Protocol, fallow.ReasonMalformed},
		{"another protocol", s, "fallow/0", fallow.ReasonVersion},
	} {
		_, err := client.Ask(t.Context(), connect.NewRequest(&nodev1.AskRequest{Demand: wire.ToSigned(b.s), Protocol: b.protocol}))
		if got := reasonIn(err); got != string(b.want) {
			t.Errorf("%s: %s, want %s", b.name, got, b.want)
		}
	}
}

func TestOneDemandHasOneOffer(t *testing.T) {
	w := newWorld(t, nil)
	c := w.tenant("anna", 10_000_000)
	s, open := c.demand(nil)
	var wg sync.WaitGroup
	answers := make([]market.Answer, 8)
	for i := range answers {
		wg.Go(func() { answers[i] = open(c.askSigned(s)) })
	}
	wg.Wait()
	for _, a := range answers {
		if a.Reason != "" || string(a.Offer.Message) != string(answers[0].Offer.Message) {
			t.Errorf("%s %s", a.Reason, a.Detail)
		}
	}
	if u := w.d.capacity.usage(); u.SlotsHeld != 2 {
		t.Errorf("held %d slots for one demand of 2", u.SlotsHeld)
	}
	// After a restart the same offer stands, and so does its hold.
	w.restart()
	if a := open(c.askSigned(s)); string(a.Offer.Message) != string(answers[0].Offer.Message) {
		t.Errorf("%s %s", a.Reason, a.Detail)
	}
	if u := w.d.capacity.usage(); u.SlotsHeld != 2 {
		t.Errorf("held %d slots after a restart", u.SlotsHeld)
	}
}

func TestConcurrentDemandsDoNotOversell(t *testing.T) {
	w := newWorld(t, func(w *world) { w.config.Offers.PerSecond = 1000 })
	var wg sync.WaitGroup
	var mu sync.Mutex
	var slots uint32
	for i := range 12 {
		c := w.tenant(string(rune('a'+i)), 10_000_000)
		s, open := c.demand(func(d *market.Demand) { d.Slots = uint32(1 + i%3) })
		wg.Go(func() {
			a := open(c.askSigned(s))
			if a.Reason != "" {
				return
			}
			o, err := wire.OpenOffer(testChain, a.Offer)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			slots += o.Terms.Slots
			mu.Unlock()
		})
	}
	wg.Wait()
	if slots != 4 {
		t.Errorf("%d slots offered of 4", slots)
	}
}

func TestHoldsEndWithTheirHeight(t *testing.T) {
	w := newWorld(t, nil)
	c := w.tenant("anna", 10_000_000)
	for range 2 {
		if a := c.ask(nil); a.Reason != "" {
			t.Fatal(a.Reason, a.Detail)
		}
	}
	if a := c.ask(nil); a.Reason != fallow.ReasonNoCapacity {
		t.Errorf("%q", a.Reason)
	}
	w.ledger.mine(30)
	time.Sleep(30 * time.Millisecond)
	if u := w.d.capacity.usage(); u.SlotsHeld != 4 {
		t.Errorf("held %d slots at the last height", u.SlotsHeld)
	}
	w.ledger.mine(1)
	w.until("the holds ended", func() bool { return w.d.capacity.usage().SlotsHeld == 0 })
	// Two untaken offers lower what the tenant may hold.
	w.until("they are written down", func() bool {
		n, taken, err := w.d.journal.rate(t.Context(), c.account)
		return err == nil && n == 2 && taken == 0
	})
	if a := c.ask(func(d *market.Demand) { d.Slots = 4 }); a.Reason != "" {
		t.Error(a.Reason)
	} else if o, err := wire.OpenOffer(testChain, a.Offer); err != nil || o.Terms.Slots != 2 {
		t.Errorf("%d slots for a tenant that took none of two: %v", o.Terms.Slots, err)
	}
}

func TestDemandsOverAHub(t *testing.T) {
	hub := &fakeHub{announced: make(chan *hubv1.Announcement, 8), replies: make(chan *hubv1.SealedReply, 8), send: make(chan *hubv1.BoardResponse), cut: make(chan struct{})}
	_, handler := hubv1connect.NewHubServiceHandler(hub)
	server := h2c(t, handler)
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	w := newWorld(t, func(w *world) {
		w.hub = server.URL
		w.config.Hubs = []string{"/ip4/127.0.0.1/tcp/2/p2p/hub"}
		w.config.Attributes = map[string]string{"tier": "home"}
	})
	wait := func() *hubv1.Announcement {
		t.Helper()
		select {
		case a := <-hub.announced:
			return a
		case <-time.After(10 * time.Second):
			t.Fatal("no announcement")
			return nil
		}
	}
	a := wait()
	if a.GetProvider() != string(w.config.Provider) || a.GetLargestSlot().GetMilliCpu() == 0 || a.GetAttributes()[0].GetValue() != "home" ||
		a.GetProtocol() != fallow.Protocol || len(a.GetAddrs()) != 1 {
		t.Errorf("announcement %v", a)
	}
	c := w.tenant("anna", 10_000_000)
	s, open := c.demand(nil)
	hub.send <- &hubv1.BoardResponse{Demand: wire.ToSigned(s)}
	var r *hubv1.SealedReply
	select {
	case r = <-hub.replies:
	case <-time.After(10 * time.Second):
		t.Fatal("no reply")
	}
	id := s.ID()
	if string(r.GetDemand()) != string(id[:]) {
		t.Error("a reply to another demand")
	}
	if got := open(&nodev1.AskResponse{Answer: r.GetAnswer()}); got.Reason != "" {
		t.Error(got.Reason, got.Detail)
	}
	if w.d.hubsUp() != 1 {
		t.Error("the hub is not shown as up")
	}
	// A reload is announced anew; what breaks is taken up again.
	cfg, _ := w.d.config()
	cfg.Region = "us"
	if _, err := w.d.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	if a := wait(); a.GetRegion() != "us" {
		t.Errorf("region %q", a.GetRegion())
	}
	hub.cut <- struct{}{}
	wait()
}

func TestRateLimit(t *testing.T) {
	w := newWorld(t, func(w *world) { w.config.Offers.PerSecond = 1 })
	c := w.tenant("anna", 0)
	got := map[fallow.Reason]int{}
	for range 6 {
		got[c.ask(nil).Reason]++
	}
	if got[fallow.ReasonRateLimited] < 3 || got[fallow.ReasonUnfunded] < 2 {
		t.Errorf("%v", got)
	}
}

func TestNoOffersWhileTheLedgerIsAway(t *testing.T) {
	w := newWorld(t, nil)
	c := w.tenant("anna", 10_000_000)
	w.ledger.set(func(f *fakeLedger) { f.away = true })
	if a := c.ask(nil); a.Reason != fallow.ReasonChainAway || !strings.Contains(a.Detail, "out of reach") {
		t.Errorf("%q %s", a.Reason, a.Detail)
	}
	w.ledger.set(func(f *fakeLedger) { f.away = false })
	if a := c.ask(nil); a.Reason != "" {
		t.Errorf("%q %s", a.Reason, a.Detail)
	}
}

func TestUnregisteredNode(t *testing.T) {
	w := newWorld(t, func(w *world) { w.ledger.standing.Epoch = 0 })
	if a := w.tenant("anna", 10_000_000).ask(nil); a.Reason != fallow.ReasonKeyEpoch {
		t.Errorf("%q", a.Reason)
	}
	w.ledger.set(func(f *fakeLedger) { f.standing.Epoch = 3 })
	wake(w.d.compare)
	w.until("the epoch is known", func() bool { s, _ := w.d.standing(); return s.Epoch == 3 })
	a := w.tenant("anna", 10_000_000).ask(nil)
	if o, err := wire.OpenOffer(testChain, a.Offer); err != nil || o.KeyEpoch != 3 {
		t.Errorf("%+v %v", o, err)
	}
}
