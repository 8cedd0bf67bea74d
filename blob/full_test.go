package blob

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"fallow.network"
)

// TestDiskFull: the file system says no in the middle of a blob.
func TestDiskFull(t *testing.T) {
	s, err := Open(t.Context(), Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	room := 600_000
	s.write = func(f *os.File, p []byte) (int, error) {
		if len(p) > room {
			n, err := f.Write(p[:room])
			room -= n
			return n, errors.Join(err, &os.PathError{Op: "write", Path: f.Name(), Err: syscall.ENOSPC})
		}
		n, err := f.Write(p)
		room -= n
		return n, err
	}
	b := make([]byte, 1<<20)
	err = s.Put(t.Context(), fallow.Sum(b), int64(len(b)), bytes.NewReader(b))
	var full *FullError
	if !errors.Is(err, ErrFull) || !errors.As(err, &full) || !full.Disk {
		t.Fatalf("disk full: %v", err)
	}
	if files, _ := filepath.Glob(filepath.Join(s.partials(), "*")); len(files) > 0 {
		t.Errorf("a full disk keeps %v", files)
	}
	if u := s.Usage(); u.Bytes != 0 || u.Partial != 0 {
		t.Errorf("usage %+v", u)
	}
}

// TestKeepFree: what the disk must keep free makes blobs go, unless pinned.
func TestKeepFree(t *testing.T) {
	s, err := Open(t.Context(), Config{Dir: t.TempDir(), KeepFree: 1000})
	if err != nil {
		t.Fatal(err)
	}
	disk := int64(3000)
	s.free = func(string) (int64, error) { return disk - s.size, nil }
	a, b := bytes.Repeat([]byte("a"), 1500), bytes.Repeat([]byte("b"), 1500)
	da, err := s.Add(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Add(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Has(da); ok {
		t.Error("the disk is fuller than allowed")
	}
	if err := s.Pin("lease-1", fallow.Sum(b)); err != nil {
		t.Fatal(err)
	}
	var full *FullError
	if _, err := s.Add(t.Context(), a); !errors.As(err, &full) || !full.Disk {
		t.Errorf("with all pinned: %v", err)
	}
}

// TestLostRace: another process commits the file between open and lock; it is
// a blob then, and is not written.
func TestLostRace(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(t.Context(), Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	b := []byte("content")
	d := fallow.Sum(b)
	name := partialName(d, int64(len(b)), "put")
	if err := os.WriteFile(filepath.Join(s.partials(), name), b, 0o600); err != nil {
		t.Fatal(err)
	}
	w, err := s.Writer(t.Context(), d, int64(len(b)), "put")
	if err != nil || w.Offset() != int64(len(b)) {
		t.Fatalf("%v", err)
	}
	other, err := Open(t.Context(), Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Writer(t.Context(), d, int64(len(b)), "put"); !errors.Is(err, ErrBusy) {
		t.Errorf("two processes write one file: %v", err)
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := other.Put(t.Context(), d, int64(len(b)), bytes.NewReader(b)); err != nil {
		t.Errorf("what another process committed: %v", err)
	}
}
