package provider

import (
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"fallow.network"
	"fallow.network/market"
)

func digestOf(n uint64) fallow.Digest { return fallow.Sum(binary.BigEndian.AppendUint64(nil, n)) }

// within fails when more is promised or runs than there is. Adopted leases may
// exceed the promise, never what runs.
func within(c *capacity, adopted bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	l, u := c.limit(), c.used()
	if !adopted && (u.slots > l.slots || u.milli > l.milli || u.memory > l.memory || u.disk > l.disk) {
		return fmt.Errorf("promised %+v of %+v", u, l)
	}
	var r amounts
	for _, x := range c.leases {
		r.add(x.slot, x.running)
		if x.running > x.slots {
			return fmt.Errorf("%d tasks in %d slots", x.running, x.slots)
		}
	}
	if r.slots > l.slots || r.milli > l.milli || r.memory > l.memory || r.disk > l.disk {
		return fmt.Errorf("%+v runs of %+v", r, l)
	}
	return nil
}

func TestCapacityNeverOversells(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		total := market.Resources{
			MilliCPU: rapid.Uint32Range(0, 16000).Draw(t, "milli"), Memory: rapid.Uint64Range(0, 64<<30).Draw(t, "memory"),
			Disk: rapid.Uint64Range(0, 1<<40).Draw(t, "disk"),
		}
		c := newCapacity(total, rapid.Uint32Range(0, 20).Draw(t, "slots"))
		var offers, leases, lastOffer, lastLease uint64
		adopted := false
		now := time.Unix(1_700_000_000, 0)
		slots := func(t *rapid.T) market.Resources {
			return normal(market.Resources{
				MilliCPU: rapid.Uint32Range(0, 4000).Draw(t, "milli"), Memory: rapid.Uint64Range(0, 1<<50).Draw(t, "memory"), Disk: rapid.Uint64Range(0, 1<<50).Draw(t, "disk"),
			})
		}
		t.Repeat(map[string]func(*rapid.T){
			"hold": func(t *rapid.T) {
				lastOffer++
				h := claim{tenant: "a", slot: slots(t), slots: rapid.Uint32Range(0, 70000).Draw(t, "n"), lastHeight: fallow.Height(rapid.Int64Range(0, 50).Draw(t, "height")), until: now.Add(time.Hour)}
				room := c.look("a", h.slot).free
				if ok := c.hold(digestOf(lastOffer), h); ok {
					offers++
				} else if h.slots > 0 && h.slots <= room {
					t.Fatalf("%d slots refused where %d fit", h.slots, room)
				}
			},
			"take": func(t *rapid.T) {
				id := digestOf(rapid.Uint64Range(0, lastOffer+1).Draw(t, "offer"))
				c.mu.Lock()
				h, held := c.holds[id]
				c.mu.Unlock()
				if held {
					lastLease++
					leases++
					c.lease(fallow.LeaseID(lastLease), id, *h)
				}
			},
			"adopt": func(t *rapid.T) {
				lastLease++
				adopted = true
				c.lease(fallow.LeaseID(lastLease), digestOf(1<<60+lastLease), claim{slot: slots(t), slots: rapid.Uint32Range(1, 8).Draw(t, "n")})
			},
			"start":  func(t *rapid.T) { c.start(fallow.LeaseID(rapid.Uint64Range(0, lastLease+1).Draw(t, "lease"))) },
			"stop":   func(t *rapid.T) { c.stop(fallow.LeaseID(rapid.Uint64Range(0, lastLease+1).Draw(t, "lease"))) },
			"end":    func(t *rapid.T) { c.end(fallow.LeaseID(rapid.Uint64Range(0, lastLease+1).Draw(t, "lease"))) },
			"expire": func(t *rapid.T) { c.expire(fallow.Height(rapid.Int64Range(0, 60).Draw(t, "height"))) },
			"": func(t *rapid.T) {
				if err := within(c, adopted); err != nil {
					t.Fatal(err)
				}
			},
		})
	})
}

func TestCapacityUnderConcurrentDemands(t *testing.T) {
	c := newCapacity(market.Resources{MilliCPU: 8000, Memory: 8 << 30, Disk: 1 << 30}, 8)
	var wg sync.WaitGroup
	var won, next atomic.Uint64
	for w := range uint64(16) {
		wg.Go(func() {
			for i := range uint64(200) {
				n := w<<32 | i
				slot := normal(market.Resources{MilliCPU: uint32(1000 + n%3*500), Memory: 512 << 20})
				if !c.hold(digestOf(n), claim{tenant: "t", slot: slot, slots: uint32(1 + n%3), lastHeight: 10, until: time.Now().Add(time.Hour)}) {
					if err := within(c, false); err != nil {
						t.Error(err)
					}
					continue
				}
				won.Add(1)
				id := fallow.LeaseID(next.Add(1))
				if n%2 == 0 {
					c.unhold(digestOf(n))
					continue
				}
				c.lease(id, digestOf(n), claim{tenant: "t", slot: slot, slots: uint32(1 + n%3)})
				started := c.start(id)
				if !started {
					t.Error("a lease that fits starts its first task")
				}
				if err := within(c, false); err != nil {
					t.Error(err)
				}
				c.stop(id)
				c.end(id)
			}
		})
	}
	wg.Wait()
	if u := c.usage(); u.SlotsHeld != 0 || u.SlotsLeased != 0 || u.Running != 0 || won.Load() == 0 {
		t.Errorf("left %+v after %d", u, won.Load())
	}
}

func TestHoldsExpire(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	c := newCapacity(market.Resources{MilliCPU: 4000, Memory: 8 << 30}, 4)
	slot := normal(market.Resources{})
	for i, h := range []claim{{lastHeight: 10, until: now.Add(time.Minute)}, {lastHeight: 20, until: now.Add(time.Minute)}, {lastHeight: 99, until: now.Add(time.Second)}} {
		h.slot, h.slots, h.tenant = slot, 1, "t"
		if !c.hold(digestOf(uint64(i)), h) {
			t.Fatal("no room")
		}
	}
	for _, step := range []struct {
		height fallow.Height
		after  time.Duration // without a block; 0 is a block
		ended  int
		free   uint32
	}{{10, 0, 0, 1}, {11, 0, 1, 2}, {20, 0, 0, 2}, {0, time.Second, 0, 2}, {0, 2 * time.Second, 1, 3}, {21, 0, 1, 4}} {
		var got []fallow.Digest
		if step.after > 0 {
			got = c.timeOut(now.Add(step.after))
		} else {
			if soon := c.expiring(step.height); soon != (step.ended > 0) {
				t.Errorf("at %d expiring %v", step.height, soon)
			}
			got = c.expire(step.height)
		}
		if b := c.look("t", slot); len(got) != step.ended || b.free != step.free || b.tenant != 4-step.free {
			t.Errorf("at %d, %s: %d holds ended, %+v", step.height, step.after, len(got), b)
		}
	}
	// A hold that ended and opened all the same is adopted once.
	c.lease(7, digestOf(0), claim{slot: slot, slots: 2})
	c.lease(7, digestOf(0), claim{slot: slot, slots: 2})
	if b := c.look("t", slot); b.free != 2 {
		t.Errorf("%+v", b)
	}
}
