package settle_test

import (
	"errors"
	"testing"

	"fallow.network"
	"fallow.network/market"
	"fallow.network/settle"
)

func credits(c fallow.Credits) fallow.Pico { return c.Pico() }

func TestBatchFromDepositToPayout(t *testing.T) {
	w := newWorld(t, testParams())
	w.deposit("t1", 1000)
	r := w.open("t1", "t1", entry(w.offer("p1", "t1", market.KindBatch, nil), 400))
	if r.Reason != "" || r.Lease != 1 || r.Amount != 400 {
		t.Fatalf("open: %+v", r)
	}
	// 100.5 ucredit: the half stays with the tenant.
	if r := w.redeem("p1", w.voucher(1, fallow.PicoOf(100_500_000), 3)); r.Amount != 100 || r.Reason != "" {
		t.Fatalf("redeem: %+v", r)
	}
	if r := w.redeem("p1", w.voucher(1, credits(101), 4)); r.Amount != 1 {
		t.Fatalf("redeem the half: %+v", r)
	}
	if got := w.bank[account("p1")]; got != 0 {
		t.Fatalf("paid %d before the check window", got)
	}
	w.must(w.books.Raise(w.at, account("t1"), 1, 600))
	if v := w.account("t1"); v.Free != credits(400) || v.Reserved != credits(499) {
		t.Fatalf("free %s reserved %s", v.Free, v.Reserved)
	}
	if r := w.one(w.books.Release(w.at, []market.Signed{w.release("p1", 1, credits(150))})); r.Amount != 450 {
		t.Fatalf("release: %+v", r)
	}
	if r := w.close("t1", 1, fallow.ReasonCompleted); r.Amount != 0 || r.Reason != "" {
		t.Fatalf("close: %+v", r)
	}
	if l := w.lease(1); l.State != settle.Closing || l.Reason != fallow.ReasonCompleted || l.ClosedBy != account("t1") {
		t.Fatalf("closing: %+v", l)
	}
	w.tick(1999)
	if r := w.redeem("p1", w.voucher(1, credits(120), 5)); r.Amount != 19 {
		t.Fatalf("redeem in the claim window: %+v", r)
	}
	w.tick(1)
	if r := w.redeem("p1", w.voucher(1, credits(121), 6)); r.Reason != fallow.ReasonLeaseClosed {
		t.Fatalf("redeem after the claim window: %+v", r)
	}
	if v := w.account("t1"); v.Free != credits(880) || !v.Reserved.IsZero() || v.Open != 0 {
		t.Fatalf("free %s reserved %s open %d", v.Free, v.Reserved, v.Open)
	}
	w.tick(9000)
	w.endBlock()
	w.tick(2000)
	w.endBlock()
	if got := w.bank[account("p1")]; got != 120 {
		t.Fatalf("provider has %d, want 120", got)
	}
	amount, effects, err := w.books.Withdraw(w.at, account("t1"), 0)
	w.must(effects, err)
	if amount != 880 || w.bank[settle.EscrowPool] != 0 {
		t.Fatalf("withdrew %d, escrow keeps %d", amount, w.bank[settle.EscrowPool])
	}
}

func TestOpenRefuses(t *testing.T) {
	tests := []struct {
		name   string
		reason fallow.Reason
		entry  func(w *world) settle.OpenEntry
	}{
		{"garbage", fallow.ReasonMalformed, func(*world) settle.OpenEntry {
			return entry(market.Signed{Message: []byte("garbage"), Signature: make([]byte, 64)}, 10)
		}},
		{"forged", fallow.ReasonSignature, func(w *world) settle.OpenEntry {
			s := w.offer("p1", "t1", market.KindBatch, nil)
			s.Signature[7] ^= 1
			return entry(s, 10)
		}},
		{"altered", fallow.ReasonSignature, func(w *world) settle.OpenEntry {
			s := w.offer("p1", "t1", market.KindBatch, nil)
			other := w.offer("p1", "t1", market.KindBatch, nil)
			s.Message = other.Message
			return entry(s, 10)
		}},
		{"key of another", fallow.ReasonSignature, func(w *world) settle.OpenEntry {
			return entry(w.offer("p3", "t1", market.KindBatch, func(o *market.Offer) { o.Provider = account("p1") }), 10)
		}},
		{"old epoch", fallow.ReasonKeyEpoch, func(w *world) settle.OpenEntry {
			s := w.offer("p1", "t1", market.KindBatch, nil)
			w.bonds.epochs[account("p1")] = 2
			return entry(s, 10)
		}},
		{"other tenant", fallow.ReasonOtherTenant, func(w *world) settle.OpenEntry {
			return entry(w.offer("p1", "t2", market.KindBatch, nil), 10)
		}},
		{"expired", fallow.ReasonExpired, func(w *world) settle.OpenEntry {
			return entry(w.offer("p1", "t1", market.KindBatch, func(o *market.Offer) { o.LastHeight = w.at.Height - 1 }), 10)
		}},
		{"far ahead", fallow.ReasonFarAhead, func(w *world) settle.OpenEntry {
			return entry(w.offer("p1", "t1", market.KindBatch, func(o *market.Offer) { o.LastHeight = w.at.Height + 101 }), 10)
		}},
		{"claim window", fallow.ReasonTerms, func(w *world) settle.OpenEntry {
			return entry(w.offer("p1", "t1", market.KindBatch, func(o *market.Offer) { o.Terms.ClaimWindowMS = 60_001 }), 10)
		}},
		{"replayed", fallow.ReasonOfferUsed, func(w *world) settle.OpenEntry {
			s := w.offer("p1", "t1", market.KindBatch, nil)
			if r := w.open("t1", "t1", entry(s, 10)); r.Reason != "" {
				w.t.Fatal(r.Reason)
			}
			return entry(s, 10)
		}},
		{"unbonded", fallow.ReasonUnbonded, func(w *world) settle.OpenEntry {
			delete(w.bonds.value, account("p1"))
			return entry(w.offer("p1", "t1", market.KindBatch, nil), 10)
		}},
		{"exposure", fallow.ReasonExposure, func(w *world) settle.OpenEntry {
			w.bonds.value[account("p1")] = 101
			if r := w.open("t1", "t1", entry(w.offer("p1", "t1", market.KindBatch, nil), 50)); r.Reason != "" {
				w.t.Fatal(r.Reason)
			}
			return entry(w.offer("p1", "t1", market.KindBatch, nil), 1)
		}},
		{"funds", fallow.ReasonFunds, func(w *world) settle.OpenEntry {
			return entry(w.offer("p1", "t1", market.KindBatch, nil), 1001)
		}},
		{"no reserve", fallow.ReasonReserve, func(w *world) settle.OpenEntry {
			return entry(w.offer("p1", "t1", market.KindBatch, nil), 0)
		}},
		{"reserve above the offer", fallow.ReasonReserve, func(w *world) settle.OpenEntry {
			return entry(w.offer("p1", "t1", market.KindBatch, func(o *market.Offer) { o.Terms.MaxReserve = 20 }), 21)
		}},
		{"no session key", fallow.ReasonMalformed, func(w *world) settle.OpenEntry {
			return settle.OpenEntry{Offer: w.offer("p1", "t1", market.KindBatch, nil), Reserve: 10}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, testParams())
			w.deposit("t1", 1000)
			bad := tt.entry(w)
			good := entry(w.offer("p2", "t1", market.KindBatch, nil), 5)
			results, effects, err := w.books.OpenLeases(w.at, account("t1"), account("t1"), []settle.OpenEntry{bad, good})
			w.must(effects, err)
			if results[0].Reason != tt.reason || results[0].Lease != 0 {
				t.Errorf("got %+v, want %s", results[0], tt.reason)
			}
			if results[1].Reason != "" || results[1].Lease == 0 {
				t.Errorf("the good entry behind: %+v", results[1])
			}
			if !results[0].Reason.Known() {
				t.Errorf("%s is no known reason", results[0].Reason)
			}
		})
	}
}

func TestVouchersRefused(t *testing.T) {
	w := newWorld(t, testParams())
	w.deposit("t1", 1000)
	w.open("t1", "t1", entry(w.offer("p1", "t1", market.KindBatch, nil), 100))
	w.open("t1", "t1", entry(w.offer("p2", "t1", market.KindBatch, nil), 100))
	if r := w.redeem("p1", w.voucher(1, credits(50), 5)); r.Amount != 50 {
		t.Fatalf("%+v", r)
	}
	forged := w.voucher(1, credits(60), 6)
	forged.Signature[0] ^= 1
	tests := []struct {
		name     string
		provider string
		voucher  market.Signed
		reason   fallow.Reason
	}{
		{"replayed", "p1", w.voucher(1, credits(50), 5), fallow.ReasonVoucherReplayed},
		{"down", "p1", w.voucher(1, credits(49), 6), fallow.ReasonVoucherDown},
		{"fewer receipts", "p1", w.voucher(1, credits(51), 4), fallow.ReasonVoucherDown},
		{"beyond", "p1", w.voucher(1, fallow.PicoOf(100_000_001), 6), fallow.ReasonVoucherBeyond},
		{"forged", "p1", forged, fallow.ReasonSignature},
		{"another's lease", "p1", w.voucher(2, credits(50), 5), fallow.ReasonNotParty},
		{"no such lease", "p1", w.voucher(9, credits(50), 5), fallow.ReasonUnknownLease},
		{"garbage", "p1", market.Signed{Message: []byte{1}, Signature: make([]byte, 64)}, fallow.ReasonMalformed},
	}
	for _, tt := range tests {
		if r := w.redeem(tt.provider, tt.voucher); r.Reason != tt.reason || r.Amount != 0 {
			t.Errorf("%s: got %+v, want %s", tt.name, r, tt.reason)
		}
	}
	if got := w.worth("p1"); got != 50 {
		t.Errorf("provider is worth %d, want 50", got)
	}
}

func TestCloseIsIdempotent(t *testing.T) {
	w := newWorld(t, testParams())
	w.deposit("t1", 1000)
	w.open("t1", "t1", entry(w.offer("p1", "t1", market.KindBatch, nil), 100))
	if r := w.close("t2", 1, ""); r.Reason != fallow.ReasonNotParty {
		t.Errorf("a stranger closes: %+v", r)
	}
	if r := w.close("t1", 1, ""); r.Reason != "" {
		t.Fatalf("close: %+v", r)
	}
	before := w.lease(1)
	w.tick(10)
	if r := w.close("t1", 1, fallow.ReasonMismatch); r.Reason != "" || w.lease(1) != before {
		t.Errorf("a second close changes something: %+v", r)
	}
	if r := w.close("p1", 1, fallow.ReasonProviderLeft); r.Reason != "" || r.Amount != 100 {
		t.Errorf("the provider ends the claim window: %+v", r)
	}
	l := w.lease(1)
	if l.State != settle.Closed || l.Reason != fallow.ReasonCancelled || l.ClosedBy != account("t1") {
		t.Errorf("%+v", l)
	}
	if r := w.close("p1", 1, ""); r.Reason != "" || r.Amount != 0 || w.lease(1) != l {
		t.Errorf("a third close changes something: %+v", r)
	}
	if _, _, err := w.books.Close(w.at, account("t1"), []fallow.LeaseID{1}, "because"); !errors.Is(err, settle.ErrReason) {
		t.Errorf("an unknown reason: %v", err)
	}
}

func TestReleaseIsFinal(t *testing.T) {
	w := newWorld(t, testParams())
	w.deposit("t1", 1000)
	w.open("t1", "t1", entry(w.offer("p1", "t1", market.KindBatch, nil), 100))
	w.redeem("p1", w.voucher(1, credits(40), 1))
	if r := w.one(w.books.Release(w.at, []market.Signed{w.release("p1", 1, credits(39))})); r.Reason != fallow.ReasonReleaseBelow {
		t.Errorf("below the claim: %+v", r)
	}
	if r := w.one(w.books.Release(w.at, []market.Signed{w.release("p2", 1, credits(40))})); r.Reason != fallow.ReasonSignature {
		t.Errorf("of another node: %+v", r)
	}
	s := w.release("p1", 1, credits(60))
	if r := w.one(w.books.Release(w.at, []market.Signed{s})); r.Amount != 40 {
		t.Fatalf("release: %+v", r)
	}
	if err := w.do(w.books.Raise(w.at, account("t1"), 1, 61)); !errors.Is(err, settle.ErrReserve) {
		t.Errorf("raised above a release: %v", err)
	}
	if r := w.one(w.books.Release(w.at, []market.Signed{s})); r.Amount != 0 || r.Reason != "" {
		t.Errorf("the same again: %+v", r)
	}
	w.close("t1", 1, "")
	if r := w.one(w.books.Release(w.at, []market.Signed{w.release("p1", 1, credits(40))})); r.Amount != 20 {
		t.Errorf("a release to the claim ends the window: %+v", r)
	}
	if l := w.lease(1); l.State != settle.Closed {
		t.Errorf("state %s", l.State)
	}
}

func TestClientKeys(t *testing.T) {
	w := newWorld(t, testParams())
	w.deposit("t1", 1000)
	set := func(limit fallow.Credits, expires fallow.Height) error {
		return w.do(w.books.SetClientKey(w.at, account("t1"), settle.ClientKey{Address: account("c1"), Limit: limit, Expires: expires}))
	}
	offer := func() market.Signed { return w.offer("p1", "t1", market.KindBatch, nil) }
	if r := w.open("c1", "t1", entry(offer(), 10)); r.Reason != fallow.ReasonClientKey {
		t.Errorf("unknown key: %+v", r)
	}
	if err := set(100, w.at.Height-1); !errors.Is(err, settle.ErrExpired) {
		t.Errorf("expired key: %v", err)
	}
	if err := set(100, w.at.Height+5); err != nil {
		t.Fatal(err)
	}
	if r := w.open("c1", "t1", entry(offer(), 80)); r.Reason != "" {
		t.Fatalf("within the limit: %+v", r)
	}
	if r := w.open("c1", "t1", entry(offer(), 21)); r.Reason != fallow.ReasonClientKey {
		t.Errorf("above the limit: %+v", r)
	}
	if err := w.do(w.books.Raise(w.at, account("c1"), 1, 101)); !errors.Is(err, settle.ErrClientKey) {
		t.Errorf("raise above the limit: %v", err)
	}
	w.redeem("p1", w.voucher(1, credits(30), 1))
	w.close("c1", 1, "")
	w.close("p1", 1, "")
	if k := w.account("t1").Keys[0]; k.Spent != 30 {
		t.Errorf("the key has spent %d, want 30", k.Spent)
	}
	w.tick(1)
	for range 5 {
		w.tick(1)
	}
	if r := w.open("c1", "t1", entry(offer(), 1)); r.Reason != fallow.ReasonClientKey {
		t.Errorf("an expired key opens: %+v", r)
	}
	if err := set(0, 0); err != nil {
		t.Error(err)
	}
	if err := set(0, 0); !errors.Is(err, settle.ErrClientKey) {
		t.Errorf("removed twice: %v", err)
	}
}

func TestPausedProvidersOfferOpensAndPruningKeepsItSingle(t *testing.T) {
	w := newWorld(t, testParams())
	w.deposit("t1", 1000)
	s := w.offer("p1", "t1", market.KindBatch, func(o *market.Offer) { o.LastHeight = w.at.Height })
	if r := w.open("t1", "t1", entry(s, 10)); r.Reason != "" {
		t.Fatalf("in its last block: %+v", r)
	}
	keys := w.store.Len()
	w.tick(1)
	w.endBlock()
	if w.store.Len() != keys-1 {
		t.Errorf("%d keys, want %d: the used offer is forgotten", w.store.Len(), keys-1)
	}
	if r := w.open("t1", "t1", entry(s, 10)); r.Reason != fallow.ReasonExpired {
		t.Errorf("a forgotten offer: %+v", r)
	}
}

func TestBounds(t *testing.T) {
	w := newWorld(t, testParams())
	if _, _, err := w.books.OpenLeases(w.at, account("t1"), account("t1"), make([]settle.OpenEntry, 11)); !errors.Is(err, settle.ErrEntries) {
		t.Errorf("too many entries: %v", err)
	}
	if _, _, err := w.books.Close(w.at, account("t1"), nil, ""); !errors.Is(err, settle.ErrEntries) {
		t.Errorf("no entries: %v", err)
	}
	if _, err := w.books.Deposit(w.at, account("t1"), "", 0); !errors.Is(err, settle.ErrAmount) {
		t.Errorf("nothing deposited: %v", err)
	}
	if _, _, err := w.books.Withdraw(w.at, account("t1"), 1); !errors.Is(err, settle.ErrFunds) {
		t.Errorf("withdrawn from nothing: %v", err)
	}
}
