package blob_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"fallow.network"
	"fallow.network/blob"
)

func open(tb testing.TB, cfg blob.Config) *blob.Store {
	tb.Helper()
	if cfg.Dir == "" {
		cfg.Dir = tb.TempDir()
	}
	s, err := blob.Open(tb.Context(), cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func bytesOf(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, 7))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func add(tb testing.TB, s *blob.Store, b []byte) fallow.Digest {
	tb.Helper()
	d, err := s.Add(tb.Context(), b)
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

func read(tb testing.TB, s *blob.Store, d fallow.Digest) []byte {
	tb.Helper()
	r, size, err := s.Open(d)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	b, err := io.ReadAll(r)
	if err != nil {
		tb.Fatal(err)
	}
	if int64(len(b)) != size {
		tb.Fatalf("%d bytes, said to be %d", len(b), size)
	}
	return b
}

func TestStoreKeepsContent(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "store")
	s := open(t, blob.Config{Dir: dir})
	for _, n := range []int{0, 1, 4096, 3<<20 + 17} {
		b := bytesOf(uint64(n), n)
		d := add(t, s, b)
		if d != fallow.Sum(b) {
			t.Errorf("%d bytes: digest %s", n, d)
		}
		if !bytes.Equal(read(t, s, d), b) {
			t.Errorf("%d bytes read differently", n)
		}
		if again := add(t, s, b); again != d {
			t.Errorf("added again: %s", again)
		}
		p, err := s.Path(d)
		if err != nil {
			t.Fatal(err)
		}
		h := strings.TrimPrefix(d.String(), "sha256:")
		if want := filepath.Join(dir, "blobs", "sha256", h[:2], h); p != want {
			t.Errorf("path %s, want %s", p, want)
		}
		info, err := os.Stat(p)
		if err != nil || info.Mode().Perm() != 0o400 {
			t.Errorf("mode %v %v", info.Mode(), err)
		}
		if _, err := s.ReadAll(d, int64(n)); err != nil {
			t.Error(err)
		}
		if err := s.Check(t.Context(), d); err != nil {
			t.Error(err)
		}
	}
	if _, err := s.ReadAll(fallow.Sum(bytesOf(4096, 4096)), 10); !errors.Is(err, blob.ErrTooLarge) {
		t.Errorf("read beyond a limit: %v", err)
	}
	// All is found again.
	if u := open(t, blob.Config{Dir: dir}).Usage(); u.Blobs != 4 || u.Bytes != 1+4096+3<<20+17 || u.Partial != 0 {
		t.Errorf("after reopening: %+v", u)
	}
}

func TestAbsentBlob(t *testing.T) {
	s := open(t, blob.Config{})
	d := fallow.Sum([]byte("absent"))
	if _, _, err := s.Open(d); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("open: %v", err)
	}
	if _, err := s.Path(d); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("path: %v", err)
	}
	if err := s.Check(t.Context(), d); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("check: %v", err)
	}
	if err := s.Delete(d); err != nil {
		t.Errorf("delete: %v", err)
	}
	// Taken away from outside.
	d = add(t, s, []byte("here"))
	p, _ := s.Path(d)
	if err := os.Remove(p); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Has(d); ok {
		t.Error("has what was taken away")
	}
	if u := s.Usage(); u.Bytes != 0 {
		t.Errorf("usage %+v", u)
	}
}

func TestRotIsNoticed(t *testing.T) {
	s := open(t, blob.Config{})
	d := add(t, s, bytesOf(1, 1000))
	p, _ := s.Path(d)
	if err := os.Chmod(p, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, bytesOf(2, 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Check(t.Context(), d); !errors.Is(err, blob.ErrDigest) {
		t.Errorf("check: %v", err)
	}
	if _, ok := s.Has(d); ok {
		t.Error("rotten blob kept")
	}
}

func TestWriterResumes(t *testing.T) {
	dir := t.TempDir()
	s := open(t, blob.Config{Dir: dir})
	b := bytesOf(3, 2<<20)
	d := fallow.Sum(b)
	w, err := s.Writer(t.Context(), d, int64(len(b)), "a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Writer(t.Context(), d, int64(len(b)), "a"); !errors.Is(err, blob.ErrBusy) {
		t.Errorf("second writer: %v", err)
	}
	if _, err := open(t, blob.Config{Dir: dir}).Writer(t.Context(), d, int64(len(b)), "a"); !errors.Is(err, blob.ErrBusy) {
		t.Errorf("writer of another process: %v", err)
	}
	if _, err := w.Write(b[:1<<20+5]); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("commit of a half: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if u := s.Usage(); u.Partial != 1<<20+5 || u.Blobs != 0 {
		t.Errorf("usage %+v", u)
	}
	if n := s.Offset(d, int64(len(b)), "a"); n != 1<<20+5 {
		t.Errorf("offset %d", n)
	}
	// Other scopes and sizes know nothing of it.
	if s.Offset(d, int64(len(b)), "b") != 0 || s.Offset(d, 5, "a") != 0 {
		t.Error("unfinished blobs are shared")
	}

	s = open(t, blob.Config{Dir: dir}) // as after kill -9
	w, err = s.Writer(t.Context(), d, int64(len(b)), "a")
	if err != nil {
		t.Fatal(err)
	}
	if w.Offset() != 1<<20+5 {
		t.Fatalf("resumes at %d", w.Offset())
	}
	if _, err := w.Write(b[w.Offset():]); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte{1}); !errors.Is(err, blob.ErrTooLarge) {
		t.Errorf("a byte too many: %v", err)
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{w.Commit(), w.Restart()} {
		if !errors.Is(err, fs.ErrClosed) {
			t.Errorf("after commit: %v", err)
		}
	}
	if err := errors.Join(w.Close(), w.Abort()); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(read(t, s, d), b) {
		t.Error("read differently")
	}
	if _, err := s.Writer(t.Context(), d, int64(len(b)), "a"); !errors.Is(err, blob.ErrExists) {
		t.Errorf("writer of what is here: %v", err)
	}
}

func TestKilledJustBeforeItsName(t *testing.T) {
	dir := t.TempDir()
	s := open(t, blob.Config{Dir: dir})
	b := bytesOf(4, 5000)
	w, err := s.Writer(t.Context(), fallow.Sum(b), 5000, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "partial", "*"))
	if len(files) != 1 {
		t.Fatalf("partial files %v", files)
	}
	if err := os.Chmod(files[0], 0o400); err != nil {
		t.Fatal(err)
	}
	s = open(t, blob.Config{Dir: dir})
	if w, err = s.Writer(t.Context(), fallow.Sum(b), 5000, ""); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(read(t, s, fallow.Sum(b)), b) {
		t.Error("read differently")
	}
}

func TestWrongContentIsDropped(t *testing.T) {
	s := open(t, blob.Config{})
	b := bytesOf(5, 1000)
	d := fallow.Sum(b)
	b[999] ^= 1
	if err := s.Put(t.Context(), d, 1000, bytes.NewReader(b)); !errors.Is(err, blob.ErrDigest) {
		t.Errorf("wrong content: %v", err)
	}
	if err := s.Put(t.Context(), d, 1000, bytes.NewReader(b[:500])); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("short content: %v", err)
	}
	if err := s.Put(t.Context(), d, 1000, bytes.NewReader(make([]byte, 2000))); !errors.Is(err, blob.ErrTooLarge) {
		t.Errorf("long content: %v", err)
	}
	if err := s.Put(t.Context(), d, -1, bytes.NewReader(nil)); !errors.Is(err, blob.ErrTooLarge) {
		t.Errorf("negative size: %v", err)
	}
	if err := s.Put(t.Context(), d, blob.DefaultMaxBlob+1, bytes.NewReader(nil)); !errors.Is(err, blob.ErrTooLarge) {
		t.Errorf("huge size: %v", err)
	}
	if u := s.Usage(); u.Blobs != 0 || u.Partial != 0 {
		t.Errorf("usage %+v", u)
	}
}

func TestQuotaDropsTheLongestUnused(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	dir := t.TempDir()
	cfg := blob.Config{Dir: dir, Quota: 4000, Now: func() time.Time { now = now.Add(2 * time.Minute); return now }}
	s := open(t, cfg)
	var ds []fallow.Digest
	for i := range 4 {
		ds = append(ds, add(t, s, bytesOf(uint64(i), 1000)))
	}
	read(t, s, ds[0]) // used: 1 is the oldest now
	if err := s.Pin("lease-7", ds[1]); err != nil {
		t.Fatal(err)
	}
	s = open(t, cfg) // last uses and pins survive
	for i, want := range []string{"0 1 3 4", "0 1 4 5", "1 4 5 6"} {
		ds = append(ds, add(t, s, bytesOf(uint64(4+i), 1000)))
		var have []string
		for j, d := range ds {
			if _, ok := s.Has(d); ok {
				have = append(have, fmt.Sprint(j))
			}
		}
		if got := strings.Join(have, " "); got != want {
			t.Errorf("after blob %d: have %s, want %s", 4+i, got, want)
		}
	}
	// All pinned: nothing is dropped and the error says what is missing.
	if err := s.Pin("job", ds[4], ds[5], ds[6]); err != nil {
		t.Fatal(err)
	}
	_, err := s.Add(t.Context(), bytesOf(9, 500))
	var full *blob.FullError
	if !errors.Is(err, blob.ErrFull) || !errors.As(err, &full) || full.Disk || full.Need != 500 || full.Room != 0 {
		t.Errorf("full of pins: %v %+v", err, full)
	}
	if u := s.Usage(); u.Pinned != 4000 || u.Bytes != 4000 {
		t.Errorf("usage %+v", u)
	}
	if got := s.Holders(); !slices.Equal(got, []string{"job", "lease-7"}) {
		t.Errorf("holders %v", got)
	}
	if err := s.Unpin("job"); err != nil {
		t.Fatal(err)
	}
	// A writer's announced size counts from its beginning.
	w, err := s.Writer(t.Context(), fallow.Sum([]byte("x")), 3000, "")
	if err != nil {
		t.Fatal(err)
	}
	if u := s.Usage(); u.Bytes != 1000 || u.Partial != 3000 {
		t.Errorf("usage %+v", u)
	}
	if _, err := s.Add(t.Context(), bytesOf(9, 500)); !errors.Is(err, blob.ErrFull) {
		t.Errorf("beside a reserved blob: %v", err)
	}
	if err := w.Abort(); err != nil {
		t.Fatal(err)
	}
	add(t, s, bytesOf(9, 500))
	if _, ok := s.Has(ds[1]); !ok {
		t.Error("a pinned blob was dropped")
	}
	// Larger than the quota itself.
	if _, err := s.Add(t.Context(), bytesOf(9, 5000)); !errors.Is(err, blob.ErrFull) {
		t.Errorf("larger than the quota: %v", err)
	}
	if _, ok := s.Has(fallow.Sum(bytesOf(9, 500))); !ok {
		t.Error("something was dropped for a blob that can't fit")
	}
}

func TestPinsOfAnotherProcessHold(t *testing.T) {
	dir := t.TempDir()
	a, b := open(t, blob.Config{Dir: dir, Quota: 1000}), open(t, blob.Config{Dir: dir, Quota: 1000})
	d := add(t, a, bytesOf(1, 1000))
	if err := b.Pin("lease-1", d); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Add(t.Context(), bytesOf(2, 1000)); !errors.Is(err, blob.ErrFull) {
		t.Errorf("dropped what another process pins: %v", err)
	}
}

func TestPinHolders(t *testing.T) {
	s := open(t, blob.Config{})
	for _, h := range []string{"", ".", "..", "a/b", "../x", "a b", strings.Repeat("a", 101), "ü"} {
		if err := s.Pin(h, fallow.Digest{}); err == nil {
			t.Errorf("pin by %q", h)
		}
		if err := s.Unpin(h); err == nil {
			t.Errorf("unpin by %q", h)
		}
	}
	if err := s.Unpin(blob.Holder(12)); err != nil {
		t.Errorf("unpin of an unknown holder: %v", err)
	}
}

func TestBrokenPinFileSaysSo(t *testing.T) {
	dir := t.TempDir()
	s := open(t, blob.Config{Dir: dir})
	if err := s.Pin("lease-1", fallow.Sum(nil)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "pins", "lease-1"), []byte("nonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := blob.Open(t.Context(), blob.Config{Dir: dir}); err == nil || !strings.Contains(err.Error(), "lease-1") {
		t.Errorf("a broken pin file: %v", err)
	}
}

func TestStalePartialsAreSwept(t *testing.T) {
	now := time.Now()
	cfg := blob.Config{Dir: t.TempDir(), PartialAge: time.Hour, Now: func() time.Time { return now }}
	s := open(t, cfg)
	b := bytesOf(1, 1000)
	w, err := s.Writer(t.Context(), fallow.Sum(b), 1000, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(b[:500]); err != nil {
		t.Fatal(err)
	}
	now = now.Add(2 * time.Hour)
	if err := s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if u := s.Usage(); u.Partial != 1000 {
		t.Errorf("swept what is being written: %+v", u)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if u := open(t, cfg).Usage(); u.Partial != 0 {
		t.Errorf("stale partial kept: %+v", u)
	}
}

// TestPartialsDoNotHoldTheStore: who begins blobs and never ends them keeps
// others out for minutes, not for a day.
func TestPartialsDoNotHoldTheStore(t *testing.T) {
	now := time.Now()
	s := open(t, blob.Config{Quota: 1000, Now: func() time.Time { return now }})
	b := bytesOf(1, 900)
	left, err := s.Writer(t.Context(), fallow.Sum(b), 900, "a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := left.Write(b[:600]); err != nil {
		t.Fatal(err)
	}
	if err := left.Close(); err != nil {
		t.Fatal(err)
	}
	other := bytesOf(2, 500)
	if _, err := s.Add(t.Context(), other); !errors.Is(err, blob.ErrFull) {
		t.Errorf("at once: %v", err)
	}
	now = now.Add(10 * time.Minute)
	if _, err := s.Add(t.Context(), other); err != nil {
		t.Errorf("later: %v", err)
	}
	if u := s.Usage(); u.Partial != 0 {
		t.Errorf("kept: %+v", u)
	}
}

func TestAddFile(t *testing.T) {
	s := open(t, blob.Config{MaxBlob: 10_000})
	dir := t.TempDir()
	small, large := filepath.Join(dir, "small"), filepath.Join(dir, "large")
	for p, n := range map[string]int{small: 10_000, large: 10_001} {
		if err := os.WriteFile(p, bytesOf(1, n), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d, n, err := s.AddFile(t.Context(), small)
	if err != nil || n != 10_000 || d != fallow.Sum(bytesOf(1, 10_000)) {
		t.Errorf("%s %d %v", d, n, err)
	}
	if _, _, err := s.AddFile(t.Context(), large); !errors.Is(err, blob.ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	if _, _, err := s.AddFile(t.Context(), dir); err == nil {
		t.Error("added a folder")
	}
	if _, _, err := s.AddFile(t.Context(), filepath.Join(dir, "absent")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
}

func TestConcurrentPutsOfOneBlob(t *testing.T) {
	s := open(t, blob.Config{})
	b := bytesOf(1, 1<<20)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := s.Add(t.Context(), b); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if u := s.Usage(); u.Blobs != 1 || u.Partial != 0 {
		t.Errorf("usage %+v", u)
	}
}

func TestLimitsAreChecked(t *testing.T) {
	for _, cfg := range []blob.Config{{}, {Dir: t.TempDir(), Quota: -1}, {Dir: t.TempDir(), MaxBlob: -1}, {Dir: t.TempDir(), KeepFree: -1}} {
		if _, err := blob.Open(t.Context(), cfg); err == nil {
			t.Errorf("opened with %+v", cfg)
		}
	}
}

// TestStoreProperties runs random operations against a map: what is pinned
// stays, the quota holds, content is what it was, and a restart changes
// nothing.
func TestStoreProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "blob")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = os.RemoveAll(dir) }()
		cfg := blob.Config{Dir: dir, Quota: 8000}
		ctx := t.Context()
		s, err := blob.Open(ctx, cfg)
		if err != nil {
			t.Fatal(err)
		}
		content := map[fallow.Digest][]byte{}
		pinned := map[string]map[fallow.Digest]bool{}
		pick := func(t *rapid.T) ([]byte, fallow.Digest) {
			i := rapid.IntRange(0, 11).Draw(t, "blob")
			b := bytesOf(uint64(i), 700*(i%4)+i)
			content[fallow.Sum(b)] = b
			return b, fallow.Sum(b)
		}
		holder := func(t *rapid.T) string { return fmt.Sprintf("lease-%d", rapid.IntRange(1, 3).Draw(t, "holder")) }
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				b, _ := pick(t)
				if _, err := s.Add(ctx, b); err != nil && !errors.Is(err, blob.ErrFull) {
					t.Fatal(err)
				}
			},
			"half": func(t *rapid.T) {
				b, d := pick(t)
				w, err := s.Writer(ctx, d, int64(len(b)), "half")
				if errors.Is(err, blob.ErrExists) || errors.Is(err, blob.ErrFull) {
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if _, err := w.Write(b[w.Offset() : (w.Offset()+int64(len(b)))/2]); err != nil {
					t.Fatal(err)
				}
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
			},
			"pin": func(t *rapid.T) {
				_, d := pick(t)
				if _, ok := s.Has(d); !ok {
					return
				}
				h := holder(t)
				if err := s.Pin(h, d); err != nil {
					t.Fatal(err)
				}
				if pinned[h] == nil {
					pinned[h] = map[fallow.Digest]bool{}
				}
				pinned[h][d] = true
			},
			"unpin": func(t *rapid.T) {
				h := holder(t)
				if err := s.Unpin(h); err != nil {
					t.Fatal(err)
				}
				delete(pinned, h)
			},
			"restart": func(t *rapid.T) {
				if s, err = blob.Open(ctx, cfg); err != nil {
					t.Fatal(err)
				}
			},
			"": func(t *rapid.T) {
				u := s.Usage()
				if u.Bytes+u.Partial > cfg.Quota {
					t.Fatalf("beyond the quota: %+v", u)
				}
				for _, set := range pinned {
					for d := range set {
						b, err := s.ReadAll(d, 1<<20)
						if err != nil {
							t.Fatalf("pinned blob: %v", err)
						}
						if !bytes.Equal(b, content[d]) {
							t.Fatalf("blob %s reads differently", d)
						}
					}
				}
			},
		})
	})
}
