package ledger

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"fallow.network"
	"fallow.network/market"
)

func (l *ledgerFake) waitQueue(n int) {
	l.t.Helper()
	for range 1000 {
		l.mu.Lock()
		queued := len(l.queue)
		l.mu.Unlock()
		if queued >= n {
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
	l.t.Fatalf("%d transactions never came", n)
}

func TestBatch(t *testing.T) {
	k := secret(t, 0)
	l := newFake(t, k.Account())
	l.tick(100 * time.Millisecond)
	s := l.dial().Sender(k, Options{Window: 50 * time.Millisecond, MaxEntries: 30})
	var all sync.WaitGroup
	var mu sync.Mutex
	hashes := map[Hash]int{} // how many calls each carried
	for i := range 40 {
		all.Go(func() {
			id := uint64(10*i + 1)
			opens := []Open{
				{Offer: market.Signed{Message: fmt.Appendf(nil, "offer %d", id)}, Reserve: fallow.Credits(id)},
				{Offer: market.Signed{Message: fmt.Appendf(nil, "bad %d", id)}},
			}
			r, txs, err := s.OpenLeases(t.Context(), k.Account(), opens)
			if err != nil || len(r) != 2 || r[0].Lease != fallow.LeaseID(id) || r[0].Reason != "" || r[1].Reason != fallow.ReasonOfferUsed {
				t.Errorf("call %d: %+v, %v", i, r, err)
				return
			}
			mu.Lock()
			hashes[txs[0].Hash] = txs[0].Shared
			mu.Unlock()
		})
	}
	all.Wait()
	shared := 0
	for _, n := range hashes {
		shared += n
	}
	if len(hashes) > 10 || shared != 40 {
		t.Errorf("40 calls took %d transactions, which count %d", len(hashes), shared)
	}
}

func TestBatchWithABadCall(t *testing.T) {
	k := secret(t, 0)
	l := newFake(t, k.Account())
	l.tick(50 * time.Millisecond)
	s := l.dial().Sender(k, Options{Window: 50 * time.Millisecond})
	var all sync.WaitGroup
	for i := range 6 {
		all.Go(func() {
			id := fallow.LeaseID(i + 1)
			if i == 3 {
				id = 666
			}
			r, _, err := s.CloseLeases(t.Context(), fallow.ReasonCompleted, []fallow.LeaseID{id})
			var refusal *RefusalError
			if bad := i == 3; bad != errors.As(err, &refusal) || !bad && (len(r) != 1 || r[0].Lease != id) {
				t.Errorf("call %d: %+v, %v", i, r, err)
			}
		})
	}
	all.Wait()
	l.once("close 1", "close 2", "close 3", "close 5", "close 6")
}

func TestChunks(t *testing.T) {
	k := secret(t, 0)
	l := newFake(t, k.Account())
	l.tick(30 * time.Millisecond)
	s := l.dial().Sender(k, Options{MaxEntries: 4})
	var leases []fallow.LeaseID
	for i := range 10 {
		leases = append(leases, fallow.LeaseID(i+1))
	}
	r, txs, err := s.CloseLeases(t.Context(), fallow.ReasonCompleted, leases)
	if err != nil || len(r) != 10 || len(txs) != 3 || r[9].Lease != 10 {
		t.Errorf("%d results, %d transactions, %v", len(r), len(txs), err)
	}
}

func TestBatchCallerLeaves(t *testing.T) {
	k := secret(t, 0)
	l := newFake(t, k.Account())
	c := l.dial()
	s := c.Sender(k, Options{Window: 30 * time.Millisecond})
	ctx, leave := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() {
		_, _, err := s.CloseLeases(ctx, fallow.ReasonCompleted, []fallow.LeaseID{1})
		var u *UnsettledError
		if !errors.As(err, &u) || u.Hash == (Hash{}) || !errors.Is(err, context.Canceled) {
			t.Errorf("left on the way: %v", err)
		}
	})
	all.Go(func() {
		if _, _, err := s.CloseLeases(t.Context(), fallow.ReasonCompleted, []fallow.LeaseID{2}); err != nil {
			t.Error(err)
		}
	})
	l.waitQueue(1)
	leave()
	time.Sleep(20 * time.Millisecond)
	l.commit()
	all.Wait()
	l.once("close 1", "close 2")

	gone, leave := context.WithCancel(t.Context())
	leave()
	all.Go(func() {
		_, _, err := s.CloseLeases(gone, fallow.ReasonCompleted, []fallow.LeaseID{3})
		var u *UnsettledError
		if err == nil || errors.As(err, &u) {
			t.Errorf("left before: %v", err)
		}
	})
	all.Go(func() {
		if _, _, err := s.CloseLeases(t.Context(), fallow.ReasonCompleted, []fallow.LeaseID{4}); err != nil {
			t.Error(err)
		}
	})
	l.waitQueue(1)
	l.commit()
	all.Wait()
	l.once("close 1", "close 2", "close 4")
}
