package settle_test

import (
	"slices"
	"testing"
	"time"

	"fallow.network"
	"fallow.network/market"
	"fallow.network/settle"
)

// TestManyTinyLeases has a tenant open 10,000 leases of a millionth each and let
// all of them end at once. What a block costs another tenant is told; each of
// its leases opens and closes all the same, and no block works off more than
// its bound.
func TestManyTinyLeases(t *testing.T) {
	const n = 10_000
	w := newWorld(t, testParams())
	w.deposit("t1", 10_000_000)
	w.deposit("t2", 10_000_000)
	// One block of an honest tenant: a lease opens, one is closed, the block
	// ends.
	honest := func() time.Duration {
		offer := w.offer("p1", "t1", market.KindBatch, nil)
		begun := time.Now()
		results, _, err := w.books.OpenLeases(w.at, account("t1"), account("t1"), []settle.OpenEntry{entry(offer, 1000)})
		if err != nil || results[0].Reason != "" {
			t.Fatalf("an honest lease: %+v, %v", results, err)
		}
		closed, _, err := w.books.Close(w.at, account("t1"), []fallow.LeaseID{results[0].Lease}, fallow.ReasonCompleted)
		if err != nil || closed[0].Reason != "" {
			t.Fatalf("its close: %+v, %v", closed, err)
		}
		if _, err := w.books.EndBlock(w.at); err != nil {
			t.Fatal(err)
		}
		took := time.Since(begun)
		w.tick(100)
		return took
	}
	blocks := func(n int) (all []time.Duration) {
		for range n {
			all = append(all, honest())
		}
		slices.Sort(all)
		return all
	}
	calm := blocks(60)
	var ids []fallow.LeaseID
	begun := time.Now()
	var opening time.Duration
	for range n / 10 {
		var entries []settle.OpenEntry
		for range 10 {
			entries = append(entries, entry(w.offer("p2", "t2", market.KindBatch, nil), 1))
		}
		start := time.Now()
		results, _, err := w.books.OpenLeases(w.at, account("t2"), account("t2"), entries)
		opening += time.Since(start)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range results {
			if r.Reason != "" {
				t.Fatalf("lease %d: %s", len(ids), r.Reason)
			}
			ids = append(ids, r.Lease)
		}
	}
	flood := time.Since(begun)
	open := blocks(60)
	for i := 0; i < len(ids); i += 10 {
		if _, _, err := w.books.Close(w.at, account("t2"), ids[i:i+10], fallow.ReasonCancelled); err != nil {
			t.Fatal(err)
		}
	}
	w.tick(3000) // past the claim windows: all end at once
	ending := blocks(60)
	const mid, last = 30, 59
	t.Logf("%d leases in %s, %s each in the rules; a block of another tenant took %s, with them open %s (%.1fx), while they end %s (%.1fx) and %s at most",
		n, flood.Round(time.Millisecond), (opening / n).Round(100*time.Nanosecond), calm[mid].Round(time.Microsecond),
		open[mid].Round(time.Microsecond), float64(open[mid])/float64(calm[mid]),
		ending[mid].Round(time.Microsecond), float64(ending[mid])/float64(calm[mid]), ending[last].Round(time.Microsecond))
	for range n/testParams().MaxQueuePerBlock + 10 {
		if _, err := w.books.EndBlock(w.at); err != nil {
			t.Fatal(err)
		}
		w.tick(1)
	}
	left, err := w.books.Leases(w.at, settle.Filter{Tenant: account("t2")}, 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range left {
		if l.State != settle.Closed {
			t.Fatalf("lease %d has not ended: %+v", l.ID, l)
		}
	}
	if a := w.account("t2"); !a.Reserved.IsZero() {
		t.Errorf("%s are still reserved", a.Reserved)
	}
}
