package ledger

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"fallow.network"
	leasev1 "fallow.network/api/lease"
	"fallow.network/market"
)

func TestDial(t *testing.T) {
	good := newFake(t)
	other := newFake(t)
	other.network = "elsewhere-1"
	newer := newFake(t)
	newer.protocol = "fallow/2"
	behind := newFake(t)
	behind.syncing = true
	gone := newFake(t)
	gone.stop()
	endpoints := func(all ...*ledgerFake) Config {
		c := good.config()
		c.GRPC, c.RPC = nil, nil
		for _, l := range all {
			c.GRPC, c.RPC = append(c.GRPC, l.grpcAt), append(c.RPC, "http://"+l.rpcAt)
		}
		return c
	}
	for name, c := range map[string]struct {
		config Config
		want   error
	}{
		"the first":     {endpoints(good), nil},
		"the last":      {endpoints(gone, other, newer, behind, good), nil},
		"another chain": {endpoints(other), ErrOtherChain},
		"newer":         {endpoints(newer), ErrProtocol},
		"away":          {endpoints(gone), ErrAway},
		"one may come":  {endpoints(other, gone), ErrAway},
		"behind":        {endpoints(behind), errSyncing},
	} {
		t.Run(name, func(t *testing.T) {
			client, err := Dial(t.Context(), c.config)
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if err != nil {
				return
			}
			if _, err := client.Head(t.Context()); err != nil {
				t.Error(err)
			}
			if err := client.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	for name, c := range map[string]Config{
		"no chain":    {GRPC: []string{"x"}, RPC: []string{"http://x"}},
		"no endpoint": {ChainID: "a"},
		"rpc scheme":  {ChainID: "a", GRPC: []string{"x"}, RPC: []string{"x"}},
		"gas price":   {ChainID: "a", GRPC: []string{"x"}, RPC: []string{"http://x"}, GasPrice: "1ufal"},
	} {
		if _, err := Dial(t.Context(), c); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestGasPriceOfTheNode(t *testing.T) {
	l := newFake(t)
	config := l.config()
	config.GasPrice = ""
	c, err := Dial(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if p, err := c.gasPrice(t.Context()); err != nil || p.String() != "0.0025" {
		t.Errorf("%s, %v", p, err)
	}
}

func TestFollow(t *testing.T) {
	k := secret(t, 0)
	l := newFake(t, k.Account())
	c := l.dial()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	blocks := make(chan Block, 1000)
	var following sync.WaitGroup
	following.Go(func() {
		err := c.Follow(ctx, 1, func(b Block) error { blocks <- b; return nil })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("follow ended: %v", err)
		}
	})
	for range 3 {
		l.commit()
	}
	l.crash()
	for range 3 { // as another node would go on meanwhile
		l.commit()
	}
	time.Sleep(50 * time.Millisecond)
	l.start()
	s := c.Sender(k, Options{})
	var opening sync.WaitGroup
	opening.Go(func() {
		if _, _, err := s.OpenLeases(t.Context(), k.Account(), []Open{{Offer: market.Signed{Message: []byte("o")}, Reserve: 77}}); err != nil {
			t.Error(err)
		}
	})
	l.waitQueue(1)
	l.mu.Lock()
	l.events = []rawEvent{
		typedEvent("fallow.lease.v1.EventPaid", "provider", `"fal1x"`, "amount", `"9"`, "mode", "EndBlock"),
		typedEvent("fallow.lease.v1.EventOfTheFuture", "x", `1`),
		typedEvent("coin_spent", "amount", "1ufal"),
	}
	l.mu.Unlock()
	last := l.commit()
	opening.Wait()
	for h := fallow.Height(1); h <= last; h++ {
		select {
		case b := <-blocks:
			if b.Height != h || b.Time == 0 {
				t.Fatalf("block %d came for %d", b.Height, h)
			}
			if h != last {
				continue
			}
			if len(b.Events) != 2 || b.Events[0].Tx != 0 || b.Events[1].Tx != -1 {
				t.Fatalf("events %+v", b.Events)
			}
			if o, ok := b.Events[0].Message.(*leasev1.EventLeaseOpened); !ok || o.GetLease() != 77 || o.GetOffer() != "o" {
				t.Errorf("opened: %v", b.Events[0].Message)
			}
			if p, ok := b.Events[1].Message.(*leasev1.EventPaid); !ok || p.GetAmount() != 9 || p.GetProvider() != "fal1x" {
				t.Errorf("paid: %v", b.Events[1].Message)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("block %d never came", h)
		}
	}
	cancel()
	following.Wait()
}

// TestWords feeds parsers of nodes' answers with what no node says.
func TestWords(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "bytes")
		if h, err := parseWord(b); err == nil && h.Height < 0 {
			t.Fatal("a negative head")
		}
		e := typedEvent(
			rapid.SampledFrom([]string{"fallow.lease.v1.EventPaid", "fallow.lease.v1.Params", "fallow.x", "fallow.lease.v1.State"}).Draw(t, "type"),
			rapid.SampledFrom([]string{"provider", "amount", "mode", "", "check_window_ms"}).Draw(t, "key"),
			rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{`"1"`, `"-1"`, `{}`, `[1]`, `null`, `"x"`})).Draw(t, "value"),
		)
		readEvents([]rawEvent{e, e}, 0)
		if _, ok := expected(rapid.String().Draw(t, "log")); ok {
			t.Fatal("a sequence out of nothing")
		}
	})
	if _, err := parseWord([]byte(`{"error":{"code":1,"message":"max subscriptions"}}`)); err == nil {
		t.Error("a refused subscription was taken")
	}
	if n, ok := expected("account sequence mismatch, expected 12, got 9: incorrect account sequence"); !ok || n != 12 {
		t.Errorf("%d, %v", n, ok)
	}
}
