package wasm

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"fallow.network"
	"fallow.network/receipt"
)

const (
	// maxOpenInputs is how many of a task's files are open at once.
	maxOpenInputs = 128
	// maxSeen is how many checked files a child remembers.
	maxSeen = 1 << 16
)

// input is a file of the host's that a guest reads.
type input struct {
	what   string // for errors
	path   string
	digest fallow.Digest
	size   int64 // below zero until it is known
	file   *os.File
	used   uint64 // when, counted in openings
}

// stamp is what a file looked like when its digest was found right.
type stamp struct {
	digest   fallow.Digest
	size     int64
	modified time.Time
}

// inputs opens files of the host's, a few at a time, and doesn't give a guest
// a byte of one that doesn't hash to what the task says: a bad disk must not
// turn into a result.
type inputs struct {
	seen map[string]stamp
	open []*input
	turn uint64
}

// of is the input of a task's file.
func (s *inputs) of(t Task, f receipt.File) (*input, error) {
	path, known := t.Paths[f.Blob.Digest]
	if !known {
		return nil, abort(fallow.ReasonAborted, "input %.80q has no file here", f.Path)
	}
	return &input{what: fmt.Sprintf("input %.80q", f.Path), path: path, digest: f.Blob.Digest, size: int64(f.Blob.Size)}, nil
}

// readAt reads of an input; short only at its end.
func (s *inputs) readAt(in *input, p []byte, off int64) (int, error) {
	if in.size >= 0 && off >= in.size {
		return 0, nil
	}
	if err := s.ready(in); err != nil {
		return 0, err
	}
	if off >= in.size {
		return 0, nil
	}
	p = p[:min(int64(len(p)), in.size-off)]
	n, err := in.file.ReadAt(p, off)
	if n < len(p) {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return n, fmt.Errorf("read %s: %w", in.what, err)
	}
	return n, nil
}

// ready opens an input and looks at its digest.
func (s *inputs) ready(in *input) error {
	s.turn++
	in.used = s.turn
	if in.file != nil {
		return nil
	}
	f, err := os.Open(in.path)
	if err != nil {
		return fmt.Errorf("open %s: %w", in.what, err)
	}
	if err := s.check(in, f); err != nil {
		return errors.Join(err, f.Close())
	}
	if len(s.open) >= maxOpenInputs {
		old := 0
		for i, o := range s.open {
			if o.used < s.open[old].used {
				old = i
			}
		}
		s.shut(s.open[old])
		s.open[old] = s.open[len(s.open)-1]
		s.open = s.open[:len(s.open)-1]
	}
	in.file = f
	s.open = append(s.open, in)
	return nil
}

// check compares an opened file with what the task says of it.
func (s *inputs) check(in *input, f *os.File) error {
	st, err := f.Stat()
	if err != nil {
		return fmt.Errorf("open %s: %w", in.what, err)
	}
	if !st.Mode().IsRegular() {
		return abort(fallow.ReasonAborted, "%s is no plain file here", in.what)
	}
	now := stamp{in.digest, st.Size(), st.ModTime()}
	if s.seen[in.path] != now {
		h := sha256.New()
		if _, err := io.Copy(h, f); err != nil {
			return fmt.Errorf("read %s: %w", in.what, err)
		}
		if fallow.Digest(h.Sum(nil)) != in.digest {
			return abort(fallow.ReasonAborted, "%s does not hash to %s here", in.what, in.digest.Short())
		}
		if len(s.seen) >= maxSeen {
			clear(s.seen)
		}
		s.seen[in.path] = now
	}
	if in.size >= 0 && in.size != st.Size() {
		return abort(fallow.ReasonMalformed, "%s has %d bytes, the task says %d", in.what, st.Size(), in.size)
	}
	in.size = st.Size()
	return nil
}

func (s *inputs) shut(in *input) {
	_ = in.file.Close() // read only
	in.file = nil
}

// close closes all files; what was seen stays.
func (s *inputs) close() {
	for _, in := range s.open {
		s.shut(in)
	}
	clear(s.open)
	s.open = s.open[:0]
}
