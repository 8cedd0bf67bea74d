package hub

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"fallow.network"
	hubv1 "fallow.network/api/hub"
	marketv1 "fallow.network/api/market"
	"fallow.network/fault"
	"fallow.network/trace"
	"fallow.network/wire"
)

// question is a demand that stands on the board, shared by all who ask with
// the same bytes: a tenant that comes again after a cut gets every answer.
type question struct {
	id    fallow.Digest
	told  *hubv1.BoardResponse
	until time.Time
	done  chan struct{} // closed when no more answers will come
	timer *time.Timer

	mu       sync.Mutex
	waiting  map[*session]bool
	asked    int
	answers  []*marketv1.SealedAnswer
	bytes    int64
	finished bool
	askers   int
	changed  chan struct{} // closed at the next answer
}

// answer keeps a provider's answer; false when it came too late.
func (q *question) answer(e *session, a *marketv1.SealedAnswer) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.finished || !q.waiting[e] {
		return false
	}
	delete(q.waiting, e)
	q.answers = append(q.answers, a)
	q.bytes += int64(len(a.GetCiphertext()))
	close(q.changed)
	q.changed = make(chan struct{})
	q.endIfAnswered()
	return true
}

// gone waits no more for e.
func (q *question) gone(e *session) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.waiting, e)
	q.endIfAnswered()
}

func (q *question) endIfAnswered() {
	if len(q.waiting) == 0 {
		q.endLocked()
	}
}

func (q *question) endLocked() {
	if !q.finished {
		q.finished = true
		close(q.done)
	}
}

// after gives the answers from the n-th on, and what to wait for.
func (q *question) after(n int) ([]*marketv1.SealedAnswer, <-chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.answers[n:], q.changed
}

// ask puts a demand on the board and streams answers back.
func (s *Server) ask(ctx context.Context, req *hubv1.AskRequest, stream *connect.ServerStream[hubv1.AskResponse]) error {
	if _, err := s.caller(ctx); err != nil {
		return err
	}
	if err := sameProtocol(req.GetProtocol()); err != nil {
		return s.refuse(connect.CodeFailedPrecondition, fallow.ReasonVersion, err)
	}
	ctx, span := s.deps.Trace.Begin(ctx, "hub.ask")
	q, err := s.question(ctx, req.GetDemand())
	if err != nil {
		span.Done(err)
		return err
	}
	sent := 0
	defer func() { span.Int("hub.asked", int64(q.asked)).Int("hub.answers", int64(sent)).End("") }()
	defer s.askerLeft(q)
	a := s.begins(ctx, q.until.Add(sendTime))
	defer s.ends(a)
	if err := stream.Send(&hubv1.AskResponse{First: true, Asked: uint32(q.asked)}); err != nil {
		return err
	}
	for {
		answers, more := q.after(sent)
		for _, a := range answers {
			if err := stream.Send(&hubv1.AskResponse{Answer: a}); err != nil {
				return err
			}
			sent++
		}
		if len(answers) > 0 {
			continue
		}
		select {
		case <-more:
		case <-q.done:
			// What came between the last look and the end.
			if rest, _ := q.after(sent); len(rest) == 0 {
				return nil
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// asker is one stream of answers.
type asker struct {
	stop func(at time.Time) // writes fail from then on
}

func (s *Server) begins(ctx context.Context, until time.Time) *asker {
	a := &asker{stop: func(at time.Time) { stopWrites(ctx, at) }}
	s.mu.Lock()
	defer s.mu.Unlock()
	a.stop(until)
	s.asking[a] = true
	return a
}

// ends lets go of a stream: it must not be touched after its handler.
func (s *Server) ends(a *asker) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.asking, a)
}

// question finds the open question of these bytes, or checks the demand and
// puts it on the board.
func (s *Server) question(ctx context.Context, m *marketv1.Signed) (*question, error) {
	signed, err := wire.Signed(m)
	if err != nil {
		return nil, s.refuse(connect.CodeInvalidArgument, wire.ReasonOf(err), err)
	}
	id := signed.ID()
	if q, err := s.join(id); q != nil || err != nil {
		return q, err
	}
	now := s.deps.Now()
	if said, err := wire.Demand(signed.Message); err == nil {
		if err := s.funds.hopeless(said.Tenant, now); err != nil {
			return nil, s.refuse(connect.CodeResourceExhausted, fallow.ReasonRateLimited, err)
		}
	}
	d, err := s.decode(signed)
	if err != nil {
		return nil, err
	}
	until := time.UnixMilli(int64(d.Expires))
	if !now.Before(until) {
		return nil, s.refuse(connect.CodeFailedPrecondition, fallow.ReasonExpired,
			fmt.Errorf("the demand expired at %s; is this machine's clock right?", until.UTC().Format(time.RFC3339)))
	}
	if latest := now.Add(maxLife); until.After(latest) {
		until = latest
	}
	if err := s.funds.allow(ctx, d, now); err != nil {
		return nil, s.refuse(connect.CodeResourceExhausted, fallow.ReasonRateLimited, err)
	}
	told := &hubv1.BoardResponse{Demand: m, Protocol: fallow.Protocol, Traceparent: trace.Parent(ctx)}
	q := &question{id: id, told: told, until: until, done: make(chan struct{}), changed: make(chan struct{}), waiting: map[*session]bool{}}

	s.mu.Lock()
	if other := s.questions[id]; other != nil { // asked twice at once
		other.mu.Lock()
		other.askers++
		other.mu.Unlock()
		s.mu.Unlock()
		return other, nil
	}
	if s.closing || len(s.questions) >= s.cfg.Questions {
		s.mu.Unlock()
		return nil, s.refuse(connect.CodeResourceExhausted, fallow.ReasonNoCapacity, errors.New("too many demands are open here; use another hub"))
	}
	s.seen.add(id, now)
	s.questions[id] = q
	begun := time.Now()
	matches := s.index.match(d, s.cfg.Fanout, rand.Uint64())
	s.stats.match.Observe(time.Since(begun).Seconds())
	for _, e := range matches {
		q.waiting[e.session] = true
	}
	q.asked, q.askers = len(matches), 1
	q.timer = time.AfterFunc(until.Sub(now), func() { s.finish(q) })
	s.mu.Unlock()

	s.stats.demands.Inc()
	for _, e := range matches {
		if !e.session.put(q) {
			s.stats.slow.Inc()
			q.gone(e.session)
		}
	}
	fault.Point("hub/demand-queued")
	q.mu.Lock()
	q.endIfAnswered() // when nobody could be asked
	q.mu.Unlock()
	return q, nil
}

// join takes part in an open question. One that is over is not put again:
// answers belong to one demand, and a further one has a nonce of its own.
func (s *Server) join(id fallow.Digest) (*question, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q := s.questions[id]; q != nil {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.askers++
		return q, nil
	}
	if s.seen.has(id, s.deps.Now()) {
		return nil, s.refuse(connect.CodeAlreadyExists, fallow.ReasonExpired, errors.New("this demand was answered already; sign a new one"))
	}
	return nil, nil
}

// finish ends a question: nobody is waited for any more.
func (s *Server) finish(q *question) {
	q.mu.Lock()
	q.endLocked()
	waiting := q.waiting
	q.waiting = map[*session]bool{}
	q.mu.Unlock()
	for e := range waiting {
		e.forget(q.id)
	}
	s.drop(q)
}

func (s *Server) askerLeft(q *question) {
	q.mu.Lock()
	q.askers--
	q.mu.Unlock()
	s.drop(q)
}

// drop forgets a question that is over and that nobody reads any more.
func (s *Server) drop(q *question) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.finished || q.askers > 0 || s.questions[q.id] != q {
		return
	}
	delete(s.questions, q.id)
	s.held.give(q.bytes)
	q.timer.Stop()
}

// generations remembers digests for at least maxLife and at most twice that.
type generations struct {
	young, old map[fallow.Digest]bool
	since      time.Time
}

func (g *generations) turn(now time.Time) {
	if now.Sub(g.since) >= maxLife {
		g.old, g.young, g.since = g.young, map[fallow.Digest]bool{}, now
	}
}

func (g *generations) add(d fallow.Digest, now time.Time) {
	g.turn(now)
	if g.young == nil {
		g.young = map[fallow.Digest]bool{}
	}
	g.young[d] = true
}

func (g *generations) has(d fallow.Digest, now time.Time) bool {
	g.turn(now)
	return g.young[d] || g.old[d]
}

// budget is bytes that may be held at once.
type budget struct {
	most int64
	used atomic.Int64
}

func (b *budget) take(n int64) bool {
	if b.used.Add(n) > b.most {
		b.used.Add(-n)
		return false
	}
	return true
}

func (b *budget) give(n int64) { b.used.Add(-n) }
