package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"

	"fallow.network"
	"fallow.network/blob"
	"fallow.network/receipt"
	"fallow.network/spec"
)

// shelf is the folder that a job's outputs come to: each is fetched under a
// name of its own, and gets its place by a rename once it hashes right.
//
// A job with one task writes below the folder itself, one with several below a
// folder for each task.
type shelf struct {
	dir    string
	root   *os.Root
	job    JobID
	digits int // of a task's folder; 0 for none
}

func openShelf(dir string, job JobID, tasks int) (*shelf, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("folder for outputs: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("folder for outputs: %w", err)
	}
	s := &shelf{dir: dir, root: root, job: job}
	if tasks > 1 {
		s.digits = len(strconv.Itoa(tasks - 1))
	}
	// What an earlier run left unfinished is fetched again.
	if err := root.RemoveAll(s.partial()); err != nil {
		return nil, errors.Join(fmt.Errorf("folder for outputs: %w", err), root.Close())
	}
	return s, nil
}

func (s *shelf) partial() string { return ".partial-" + string(s.job) }

func (s *shelf) close() error {
	return errors.Join(s.root.RemoveAll(s.partial()), s.root.Close())
}

// place is where a task's output belongs, below the folder.
func (s *shelf) place(task uint32, p string) string {
	if s.digits == 0 {
		return p
	}
	return path.Join(fmt.Sprintf("%0*d", s.digits, task), p)
}

// parcel is outputs that were fetched and not placed yet.
type parcel struct {
	dir   string // below the shelf
	files []receipt.Output
}

// wanted says which of a receipt's outputs the task asks for; stdout and
// stderr always come when they hold anything.
func wanted(t spec.Task, outputs []receipt.Output) (out []int) {
	for i, o := range outputs {
		want := (o.Path == "stdout" || o.Path == "stderr") && o.Size > 0
		for _, p := range t.Outputs {
			want = want || o.Path != "stdout" && o.Path != "stderr" && spec.Match(p, o.Path)
		}
		if want {
			out = append(out, i)
		}
	}
	return out
}

// errLocal is a failure of this machine, not of a provider.
var errLocal = errors.New("writing outputs")

// fetch brings the wanted outputs of a receipt under names of their own.
// Small ones came with it.
func (s *shelf) fetch(ctx context.Context, moves *blob.Transfer, base string, id attemptID, t spec.Task, r receipt.Receipt, inline [][]byte) (parcel, error) {
	list := wanted(t, r.Outputs)
	if len(list) == 0 {
		return parcel{}, nil
	}
	p := parcel{dir: path.Join(s.partial(), fmt.Sprintf("%d-%d-%d", id.lease, id.task, id.attempt))}
	if err := s.root.MkdirAll(p.dir, 0o755); err != nil {
		return p, fmt.Errorf("%w: %w", errLocal, err)
	}
	for k, i := range list {
		o := r.Outputs[i]
		name := path.Join(p.dir, strconv.Itoa(k))
		var err error
		switch {
		case i < len(inline) && uint64(len(inline[i])) == o.Size && fallow.Sum(inline[i]) == o.Digest:
			err = s.write(name, func(f *os.File) error { _, err := f.Write(inline[i]); return err })
		case i < len(inline) && len(inline[i]) > 0:
			return p, fmt.Errorf("output %s: %w", o.Path, blob.ErrDigest)
		default:
			if err = moves.Fetch(ctx, base, o.Digest, int64(o.Size), blob.FetchOptions{}); err != nil {
				return p, fmt.Errorf("output %s: %w", o.Path, err)
			}
			err = s.copy(moves.Store, o, name)
		}
		if err != nil {
			return p, fmt.Errorf("%w: %s: %w", errLocal, o.Path, err)
		}
		p.files = append(p.files, o)
	}
	return p, nil
}

// copy takes a blob out of the store; there it need not stay.
func (s *shelf) copy(store *blob.Store, o receipt.Output, name string) error {
	r, _, err := store.Open(o.Digest)
	if err != nil {
		return err
	}
	err = s.write(name, func(f *os.File) error { _, err := io.Copy(f, r); return err })
	return errors.Join(err, r.Close())
}

func (s *shelf) write(name string, fill func(*os.File) error) error {
	f, err := s.root.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if err := fill(f); err != nil {
		return errors.Join(err, f.Close())
	}
	return f.Close()
}

// put gives a parcel's files their place.
func (s *shelf) put(task uint32, p parcel) ([]Output, error) {
	var out []Output
	for k, o := range p.files {
		to := s.place(task, o.Path)
		if dir := path.Dir(to); dir != "." {
			if err := s.root.MkdirAll(dir, 0o755); err != nil {
				return nil, fmt.Errorf("%w: %w", errLocal, err)
			}
		}
		if err := s.root.Rename(path.Join(p.dir, strconv.Itoa(k)), to); err != nil {
			return nil, fmt.Errorf("%w: %w", errLocal, err)
		}
		out = append(out, Output{Task: task, Path: o.Path, Digest: o.Digest, Size: o.Size, File: filepath.Join(s.dir, filepath.FromSlash(to))})
	}
	return out, s.drop(p)
}

// drop forgets a parcel.
func (s *shelf) drop(p parcel) error {
	if p.dir == "" {
		return nil
	}
	if err := s.root.RemoveAll(p.dir); err != nil {
		return fmt.Errorf("%w: %w", errLocal, err)
	}
	return nil
}

// remove takes back outputs that are not believed any more.
func (s *shelf) remove(list []Output) error {
	for _, o := range list {
		rel, err := filepath.Rel(s.dir, o.File)
		if err != nil {
			continue
		}
		if err := s.root.Remove(rel); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%w: %w", errLocal, err)
		}
	}
	return nil
}
