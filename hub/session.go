package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect"

	"fallow.network"
	hubv1 "fallow.network/api/hub"
	"fallow.network/fault"
	"fallow.network/wire"
)

type deadlinesKey struct{}

// guarded lets a stream's end be brought about from outside: a blocked read or
// write returns when its deadline is set to now. A request has a moment to say
// what it wants, and a peer so many of them at once: one that is half said costs
// a hub more than it costs who says it, and comes before all rates.
func (s *Server) guarded(next http.Handler) http.Handler {
	errs := connect.NewErrorWriter()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if key, ok := s.deps.PeerKey(r.Context()); ok {
			if !s.open(key) {
				_ = errs.Write(w, r, s.refuse(connect.CodeResourceExhausted, fallow.ReasonRateLimited, errors.New("too many requests of this peer are open; wait for one to end")))
				return
			}
			defer s.shut(key)
		}
		c := http.NewResponseController(w)
		_ = c.SetReadDeadline(time.Now().Add(firstWord)) // a server that can't waits
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), deadlinesKey{}, c)))
	})
}

func (s *Server) open(k fallow.Key) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.requests[k] >= openRequests {
		return false
	}
	s.requests[k]++
	return true
}

func (s *Server) shut(k fallow.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.requests[k]--; s.requests[k] == 0 {
		delete(s.requests, k)
	}
}

// stopReads makes a blocked read return.
func stopReads(ctx context.Context) {
	if c, ok := ctx.Value(deadlinesKey{}).(*http.ResponseController); ok {
		_ = c.SetReadDeadline(time.Now()) // a server that can't ends with its connection
	}
}

// stopWrites makes writes return from at on.
func stopWrites(ctx context.Context, at time.Time) {
	if c, ok := ctx.Value(deadlinesKey{}).(*http.ResponseController); ok {
		_ = c.SetWriteDeadline(at)
	}
}

// session is one provider's stream.
type session struct {
	key   fallow.Key
	queue chan *hubv1.BoardResponse
	over  chan struct{} // closed when the session must end

	mu      sync.Mutex
	ended   bool
	reason  fallow.Reason
	strikes int
	strays  int
	open    map[fallow.Digest]*question // put to this provider, without answer
	entry   *entry                      // under the server's lock
}

func newSession(k fallow.Key, queue int) *session {
	return &session{key: k, queue: make(chan *hubv1.BoardResponse, queue), over: make(chan struct{}), open: map[fallow.Digest]*question{}}
}

// end asks the session to end; the first reason stands.
func (e *session) end(reason fallow.Reason) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.endLocked(reason)
}

func (e *session) endLocked(reason fallow.Reason) {
	if !e.ended {
		e.ended, e.reason = true, reason
		close(e.over)
	}
}

// put queues a question; false says that this provider will not answer it.
func (e *session) put(q *question) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ended {
		return false
	}
	select {
	case e.queue <- q.told:
		e.strikes = 0
		e.open[q.id] = q
		return true
	default:
		if e.strikes++; e.strikes >= slowStrikes {
			e.endLocked(fallow.ReasonTooSlow)
		}
		return false
	}
}

// take gives the question that a reply is for; nil when none is open here.
func (e *session) take(id fallow.Digest) *question {
	e.mu.Lock()
	defer e.mu.Unlock()
	q := e.open[id]
	delete(e.open, id)
	if q == nil {
		// One that came too late is no fault; many are.
		if e.strays++; e.strays > strayReplies {
			e.endLocked(fallow.ReasonMalformed)
		}
		return nil
	}
	e.strays = 0
	return q
}

func (e *session) forget(id fallow.Digest) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.open, id)
}

// board serves one provider until either side ends.
func (s *Server) board(ctx context.Context, stream *connect.BidiStream[hubv1.BoardRequest, hubv1.BoardResponse]) error {
	key, err := s.caller(ctx)
	if err != nil {
		return err
	}
	first, err := s.firstWord(ctx, stream)
	if err != nil {
		return err
	}
	e := newSession(key, s.cfg.Queue)
	// Connect sends headers with the first message: say that all is well.
	e.queue <- &hubv1.BoardResponse{Protocol: fallow.Protocol}
	reason, err := s.bonded(ctx, e.key, first.GetAnnouncement())
	if err == nil {
		reason, err = s.announce(e, first.GetAnnouncement())
	}
	if err != nil {
		// The reason goes as a message too: a client sees it whatever becomes
		// of the trailer.
		sendErr := stream.Send(&hubv1.BoardResponse{Reason: string(reason), Protocol: fallow.Protocol})
		return errors.Join(s.refuse(connect.CodeFailedPrecondition, reason, err), sendErr)
	}
	s.log.InfoContext(ctx, "provider on board", slog.String("provider", first.GetAnnouncement().GetProvider()), slog.String("node", key.Short()))

	fault.Point("hub/session-accepted")
	read := make(chan error, 1)
	go func() { read <- s.hear(ctx, stream, e) }()
	stop := context.AfterFunc(ctx, func() { e.end("") })
	defer stop()
	err = s.tell(ctx, stream, e)
	e.end("")
	stopReads(ctx)
	s.leave(e)
	if heard := <-read; err == nil {
		err = heard
	}
	s.log.InfoContext(ctx, "provider left the board", slog.String("node", key.Short()), slog.String("reason", string(e.reason)))
	return err
}

// firstWord waits for a stream's first message, for a moment.
func (s *Server) firstWord(ctx context.Context, stream *connect.BidiStream[hubv1.BoardRequest, hubv1.BoardResponse]) (*hubv1.BoardRequest, error) {
	c, ok := ctx.Value(deadlinesKey{}).(*http.ResponseController)
	if !ok {
		return stream.Receive()
	}
	s.mu.Lock()
	until := time.Now().Add(firstWord)
	if s.closing {
		until = time.Now()
	}
	s.silent[c] = true
	_ = c.SetReadDeadline(until) // a server that can't waits
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.silent, c)
	}()
	first, err := stream.Receive()
	_ = c.SetReadDeadline(time.Time{})
	return first, err
}

// tell sends what is queued until the session is over.
func (s *Server) tell(ctx context.Context, stream *connect.BidiStream[hubv1.BoardRequest, hubv1.BoardResponse], e *session) error {
	// A send that hangs while the session ends is cut.
	var watch sync.WaitGroup
	told := make(chan struct{})
	defer watch.Wait() // a stream must not be touched after its handler
	defer close(told)
	watch.Go(func() {
		select {
		case <-told:
		case <-e.over:
			stopWrites(ctx, time.Now().Add(lastWords))
		}
	})
	for {
		select {
		case <-e.over:
			e.mu.Lock()
			reason := e.reason
			e.mu.Unlock()
			if reason == "" {
				return nil
			}
			return stream.Send(&hubv1.BoardResponse{Reason: string(reason), Protocol: fallow.Protocol})
		case m := <-e.queue:
			if err := stream.Send(m); err != nil {
				return err
			}
		}
	}
}

// hear takes replies and new announcements until the provider is done.
func (s *Server) hear(ctx context.Context, stream *connect.BidiStream[hubv1.BoardRequest, hubv1.BoardResponse], e *session) error {
	defer e.end("")
	for {
		m, err := stream.Receive()
		if err != nil {
			return nil // the provider left, or was made to
		}
		if a := m.GetAnnouncement(); a != nil {
			if !s.peers.Allow(e.key, s.deps.Now()) {
				e.end(fallow.ReasonRateLimited)
				return nil
			}
			reason, err := s.bonded(ctx, e.key, a)
			if err == nil {
				reason, err = s.announce(e, a)
			}
			if err != nil {
				e.end(reason)
				return s.refuse(connect.CodeFailedPrecondition, reason, err)
			}
		}
		if r := m.GetReply(); r != nil {
			if err := s.reply(e, r); err != nil {
				e.end(fallow.ReasonMalformed)
				return s.refuse(connect.CodeInvalidArgument, fallow.ReasonMalformed, err)
			}
		}
	}
}

// bonded asks the ledger whether the node may speak for the provider that it
// names. While the ledger is away it is believed: tenants ask for themselves.
func (s *Server) bonded(ctx context.Context, node fallow.Key, a *hubv1.Announcement) (fallow.Reason, error) {
	if s.deps.Nodes == nil || wire.CheckAccount(a.GetProvider()) != nil { // announce says what is wrong
		return "", nil
	}
	w := s.funds.learn(ctx, "node "+string(node[:])+a.GetProvider(), s.deps.Now(), func(ctx context.Context) (bool, error) {
		return s.deps.Nodes.Bonded(ctx, fallow.Account(a.GetProvider()), node)
	})
	switch w {
	case wordNo:
		return fallow.ReasonUnbonded, fmt.Errorf("the ledger knows no node %s of %s with a bond; register it with: fallow provider start", node.Short(), a.GetProvider())
	case wordBusy:
		return fallow.ReasonRateLimited, errors.New("too many nodes that are not known here come at once; come again in a moment")
	default:
		return "", nil
	}
}

// announce puts a session on the board, or changes what stands there of it.
func (s *Server) announce(e *session, a *hubv1.Announcement) (fallow.Reason, error) {
	if a == nil {
		return fallow.ReasonMalformed, errors.New("the first message holds no announcement")
	}
	o, err := announced(e.key, a)
	switch {
	case errors.Is(err, errVersion):
		return fallow.ReasonVersion, err
	case err != nil:
		return fallow.ReasonMalformed, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return fallow.ReasonDraining, errors.New("this hub is closing; use another")
	}
	old := s.sessions[e.key]
	if old == nil && len(s.sessions) >= s.cfg.Providers {
		return fallow.ReasonNoCapacity, fmt.Errorf("the board is full with %d providers; use another hub", len(s.sessions))
	}
	if e.entry != nil && old != e {
		return fallow.ReasonProviderLeft, errors.New("this node has another stream here")
	}
	if e.entry != nil { // announced again
		s.index.remove(e.entry)
	} else if old != nil {
		// The same node came back before its old stream was found dead.
		s.index.remove(old.entry)
		old.end(fallow.ReasonProviderLeft)
	}
	s.sessions[e.key] = e
	e.entry = s.index.add(o, e)
	s.stats.providers.Set(float64(len(s.sessions)))
	return "", nil
}

// leave takes a session off the board; its open questions don't wait for it.
func (s *Server) leave(e *session) {
	s.mu.Lock()
	if s.sessions[e.key] == e {
		delete(s.sessions, e.key)
		s.index.remove(e.entry)
	}
	s.stats.providers.Set(float64(len(s.sessions)))
	s.mu.Unlock()
	e.mu.Lock()
	open := e.open
	e.open = map[fallow.Digest]*question{}
	e.mu.Unlock()
	for _, q := range open {
		q.gone(e)
	}
}

// reply brings a sealed answer to whoever asks; an error is a malformed one.
func (s *Server) reply(e *session, r *hubv1.SealedReply) error {
	id, err := fallow.DigestFrom(r.GetDemand())
	if err != nil {
		return fmt.Errorf("reply: %w", err)
	}
	n := len(r.GetAnswer().GetCiphertext())
	if len(r.GetAnswer().GetEncapsulatedKey()) != 32 || n == 0 || n > maxSealed {
		return fmt.Errorf("reply: sealed answer of %d bytes under a key of %d", n, len(r.GetAnswer().GetEncapsulatedKey()))
	}
	q := e.take(id)
	if q == nil {
		s.stats.late.Inc()
		return nil
	}
	if !s.held.take(int64(n)) {
		s.stats.dropped.Inc()
		q.gone(e)
		return nil
	}
	if !q.answer(e, r.GetAnswer()) {
		s.held.give(int64(n))
		s.stats.late.Inc()
		return nil
	}
	fault.Point("hub/answer-taken")
	s.stats.answers.Inc()
	return nil
}
