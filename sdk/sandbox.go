package sdk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"time"

	"fallow.network"
	"fallow.network/blob"
	"fallow.network/client"
	"fallow.network/provider"
	"fallow.network/receipt"
	"fallow.network/runner/wasm"
	"fallow.network/trace"
)

// newRunner makes a runner whose children are this program.
func newRunner(h Home) (*wasm.Runner, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c, err := h.Load()
	if err != nil {
		return nil, err
	}
	return wasm.New(wasm.Config{Child: []string{self, wasm.ChildVerb}, Cache: h.WASMCache(), Engine: c.Engine})
}

// paths finds a task's blobs on this machine.
func paths(t receipt.Task, find func(fallow.Digest) (string, error)) (map[fallow.Digest]string, error) {
	all := map[fallow.Digest]string{}
	digests := []fallow.Digest{t.Module}
	if t.Stdin != nil {
		digests = append(digests, *t.Stdin)
	}
	for _, f := range t.Files {
		digests = append(digests, f.Blob.Digest)
	}
	for _, d := range digests {
		p, err := find(d)
		if err != nil {
			return nil, fmt.Errorf("find %s: %w", d.Short(), err)
		}
		all[d] = p
	}
	return all, nil
}

// sandboxes runs a provider's leases.
type sandboxes struct {
	runner *wasm.Runner
	store  *blob.Store
	dir    string
	log    *slog.Logger
	trace  *trace.Tracer
}

func newSandboxes(h Home, store *blob.Store, log *slog.Logger) (*sandboxes, error) {
	r, err := newRunner(h)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(h.ProviderDir(), "runs")
	// What an earlier process left there belongs to nobody.
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	return &sandboxes{runner: r, store: store, dir: dir, log: log}, os.MkdirAll(dir, 0o700)
}

func (s *sandboxes) Start(_ context.Context, lease fallow.LeaseID, slots uint32) (provider.Sandbox, error) {
	box := s.runner.Open(int(slots))
	if err := box.Warm(); err != nil {
		return nil, errors.Join(err, box.Close())
	}
	return &sandbox{box: box, from: s, holder: blob.Holder(lease), dir: filepath.Join(s.dir, strconv.FormatUint(uint64(lease), 10))}, nil
}

// sandbox is one lease's.
type sandbox struct {
	box    *wasm.Sandbox
	from   *sandboxes
	holder string
	dir    string

	mu     sync.Mutex
	serial int
}

func (s *sandbox) Close() error {
	return errors.Join(s.box.Close(), os.RemoveAll(s.dir))
}

func (s *sandbox) Run(ctx context.Context, job provider.Job) (provider.Result, error) {
	found, err := paths(job.Task, s.from.store.Path)
	if err != nil {
		return provider.Result{}, &provider.Failure{Reason: fallow.ReasonAborted, Detail: err.Error()}
	}
	s.mu.Lock()
	s.serial++
	out := filepath.Join(s.dir, strconv.Itoa(s.serial))
	s.mu.Unlock()
	defer func() { _ = os.RemoveAll(out) }()
	began := time.Now()
	r, err := s.box.Run(ctx, wasm.Task{Task: job.Task, Paths: found, Out: out, Wall: job.Wall})
	if s.from.trace.On() {
		s.tell(ctx, began, r, err)
	}
	var a *wasm.Abort
	switch {
	case errors.As(err, &a):
		return provider.Result{}, &provider.Failure{Reason: a.Reason, Detail: a.Detail}
	case err != nil:
		return provider.Result{}, err
	}
	res := provider.Result{Gas: r.Gas, Outcome: r.Outcome, ExitCode: r.ExitCode, Trap: r.Trap}
	for _, o := range r.Outputs {
		kept := provider.Output{Output: o.Output, Small: o.Small}
		if o.File != "" {
			if err := s.keep(ctx, o); err != nil {
				return provider.Result{}, &provider.Failure{Reason: fallow.ReasonDiskFull, Detail: err.Error()}
			}
		}
		res.Outputs = append(res.Outputs, kept)
	}
	return res, nil
}

// tell tells of a run that is over, in the sandbox's place. Its times are the
// sandbox's word, kept within what was seen from here.
func (s *sandbox) tell(ctx context.Context, began time.Time, r wasm.Result, err error) {
	ended := time.Now()
	ctx, run := s.from.trace.Past(ctx, "runner.run", began, ended)
	var a *wasm.Abort
	if errors.As(err, &a) {
		run.End(a.Reason)
		return
	}
	run.Int("fallow.gas", int64(r.Gas)).Done(err)
	if err != nil {
		return
	}
	from := began
	for _, step := range []struct {
		name string
		took time.Duration
	}{{"runner.load", r.Load}, {"runner.guest", r.Took}, {"runner.collect", r.Collect}} {
		to := from.Add(min(max(step.took, 0), ended.Sub(from)))
		_, span := s.from.trace.Past(ctx, step.name, from, to)
		span.End("")
		from = to
	}
}

// keep moves an output into the blob store, hashing it again on the way: what
// a sandbox says of its outputs is not taken on trust.
func (s *sandbox) keep(ctx context.Context, o wasm.Output) error {
	d, _, err := s.from.store.AddFile(ctx, o.File)
	if err != nil {
		return err
	}
	if d != o.Digest {
		return fmt.Errorf("output %s hashes to %s and not to %s", o.Path, d.Short(), o.Digest.Short())
	}
	return s.from.store.Pin(s.holder, d)
}

// machine runs checks on the tenant's own machine.
type machine struct {
	box  *wasm.Sandbox
	dir  string
	free func() error // gives the folder back

	mu     sync.Mutex
	serial int
}

func newMachine(h Home) (*machine, error) {
	r, err := newRunner(h)
	if err != nil {
		return nil, err
	}
	dir, free, err := ownFolder(h.checkDir())
	if err != nil {
		return nil, err
	}
	return &machine{box: r.Open(runtime.NumCPU()), dir: dir, free: free}, nil
}

func (m *machine) close() error { return errors.Join(m.box.Close(), m.free()) }

func (m *machine) Cores() int { return runtime.NumCPU() }

func (m *machine) run(ctx context.Context, t receipt.Task, blobs client.Blobs, wall time.Duration, bare bool) (wasm.Result, error) {
	found, err := paths(t, blobs.Path)
	if err != nil {
		return wasm.Result{}, err
	}
	m.mu.Lock()
	m.serial++
	out := filepath.Join(m.dir, strconv.Itoa(m.serial))
	m.mu.Unlock()
	defer func() { _ = os.RemoveAll(out) }()
	return m.box.Run(ctx, wasm.Task{Task: t, Paths: found, Out: out, Wall: wall, Bare: bare})
}

func (m *machine) Run(ctx context.Context, t receipt.Task, blobs client.Blobs, wall time.Duration) (client.Result, error) {
	r, err := m.run(ctx, t, blobs, wall, false)
	if err != nil {
		return client.Result{}, err
	}
	res := client.Result{Gas: r.Gas, Outcome: r.Outcome, ExitCode: r.ExitCode, Trap: r.Trap, Took: r.Took}
	for _, o := range r.Outputs {
		res.Outputs = append(res.Outputs, o.Output)
	}
	return res, nil
}

func (m *machine) Bare(ctx context.Context, t receipt.Task, blobs client.Blobs) (time.Duration, error) {
	r, err := m.run(ctx, t, blobs, 0, true)
	return r.Took, err
}
