package hub_test

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"fallow.network"
	hubv1 "fallow.network/api/hub"
	marketv1 "fallow.network/api/market"
	"fallow.network/hub"
	"fallow.network/market"
	"fallow.network/p2p"
	"fallow.network/wire"
)

func TestAnnouncementsThatAreRefused(t *testing.T) {
	limits := hub.Default()
	limits.PeerBurst = 1000
	r := start(t, limits, nil)
	p, q := newProvider(t, "p"), newProvider(t, "q")
	for name, tc := range map[string]struct {
		change func(*hubv1.Announcement) *hubv1.Announcement
		reason fallow.Reason
	}{
		"none":            {func(*hubv1.Announcement) *hubv1.Announcement { return nil }, fallow.ReasonMalformed},
		"version":         {func(a *hubv1.Announcement) *hubv1.Announcement { a.Protocol = "fallow/2"; return a }, fallow.ReasonVersion},
		"another's key":   {func(a *hubv1.Announcement) *hubv1.Announcement { k := q.Key(); a.NodeKey = k[:]; return a }, fallow.ReasonMalformed},
		"short key":       {func(a *hubv1.Announcement) *hubv1.Announcement { a.NodeKey = a.NodeKey[:5]; return a }, fallow.ReasonMalformed},
		"no account":      {func(a *hubv1.Announcement) *hubv1.Announcement { a.Provider = "me"; return a }, fallow.ReasonMalformed},
		"no class":        {func(a *hubv1.Announcement) *hubv1.Announcement { a.Classes = nil; return a }, fallow.ReasonMalformed},
		"many classes":    {func(a *hubv1.Announcement) *hubv1.Announcement { a.Classes = make([]string, 100); return a }, fallow.ReasonMalformed},
		"long word":       {func(a *hubv1.Announcement) *hubv1.Announcement { a.Region = strings.Repeat("x", 200); return a }, fallow.ReasonMalformed},
		"another's place": {func(a *hubv1.Announcement) *hubv1.Announcement { a.Addrs = q.Addrs(); return a }, fallow.ReasonMalformed},
		"bad resources": {func(a *hubv1.Announcement) *hubv1.Announcement {
			a.LargestSlot.MilliCpu = 1 << 31
			return a
		}, fallow.ReasonMalformed},
		"bad attribute": {func(a *hubv1.Announcement) *hubv1.Announcement { a.Attributes[0].Key = ""; return a }, fallow.ReasonMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			c, err := hub.Dial(ctx, p, r.host.Addrs()...)
			if err != nil {
				t.Fatal(err)
			}
			stream := c.Board(ctx)
			defer func() { _ = stream.CloseResponse() }()
			if err := stream.Send(&hubv1.BoardRequest{Announcement: tc.change(p.announcement())}); err != nil {
				t.Fatal(err)
			}
			m, err := stream.Receive()
			if err != nil || m.GetReason() != string(tc.reason) || m.GetProtocol() != fallow.Protocol {
				t.Errorf("got %v %v", m, err)
			}
			if _, err := stream.Receive(); hub.ReasonOf(err) != tc.reason {
				t.Errorf("stream ended with %v", err)
			}
			if r.OnBoard(p.Key()) {
				t.Error("on the board all the same")
			}
		})
	}
}

func TestBoardIsFull(t *testing.T) {
	limits := hub.Default()
	limits.Providers = 1
	r := start(t, limits, nil)
	newProvider(t, "p").hold(t, r)
	if err := newProvider(t, "q").once(t.Context(), t, r); err == nil || err.Error() != string(fallow.ReasonNoCapacity) {
		t.Errorf("a provider too many: %v", err)
	}
}

// raw opens a board stream and waits until it is on the board.
func raw(t *testing.T, p *provider, r *running) *connect.BidiStreamForClient[hubv1.BoardRequest, hubv1.BoardResponse] {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	c, err := hub.Dial(ctx, p, r.host.Addrs()...)
	if err != nil {
		t.Fatal(err)
	}
	stream := c.Board(ctx)
	if err := stream.Send(&hubv1.BoardRequest{Announcement: p.announcement()}); err != nil {
		t.Fatal(err)
	}
	if m, err := stream.Receive(); err != nil || m.GetReason() != "" {
		t.Fatal(m, err)
	}
	return stream
}

// TestSilentStreamDoesNotHoldTheEnd has a peer that opens a stream and never
// says who it is.
func TestSilentStreamDoesNotHoldTheEnd(t *testing.T) {
	r := start(t, hub.Default(), nil)
	c, err := hub.Dial(t.Context(), newProvider(t, "mute"), r.host.Addrs()...)
	if err != nil {
		t.Fatal(err)
	}
	stream := c.Board(t.Context())
	if err := stream.Send(nil); err != nil { // its headers alone
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	closed := make(chan struct{})
	go func() {
		r.Close(t.Context())
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(5 * time.Second):
		t.Error("the hub waits for a stream that says nothing")
	}
	_ = stream.CloseRequest()
	_ = stream.CloseResponse()
	<-closed
}

// ends reads until the hub ends the stream, and gives the reason.
func ends(t *testing.T, stream *connect.BidiStreamForClient[hubv1.BoardRequest, hubv1.BoardResponse]) fallow.Reason {
	t.Helper()
	var reason fallow.Reason
	for {
		m, err := stream.Receive()
		if err != nil {
			_ = stream.CloseResponse()
			return reason
		}
		if m.GetReason() != "" {
			reason = fallow.Reason(m.GetReason())
		}
	}
}

func TestMalformedReplies(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("parties", func(t *testing.T) {
		r := start(t, hub.Default(), nil)
		p := newProvider(t, "p")
		id := make([]byte, 32)
		for name, reply := range map[string]*hubv1.SealedReply{
			"no demand": {Answer: &marketv1.SealedAnswer{EncapsulatedKey: id, Ciphertext: id}},
			"no answer": {Demand: id},
			"short key": {Demand: id, Answer: &marketv1.SealedAnswer{EncapsulatedKey: id[:3], Ciphertext: id}},
			"huge":      {Demand: id, Answer: &marketv1.SealedAnswer{EncapsulatedKey: id, Ciphertext: make([]byte, 200<<10)}},
			"too huge":  {Demand: id, Answer: &marketv1.SealedAnswer{EncapsulatedKey: id, Ciphertext: make([]byte, 1<<20)}},
		} {
			stream := raw(t, p, r)
			if err := stream.Send(&hubv1.BoardRequest{Reply: reply}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if reason := ends(t, stream); reason != fallow.ReasonMalformed && name != "too huge" {
				t.Errorf("%s: ended with %q", name, reason)
			}
			eventually(t, "off the board", func() bool { return !r.OnBoard(p.Key()) })
		}
		// Replies to nothing: a few are forgiven.
		stream := raw(t, p, r)
		for range 400 {
			if err := stream.Send(&hubv1.BoardRequest{Reply: &hubv1.SealedReply{Demand: id, Answer: &marketv1.SealedAnswer{EncapsulatedKey: id, Ciphertext: id}}}); err != nil {
				break
			}
		}
		if reason := ends(t, stream); reason != fallow.ReasonMalformed {
			t.Errorf("a flood of replies ended with %q", reason)
		}
	})
	settled(t, before)
}

func TestNewStreamReplacesTheOld(t *testing.T) {
	r := start(t, hub.Default(), nil)
	p := newProvider(t, "p")
	old := raw(t, p, r)
	fresh := raw(t, p, r)
	if reason := ends(t, old); reason != fallow.ReasonProviderLeft {
		t.Errorf("the old stream ended with %q", reason)
	}
	if !r.OnBoard(p.Key()) {
		t.Error("not on the board")
	}
	// An announcement replaces what stands there.
	a := p.announcement()
	a.Region = "moon"
	if err := fresh.Send(&hubv1.BoardRequest{Announcement: a}); err != nil {
		t.Fatal(err)
	}
	h := host(t, p2p.RoleTenant)
	c, err := hub.Dial(t.Context(), h, r.host.Addrs()...)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new announcement in the listing", func() bool {
		resp, err := c.Providers(t.Context(), connect.NewRequest(&hubv1.ProvidersRequest{Limit: 10}))
		return err != nil || len(resp.Msg.GetProviders()) == 1 && resp.Msg.GetProviders()[0].GetRegion() == "moon"
	})
	_ = fresh.CloseRequest()
	_ = fresh.CloseResponse()
	eventually(t, "off the board", func() bool { return !r.OnBoard(p.Key()) })
}

// TestSlowProviderIsDropped: one that does not read its stream holds nobody
// up, and goes.
func TestSlowProviderIsDropped(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("parties", func(t *testing.T) {
		n := newTenant(t, "tenant")
		e := &escrow{}
		e.set(n.account, 1_000_000)
		limits := hub.Default()
		limits.Queue, limits.TenantBurst, limits.PeerBurst = 2, 10_000, 10_000
		r := start(t, limits, e)
		slow, quick := newProvider(t, "slow"), newProvider(t, "quick")
		_ = raw(t, slow, r) // never read
		quick.hold(t, r)
		h := host(t, p2p.RoleTenant)
		// Large demands fill the stream's window sooner.
		large := func(d *market.Demand) {
			for i := range 1000 {
				d.Inputs = append(d.Inputs, market.Blob{Digest: fallow.Sum([]byte{byte(i), byte(i >> 8)}), Size: 1, MediaType: strings.Repeat("x", 60)})
			}
		}
		eventually(t, "the slow provider off the board", func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			c, err := hub.Dial(ctx, h, r.host.Addrs()...)
			if err != nil {
				t.Fatal(err)
			}
			s := n.demand(t, 5*time.Second, large)
			begun := time.Now()
			stream, err := c.Ask(ctx, connect.NewRequest(&hubv1.AskRequest{Demand: wire.ToSigned(s), Protocol: fallow.Protocol}))
			if err != nil {
				t.Fatal(err)
			}
			for stream.Receive() {
				if stream.Msg().GetAnswer() != nil {
					break
				}
			}
			if d := time.Since(begun); d > 2*time.Second {
				t.Errorf("the quick provider's answer took %v", d)
			}
			cancel()
			_ = stream.Close()
			return !r.OnBoard(slow.Key())
		})
		if !r.OnBoard(quick.Key()) {
			t.Error("the quick provider was dropped")
		}
	})
	settled(t, before)
}
