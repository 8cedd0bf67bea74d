package wasm

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"fallow.network"
)

// Sandbox is the processes of one lease. Its methods may be called at once.
type Sandbox struct {
	config  Config
	turn    chan struct{} // holds one for each task that runs
	closing chan struct{} // closed when Close begins
	closed  chan struct{} // closed when nothing is left
	nursery *nursery

	mu   sync.Mutex
	shut bool
	idle []*process
	runs sync.WaitGroup
}

func newSandbox(c Config, slots int) *Sandbox {
	return &Sandbox{
		config: c, turn: make(chan struct{}, slots),
		closing: make(chan struct{}), closed: make(chan struct{}), nursery: newNursery(),
	}
}

// Warm starts a first child beforehand, so that a first task waits less.
func (s *Sandbox) Warm() error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.runs.Done()
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
	t, err := t.bound(s.config.MaxMemory)
	if err != nil {
		return Result{}, err
	}
	if err := s.enter(); err != nil {
		return Result{}, err
	}
	defer s.runs.Done()
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return Result{}, ctx.Err()
	case <-s.closing:
		return Result{}, ErrClosed
	}
	p, err := s.take()
	if err != nil {
		return Result{}, err
	}
	r, err := s.ask(ctx, p, t)
	if err != nil {
		p.end()
		return Result{}, err
	}
	if r.Last {
		p.end()
	} else {
		s.give(p)
	}
	if r.Abort != nil {
		return Result{}, r.Abort
	}
	return r.Result, nil
}

// enter counts a call that Close waits for.
func (s *Sandbox) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shut {
		return ErrClosed
	}
	s.runs.Add(1)
	return nil
}

// ask puts a task to a child and waits for its answer. After an error the
// child is of no more use.
func (s *Sandbox) ask(ctx context.Context, p *process, t Task) (reply, error) {
	timer := time.NewTimer(t.Wall)
	defer timer.Stop()
	var r reply
	var err error
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		if err = putFrame(p.in, t); err == nil {
			err = getFrame(p.reader, &r)
		}
	}()
	var why error
	select {
	case <-answered:
		if err == nil {
			return s.heard(t, r)
		}
		p.kill()
		<-p.ended
		return reply{}, died(p, err)
	case <-ctx.Done():
		why = ctx.Err()
	case <-s.closing:
		why = ErrClosed
	case <-timer.C:
		why = abort(fallow.ReasonTimeout, "the task ran for more than %s", t.Wall)
	}
	p.kill()
	<-answered
	return reply{}, why
}

// heard checks an answer.
func (s *Sandbox) heard(t Task, r reply) (reply, error) {
	if r.Abort != nil {
		if !r.Abort.Reason.Known() {
			r.Abort.Reason = fallow.ReasonAborted
		}
		r.Abort.Detail = clip(r.Abort.Detail)
		return r, nil
	}
	if err := t.accept(r.Result); err != nil {
		return reply{}, abort(fallow.ReasonAborted, "the sandbox's process answers nonsense: %v", err)
	}
	return r, nil
}

// died says why a child went away.
func died(p *process, err error) error {
	text := p.chatter.String()
	if strings.Contains(text, "out of memory") || strings.Contains(text, "cannot allocate memory") {
		return abort(fallow.ReasonAborted, "the host ran out of memory")
	}
	return abort(fallow.ReasonAborted, "%s", clip(fmt.Sprintf("the sandbox's process ended (%v): %v %s", p.state, err, text)))
}

// take gives an idle child or a new one.
func (s *Sandbox) take() (*process, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.idle) > 0 {
		p := s.idle[len(s.idle)-1]
		s.idle = s.idle[:len(s.idle)-1]
		if p.alive() {
			return p, nil
		}
		p.end()
	}
	if s.shut {
		return nil, ErrClosed
	}
	return s.nursery.start(s.config)
}

// give takes a child back that waits for a task.
func (s *Sandbox) give(p *process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idle = append(s.idle, p)
}

// Close kills what runs and frees everything. It may be called again.
func (s *Sandbox) Close() error {
	s.mu.Lock()
	first := !s.shut
	s.shut = true
	s.mu.Unlock()
	if !first {
		<-s.closed
		return nil
	}
	close(s.closing)
	s.runs.Wait()
	for _, p := range s.idle {
		p.end()
	}
	s.nursery.close()
	close(s.closed)
	return nil
}
