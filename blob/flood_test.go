package blob_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fallow.network"
	"fallow.network/blob"
)

// TestSizesThatAreNotSo has senders who announce 1 kB and send without end, up
// to 10 GB, and ones who announce 10 GB and send 1 kB, while an honest one goes
// on bringing blobs.
func TestSizesThatAreNotSo(t *testing.T) {
	const ten = 10 << 30
	s := open(t, blob.Config{Quota: 1 << 30})
	kept := add(t, s, bytesOf(1, 1<<20))
	scope := func(r *http.Request) string { return r.Header.Get("Sender") }
	base, client := serve(t, &blob.Handler{Store: s, Authorize: all, Scope: scope, Idle: time.Second})
	put := func(ctx context.Context, d fallow.Digest, sender string, announced int64, body io.Reader) (int, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPut, base+"/blob/"+d.String(), body)
		if err != nil {
			return 0, err
		}
		req.Header.Set("Sender", sender)
		req.Header.Set("Content-Range", fmt.Sprintf("bytes 0-%d/%d", announced-1, announced))
		req.ContentLength = -1
		resp, err := client.Do(req)
		if err != nil {
			return 0, err
		}
		return resp.StatusCode, resp.Body.Close()
	}
	honest := func(from, n int) (took []time.Duration) {
		for i := from; i < from+n; i++ {
			b := bytesOf(uint64(100+i), 64<<10)
			begun := time.Now()
			if status, err := put(t.Context(), fallow.Sum(b), "honest", int64(len(b)), bytes.NewReader(b)); err != nil || status != http.StatusCreated {
				t.Errorf("an honest blob: %d, %v", status, err)
			}
			took = append(took, time.Since(begun))
		}
		slices.Sort(took)
		return took
	}
	calm := honest(0, 20)

	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var sent, tries atomic.Int64
	status := map[int]int{}
	var mu sync.Mutex
	count := func(code int) {
		mu.Lock()
		defer mu.Unlock()
		status[code]++
	}
	for i := range 4 {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				body := &endless{}
				d := fallow.Sum(fmt.Appendf(nil, "large %d %d", i, n))
				if code, err := put(ctx, d, fmt.Sprint("large", i), 1000, body); err == nil {
					count(code)
				}
				sent.Add(body.n.Load())
				tries.Add(1)
			}
		})
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				d := fallow.Sum(fmt.Appendf(nil, "small %d %d", i, n))
				if code, err := put(ctx, d, fmt.Sprint("small", i), ten, bytes.NewReader(make([]byte, 1000))); err == nil {
					count(code)
				}
			}
		})
	}
	during := honest(20, 40)
	stop()
	wg.Wait()
	u := s.Usage()
	mu.Lock()
	defer mu.Unlock()
	t.Logf("liars were answered %v; the endless ones sent %d kB a try; a blob of 64 KiB took %s before and %s meanwhile, %.1fx; store %+v",
		status, sent.Load()/max(tries.Load(), 1)>>10, calm[10].Round(10*time.Microsecond), during[20].Round(10*time.Microsecond), float64(during[20])/float64(calm[10]), u)
	for code := range status {
		if code != http.StatusRequestEntityTooLarge && code != http.StatusInsufficientStorage {
			t.Errorf("a liar was answered %d", code)
		}
	}
	if n := sent.Load() / max(tries.Load(), 1); n > 8<<20 {
		t.Errorf("%d bytes of an endless body were taken", n)
	}
	if _, ok := s.Has(kept); !ok {
		t.Error("a blob that was here before was dropped for 10 GB that never came")
	}
	if u.Partial > 1<<20 || u.Blobs != 61 {
		t.Errorf("usage afterwards: %+v", u)
	}
}

// TestLargeSizeAndNothing: one who announces all that fits and sends 1 kB holds
// the room no longer than it may stand still.
func TestLargeSizeAndNothing(t *testing.T) {
	const size = 24 << 20
	s := open(t, blob.Config{Quota: size + 1<<20})
	base, client := serve(t, &blob.Handler{Store: s, Authorize: all, Idle: 300 * time.Millisecond})
	pr, pw := io.Pipe()
	defer func() { _ = pw.Close() }()
	go func() { _, _ = pw.Write(make([]byte, 1000)) }()
	d := fallow.Sum([]byte("large"))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, base+"/blob/"+d.String(), pr)
	if err != nil {
		t.Fatal(err)
	}
	req.ContentLength = size
	done := make(chan int, 1)
	go func() {
		resp, err := client.Do(req)
		if err != nil {
			done <- 0
			return
		}
		_ = resp.Body.Close()
		done <- resp.StatusCode
	}()
	if code := <-done; code == http.StatusCreated || code == http.StatusAccepted {
		t.Errorf("one that stands still was answered %d", code)
	}
	for end := time.Now().Add(10 * time.Second); s.Usage().Partial > 1000 && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	if u := s.Usage(); u.Partial > 1000 {
		t.Errorf("%d bytes stay reserved for 1000 that came", u.Partial)
	}
	add(t, s, bytesOf(2, 20<<20))
}
