package wasm

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"fallow.network"
)

// Config says how sandboxes are made.
type Config struct {
	// Child is the command line of a child: this program with ChildVerb.
	Child []string
	// Cache is a folder for compiled modules; empty keeps none.
	Cache string
	// Interpreted runs without the compiler, for comparison.
	Interpreted bool
	// MaxMemory bounds what a task may be granted, in bytes; 0 is 4 GiB.
	MaxMemory uint64
}

const (
	// overhead is the address space that a child has beside its guest's
	// memory: the Go runtime reserves much and uses little.
	overhead = 8 << 30
	maxWall  = time.Hour
	// maxChatter bounds what is kept of a child's standard error.
	maxChatter = 4 << 10
)

// Runner makes sandboxes.
type Runner struct{ config Config }

// New checks a config.
func New(c Config) (*Runner, error) {
	if len(c.Child) == 0 {
		return nil, errors.New("runner: no command for children")
	}
	if c.MaxMemory == 0 {
		c.MaxMemory = 4 << 30
	}
	if c.Cache != "" {
		if err := os.MkdirAll(c.Cache, 0o700); err != nil {
			return nil, fmt.Errorf("runner: compilation cache: %w", err)
		}
	}
	return &Runner{c}, nil
}

// Open makes a sandbox for at most slots tasks at once, each in a process of
// its own that runs many tasks after each other. Close it.
func (r *Runner) Open(slots int) *Sandbox {
	s := &Sandbox{runner: r, turn: make(chan struct{}, max(slots, 1))}
	for range cap(s.turn) {
		s.turn <- struct{}{}
	}
	return s
}

// Sandbox is the processes of one lease. Its methods may be called at once.
type Sandbox struct {
	runner *Runner
	turn   chan struct{}

	mu     sync.Mutex
	idle   []*process
	closed bool
	busy   map[*process]bool
}

// process is one child.
type process struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
	chatter *tail
}

// Warm starts a first child beforehand, so that a first task waits less.
func (s *Sandbox) Warm() error {
	p, err := s.take()
	if err != nil {
		return err
	}
	s.give(p)
	return nil
}

// Run runs a task to its result. An error is no result; an *Abort has a reason.
// When ctx ends or the wall time is up, the process is killed.
func (s *Sandbox) Run(ctx context.Context, t Task) (Result, error) {
	if t.Limits.Memory > s.runner.config.MaxMemory {
		return Result{}, abort(fallow.ReasonTooLarge, "%d bytes of memory are above the %d granted here", t.Limits.Memory, s.runner.config.MaxMemory)
	}
	select {
	case <-s.turn:
	case <-ctx.Done():
		return Result{}, ctx.Err()
	}
	defer func() { s.turn <- struct{}{} }()
	p, err := s.take()
	if err != nil {
		return Result{}, err
	}
	wall := t.Wall
	if wall <= 0 || wall > maxWall {
		wall = maxWall
	}
	timer := time.NewTimer(wall)
	defer timer.Stop()
	answered := make(chan error, 1)
	var r reply
	go func() {
		err := putFrame(p.in, t)
		if err == nil {
			err = getFrame(p.out, &r)
		}
		answered <- err
	}()
	select {
	case err = <-answered:
	case <-ctx.Done():
		err = s.kill(p, answered, ctx.Err())
	case <-timer.C:
		err = s.kill(p, answered, abort(fallow.ReasonTimeout, "the task ran for more than %s", wall))
	}
	if err != nil {
		var a *Abort
		if !errors.As(err, &a) && ctx.Err() == nil {
			err = s.died(p, err)
		}
		return Result{}, err
	}
	s.give(p)
	if r.Abort != nil {
		return Result{}, r.Abort
	}
	return r.Result, nil
}

// kill ends a child in the middle of a task and waits until nothing of it is left.
func (s *Sandbox) kill(p *process, answered <-chan error, why error) error {
	_ = p.cmd.Process.Kill() // it may have ended by itself
	<-answered
	s.bury(p)
	return why
}

// died says why a child went away.
func (s *Sandbox) died(p *process, err error) error {
	_ = p.cmd.Process.Kill() // it may have ended by itself
	state := s.bury(p)
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return ErrClosed
	}
	if text := p.chatter.String(); strings.Contains(text, "out of memory") || strings.Contains(text, "cannot allocate memory") {
		return abort(fallow.ReasonAborted, "the host ran out of memory")
	}
	return abort(fallow.ReasonAborted, "the sandbox's process ended (%v): %v %s", state, err, p.chatter.String())
}

// bury waits for a child that ends and forgets it.
func (s *Sandbox) bury(p *process) error {
	_ = p.in.Close() // the child is gone or going
	err := p.cmd.Wait()
	s.mu.Lock()
	delete(s.busy, p)
	s.mu.Unlock()
	return err
}

// take gives an idle child or a new one.
func (s *Sandbox) take() (*process, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	if s.busy == nil {
		s.busy = map[*process]bool{}
	}
	var p *process
	if n := len(s.idle); n > 0 {
		p, s.idle = s.idle[n-1], s.idle[:n-1]
	} else {
		var err error
		if p, err = s.runner.start(); err != nil {
			return nil, err
		}
	}
	s.busy[p] = true
	return p, nil
}

func (s *Sandbox) give(p *process) {
	s.mu.Lock()
	closed := s.closed
	if !closed {
		delete(s.busy, p)
		s.idle = append(s.idle, p)
	}
	s.mu.Unlock()
	if closed {
		_ = p.cmd.Process.Kill() // nobody needs it any more
		s.bury(p)
	}
}

// Close kills what runs and frees everything.
func (s *Sandbox) Close() error {
	s.mu.Lock()
	s.closed = true
	idle := s.idle
	s.idle = nil
	for p := range s.busy {
		_ = p.cmd.Process.Kill() // its Run buries it
	}
	s.mu.Unlock()
	for _, p := range idle {
		_ = p.cmd.Process.Kill() // idle: it loses nothing
		s.bury(p)
	}
	for range cap(s.turn) { // until every Run has returned
		<-s.turn
	}
	for range cap(s.turn) {
		s.turn <- struct{}{}
	}
	return nil
}

// start starts a child with no file of ours but three pipes and no environment.
func (r *Runner) start() (*process, error) {
	cmd := exec.Command(r.config.Child[0], r.config.Child[1:]...) //nolint:noctx // it outlives the call; Close kills it
	cmd.Env = []string{"GOTRACEBACK=none"}
	cmd.Dir = os.TempDir()
	cmd.SysProcAttr = childAttributes()
	p := &process{cmd: cmd, chatter: &tail{}}
	cmd.Stderr = p.chatter
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start a sandbox: %w", err)
	}
	p.in, p.out = in, bufio.NewReaderSize(out, 1<<16)
	s := setup{Cache: r.config.Cache, Interpreted: r.config.Interpreted, AddressSpace: r.config.MaxMemory + overhead}
	if err := putFrame(p.in, s); err != nil {
		_ = cmd.Process.Kill() // the error below says more
		return nil, fmt.Errorf("start a sandbox: %w: %w %s", err, cmd.Wait(), p.chatter.String())
	}
	return p, nil
}

// tail keeps the first bytes that a child complains with.
type tail struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write keeps what there is room for and takes all.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b.Write(p[:min(len(p), maxChatter-min(maxChatter, t.b.Len()))])
	return len(p), nil
}

// String is what was kept.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(t.b.String())
}
