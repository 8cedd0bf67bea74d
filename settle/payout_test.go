package settle_test

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"fallow.network"
	"fallow.network/market"
	"fallow.network/settle"
	"fallow.network/wire"
)

func TestExposureFallsAsPayoutsMature(t *testing.T) {
	w := newWorld(t, testParams())
	w.bonds.value[account("p1")] = 200
	w.deposit("t1", 1000)
	exposure := func() fallow.Credits {
		t.Helper()
		got, err := w.books.Exposure(w.at, account("p1"))
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	open := func(reserve fallow.Credits) fallow.Reason {
		t.Helper()
		return w.open("t1", "t1", entry(w.offer("p1", "t1", market.KindBatch, nil), reserve)).Reason
	}
	if r := open(60); r != "" || exposure() != 60 {
		t.Fatalf("%s, exposed %d", r, exposure())
	}
	if r := w.redeem("p1", w.voucher(1, credits(50), 1)); r.Amount != 50 || exposure() != 60 {
		t.Fatalf("redeemed %+v, exposed %d", r, exposure())
	}
	w.close("p1", 1, "")
	if exposure() != 50 {
		t.Fatalf("closed, exposed %d", exposure())
	}
	if r := open(51); r != fallow.ReasonExposure {
		t.Errorf("half the bond is 100: %q", r)
	}
	// Nobody works the queue off; that the payout has matured counts alone.
	w.tick(11_000)
	if exposure() != 0 {
		t.Errorf("matured, exposed %d", exposure())
	}
	if r := open(100); r != "" {
		t.Errorf("all of it again: %q", r)
	}
	w.close("t1", 2, "")
	if exposure() != 100 {
		t.Errorf("in its claim window, exposed %d", exposure())
	}
	w.tick(2_000)
	if exposure() != 0 {
		t.Errorf("its claim window has ended, exposed %d", exposure())
	}
	if got, err := w.books.Ceiling(account("p1")); err != nil || got != 100 {
		t.Errorf("ceiling %d, %v", got, err)
	}
}

func TestPayoutsAreFewAndPaidOnTheWay(t *testing.T) {
	w := newWorld(t, testParams())
	w.deposit("t1", 10_000)
	w.open("t1", "t1", entry(w.offer("p1", "t1", market.KindBatch, nil), 5_000))
	for i := range 1000 {
		w.tick(20)
		w.redeem("p1", w.voucher(1, credits(fallow.Credits(i+1)), uint32(i+1)))
	}
	waiting, err := w.books.Payouts(account("p1"), 0, 1000)
	if err != nil || len(waiting) > 34 {
		t.Errorf("%d payouts wait, %v", len(waiting), err)
	}
	// 20 s of redemptions, a check window of 10: half is paid without a queue.
	if got := w.bank[account("p1")]; got < 480 || got > 500 {
		t.Errorf("%d are paid", got)
	}
	for i, p := range waiting {
		if p.Matures > w.at.Time+10_000+313 || i > 0 && p.Matures <= waiting[i-1].Matures {
			t.Errorf("payout %d matures in %d ms", i, p.Matures-w.at.Time)
		}
	}
	if page, err := w.books.Payouts(account("p1"), waiting[0].Matures, 2); err != nil || len(page) != 2 || page[0] != waiting[1] {
		t.Errorf("second page %+v, %v", page, err)
	}
}

func TestLeasesPage(t *testing.T) {
	w := newWorld(t, testParams())
	w.deposit("t1", 10_000)
	w.deposit("t2", 10_000)
	for i := range 12 {
		tenant, provider := []string{"t1", "t2"}[i%2], []string{"p1", "p2"}[i/6]
		w.open(tenant, tenant, entry(w.offer(provider, tenant, market.KindBatch, nil), 10))
	}
	w.close("p1", 3, "")
	w.close("t1", 5, "")
	w.tick(2_000) // 5's claim window ends, and nobody has looked
	tests := []struct {
		f    settle.Filter
		n    int
		last fallow.LeaseID
	}{
		{settle.Filter{}, 12, 12},
		{settle.Filter{Open: true}, 10, 12},
		{settle.Filter{Tenant: account("t1")}, 6, 11},
		{settle.Filter{Tenant: account("t1"), Open: true}, 4, 11},
		{settle.Filter{Provider: account("p1")}, 6, 6},
		{settle.Filter{Provider: account("p1"), Open: true}, 4, 6},
		{settle.Filter{Tenant: account("t2"), Provider: account("p2")}, 3, 12},
		{settle.Filter{Tenant: account("p1")}, 0, 0},
	}
	for _, tt := range tests {
		var got []settle.Lease
		for {
			after := fallow.LeaseID(0)
			if len(got) > 0 {
				after = got[len(got)-1].ID
			}
			page, err := w.books.Leases(w.at, tt.f, after, 2)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) == 0 {
				break
			}
			got = append(got, page...)
		}
		if len(got) != tt.n || tt.n > 0 && got[tt.n-1].ID != tt.last {
			t.Errorf("%+v: %d leases", tt.f, len(got))
		}
	}
}

// TestGoldenSignatures reads the vectors that wire wrote and that the chain
// reads as well.
func TestGoldenSignatures(t *testing.T) {
	for _, kind := range []string{market.SignsOffer, market.SignsReceipt, market.SignsVoucher, market.SignsHorizon, market.SignsRelease} {
		b, err := os.ReadFile(filepath.Join("..", "testdata", "golden", kind+".json"))
		if err != nil {
			t.Fatal(err)
		}
		var v struct {
			ChainID   string `json:"chain_id"`
			Message   string `json:"message"`
			PublicKey string `json:"public_key"`
			Signature string `json:"signature"`
		}
		if err := json.Unmarshal(b, &v); err != nil {
			t.Fatal(err)
		}
		raw := func(s string) []byte {
			b, err := hex.DecodeString(s)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		key, err := fallow.KeyFrom(raw(v.PublicKey))
		if err != nil {
			t.Fatal(err)
		}
		if !settle.Verifier(v.ChainID)(kind, key, raw(v.Message), raw(v.Signature)) {
			t.Errorf("%s: the signature does not verify", kind)
		}
		if settle.Verifier(v.ChainID)("demand", key, raw(v.Message), raw(v.Signature)) {
			t.Errorf("%s: the signature verifies for another kind", kind)
		}
	}
	var _ settle.Decoder = wire.Decoder{}
	var _ settle.Bonds = market.Registry{}
}
