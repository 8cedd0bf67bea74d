// Package blob keeps content by its digest and moves it between machines:
// module bytes, inputs and outputs of tasks.
//
// Its one invariant: a file under blobs/ hashes to its own name, also after
// kill -9 or a full disk; whatever is unfinished stands under partial/.
//
// It knows no lease, price or peer: who may read or write is asked of a hook.
package blob

import (
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"fallow.network"
)

// Errors of a store; match them with errors.Is.
var (
	// ErrNotFound is a digest that the store does not have.
	ErrNotFound = errors.New("blob not found")
	// ErrExists is a write of what the store already has: nothing to do.
	ErrExists = errors.New("blob is already here")
	// ErrBusy is a write of what another writer is at.
	ErrBusy = errors.New("blob is being written by another")
	// ErrDigest is content that does not hash to its name.
	ErrDigest = errors.New("content does not hash to its digest")
	// ErrTooLarge is content beyond its announced size, or a size beyond what
	// the store takes.
	ErrTooLarge = errors.New("blob is too large")
	// ErrFull is no room for a blob; a FullError says how much is missing.
	ErrFull = errors.New("no room for the blob")
)

// FullError says how much room a blob needs and how much there is, in bytes.
type FullError struct {
	Need, Room int64
	// Disk says that the file system is full, not the store's quota.
	Disk bool
}

// Error says what is full and what to do.
func (e *FullError) Error() string {
	if e.Disk {
		return fmt.Sprintf("disk full: %d bytes needed, %d free; free some space or lower the quota", e.Need, e.Room)
	}
	return fmt.Sprintf("blob store full: %d bytes needed, %d can be freed; raise its quota, or close leases whose blobs it keeps", e.Need, e.Room)
}

// Is makes every FullError an ErrFull.
func (e *FullError) Is(target error) bool { return target == ErrFull }

const (
	// DefaultMaxBlob is the largest blob that a store takes unless told
	// otherwise: 16 GiB.
	DefaultMaxBlob = 16 << 30
	// DefaultPartialAge is how long an unfinished blob is kept.
	DefaultPartialAge = 24 * time.Hour

	copyBuffer = 256 << 10
	touchEvery = time.Minute // how exactly the last use is kept on disk
	partialExt = ".partial"
	chunksExt  = ".chunks"
)

// Config says where a store stands and how much it may take.
type Config struct {
	// Dir is made if absent, for this user alone.
	Dir string
	// Quota bounds blobs and unfinished ones together, in bytes; 0 is no bound
	// but the disk.
	Quota int64
	// KeepFree is what the store leaves free on the disk, in bytes.
	KeepFree int64
	// MaxBlob is the largest blob taken, in bytes; 0 means DefaultMaxBlob.
	MaxBlob int64
	// PartialAge is how long an unfinished blob is kept; 0 means
	// DefaultPartialAge.
	PartialAge time.Duration
	// Now is the clock for last uses and ages; nil means time.Now.
	Now func() time.Time
}

// Store is a folder of blobs. Its methods may be called at once from many
// goroutines. Several processes may share a folder: files appear whole, pins
// are read again before anything is dropped, an unfinished blob is locked.
type Store struct {
	cfg   Config
	free  func(dir string) (int64, error)         // the disk's, for tests to replace
	write func(f *os.File, p []byte) (int, error) // likewise

	mu      sync.Mutex
	entries map[fallow.Digest]*list.Element
	lru     *list.List // of *entry, newest use first
	size    int64      // of all entries
	parts   map[string]int64
	writing map[string]bool
	pins    map[string]map[fallow.Digest]bool

	chunking chan struct{} // one chunk list is computed at a time
}

type entry struct {
	digest  fallow.Digest
	size    int64
	touched time.Time // last use as it stands on disk
}

// Open opens the store at cfg.Dir, reads what is there and drops unfinished
// blobs that are too old.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if cfg.Dir == "" {
		return nil, errors.New("blob store: no directory")
	}
	if cfg.Quota < 0 || cfg.KeepFree < 0 || cfg.MaxBlob < 0 || cfg.PartialAge < 0 {
		return nil, errors.New("blob store: a limit is negative")
	}
	if cfg.MaxBlob == 0 {
		cfg.MaxBlob = DefaultMaxBlob
	}
	if cfg.PartialAge == 0 {
		cfg.PartialAge = DefaultPartialAge
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Store{
		cfg: cfg, free: diskFree, write: (*os.File).Write,
		entries: map[fallow.Digest]*list.Element{}, lru: list.New(),
		parts: map[string]int64{}, writing: map[string]bool{},
		chunking: make(chan struct{}, 1),
	}
	for _, dir := range []string{s.blobs(), s.partials(), s.pinDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("blob store: %w", err)
		}
	}
	if err := s.scan(ctx); err != nil {
		return nil, fmt.Errorf("blob store %s: %w", cfg.Dir, err)
	}
	if err := s.readPins(); err != nil {
		return nil, fmt.Errorf("blob store %s: %w", cfg.Dir, err)
	}
	if err := s.Sweep(ctx); err != nil {
		return nil, fmt.Errorf("blob store %s: %w", cfg.Dir, err)
	}
	return s, nil
}

func (s *Store) blobs() string    { return filepath.Join(s.cfg.Dir, "blobs", "sha256") }
func (s *Store) partials() string { return filepath.Join(s.cfg.Dir, "partial") }
func (s *Store) pinDir() string   { return filepath.Join(s.cfg.Dir, "pins") }

func (s *Store) path(d fallow.Digest) string {
	h := hex.EncodeToString(d[:])
	return filepath.Join(s.blobs(), h[:2], h)
}

// scan reads the folder; what is no blob of ours is left alone.
func (s *Store) scan(ctx context.Context) error {
	var found []*entry
	err := filepath.WalkDir(s.blobs(), func(_ string, f fs.DirEntry, err error) error {
		if err != nil || f.IsDir() {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		d, err := fallow.ParseDigest("sha256:" + f.Name())
		if err != nil {
			return nil
		}
		info, err := f.Info()
		if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
			return nil
		}
		if err != nil {
			return err
		}
		found = append(found, &entry{digest: d, size: info.Size(), touched: info.ModTime()})
		return nil
	})
	if err != nil {
		return err
	}
	slices.SortFunc(found, func(a, b *entry) int { return b.touched.Compare(a.touched) })
	for _, e := range found {
		s.entries[e.digest] = s.lru.PushBack(e)
		s.size += e.size
	}
	parts, err := os.ReadDir(s.partials())
	if err != nil {
		return err
	}
	for _, f := range parts {
		if info, err := f.Info(); err == nil && strings.HasSuffix(f.Name(), partialExt) {
			s.parts[f.Name()] = info.Size()
		}
	}
	return nil
}

// Has gives the size of a blob in bytes, or false.
func (s *Store) Has(d fallow.Digest) (int64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.find(d)
	if e == nil {
		return 0, false
	}
	return e.size, true
}

// find looks up d, also on disk where another process may have put it. A file
// that was taken away from outside is forgotten.
func (s *Store) find(d fallow.Digest) *entry {
	el := s.entries[d]
	info, err := os.Lstat(s.path(d))
	if err != nil || !info.Mode().IsRegular() {
		if el != nil && errors.Is(err, fs.ErrNotExist) {
			s.forget(el)
		}
		return nil
	}
	if el == nil {
		return s.remember(d, info.Size(), info.ModTime())
	}
	return el.Value.(*entry)
}

func (s *Store) remember(d fallow.Digest, size int64, touched time.Time) *entry {
	if el := s.entries[d]; el != nil {
		return el.Value.(*entry)
	}
	e := &entry{digest: d, size: size, touched: touched}
	s.entries[d] = s.lru.PushFront(e)
	s.size += size
	return e
}

func (s *Store) forget(el *list.Element) {
	e := el.Value.(*entry)
	s.lru.Remove(el)
	delete(s.entries, e.digest)
	s.size -= e.size
}

// use marks d as used now.
func (s *Store) use(d fallow.Digest) (*entry, error) {
	e := s.find(d)
	if e == nil {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, d)
	}
	s.lru.MoveToFront(s.entries[d])
	if now := s.cfg.Now(); now.Sub(e.touched) >= touchEvery {
		e.touched = now
		if err := os.Chtimes(s.path(d), now, now); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("blob %s: %w", d, err)
		}
	}
	return e, nil
}

// Open reads a blob and gives its size in bytes; close the reader. A blob that
// is dropped meanwhile stays readable.
func (s *Store) Open(d fallow.Digest) (io.ReadSeekCloser, int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.use(d)
	if err != nil {
		return nil, 0, err
	}
	f, err := os.Open(s.path(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, fmt.Errorf("%w: %s", ErrNotFound, d)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("blob %s: %w", d, err)
	}
	return f, e.size, nil
}

// ReadAll reads a blob of at most limit bytes.
func (s *Store) ReadAll(d fallow.Digest, limit int64) ([]byte, error) {
	r, size, err := s.Open(d)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	if size > limit {
		return nil, fmt.Errorf("%w: %s has %d bytes, at most %d are read", ErrTooLarge, d, size, limit)
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, fmt.Errorf("blob %s: %w", d, err)
	}
	return b, nil
}

// Path is where the blob's file stands, for reading only. Pin the blob first:
// the file of an unpinned one may be dropped.
func (s *Store) Path(d fallow.Digest) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.use(d); err != nil {
		return "", err
	}
	return s.path(d), nil
}

// Delete drops a blob, pinned or not; an absent one is no error.
func (s *Store) Delete(d fallow.Digest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.drop(d)
}

func (s *Store) drop(d fallow.Digest) error {
	for _, p := range []string{s.path(d), s.path(d) + chunksExt} {
		if err := os.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("drop blob %s: %w", d, err)
		}
	}
	if el := s.entries[d]; el != nil {
		s.forget(el)
	}
	return nil
}

// Check hashes a blob again; one whose bytes rotted is dropped, and the error
// is ErrDigest.
func (s *Store) Check(ctx context.Context, d fallow.Digest) error {
	r, _, err := s.Open(d)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	h := sha256.New()
	if _, err := copyAll(ctx, h, r); err != nil {
		return fmt.Errorf("check blob %s: %w", d, err)
	}
	if got := fallow.Digest(h.Sum(nil)); got != d {
		return errors.Join(fmt.Errorf("%w: %s reads as %s", ErrDigest, d, got), s.Delete(d))
	}
	return nil
}

// Usage is what a store holds, in bytes where not said otherwise.
type Usage struct {
	Blobs    int // number
	Bytes    int64
	Partial  int64 // reserved by unfinished blobs
	Pinned   int64 // of Bytes
	Quota    int64 // 0 is no bound
	DiskFree int64
}

// Usage counts what the store holds.
func (s *Store) Usage() Usage {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := Usage{Blobs: len(s.entries), Bytes: s.size, Partial: s.reserved(), Quota: s.cfg.Quota}
	pinned := s.pinned()
	for d, el := range s.entries {
		if pinned[d] {
			u.Pinned += el.Value.(*entry).size
		}
	}
	if n, err := s.free(s.cfg.Dir); err == nil {
		u.DiskFree = n
	}
	return u
}

func (s *Store) reserved() int64 {
	var n int64
	for _, size := range s.parts {
		n += size
	}
	return n
}

// copyAll copies with a large buffer until r ends or ctx does.
func copyAll(ctx context.Context, w io.Writer, r io.Reader) (int64, error) {
	buf := make([]byte, copyBuffer)
	var n int64
	for {
		if err := ctx.Err(); err != nil {
			return n, err
		}
		m, err := r.Read(buf)
		if m > 0 {
			if _, werr := w.Write(buf[:m]); werr != nil {
				return n, werr
			}
			n += int64(m)
		}
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}
