package settle_test

import (
	"testing"

	"fallow.network"
	"fallow.network/market"
	"fallow.network/settle"
)

// openService opens a service of 3,000 ucredit a second, 100 while paused:
// its deposit is 10 s of the one and 20 s of the other, 32,000 ucredit.
func openService(w *world, signer string) fallow.LeaseID {
	w.t.Helper()
	r := w.open(signer, "t1", entry(w.offer("p1", "t1", market.KindService, nil), 0))
	if r.Reason != "" || r.Amount != 32_000 {
		w.t.Fatalf("open: %+v", r)
	}
	return r.Lease
}

func TestServiceLapsesFree(t *testing.T) {
	w := newWorld(t, testParams())
	w.deposit("t1", 50_000)
	id := openService(w, "t1")
	w.tick(4_999)
	if l := w.lease(id); l.State != settle.Open || !l.Claimed.IsZero() {
		t.Fatalf("%+v", l)
	}
	w.tick(1)
	if l := w.lease(id); l.State != settle.Closed || l.Reason != fallow.ReasonNeverStarted || l.ClosedBy != settle.ClosedByLedger {
		t.Fatalf("%+v", l)
	}
	if r := w.start(w.horizon(id, 1, w.at.Time+100)); r.Reason != fallow.ReasonLeaseClosed {
		t.Errorf("started after it lapsed: %+v", r)
	}
	if v := w.account("t1"); v.Free != credits(50_000) {
		t.Errorf("free %s", v.Free)
	}
}

func TestServiceStreamsToItsHorizon(t *testing.T) {
	w := newWorld(t, testParams())
	w.deposit("t1", 132_000)
	id := openService(w, "t1")
	if r := w.start(w.horizon(id, 1, w.at.Time+60_001)); r.Reason != fallow.ReasonFarAhead {
		t.Errorf("too far: %+v", r)
	}
	forged := w.horizon(id, 1, w.at.Time+10_000)
	forged.Signature[1] ^= 1
	if r := w.start(forged); r.Reason != fallow.ReasonSignature {
		t.Errorf("forged: %+v", r)
	}
	if r := w.start(w.horizon(id, 1, w.at.Time+10_000)); r.Reason != "" {
		t.Fatalf("start: %+v", r)
	}
	if r := w.start(w.horizon(id, 1, w.at.Time+20_000)); r.Reason != fallow.ReasonHorizonOld {
		t.Errorf("the same sequence: %+v", r)
	}
	v := w.account("t1")
	if v.Rate != credits(3_000) || v.Dry != w.at.Time+33_333 {
		t.Errorf("rate %s dry in %d ms", v.Rate, v.Dry-w.at.Time)
	}
	w.tick(2_500)
	if r := w.redeemService("p1", id); r.Amount != 7_500 {
		t.Errorf("after 2.5 s: %+v", r)
	}
	w.tick(20_000)
	if r := w.redeemService("p1", id); r.Amount != 22_500 {
		t.Errorf("up to the horizon: %+v", r)
	}
	// A late horizon goes on from now: the gap is not paid.
	if r := w.start(w.horizon(id, 2, w.at.Time+10_000)); r.Reason != "" {
		t.Fatalf("extend: %+v", r)
	}
	w.tick(1_000)
	if r := w.close("t1", id, fallow.ReasonCompleted); r.Amount != 32_000 {
		t.Errorf("close: %+v", r)
	}
	if got := w.worth("p1"); got != 33_000 {
		t.Errorf("provider is worth %d", got)
	}
	if v := w.account("t1"); v.Free != credits(99_000) || v.Open != 0 || v.Queued != 0 {
		t.Errorf("%+v", v)
	}
	if r := w.close("p1", id, ""); r.Reason != "" || r.Amount != 0 {
		t.Errorf("second close: %+v", r)
	}
}

func TestServiceWithoutHorizonEnds(t *testing.T) {
	w := newWorld(t, testParams())
	w.deposit("t1", 132_000)
	id := openService(w, "t1")
	w.start(w.horizon(id, 1, w.at.Time+10_000))
	w.tick(29_999)
	if l := w.lease(id); l.State != settle.Running || l.Claimed != credits(30_000) {
		t.Fatalf("%+v", l)
	}
	w.tick(1)
	if l := w.lease(id); l.State != settle.Closed || l.Reason != fallow.ReasonHorizonPassed || l.Paid != 30_000 {
		t.Fatalf("%+v", l)
	}
}

func TestServiceRunsDryAndResumes(t *testing.T) {
	w := newWorld(t, testParams())
	w.deposit("t1", 32_000+6_001) // 2 s and a bit
	id := openService(w, "t1")
	began := w.at.Time
	w.start(w.horizon(id, 1, began+60_000))
	if v := w.account("t1"); v.Dry != began+2_000 {
		t.Fatalf("dry in %d ms", v.Dry-began)
	}
	w.tick(7_000) // paused for 5 s
	l := w.lease(id)
	if l.State != settle.Paused || l.Deadline != began+22_000 || l.DiskUsed != credits(500) {
		t.Fatalf("%+v", l)
	}
	if r := w.redeemService("p1", id); r.Amount != 6_500 {
		t.Errorf("disk and two seconds: %+v", r)
	}
	w.deposit("t1", 3_000) // one short of the refill and a second
	if l := w.lease(id); l.State != settle.Paused {
		t.Fatalf("resumed on too little: %s", l.State)
	}
	w.deposit("t1", 1_000)
	l = w.lease(id)
	if l.State != settle.Running || !l.DiskUsed.IsZero() {
		t.Fatalf("not resumed: %+v", l)
	}
	if v := w.account("t1"); v.Free != credits(3_501) || v.Reserved != credits(32_000) {
		t.Errorf("free %s reserved %s", v.Free, v.Reserved)
	}
	w.tick(1_167) // dry again at 1,167 ms
	if l := w.lease(id); l.State != settle.Paused {
		t.Errorf("%+v", l)
	}
	w.tick(20_000)
	l = w.lease(id)
	if l.State != settle.Closed || l.Reason != fallow.ReasonDry {
		t.Fatalf("%+v", l)
	}
	// 2 s, 5 s of disk, 1.167 s, 20 s of disk.
	if l.Paid != 6_000+500+3_501+2_000 {
		t.Errorf("paid %d", l.Paid)
	}
	w.endBlock()
	if got := w.worth("p1"); got != 12_001 {
		t.Errorf("provider is worth %d", got)
	}
}

func TestFundsThatComeFreeResume(t *testing.T) {
	w := newWorld(t, testParams())
	w.deposit("t1", 32_000+3_000+50_000)
	id := openService(w, "t1")
	w.open("t1", "t1", entry(w.offer("p1", "t1", market.KindBatch, nil), 50_000))
	began := w.at.Time
	w.start(w.horizon(id, 1, began+60_000))
	w.close("t1", 2, "") // free at +2 s; the service is dry at +1 s
	w.tick(30_000)
	// From then 49,900 ucredit last 16,633 ms, though nobody looked.
	l := w.lease(id)
	if l.State != settle.Paused || l.Deadline != began+2_000+16_633+20_000 {
		t.Fatalf("%s until +%d ms", l.State, l.Deadline-began)
	}
}

func TestClientKeyLimitsServices(t *testing.T) {
	w := newWorld(t, testParams())
	w.deposit("t1", 500_000)
	w.must(w.books.SetClientKey(w.at, account("t1"), settle.ClientKey{Address: account("c1"), Limit: 62_000, Expires: w.at.Height + 9}))
	id := openService(w, "c1")
	if r := w.start(w.horizon(id, 1, w.at.Time+10_001)); r.Reason != fallow.ReasonClientKey {
		t.Errorf("a horizon above the limit: %+v", r)
	}
	if r := w.start(w.horizon(id, 1, w.at.Time+10_000)); r.Reason != "" {
		t.Fatalf("a horizon within the limit: %+v", r)
	}
	w.tick(1_000)
	w.close("c1", id, "")
	if k := w.account("t1").Keys[0]; k.Spent != 3_000 {
		t.Errorf("the key has spent %d, want 3000", k.Spent)
	}
}

func TestServicesAreBounded(t *testing.T) {
	w := newWorld(t, testParams())
	w.deposit("t1", 500_000)
	for range 3 {
		openService(w, "t1")
	}
	r := w.open("t1", "t1", entry(w.offer("p1", "t1", market.KindService, nil), 0))
	if r.Reason != fallow.ReasonTooManyLeases {
		t.Errorf("a fourth: %+v", r)
	}
	w.tick(10_000)
	r = w.open("t1", "t1", entry(w.offer("p1", "t1", market.KindService, nil), 31_999))
	if r.Reason != fallow.ReasonReserve {
		t.Errorf("a deposit above what the tenant allows: %+v", r)
	}
}

func TestQueueIsBoundedAndBusyAccountsSaySo(t *testing.T) {
	params := testParams()
	params.MaxEntries = 1200
	w := newWorld(t, params)
	w.deposit("t1", 100_000)
	var entries []settle.OpenEntry
	var ids []fallow.LeaseID
	for i := range 1100 {
		entries = append(entries, entry(w.offer("p1", "t1", market.KindBatch, nil), 10))
		ids = append(ids, fallow.LeaseID(i+1))
	}
	_, effects, err := w.books.OpenLeases(w.at, account("t1"), account("t1"), entries)
	w.must(effects, err)
	_, effects, err = w.books.Close(w.at, account("t1"), ids, "")
	w.must(effects, err)
	w.tick(2_000)
	if _, err := w.books.Deposit(w.at, account("t1"), "", 1); err == nil {
		t.Fatal("more than a thousand claim windows in one message")
	}
	if v := w.account("t1"); v.Open != 0 || v.Free != credits(100_000) {
		t.Errorf("a view is exact: open %d free %s", v.Open, v.Free)
	}
	before := len(w.log)
	w.endBlock()
	if n := len(w.log) - before; n < 1 || n > 3 {
		t.Errorf("%d effects in a block, want 1 to 3", n)
	}
	for range 40 {
		w.tick(10)
		w.endBlock()
	}
	w.deposit("t1", 1)
}
