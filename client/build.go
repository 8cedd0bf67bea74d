package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"fallow.network"
	"fallow.network/blob"
	"fallow.network/formats"
	"fallow.network/spec"
)

// Folder answers formats for the files of a folder on this machine.
type Folder string

// Glob lists the regular files that match, ascending.
func (f Folder) Glob(pattern string) ([]string, error) {
	found, err := filepath.Glob(f.path(pattern))
	if err != nil {
		return nil, err
	}
	var out []string
	for _, p := range found {
		if info, err := os.Stat(p); err != nil || !info.Mode().IsRegular() {
			continue
		}
		if !filepath.IsAbs(filepath.FromSlash(pattern)) {
			if p, err = filepath.Rel(string(f), p); err != nil {
				return nil, err
			}
		}
		out = append(out, filepath.ToSlash(p))
	}
	slices.Sort(out)
	return out, nil
}

// Check fails when there is no readable regular file at p.
func (f Folder) Check(p string) error {
	info, err := os.Stat(f.path(p))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no file %s", f.path(p))
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is no regular file", f.path(p))
	}
	file, err := os.Open(f.path(p))
	if err != nil {
		return err
	}
	return file.Close()
}

func (f Folder) path(p string) string {
	p = filepath.FromSlash(p)
	if filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(string(f), p)
}

// ReadJob reads a job file; its paths are relative to its folder.
func ReadJob(file string) (*formats.Job, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if info.Size() > formats.MaxFileBytes {
		return nil, fmt.Errorf("%s has %d bytes: a job file has at most %d", file, info.Size(), formats.MaxFileBytes)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return formats.Parse(file, b, Folder(filepath.Dir(file)))
}

// OptionsOf are a parsed job's options, to be changed by flags.
func OptionsOf(j *formats.Job) Options {
	o := Options{Budget: j.Budget, Deadline: j.Deadline, Slots: j.Slots, Checks: j.Checks, Placement: j.Placement, Collect: j.Collect}
	for _, t := range j.Tasks {
		o.Labels = append(o.Labels, t.Label)
	}
	return o
}

// Submit builds a job's workload from files of a folder, keeps its blobs, and
// writes it down. Run starts it.
func (c *Client) Submit(ctx context.Context, j *formats.Job, files Folder, o Options) (JobID, error) {
	if err := c.checkOptions(&o); err != nil {
		return "", err
	}
	id := newJobID(j.Name)
	w, err := c.build(ctx, id, j, files)
	if err != nil {
		return "", err
	}
	r := record{
		Job: Job{
			ID: id, Name: w.Name, State: StateNew, Workload: spec.Hash(w), Tasks: len(w.Tasks),
			Options: o, Created: time.Now(),
		},
		workload: w,
	}
	if _, err := rand.Read(r.salt[:]); err != nil {
		return "", fmt.Errorf("draw a salt: %w", err)
	}
	if err := c.store.addJob(ctx, r); err != nil {
		return "", err
	}
	return id, nil
}

func (c *Client) checkOptions(o *Options) error {
	if o.Out == "" {
		return errors.New("no folder for outputs: name one with --out")
	}
	out, err := filepath.Abs(o.Out)
	if err != nil {
		return fmt.Errorf("folder for outputs: %w", err)
	}
	o.Out = out
	set(&o.Checks.Mode, formats.CheckAuto)
	set(&o.Checks.Where, c.config.Check)
	switch o.Checks.Where {
	case formats.WhereOwn, formats.WhereMarket, formats.WhereBoth:
	default:
		return fmt.Errorf("check %.20q: want own, market or both", string(o.Checks.Where))
	}
	switch o.Checks.Mode {
	case formats.CheckAuto, formats.CheckAlways, formats.CheckNever:
	default:
		return fmt.Errorf("check rate %.20q: want auto, always or never", string(o.Checks.Mode))
	}
	if o.Checks.Where == formats.WhereOwn && c.machine == nil {
		return errors.New("checks on this machine were asked for, and it has no runner: use --check market")
	}
	return o.Placement.Check()
}

// build makes the canonical workload; files are hashed and kept once each.
func (c *Client) build(ctx context.Context, id JobID, j *formats.Job, files Folder) (spec.Workload, error) {
	w := spec.Workload{Name: j.Name, Class: fallow.ClassWASM, Profile: spec.ProfileWASM, Limits: j.Limits}
	known := map[string]spec.Blob{}
	keep := func(what, path string) (spec.Blob, error) {
		path = files.path(path)
		if b, ok := known[path]; ok {
			return b, nil
		}
		digest, size, err := c.blobs.AddFile(ctx, path)
		if errors.Is(err, blob.ErrDigest) {
			return spec.Blob{}, fmt.Errorf("%s %s changed while it was read: try again", what, path)
		}
		if err != nil {
			return spec.Blob{}, fmt.Errorf("%s %s: %w", what, path, err)
		}
		known[path] = spec.Blob{Digest: digest, Size: uint64(size)}
		return known[path], nil
	}
	var err error
	if w.Module, err = keep("module", j.Module); err != nil {
		return w, err
	}
	if err := c.checkModule(w.Module, files.path(j.Module)); err != nil {
		return w, err
	}
	for _, t := range j.Tasks {
		task := spec.Task{Args: slices.Clone(t.Args), Env: slices.Clone(t.Env), Outputs: slices.Clone(t.Outputs)}
		if t.Stdin != "" {
			if task.Stdin, err = keep("stdin", t.Stdin); err != nil {
				return w, err
			}
		}
		for _, in := range t.Inputs {
			b, err := keep("input", in.File)
			if err != nil {
				return w, err
			}
			task.Inputs = append(task.Inputs, spec.Input{Path: in.Path, Blob: b})
		}
		w.Tasks = append(w.Tasks, task)
	}
	spec.Normalize(&w)
	if err := spec.Validate(w); err != nil {
		return w, fmt.Errorf("job %s: %w", j.Name, err)
	}
	var digests []fallow.Digest
	for _, b := range w.Blobs() {
		digests = append(digests, b.Digest)
	}
	if err := c.blobs.Pin("job-"+string(id), digests...); err != nil {
		return w, fmt.Errorf("keep the job's files: %w", err)
	}
	return w, nil
}

// checkModule tells early of a file that no provider will take.
func (c *Client) checkModule(m spec.Blob, path string) error {
	r, size, err := c.blobs.Open(m.Digest)
	if err != nil {
		return fmt.Errorf("module %s: %w", path, err)
	}
	defer func() { _ = r.Close() }()
	var head [8]byte
	if size < int64(len(head)) {
		return fmt.Errorf("module %s has %d bytes: that is no WASM module", path, size)
	}
	if _, err := r.Read(head[:]); err != nil {
		return fmt.Errorf("module %s: %w", path, err)
	}
	switch {
	case string(head[:4]) != "\x00asm":
		return fmt.Errorf("module %s is not WASM: it does not begin with \\0asm; build it for wasm32-wasi", path)
	case head[4] == 0x0d && head[6] == 1:
		return fmt.Errorf("module %s is a WASM component: build it as a core module for WASI preview 1 (wasm32-wasip1)", path)
	case head[4] != 1:
		return fmt.Errorf("module %s is of WASM version %d: want 1", path, head[4])
	}
	return nil
}
