package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"fallow.network"
)

// Writer takes the bytes of one blob in order and may be left and taken up
// again. It is for one goroutine.
type Writer struct {
	s      *Store
	digest fallow.Digest
	name   string // of the file under partial/
	f      *os.File
	hash   hash.Hash
	size   int64 // announced
	offset int64
	done   bool
}

// Writer begins a blob of size bytes, or takes one up where it was left:
// Offset says where. scope keeps unfinished blobs of different senders apart,
// so that nobody resumes on another's lies; it may be empty. It is ErrExists
// when the blob is here, ErrBusy while another writer of that scope is at it,
// ErrFull when no unpinned blob is left to make room.
func (s *Store) Writer(ctx context.Context, d fallow.Digest, size int64, scope string) (*Writer, error) {
	if size < 0 || size > s.cfg.MaxBlob {
		return nil, fmt.Errorf("%w: %s announced with %d bytes, at most %d are taken", ErrTooLarge, d, size, s.cfg.MaxBlob)
	}
	name := partialName(d, size, scope)
	if err := s.claim(d, name, size); err != nil {
		return nil, err
	}
	w := &Writer{s: s, digest: d, name: name, hash: sha256.New(), size: size}
	if err := w.resume(ctx); err != nil {
		return nil, fmt.Errorf("blob %s: %w", d, errors.Join(err, w.release()))
	}
	return w, nil
}

// partialName holds all that two writers must agree in to share a file.
func partialName(d fallow.Digest, size int64, scope string) string {
	sum := fallow.Sum([]byte(scope))
	return fmt.Sprintf("%s-%d-%s%s", hex.EncodeToString(d[:]), size, sum.Short(), partialExt)
}

// claim makes room for a writer and reserves it.
func (s *Store) claim(d fallow.Digest, name string, size int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.find(d) != nil {
		return fmt.Errorf("%w: %s", ErrExists, d)
	}
	if s.writing[name] {
		return fmt.Errorf("%w: %s", ErrBusy, d)
	}
	had := s.parts[name]
	if err := s.makeRoom(size-min(had, size), name); err != nil {
		return fmt.Errorf("blob %s: %w", d, err)
	}
	s.writing[name] = true
	s.parts[name] = size
	return nil
}

// resume opens the file, locks it against other processes and hashes what
// stands there.
func (w *Writer) resume(ctx context.Context) error {
	path := filepath.Join(w.s.partials(), w.name)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fs.ErrPermission) && os.Chmod(path, 0o600) == nil {
		// Killed just before it got its name, when it was read-only already.
		f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	}
	if err != nil {
		return w.s.full(err, w.size)
	}
	if err := lock(f); err != nil {
		return errors.Join(err, f.Close())
	}
	// Another process may have committed this very file before the lock came:
	// it is a blob now and must not be written.
	mine, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	if there, err := os.Lstat(path); err != nil || !os.SameFile(mine, there) {
		return errors.Join(ErrBusy, f.Close())
	}
	w.f = f
	n, err := copyAll(ctx, w.hash, io.LimitReader(f, w.size))
	if err != nil {
		return err
	}
	if err := f.Truncate(n); err != nil {
		return err
	}
	w.offset = n
	return nil
}

// Offset is how many bytes the blob has so far.
func (w *Writer) Offset() int64 { return w.offset }

// Write adds p. Bytes beyond the announced size are ErrTooLarge and nothing of
// p is taken. When the disk is full, the unfinished blob is dropped.
func (w *Writer) Write(p []byte) (int, error) {
	if w.done {
		return 0, fs.ErrClosed
	}
	if int64(len(p)) > w.size-w.offset {
		return 0, fmt.Errorf("%w: %s goes on after its %d bytes", ErrTooLarge, w.digest, w.size)
	}
	n, err := w.s.write(w.f, p)
	w.hash.Write(p[:n])
	w.offset += int64(n)
	if err == nil {
		return n, nil
	}
	err = w.s.full(err, w.size-w.offset)
	if errors.Is(err, ErrFull) {
		err = errors.Join(err, w.Abort())
	}
	return n, fmt.Errorf("write blob %s: %w", w.digest, err)
}

// Restart drops everything written.
func (w *Writer) Restart() error {
	if w.done {
		return fs.ErrClosed
	}
	w.hash.Reset()
	w.offset = 0
	if err := w.f.Truncate(0); err != nil {
		return err
	}
	_, err := w.f.Seek(0, io.SeekStart)
	return err
}

// Commit checks the digest and puts the blob in its place, safely on disk.
// Content that hashes to something else is dropped: ErrDigest. Too little of
// it is io.ErrUnexpectedEOF, and it stays to be taken up again.
func (w *Writer) Commit() error {
	if w.done {
		return fs.ErrClosed
	}
	if w.offset < w.size {
		return fmt.Errorf("blob %s: %d of %d bytes: %w", w.digest, w.offset, w.size, io.ErrUnexpectedEOF)
	}
	if got := fallow.Digest(w.hash.Sum(nil)); got != w.digest {
		return errors.Join(fmt.Errorf("%w: want %s, have %s", ErrDigest, w.digest, got), w.Abort())
	}
	final := w.s.path(w.digest)
	if err := w.settle(final); err != nil {
		err = w.s.full(err, w.size)
		return errors.Join(fmt.Errorf("keep blob %s: %w", w.digest, err), w.Close())
	}
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	w.done = true
	delete(w.s.writing, w.name)
	delete(w.s.parts, w.name)
	w.s.remember(w.digest, w.size, w.s.cfg.Now())
	if err := w.f.Close(); err != nil {
		return fmt.Errorf("keep blob %s: %w", w.digest, err)
	}
	return nil
}

// settle makes the file durable before and after it gets its name.
func (w *Writer) settle(final string) error {
	now := w.s.cfg.Now()
	if err := w.f.Chmod(0o400); err != nil {
		return err
	}
	if err := w.f.Sync(); err != nil {
		return err
	}
	dir := filepath.Dir(final)
	if err := os.Mkdir(dir, 0o700); err == nil {
		if err := syncDir(filepath.Dir(dir)); err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := os.Chtimes(w.f.Name(), now, now); err != nil {
		return err
	}
	if err := os.Rename(w.f.Name(), final); err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Close leaves the blob to be taken up again; after Commit or Abort it does
// nothing.
func (w *Writer) Close() error {
	if w.done {
		return nil
	}
	return w.release()
}

// Abort drops what was written.
func (w *Writer) Abort() error {
	if w.done {
		return nil
	}
	w.offset = 0
	return w.release()
}

// release ends the claim; an empty file is not worth keeping.
func (w *Writer) release() error {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	w.done = true
	delete(w.s.writing, w.name)
	if w.f == nil {
		delete(w.s.parts, w.name)
		return nil
	}
	if w.offset > 0 {
		w.s.parts[w.name] = w.offset
		return w.f.Close()
	}
	delete(w.s.parts, w.name)
	err := os.Remove(w.f.Name())
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, w.f.Close())
}

// Offset is how far an unfinished blob has come, in bytes.
func (s *Store) Offset(d fallow.Digest, size int64, scope string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := partialName(d, size, scope)
	if info, err := os.Lstat(filepath.Join(s.partials(), name)); err == nil {
		return info.Size()
	}
	return 0
}

// Put keeps size bytes of r as d; what is here already is left unread. While
// another Put of the same runs it waits for that one.
func (s *Store) Put(ctx context.Context, d fallow.Digest, size int64, r io.Reader) error {
	w, err := s.await(ctx, d, size, "put")
	if errors.Is(err, ErrExists) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := w.Restart(); err != nil {
		return errors.Join(err, w.Abort())
	}
	if _, err := copyAll(ctx, w, r); err != nil {
		return errors.Join(fmt.Errorf("put blob %s: %w", d, err), w.Abort())
	}
	if err := w.Commit(); err != nil {
		return errors.Join(err, w.Abort())
	}
	return nil
}

// await is Writer, waiting while another is at the same blob.
func (s *Store) await(ctx context.Context, d fallow.Digest, size int64, scope string) (*Writer, error) {
	for {
		w, err := s.Writer(ctx, d, size, scope)
		if !errors.Is(err, ErrBusy) {
			return w, err
		}
		if err := pause(ctx, busyWait); err != nil {
			return nil, err
		}
	}
}

// Add keeps b under its digest.
func (s *Store) Add(ctx context.Context, b []byte) (fallow.Digest, error) {
	d := fallow.Sum(b)
	return d, s.Put(ctx, d, int64(len(b)), bytes.NewReader(b))
}

// AddFile keeps a copy of the file at path and gives its digest and size in
// bytes. The file is read twice; one that changes in between is ErrDigest.
func (s *Store) AddFile(ctx context.Context, path string) (fallow.Digest, int64, error) {
	d, n, err := s.addFile(ctx, path)
	if err != nil {
		return d, 0, fmt.Errorf("add blob %s: %w", path, err)
	}
	return d, n, nil
}

func (s *Store) addFile(ctx context.Context, path string) (d fallow.Digest, n int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return d, 0, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return d, 0, err
	}
	if !info.Mode().IsRegular() {
		return d, 0, errors.New("not a regular file")
	}
	if info.Size() > s.cfg.MaxBlob {
		return d, 0, fmt.Errorf("%w: %d bytes, at most %d are taken", ErrTooLarge, info.Size(), s.cfg.MaxBlob)
	}
	h := sha256.New()
	if n, err = copyAll(ctx, h, io.LimitReader(f, s.cfg.MaxBlob+1)); err != nil {
		return d, 0, err
	}
	d = fallow.Digest(h.Sum(nil))
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return d, 0, err
	}
	return d, n, s.Put(ctx, d, n, f)
}
