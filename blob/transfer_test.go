package blob_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fallow.network"
	"fallow.network/blob"
)

// serve runs a handler as the p2p room does, HTTP/2 without encryption, on
// loopback.
func serve(tb testing.TB, h http.Handler) (string, *http.Client) {
	tb.Helper()
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	srv := httptest.NewUnstartedServer(h)
	srv.Config.Protocols = p
	srv.Start()
	client := &http.Client{Transport: &http.Transport{Protocols: p, DisableCompression: true}}
	tb.Cleanup(func() {
		client.CloseIdleConnections()
		srv.CloseClientConnections()
		srv.Close()
	})
	return srv.URL, client
}

func all(*http.Request, fallow.Digest, int64) error { return nil }

func transfer(s *blob.Store, c *http.Client) *blob.Transfer {
	return &blob.Transfer{Store: s, Client: c, Retries: 3, Idle: 2 * time.Second, Backoff: time.Millisecond}
}

func TestFetchAndPush(t *testing.T) {
	there, here := open(t, blob.Config{}), open(t, blob.Config{})
	base, client := serve(t, &blob.Handler{Store: there, Authorize: all})
	tr := transfer(here, client)
	for _, n := range []int{0, 1, 1 << 20, 5<<20 + 3} {
		b := bytesOf(uint64(n)+1, n)
		d := add(t, there, b)
		var last int64
		if err := tr.Fetch(t.Context(), base, d, int64(n), blob.FetchOptions{Progress: func(done, total int64) {
			if total != int64(n) || done < last {
				t.Errorf("progress %d of %d after %d", done, total, last)
			}
			last = done
		}}); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(read(t, here, d), b) || last != int64(n) {
			t.Errorf("%d bytes differ, progress %d", n, last)
		}
		if err := tr.Fetch(t.Context(), base, d, int64(n), blob.FetchOptions{}); err != nil {
			t.Errorf("again: %v", err)
		}

		b = bytesOf(uint64(n)+2, n)
		d = add(t, here, b)
		for range 2 {
			if err := tr.Push(t.Context(), base, d, nil); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(read(t, there, d), b) {
			t.Errorf("%d bytes differ", n)
		}
	}
	d := fallow.Sum([]byte("absent"))
	if err := tr.Fetch(t.Context(), base, d, 6, blob.FetchOptions{}); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("fetch of what is absent: %v", err)
	}
	if err := tr.Push(t.Context(), base, d, nil); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("push of what is absent: %v", err)
	}
}

// cutter breaks every request after some bytes, both ways, until it has done
// so often enough.
type cutter struct {
	next  http.Handler
	every int64
	left  atomic.Int64
	bytes atomic.Int64 // that went through
}

func (c *cutter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if c.left.Load() > 0 && !strings.HasSuffix(r.URL.Path, "/chunks") && r.Method != http.MethodHead {
		body := &cutBody{ReadCloser: r.Body, c: c, left: c.every}
		r.Body = body
		w = &cutWriter{ResponseWriter: w, c: c, left: c.every}
	}
	c.next.ServeHTTP(w, r)
}

type cutBody struct {
	io.ReadCloser
	c    *cutter
	left int64
}

func (b *cutBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		b.c.left.Add(-1)
		panic(http.ErrAbortHandler)
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	b.c.bytes.Add(int64(n))
	return n, err
}

type cutWriter struct {
	http.ResponseWriter
	c    *cutter
	left int64
}

func (w *cutWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *cutWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p[:min(int64(len(p)), w.left)])
	w.left -= int64(n)
	w.c.bytes.Add(int64(n))
	if w.left <= 0 {
		_ = http.NewResponseController(w.ResponseWriter).Flush()
		w.c.left.Add(-1)
		panic(http.ErrAbortHandler)
	}
	return n, err
}

func TestResumeAfterCuts(t *testing.T) {
	const n = 6 << 20
	for _, dir := range []string{"fetch", "push"} {
		t.Run(dir, func(t *testing.T) {
			there, here := open(t, blob.Config{}), open(t, blob.Config{})
			c := &cutter{next: &blob.Handler{Store: there, Authorize: all}, every: 700_000}
			c.left.Store(6)
			base, client := serve(t, c)
			tr := transfer(here, client)
			b := bytesOf(1, n)
			var err error
			if dir == "fetch" {
				d := add(t, there, b)
				err = tr.Fetch(t.Context(), base, d, n, blob.FetchOptions{})
			} else {
				d := add(t, here, b)
				err = tr.Push(t.Context(), base, d, nil)
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range []*blob.Store{there, here} {
				if !bytes.Equal(read(t, s, fallow.Sum(b)), b) {
					t.Error("differs")
				}
			}
			if c.left.Load() > 0 {
				t.Errorf("%d cuts left", c.left.Load())
			}
			if sent := c.bytes.Load(); sent > n+n/4 {
				t.Errorf("%d bytes for %d: not resumed", sent, n)
			}
		})
	}
}

// TestResumeInAnotherCall: what one call left, the next takes up, at a
// chunk's start.
func TestResumeInAnotherCall(t *testing.T) {
	const n = 6 << 20
	there, dir := open(t, blob.Config{}), t.TempDir()
	var ranges []string
	h := &blob.Handler{Store: there, Authorize: func(r *http.Request, _ fallow.Digest, _ int64) error {
		ranges = append(ranges, r.Header.Get("Range"))
		return nil
	}}
	c := &cutter{next: h, every: 2_500_000}
	c.left.Store(1000)
	base, client := serve(t, c)
	b := bytesOf(1, n)
	d := add(t, there, b)
	tr := transfer(open(t, blob.Config{Dir: dir}), client)
	tr.Retries = 1
	stop := errors.New("stop")
	func() { // the program dies in the middle
		defer func() {
			if recover() != stop { //nolint:errorlint // our own panic value
				t.Error("did not stop")
			}
		}()
		_ = tr.Fetch(t.Context(), base, d, n, blob.FetchOptions{Progress: func(done, _ int64) {
			if done >= 2_400_000 {
				panic(stop)
			}
		}})
	}()
	c.left.Store(0)
	ranges = nil
	if err := transfer(open(t, blob.Config{Dir: dir}), client).Fetch(t.Context(), base, d, n, blob.FetchOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(ranges, " "); got != " bytes=2097152-" {
		t.Errorf("asked for %q", got)
	}
}

func TestALiarIsCut(t *testing.T) {
	const n = 6 << 20
	good := bytesOf(1, n)
	d := fallow.Sum(good)
	bad := bytes.Clone(good)
	bad[3<<20+5] ^= 1
	honest := open(t, blob.Config{})
	add(t, honest, good)
	list, err := honest.Chunks(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	liars := open(t, blob.Config{})
	badDigest := add(t, liars, bad)
	badList, err := liars.Chunks(t.Context(), badDigest)
	if err != nil {
		t.Fatal(err)
	}
	var sent atomic.Int64
	endless := func(w http.ResponseWriter, total int64) {
		if total >= 0 {
			w.Header().Set("Content-Length", strconv.FormatInt(total, 10))
		}
		for { // until the other side hangs up
			m, err := w.Write(make([]byte, 64<<10))
			sent.Add(int64(m))
			if err != nil {
				return
			}
		}
	}
	for name, tc := range map[string]struct {
		list  blob.Chunks // trusted
		reply func(w http.ResponseWriter, r *http.Request)
		want  error
		most  int64 // bytes that reach us
	}{
		"wrong chunk against the sender's own list": {blob.Chunks{}, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(bad) }, blob.ErrChunk, n},
		"wrong chunk against a trusted list":        {list, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(bad) }, blob.ErrChunk, n},
		"endless body":                              {list, func(w http.ResponseWriter, _ *http.Request) { endless(w, -1) }, blob.ErrChunk, n + 8<<20},
		"other size":                                {list, func(w http.ResponseWriter, _ *http.Request) { endless(w, 10<<30) }, blob.ErrDigest, 8 << 20},
		"other answer":                              {list, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }, nil, 0},
		"final refusal":                             {list, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusForbidden) }, blob.ErrRefused, 0},
	} {
		t.Run(name, func(t *testing.T) {
			sent.Store(0)
			base, client := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, "/chunks") {
					_, _ = w.Write(list.Encode())
					return
				}
				tc.reply(w, r)
			}))
			here := open(t, blob.Config{})
			err := transfer(here, client).Fetch(t.Context(), base, d, n, blob.FetchOptions{Chunks: tc.list})
			if err == nil || tc.want != nil && !errors.Is(err, tc.want) {
				t.Errorf("error %v, want %v", err, tc.want)
			}
			if sent.Load() > tc.most {
				t.Errorf("%d bytes were taken", sent.Load())
			}
			if u := here.Usage(); u.Blobs != 0 {
				t.Errorf("kept a lie: %+v", u)
			}
			if tc.want == blob.ErrChunk && name != "endless body" { //nolint:errorlint // a table's value
				if u := here.Usage(); u.Partial != 3<<20 {
					t.Errorf("kept %d bytes, want the three right chunks", u.Partial)
				}
			}
		})
	}
	t.Run("list and bytes agree but are another blob's", func(t *testing.T) {
		base, client := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/chunks") {
				_, _ = w.Write(badList.Encode())
				return
			}
			_, _ = w.Write(bad)
		}))
		here := open(t, blob.Config{})
		if err := transfer(here, client).Fetch(t.Context(), base, d, n, blob.FetchOptions{}); !errors.Is(err, blob.ErrDigest) {
			t.Errorf("error %v", err)
		}
		// The liar's remains don't stop an honest sender.
		w, err := here.Writer(t.Context(), d, n, "fetch")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(bad[:5<<20]); err != nil {
			t.Fatal(err)
		}
		_ = w.Close()
		base, client = serve(t, &blob.Handler{Store: honest, Authorize: all})
		if err := transfer(here, client).Fetch(t.Context(), base, d, n, blob.FetchOptions{}); err != nil {
			t.Errorf("after a liar: %v", err)
		}
	})
	t.Run("trusted list of another size", func(t *testing.T) {
		base, client := serve(t, &blob.Handler{Store: honest, Authorize: all})
		if err := transfer(open(t, blob.Config{}), client).Fetch(t.Context(), base, d, n, blob.FetchOptions{Chunks: blob.Chunks{Size: 7}}); err == nil {
			t.Error("taken")
		}
	})
}

func TestStandstill(t *testing.T) {
	release := make(chan struct{})
	var tries atomic.Int64
	base, client := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		tries.Add(1)
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	defer close(release)
	tr := transfer(open(t, blob.Config{}), client)
	tr.Idle, tr.Retries = 20*time.Millisecond, 2
	if err := tr.Fetch(t.Context(), base, fallow.Sum(nil), 1, blob.FetchOptions{}); err == nil || !strings.Contains(err.Error(), "stood still") {
		t.Errorf("error %v", err)
	}
	if tries.Load() != 3 {
		t.Errorf("%d tries", tries.Load())
	}
}

func TestPushToOneThatIsFullOrRefuses(t *testing.T) {
	here := open(t, blob.Config{})
	b := bytesOf(1, 3<<20)
	d := add(t, here, b)
	there := open(t, blob.Config{Quota: 1 << 20, MaxBlob: 16 << 20})
	tiny := open(t, blob.Config{MaxBlob: 1 << 20})
	for name, tc := range map[string]struct {
		h    http.Handler
		want error
		says string
	}{
		"full":          {&blob.Handler{Store: there, Authorize: all}, blob.ErrFull, "raise its quota"},
		"too large":     {&blob.Handler{Store: tiny, Authorize: all}, blob.ErrTooLarge, "at most 1048576"},
		"not allowed":   {&blob.Handler{Store: there, Authorize: func(*http.Request, fallow.Digest, int64) error { return errors.New("no lease") }}, blob.ErrRefused, "no lease"},
		"nobody allows": {&blob.Handler{Store: there}, blob.ErrRefused, ""},
	} {
		t.Run(name, func(t *testing.T) {
			base, client := serve(t, tc.h)
			err := transfer(here, client).Push(t.Context(), base, d, nil)
			if !errors.Is(err, tc.want) || !strings.Contains(fmt.Sprint(err), tc.says) && name != "nobody allows" && name != "not allowed" {
				t.Errorf("error %v", err)
			}
		})
	}
	for _, s := range []*blob.Store{there, tiny} {
		if u := s.Usage(); u.Blobs != 0 || u.Partial != 0 {
			t.Errorf("usage %+v", u)
		}
	}
}

func TestHandlerRefusesWhatIsMalformed(t *testing.T) {
	s := open(t, blob.Config{MaxBlob: 1 << 20})
	b := []byte("0123456789")
	d := add(t, s, b)
	other := fallow.Sum([]byte("other"))
	base, client := serve(t, &blob.Handler{Store: s, Authorize: all})
	type header map[string]string
	for name, tc := range map[string]struct {
		method, path string
		header       header
		body         string
		status       int
		want         string // of the body or a header
	}{
		"bad digest":         {"GET", "/blob/sha256:xyz", nil, "", 400, ""},
		"upper case":         {"GET", "/blob/" + strings.ToUpper(d.String()), nil, "", 400, ""},
		"other path":         {"GET", "/blobs/" + d.String(), nil, "", 400, ""},
		"method":             {"DELETE", "/blob/" + d.String(), nil, "", 405, ""},
		"post chunks":        {"PUT", "/blob/" + d.String() + "/chunks", nil, "x", 405, ""},
		"chunks absent":      {"GET", "/blob/" + other.String() + "/chunks", nil, "", 404, ""},
		"whole":              {"GET", "/blob/" + d.String(), nil, "", 200, "0123456789"},
		"range":              {"GET", "/blob/" + d.String(), header{"Range": "bytes=2-4"}, "", 206, "234"},
		"open range":         {"GET", "/blob/" + d.String(), header{"Range": "bytes=7-"}, "", 206, "789"},
		"suffix":             {"GET", "/blob/" + d.String(), header{"Range": "bytes=-3"}, "", 206, "789"},
		"long suffix":        {"GET", "/blob/" + d.String(), header{"Range": "bytes=-300"}, "", 206, "0123456789"},
		"range behind":       {"GET", "/blob/" + d.String(), header{"Range": "bytes=10-"}, "", 416, ""},
		"empty suffix":       {"GET", "/blob/" + d.String(), header{"Range": "bytes=-0"}, "", 416, ""},
		"range backwards":    {"GET", "/blob/" + d.String(), header{"Range": "bytes=4-2"}, "", 400, ""},
		"several ranges":     {"GET", "/blob/" + d.String(), header{"Range": "bytes=0-1,3-4"}, "", 400, ""},
		"negative":           {"GET", "/blob/" + d.String(), header{"Range": "bytes=--1"}, "", 400, ""},
		"overflow":           {"GET", "/blob/" + d.String(), header{"Range": "bytes=9223372036854775808-"}, "", 400, ""},
		"put exists":         {"PUT", "/blob/" + d.String(), nil, "0123456789", 200, ""},
		"put wrong":          {"PUT", "/blob/" + other.String(), nil, "wrong", 422, ""},
		"put range":          {"PUT", "/blob/" + other.String(), header{"Content-Range": "bytes 0-4"}, "other", 400, ""},
		"put huge":           {"PUT", "/blob/" + other.String(), header{"Content-Range": "bytes 0-4/10000000000"}, "other", 413, ""},
		"put elsewhere":      {"PUT", "/blob/" + other.String(), header{"Content-Range": "bytes 3-7/8"}, "other", 409, ""},
		"put beyond total":   {"PUT", "/blob/" + other.String(), header{"Content-Range": "bytes 0-4/3"}, "other", 400, ""},
		"put more than said": {"PUT", "/blob/" + other.String(), header{"Content-Range": "bytes 0-2/5"}, "other", 413, ""},
		"put less than said": {"PUT", "/blob/" + other.String(), header{"Content-Range": "bytes 0-4/5"}, "oth", 400, ""},
		"put a part":         {"PUT", "/blob/" + fallow.Sum([]byte("another")).String(), header{"Content-Range": "bytes 0-2/7"}, "ano", 202, ""},
	} {
		t.Run(name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), tc.method, base+tc.path, strings.NewReader(tc.body))
			if err != nil {
				t.Fatal(err)
			}
			for k, v := range tc.header {
				req.Header.Set(k, v)
			}
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = resp.Body.Close() }()
			got, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != tc.status || tc.want != "" && string(got) != tc.want {
				t.Errorf("status %d, want %d: %s", resp.StatusCode, tc.status, got)
			}
		})
	}
}

// TestAnnouncedSizeHolds: 10 GB announced as 1 kB is cut.
func TestAnnouncedSizeHolds(t *testing.T) {
	s := open(t, blob.Config{})
	base, client := serve(t, &blob.Handler{Store: s, Authorize: all})
	d := fallow.Sum([]byte("huge"))
	body := &endless{}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, base+"/blob/"+d.String(), body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Range", "bytes 0-999/1000")
	req.ContentLength = -1
	if resp, err := client.Do(req); err == nil {
		if resp.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("status %d", resp.StatusCode)
		}
		_ = resp.Body.Close()
	}
	if n := body.n.Load(); n > 8<<20 {
		t.Errorf("%d bytes were taken", n)
	}
	if u := s.Usage(); u.Blobs != 0 || u.Partial > 1000 {
		t.Errorf("usage %+v", u)
	}
}

type endless struct{ n atomic.Int64 }

func (e *endless) Read(p []byte) (int, error) {
	e.n.Add(int64(len(p)))
	if e.n.Load() > 1<<30 {
		return 0, io.EOF
	}
	return len(p), nil
}

// TestSendersAreKeptApart: one sender's lies are not another's beginning, and
// a sender whose connection was cut unnoticed takes its upload over.
func TestSendersAreKeptApart(t *testing.T) {
	s := open(t, blob.Config{})
	base, client := serve(t, &blob.Handler{Store: s, Authorize: all, Uploads: 1, Scope: func(r *http.Request) string { return r.Header.Get("From") }})
	b := bytesOf(1, 1000)
	d := fallow.Sum(b)
	put := func(d fallow.Digest, from, rng string, body io.Reader) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, base+"/blob/"+d.String(), body)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("From", from)
		req.Header.Set("Content-Range", rng)
		resp, err := client.Do(req)
		if err != nil {
			return 0, err.Error()
		}
		defer func() { _ = resp.Body.Close() }()
		return resp.StatusCode, resp.Header.Get("Upload-Offset")
	}
	if st, off := put(d, "liar", "bytes 0-499/1000", bytes.NewReader(make([]byte, 500))); st != http.StatusAccepted || off != "500" {
		t.Fatal(st, off)
	}
	if st, off := put(d, "honest", "bytes 500-999/1000", bytes.NewReader(b[500:])); st != http.StatusConflict || off != "0" {
		t.Errorf("%d %s", st, off)
	}
	// An upload hangs; the same sender comes again with the rest.
	hanging, feed := io.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() { put(d, "honest", "bytes 0-999/1000", hanging) })
	if _, err := feed.Write(b[:400]); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(5 * time.Second); s.Offset(d, 1000, "honest") != 400 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if st, text := put(fallow.Sum([]byte("more")), "honest", "bytes 0-1/4", strings.NewReader("mo")); st != http.StatusTooManyRequests {
		t.Errorf("a second upload: %d %s", st, text)
	}
	if st, text := put(d, "honest", "bytes 400-999/1000", bytes.NewReader(b[400:])); st != http.StatusCreated {
		t.Errorf("taking over: %d %s", st, text)
	}
	_ = feed.Close()
	wg.Wait()
	if !bytes.Equal(read(t, s, d), b) {
		t.Error("differs")
	}
}

func TestManyTransfersAtOnce(t *testing.T) {
	there, here := open(t, blob.Config{}), open(t, blob.Config{})
	base, client := serve(t, &blob.Handler{Store: there, Authorize: all})
	tr := transfer(here, client)
	var wg sync.WaitGroup
	for i := range 24 {
		b := bytesOf(uint64(i%6), 300_000+i%6)
		wg.Go(func() {
			d, err := here.Add(t.Context(), b)
			if err == nil {
				err = tr.Push(t.Context(), base, d, nil)
			}
			if err != nil {
				t.Error(err)
			}
		})
		o := bytesOf(uint64(100+i%6), 300_000)
		d := add(t, there, o)
		wg.Go(func() {
			if err := tr.Fetch(t.Context(), base, d, int64(len(o)), blob.FetchOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if a, b := there.Usage(), here.Usage(); a.Blobs != 12 || b.Blobs != 12 || a.Partial+b.Partial != 0 {
		t.Errorf("there %+v, here %+v", a, b)
	}
}

func BenchmarkFetch(b *testing.B) {
	there := open(b, blob.Config{})
	base, client := serve(b, &blob.Handler{Store: there, Authorize: all})
	const n = 64 << 20
	d := add(b, there, bytesOf(1, n))
	here := open(b, blob.Config{})
	tr := transfer(here, client)
	b.SetBytes(n)
	for b.Loop() {
		if err := tr.Fetch(b.Context(), base, d, n, blob.FetchOptions{}); err != nil {
			b.Fatal(err)
		}
		if err := here.Delete(d); err != nil {
			b.Fatal(err)
		}
	}
}
