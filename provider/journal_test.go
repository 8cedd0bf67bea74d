package provider

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fallow.network"
	"fallow.network/market"
)

func testJournal(t *testing.T) (*journal, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "journal.db")
	j, err := openJournal(t.Context(), path, never)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.close(); err != nil && !strings.Contains(err.Error(), "closed") {
			t.Error(err)
		}
	})
	return j, path
}

func aReceipt(task, try, seq uint32, text string) signed {
	return signed{
		at: attempt{task, try}, seq: seq, input: fallow.Sum([]byte("in")), charge: fallow.PicoOf(7), gas: 9,
		receipt: market.Signed{Message: []byte(text), Signature: []byte("sig")},
	}
}

func TestTwoReceiptsForOneAttemptAreImpossible(t *testing.T) {
	j, _ := testJournal(t)
	ctx := t.Context()
	var won atomic.Int64
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			if err := j.addReceipt(ctx, 1, aReceipt(5, 1, uint32(i), fmt.Sprint("receipt ", i)), nil); err == nil {
				won.Add(1)
			} else if !strings.Contains(err.Error(), "UNIQUE") {
				t.Error(err)
			}
		})
		// In the same groups, others are not hindered.
		wg.Go(func() {
			if err := j.addReceipt(ctx, 2, aReceipt(uint32(i), 1, uint32(i), "other"), []inline{{fallow.Sum([]byte("o")), []byte("o")}}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d receipts for one attempt", won.Load())
	}
	list, err := j.receiptsOf(ctx, 2, 0, 100)
	if err != nil || len(list) != 32 {
		t.Errorf("%d receipts: %v", len(list), err)
	}
	for i, s := range list {
		if s.seq != uint32(i) || s.charge != fallow.PicoOf(7) || s.gas != 9 {
			t.Errorf("%+v", s)
		}
	}
	if b, err := j.inlineOf(ctx, 2, fallow.Sum([]byte("o"))); err != nil || string(b) != "o" {
		t.Errorf("%q %v", b, err)
	}
	// A failed operation leaves nothing of itself.
	bad := aReceipt(5, 1, 900, "again")
	if err := j.addReceipt(ctx, 1, bad, []inline{{fallow.Sum([]byte("left")), []byte("left")}}); err == nil {
		t.Error("a second receipt")
	}
	if b, err := j.inlineOf(ctx, 1, fallow.Sum([]byte("left"))); b != nil || err != nil {
		t.Errorf("a failed receipt left %q %v", b, err)
	}
}

func TestJournalSyncsEachCommit(t *testing.T) {
	j, _ := testJournal(t)
	var mode string
	var sync int
	if err := j.w.conn.QueryRowContext(t.Context(), "PRAGMA journal_mode").Scan(&mode); err != nil || mode != "wal" {
		t.Errorf("%s %v", mode, err)
	}
	if err := j.w.conn.QueryRowContext(t.Context(), "PRAGMA synchronous").Scan(&sync); err != nil || sync != 2 {
		t.Errorf("synchronous %d %v: a receipt must outlive a power cut once it was sent", sync, err)
	}
}

func TestJournalClosed(t *testing.T) {
	j, path := testJournal(t)
	if err := j.later(t.Context(), func(w *writer) error {
		return w.exec(`INSERT INTO meta (key, value) VALUES ('a', x'01')`)
	}); err != nil {
		t.Fatal(err)
	}
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
	if err := j.setMeta(t.Context(), "b", nil); !errors.Is(err, errJournalClosed) {
		t.Errorf("%v", err)
	}
	again, err := openJournal(t.Context(), path, never)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := again.meta(t.Context(), "a"); err != nil || len(b) != 1 {
		t.Errorf("what was handed in is lost: %q %v", b, err)
	}
	if err := again.close(); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), "PRAGMA user_version = 99"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := openJournal(t.Context(), path, never); err == nil || !strings.Contains(err.Error(), "newer version") {
		t.Errorf("%v", err)
	}
}

func TestJournalHandsInUnderCancelledContext(t *testing.T) {
	j, _ := testJournal(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	// Either it was not handed in, or it is on disk: never a doubt.
	for i := range 50 {
		key := fmt.Sprint(i)
		err := j.setMeta(ctx, key, []byte{1})
		b, got := j.meta(t.Context(), key)
		if got != nil || (err == nil) != (b != nil) {
			t.Fatalf("%v, yet %q %v", err, b, got)
		}
	}
}

func TestTenantHabitsFade(t *testing.T) {
	j, _ := testJournal(t)
	for range 200 {
		if err := j.do(t.Context(), func(w *writer) error { return w.tenant(`SELECT ?1`, "a", 1) }); err != nil {
			t.Fatal(err)
		}
	}
	n, taken, err := j.rate(t.Context(), "a")
	if err != nil || n >= maxRate || n != taken || n < maxRate/2 {
		t.Errorf("%d of %d: %v", taken, n, err)
	}
}

func TestPrune(t *testing.T) {
	j, _ := testJournal(t)
	ctx := t.Context()
	old, now := time.Now().Add(-time.Hour), time.Now()
	for id := range fallow.LeaseID(3) {
		if err := j.addLease(ctx, record{id: id + 1, tenant: "a", opened: old}); err != nil {
			t.Fatal(err)
		}
		if err := j.addReceipt(ctx, id+1, aReceipt(1, 1, 0, "r"), []inline{{fallow.Sum([]byte("o")), []byte("o")}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(j.endLease(ctx, 1, fallow.ReasonCompleted, old), j.endLease(ctx, 2, fallow.ReasonCompleted, now)); err != nil {
		t.Fatal(err)
	}
	if err := j.prune(ctx, now.Add(-time.Minute)); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[fallow.LeaseID]int{1: 0, 2: 1, 3: 1} {
		list, err := j.receiptsOf(ctx, id, 0, 10)
		if err != nil || len(list) != want {
			t.Errorf("lease %d: %d receipts, %v", id, len(list), err)
		}
	}
	open, err := j.leasesOpen(ctx)
	if err != nil || len(open) != 1 || open[0].id != 3 {
		t.Errorf("%+v %v", open, err)
	}
}

// BenchmarkReceipts is what a receipt costs when many come at once.
func BenchmarkReceipts(b *testing.B) {
	j, err := openJournal(b.Context(), filepath.Join(b.TempDir(), "journal.db"), never)
	if err != nil {
		b.Fatal(err)
	}
	var n atomic.Uint32
	b.SetParallelism(64)
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			i := n.Add(1)
			if err := j.addReceipt(b.Context(), 1, aReceipt(i, 1, i, strings.Repeat("x", 300)), nil); err != nil {
				b.Error(err)
			}
		}
	})
	if err := j.close(); err != nil {
		b.Fatal(err)
	}
}

func never() bool { return false }
