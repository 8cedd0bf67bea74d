package provider

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"fallow.network"
	nodev1 "fallow.network/api/node"
	"fallow.network/api/node/nodev1connect"
	"fallow.network/market"
	"fallow.network/wire"
)

func long() bool { return os.Getenv("FALLOW_LONG") != "" }

func middle(all []time.Duration) time.Duration {
	all = slices.Clone(all)
	slices.Sort(all)
	return all[len(all)/2]
}

// noops runs tasks one after the other and pays each.
func (k *work) noops(from, n int) (took []time.Duration) {
	for i := range n {
		begun := time.Now()
		k.task(uint32(from+i), "noop")
		k.until(from + i + 1)
		took = append(took, time.Since(begun))
		k.pay()
	}
	return took
}

// newSession is the i-th session key of a flood.
func newSession(i int) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(secret(fmt.Sprint("flood session ", i)))
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestManyTinyLeases has a tenant that opens lease after lease with hardly
// anything in them: 10,000 with FALLOW_LONG. Another's tasks go on, and once all
// slots are taken it is told so.
func TestManyTinyLeases(t *testing.T) {
	n := 400
	if long() {
		n = 10_000
	}
	w := newWorld(t, func(w *world) {
		w.config.Slots, w.config.Share.Cores, w.config.Share.Memory, w.config.Share.Disk = uint32(n+4), float64(n+4), 1<<46, 1<<46
		w.config.Offers.PerSecond = 10_000
		w.config.Offers.HoldBlocks = 10_000
		w.config.Offers.Silence = Duration(time.Hour) // else the first end before the last come
	})
	w.ledger.set(func(f *fakeLedger) { f.standing.Ceiling = 1 << 50 })
	honest, flooder := w.tenant("anna", 10_000_000), w.tenant("berta", 1<<50)
	one := func(d *market.Demand) { d.Slots, d.Slot.MilliCPU, d.Slot.Memory = 1, 1000, 1<<20 }
	honest.rent(10_000, one)
	k := honest.connect()
	defer k.close()
	calm := k.noops(0, 30)
	before := heap()
	begun := time.Now()
	refused := map[fallow.Reason]int{}
	var open []tenant
	var during []time.Duration
	for i := range n + 50 {
		if i%100 == 0 {
			w.ledger.mine(1) // a silent ledger would end the offers
		}
		c := tenant{w: w, secret: flooder.secret, account: flooder.account, module: flooder.module, session: newSession(i)}
		c.client = newCaller(wire.PublicKey(c.session))
		a := c.ask(one)
		if a.Reason != "" {
			refused[a.Reason]++
			c.client.CloseIdleConnections()
			continue
		}
		o, err := wire.OpenOffer(testChain, a.Offer)
		if err != nil {
			t.Fatal(err)
		}
		c.offer = o
		id, err := w.ledger.open(a.Offer, wire.PublicKey(c.session), 1)
		if err != nil {
			t.Fatal(err)
		}
		c.lease = id
		if i%(n/20) == 0 { // some come and begin to work
			s := c.connect()
			s.task(0, "noop")
			s.until(1)
			s.close()
			during = append(during, k.noops(30+len(during), 1)...)
		}
		c.client.CloseIdleConnections() // a lease is what is weighed, not a connection
		open = append(open, c)
	}
	took := time.Since(begun)
	w.ledger.mine(1)
	after := heap()
	full := k.noops(30+len(during), 20)
	t.Logf("%d leases of one tenant opened in %s (%s each), refused %v; heap %+d KiB, %d bytes a lease; a task of another took %s before, %s meanwhile (%.1fx) and %s with all open (%.1fx)",
		len(open), took.Round(time.Millisecond), (took / time.Duration(n)).Round(time.Microsecond), refused, (after-before)>>10, (after-before)/int64(len(open)),
		middle(calm).Round(10*time.Microsecond), middle(during).Round(10*time.Microsecond), float64(middle(during))/float64(middle(calm)),
		middle(full).Round(10*time.Microsecond), float64(middle(full))/float64(middle(calm)))
	if refused[fallow.ReasonNoCapacity]+refused[fallow.ReasonRateLimited]+refused[fallow.ReasonExposure] == 0 {
		t.Errorf("nothing was refused for want of room: %v", refused)
	}
	if grown := after - before; grown > int64(len(open))*16<<10+16<<20 {
		t.Errorf("%d bytes of heap for %d leases", grown, len(open))
	}
}

// TestStrangersWithoutFunds has many keys with nothing in escrow ask a provider
// directly, 1,000 a second. They share what it asks of the ledger.
func TestStrangersWithoutFunds(t *testing.T) {
	seconds := 1
	if long() {
		seconds = 5
	}
	w := newWorld(t, nil)
	honest := w.tenant("anna", 10_000_000)
	honest.rent(1_000_000, nil)
	k := honest.connect()
	defer k.close()
	calm := k.noops(0, 30)
	n := 1000 * seconds
	signed := make([]market.Signed, n)
	open := make([]func(*nodev1.AskResponse) market.Answer, n)
	var keys []*tenant
	for i := range min(n, 1000) {
		c := w.tenant(fmt.Sprint("stranger ", i), 0)
		t.Cleanup(c.client.CloseIdleConnections)
		keys = append(keys, c)
	}
	for i := range n {
		signed[i], open[i] = keys[i%len(keys)].demand(nil)
	}
	w.ledger.mu.Lock()
	asked := w.ledger.asked
	w.ledger.mu.Unlock()
	before := heap()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	work := make(chan int, n)
	var mu sync.Mutex
	refused := map[fallow.Reason]int{}
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for i := range work {
				client := nodev1connect.NewNodeServiceClient(keys[i%len(keys)].client, w.url)
				r, err := client.Ask(ctx, connect.NewRequest(&nodev1.AskRequest{Demand: wire.ToSigned(signed[i]), Protocol: fallow.Protocol}))
				reason := fallow.Reason(reasonIn(err))
				if err == nil {
					reason = open[i](r.Msg).Reason
				}
				mu.Lock()
				refused[reason]++
				mu.Unlock()
			}
		})
	}
	begun := time.Now()
	wg.Go(func() {
		for i := range n {
			work <- i
			time.Sleep(time.Until(begun.Add(time.Duration(i+1) * time.Millisecond)))
		}
		close(work)
	})
	during := k.noops(30, 40*seconds)
	wg.Wait()
	took := time.Since(begun)
	w.ledger.mu.Lock()
	asked = w.ledger.asked - asked
	w.ledger.mu.Unlock()
	t.Logf("%d demands of %d keys without funds in %s: %v; %d calls to the ledger; heap %+d KiB; a task of another took %s before and %s meanwhile, %.1fx",
		n, len(keys), took.Round(time.Millisecond), refused, asked, (heap()-before)>>10,
		middle(calm).Round(10*time.Microsecond), middle(during).Round(10*time.Microsecond), float64(middle(during))/float64(middle(calm)))
	if got := refused[fallow.ReasonUnfunded] + refused[fallow.ReasonRateLimited]; got != n {
		t.Errorf("%d of %d were refused for want of funds or their rate: %v", got, n, refused)
	}
	if most := 3*strangersRate + int(float64(strangersRate)*took.Seconds()) + 50; asked > most {
		t.Errorf("the ledger was asked %d times, at most %d are allowed", asked, most)
	}
}
