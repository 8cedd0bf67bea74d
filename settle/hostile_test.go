package settle_test

import (
	"testing"

	"fallow.network"
	"fallow.network/market"
	"fallow.network/settle"
)

// TestKeyThatIsRegisteredAnewGainsNothingFromOldLeases ends a client key whose
// lease is open and registers it again: what the old lease gives back is not
// the new key's to spend.
func TestKeyThatIsRegisteredAnewGainsNothingFromOldLeases(t *testing.T) {
	w := newWorld(t, testParams())
	w.deposit("t1", 1000)
	set := func(limit fallow.Credits) {
		t.Helper()
		w.must(w.books.SetClientKey(w.at, account("t1"), settle.ClientKey{Address: account("c1"), Limit: limit, Expires: w.at.Height + 5}))
	}
	open := func(reserve fallow.Credits) settle.Result {
		return w.open("c1", "t1", entry(w.offer("p1", "t1", market.KindBatch, nil), reserve))
	}
	set(100)
	old := open(100)
	set(0)
	set(50)
	if r := open(50); r.Reason != "" {
		t.Fatalf("within the new limit: %+v", r)
	}
	w.close("p1", old.Lease, "")
	if r := open(50); r.Reason != fallow.ReasonClientKey {
		t.Errorf("100 credits are open under a limit of 50: %+v", r)
	}
	if k := w.account("t1").Keys[0]; k.Spent != 50 {
		t.Errorf("the key has spent %d, want 50", k.Spent)
	}
	w.close("p1", 2, "")
	if k := w.account("t1").Keys[0]; k.Spent != 0 {
		t.Errorf("the key has spent %d once its own lease is closed, want 0", k.Spent)
	}
}

// counting counts what is read of a store.
type counting struct {
	fallow.Store
	reads int
}

func (c *counting) Get(key []byte) ([]byte, error) {
	c.reads++
	return c.Store.Get(key)
}

func (c *counting) Scan(start, end []byte, yield func(key, value []byte) bool) error {
	return c.Store.Scan(start, end, func(k, v []byte) bool {
		c.reads++
		return yield(k, v)
	})
}

// crowd opens n batches of t1 with p1 and closes them together, and stands at
// the moment at which all their claim windows have ended.
func crowd(t *testing.T, n int) (*world, *counting) {
	t.Helper()
	params := testParams()
	params.MaxEntries = 10_000
	w := newWorld(t, params)
	w.deposit("t1", 100_000)
	entries := make([]settle.OpenEntry, 0, n)
	ids := make([]fallow.LeaseID, 0, n)
	for i := range n {
		entries = append(entries, entry(w.offer("p1", "t1", market.KindBatch, nil), 10))
		ids = append(ids, fallow.LeaseID(i+1))
	}
	_, effects, err := w.books.OpenLeases(w.at, account("t1"), account("t1"), entries)
	w.must(effects, err)
	_, effects, err = w.books.Close(w.at, account("t1"), ids, "")
	w.must(effects, err)
	w.tick(2_000)
	reads := &counting{Store: w.store}
	w.books.Store = reads
	return w, reads
}

// TestDueWindowsCostWhatTheyAre says that many claim windows which end together
// cost each the same: a ledger reads in proportion to them, in messages and in
// queries, and no more can be made due cheaply than is cheap to work off.
func TestDueWindowsCostWhatTheyAre(t *testing.T) {
	per := func(n int) int {
		w, reads := crowd(t, n)
		w.deposit("t1", 1) // advances the account through all of them
		return reads.reads / n
	}
	few, many := per(100), per(900)
	if many > 2*few {
		t.Errorf("%d reads for each of 900 windows, %d for each of 100", many, few)
	}
}

// TestTenantsBacklogIsNotItsProvidersToRead asks for a provider's leases while
// their tenant has very many windows due: what each lease is follows from the
// lease alone.
func TestTenantsBacklogIsNotItsProvidersToRead(t *testing.T) {
	w, reads := crowd(t, 900)
	l, ok, err := w.books.Lease(w.at, 900)
	if err != nil || !ok || l.State != settle.Closed || l.Deadline != 0 {
		t.Fatalf("%+v %v %v", l, ok, err)
	}
	if reads.reads > 10 {
		t.Errorf("%d reads for one lease", reads.reads)
	}
	reads.reads = 0
	if list, err := w.books.Leases(w.at, settle.Filter{Provider: account("p1"), Open: true}, 0, 10); err != nil || len(list) != 0 {
		t.Errorf("%d leases are open, %v", len(list), err)
	}
	if reads.reads > 5*900 {
		t.Errorf("%d reads for a page of 900 that have ended", reads.reads)
	}
}

// TestExposureReadsBoundedly asks for the exposure of a provider with more ended
// leases than a block works off in a long time. What is not looked at counts on.
func TestExposureReadsBoundedly(t *testing.T) {
	w, reads := crowd(t, 3_000)
	got, err := w.books.Exposure(w.at, account("p1"))
	if err != nil {
		t.Fatal(err)
	}
	if reads.reads > 2_100 {
		t.Errorf("%d reads", reads.reads)
	}
	if got != 20_000 {
		t.Errorf("exposure %d, want 20000: that of the leases that were not looked at", got)
	}
}
