package settle_test

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"fallow.network"
	"fallow.network/market"
	"fallow.network/settle"
)

// twins run the same messages at the same times: lazy never sees a block end,
// eager ends many small blocks and is asked all the time. Whatever either side
// can see must be the same.
type twins struct {
	lazy, eager *world
	leases      int
	claimed     map[fallow.LeaseID]fallow.Pico
	sequence    uint64
}

func (m *twins) both(op func(w *world) string) string {
	a, b := op(m.lazy), op(m.eager)
	if a != b {
		m.lazy.t.Fatalf("lazy: %s\neager: %s", a, b)
	}
	return a
}

func say(results []settle.Result, err error) string { return fmt.Sprintf("%+v %v", results, err) }

func (m *twins) check(t *rapid.T) {
	for _, name := range []string{"t1", "t2"} {
		m.both(func(w *world) string {
			v, ok, err := w.books.Account(w.at, account(name))
			v.Queued = 0
			return fmt.Sprintf("%+v %v %v %d", v, ok, err, w.bank[account(name)])
		})
	}
	for _, name := range []string{"p1", "p2"} {
		// What a service accrued goes to a payout when somebody looks.
		services := false
		for _, w := range []*world{m.lazy, m.eager} {
			var due fallow.Credits
			leases, err := w.books.Leases(w.at, settle.Filter{Provider: account(name)}, 0, 1000)
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range leases {
				due += l.Paid
				services = services || l.Service()
			}
			if got := w.worth(name); got > due || !services && got != due {
				t.Fatalf("%s is worth %d, its leases paid %d", name, got, due)
			}
		}
		if !services {
			m.both(func(w *world) string {
				got, err := w.books.Exposure(w.at, account(name))
				return fmt.Sprint(got, err)
			})
		}
	}
	m.both(func(w *world) string {
		all, err := w.books.Leases(w.at, settle.Filter{}, 0, 1000)
		return fmt.Sprintf("%+v %v", all, err)
	})
	m.both(func(w *world) string {
		all, err := w.books.Leases(w.at, settle.Filter{Tenant: account("t1"), Open: true}, 0, 3)
		return fmt.Sprintf("%+v %v", all, err)
	})
	for id, amount := range m.claimed {
		l := m.lazy.lease(id)
		if l.Paid.Pico().Cmp(amount) > 0 {
			t.Fatalf("lease %d paid %d for vouchers of %s", id, l.Paid, amount)
		}
	}
}

func TestBooksAreTheSameLazilyAndEagerly(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		params := testParams()
		m := &twins{lazy: newWorld(rt, params), eager: newWorld(rt, params), claimed: map[fallow.LeaseID]fallow.Pico{}}
		for _, w := range []*world{m.lazy, m.eager} {
			w.deposit("t1", 200_000)
		}
		tenants := rapid.SampledFrom([]string{"t1", "t1", "t2"})
		signers := rapid.SampledFrom([]string{"t1", "t1", "t2", "c1", "p1", "p2"})
		providers := rapid.SampledFrom([]string{"p1", "p2"})
		lease := func(rt *rapid.T) fallow.LeaseID {
			return fallow.LeaseID(rapid.IntRange(1, max(1, m.leases)).Draw(rt, "lease"))
		}
		rt.Repeat(map[string]func(*rapid.T){
			"": func(rt *rapid.T) { m.check(rt) },
			"tick": func(rt *rapid.T) {
				ms := rapid.IntRange(1, 15_000).Draw(rt, "ms")
				m.lazy.tick(ms)
				steps := rapid.IntRange(1, 5).Draw(rt, "steps")
				height := m.eager.at.Height
				for i := range steps {
					step := ms / steps
					if i == steps-1 {
						step = ms - step*(steps-1)
					}
					m.eager.tick(step)
					m.eager.at.Height = height + 1
					m.eager.endBlock()
				}
			},
			"deposit": func(rt *rapid.T) {
				who, n := tenants.Draw(rt, "tenant"), rapid.IntRange(1, 40_000).Draw(rt, "amount")
				m.both(func(w *world) string {
					return fmt.Sprint(w.do(w.books.Deposit(w.at, account(who), "", fallow.Credits(n))))
				})
			},
			"withdraw": func(rt *rapid.T) {
				who, n := tenants.Draw(rt, "tenant"), rapid.IntRange(0, 60_000).Draw(rt, "amount")
				m.both(func(w *world) string {
					got, effects, err := w.books.Withdraw(w.at, account(who), fallow.Credits(n))
					return fmt.Sprint(got, w.do(effects, err))
				})
			},
			"client key": func(rt *rapid.T) {
				who, n := tenants.Draw(rt, "tenant"), rapid.IntRange(0, 90_000).Draw(rt, "limit")
				m.both(func(w *world) string {
					k := settle.ClientKey{Address: account("c1"), Limit: fallow.Credits(n), Expires: w.at.Height + 4}
					return fmt.Sprint(w.do(w.books.SetClientKey(w.at, account(who), k)))
				})
			},
			"open": func(rt *rapid.T) {
				signer, who, by := signers.Draw(rt, "signer"), tenants.Draw(rt, "tenant"), providers.Draw(rt, "provider")
				kind := rapid.SampledFrom([]market.Kind{market.KindBatch, market.KindService}).Draw(rt, "kind")
				reserve := fallow.Credits(rapid.IntRange(0, 50_000).Draw(rt, "reserve"))
				window := uint64(rapid.SampledFrom([]int{0, 1, 2_000, 9_000}).Draw(rt, "window"))
				m.both(func(w *world) string {
					s := w.offer(by, who, kind, func(o *market.Offer) {
						o.Terms.ClaimWindowMS = window
						o.LastHeight = m.lazy.at.Height + 20
					})
					results, effects, err := w.books.OpenLeases(w.at, account(signer), account(who), []settle.OpenEntry{entry(s, reserve), entry(s, reserve)})
					err = w.do(effects, err)
					if w == m.lazy {
						m.leases = int(slices.MaxFunc(append(results, settle.Result{Lease: fallow.LeaseID(m.leases)}), func(a, b settle.Result) int { return int(a.Lease) - int(b.Lease) }).Lease)
					}
					return say(results, err)
				})
			},
			"raise": func(rt *rapid.T) {
				signer, id := signers.Draw(rt, "signer"), lease(rt)
				reserve := fallow.Credits(rapid.IntRange(0, 80_000).Draw(rt, "reserve"))
				m.both(func(w *world) string { return fmt.Sprint(w.do(w.books.Raise(w.at, account(signer), id, reserve))) })
			},
			"release": func(rt *rapid.T) {
				by, id := providers.Draw(rt, "provider"), lease(rt)
				amount := fallow.PicoOf(rapid.Uint64Range(0, 60_000_000_000).Draw(rt, "amount"))
				m.both(func(w *world) string {
					results, effects, err := w.books.Release(w.at, []market.Signed{w.release(by, id, amount)})
					return say(results, w.do(effects, err))
				})
			},
			"redeem": func(rt *rapid.T) {
				by, id := providers.Draw(rt, "provider"), lease(rt)
				amount := fallow.PicoOf(rapid.Uint64Range(0, 60_000_000_000).Draw(rt, "amount"))
				m.both(func(w *world) string {
					results, effects, err := w.books.Redeem(w.at, account(by), []market.Signed{w.voucher(id, amount, 1)}, []fallow.LeaseID{id})
					err = w.do(effects, err)
					if err == nil && results[0].Reason == "" {
						m.claimed[id] = amount
					}
					return say(results, err)
				})
			},
			"start": func(rt *rapid.T) {
				id := lease(rt)
				m.sequence++
				ahead := rapid.IntRange(-10, 61_000).Draw(rt, "ahead")
				m.both(func(w *world) string {
					results, effects, err := w.books.Start(w.at, []market.Signed{w.horizon(id, m.sequence, w.at.Time+fallow.Time(ahead))})
					return say(results, w.do(effects, err))
				})
			},
			"close": func(rt *rapid.T) {
				signer, id := signers.Draw(rt, "signer"), lease(rt)
				m.both(func(w *world) string {
					results, effects, err := w.books.Close(w.at, account(signer), []fallow.LeaseID{id, id}, "")
					err = w.do(effects, err)
					if err == nil && results[1].Amount != 0 {
						w.t.Fatalf("closed twice: %+v", results)
					}
					return say(results, err)
				})
			},
		})
		// In the end everything ends, and all coins are where they belong.
		for i := range m.leases {
			for _, who := range []string{"t1", "t2", "p1", "p2"} {
				m.both(func(w *world) string {
					results, effects, err := w.books.Close(w.at, account(who), []fallow.LeaseID{fallow.LeaseID(i + 1)}, "")
					return say(results, w.do(effects, err))
				})
			}
		}
		for _, name := range []string{"p1", "p2"} {
			m.both(func(w *world) string { return fmt.Sprint(name, w.worth(name)) })
		}
		for _, w := range []*world{m.lazy, m.eager} {
			w.tick(200_000)
			for range 200 {
				w.endBlock()
			}
			for _, who := range []string{"t1", "t2"} {
				_, effects, err := w.books.Withdraw(w.at, account(who), 0)
				_ = w.do(effects, err)
			}
			for id := range m.leases {
				if l := w.lease(fallow.LeaseID(id + 1)); l.State != settle.Closed || !l.Reason.Known() || l.ClosedBy == "" {
					rt.Fatalf("%+v", l)
				}
			}
			// Less than a ucredit a tenant can stay behind.
			if left := w.bank[settle.EscrowPool]; left > 1 {
				rt.Fatalf("%d ucredit stay in escrow", left)
			}
		}
	})
}
