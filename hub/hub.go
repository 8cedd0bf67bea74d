// Package hub is a meeting place: providers hold a stream to its board,
// tenants put demands on it, sealed answers go back. A hub is one of many and
// holds nothing that is lost when it dies.
//
// Its one invariant: nobody can make it wait or grow. Every queue, list and
// count has a bound, who is slow is dropped, and a demand reaches the board
// only signed, alive and within its tenant's rate.
//
// It reads no answer (they are sealed), picks no winner and knows no price.
package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"

	"fallow.network"
	hubv1 "fallow.network/api/hub"
	"fallow.network/api/hub/hubv1connect"
	"fallow.network/market"
	"fallow.network/p2p"
	"fallow.network/trace"
	"fallow.network/wire"
)

// Escrow tells how much a tenant has free in escrow.
type Escrow interface {
	Free(ctx context.Context, tenant fallow.Account) (fallow.Credits, error)
}

// ClientKeys tells whether a key that is not the tenant's own acts for it.
type ClientKeys interface {
	Acts(ctx context.Context, tenant fallow.Account, key market.ClientKey) (bool, error)
}

// Nodes tells whether a node is one of a provider's that has a bond.
type Nodes interface {
	Bonded(ctx context.Context, provider fallow.Account, node fallow.Key) (bool, error)
}

// Deps is what a hub needs of the world.
type Deps struct {
	ChainID string
	// Escrow decides who is funded; nil means that nobody is.
	Escrow Escrow
	// ClientKeys may be nil: then only a tenant's own key makes it funded.
	ClientKeys ClientKeys
	// Nodes is asked about each node before it comes on the board; nil takes
	// every node at its word.
	Nodes Nodes
	// Addrs are this hub's own multiaddrs, for Status; may be nil.
	Addrs func() []string
	// PeerKey is the proven key of a request's sender; nil means p2p.PeerKey.
	PeerKey func(context.Context) (fallow.Key, bool)
	// Log may be nil.
	Log *slog.Logger
	// Trace follows demands; nil only passes on whose they are.
	Trace *trace.Tracer
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Server answers the hub's service.
type Server struct {
	cfg   Limits
	deps  Deps
	log   *slog.Logger
	funds *funds
	stats *stats
	peers *p2p.Rate[fallow.Key]

	mu        sync.Mutex
	closing   bool
	sessions  map[fallow.Key]*session
	questions map[fallow.Digest]*question
	seen      generations
	index     *index
	asking    map[*asker]bool
	requests  map[fallow.Key]int                // open ones by peer
	silent    map[*http.ResponseController]bool // streams that have said nothing yet

	wg   sync.WaitGroup // streams
	held budget         // bytes of answers
}

// New makes a hub; serve its Handler and Close it.
func New(limits Limits, deps Deps) (*Server, error) {
	if err := limits.Validate(); err != nil {
		return nil, fmt.Errorf("hub: %w", err)
	}
	if deps.ChainID == "" || len(deps.ChainID) > market.MaxChainID {
		return nil, errors.New("hub: no chain id")
	}
	if deps.PeerKey == nil {
		deps.PeerKey = p2p.PeerKey
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	s := &Server{
		cfg: limits, deps: deps, log: deps.Log, stats: newStats(),
		peers:     p2p.NewRate[fallow.Key](limits.PeerRate, limits.PeerBurst, limits.Remember),
		sessions:  map[fallow.Key]*session{},
		questions: map[fallow.Digest]*question{},
		index:     newIndex(),
		asking:    map[*asker]bool{},
		requests:  map[fallow.Key]int{},
		silent:    map[*http.ResponseController]bool{},
		held:      budget{most: limits.AnswerBytes},
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.funds = newFunds(limits, deps)
	return s, nil
}

// Handler is the hub's service for p2p.Host.Serve, under the path that it
// gives.
func (s *Server) Handler() (path string, h http.Handler) {
	path, h = hubv1connect.NewHubServiceHandler(service{s},
		connect.WithReadMaxBytes(maxMessage),
		connect.WithCompression("gzip", nil, nil),
	)
	return path, s.guarded(h)
}

// Metrics are the hub's own figures for Prometheus.
func (s *Server) Metrics() *prometheus.Registry { return s.stats.registry }

// OnBoard says whether the node with this key holds a stream: a relay's hook
// may serve those alone.
func (s *Server) OnBoard(k fallow.Key) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.sessions[k]
	return ok
}

// Close takes no more demands, tells providers that it goes away, lets
// questions run until ctx ends, and waits for all streams.
func (s *Server) Close(ctx context.Context) {
	s.mu.Lock()
	s.closing = true
	for c := range s.silent {
		_ = c.SetReadDeadline(time.Now())
	}
	var open []*question
	for _, q := range s.questions {
		open = append(open, q)
	}
	s.mu.Unlock()
	for _, q := range open {
		select {
		case <-q.done:
		case <-ctx.Done():
		}
		s.finish(q)
	}
	s.mu.Lock()
	for _, e := range s.sessions {
		e.end(fallow.ReasonDraining)
	}
	for a := range s.asking { // who does not take its answers now is cut
		a.stop(s.deps.Now().Add(lastWords))
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// begin counts a stream, unless the hub is closing.
func (s *Server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	s.wg.Add(1)
	return true
}

// service keeps the RPC methods off Server's own.
type service struct{ s *Server }

func (v service) Board(ctx context.Context, stream *connect.BidiStream[hubv1.BoardRequest, hubv1.BoardResponse]) error {
	if !v.s.begin() {
		return unavailable()
	}
	defer v.s.wg.Done()
	return v.s.board(ctx, stream)
}

func (v service) Ask(ctx context.Context, req *connect.Request[hubv1.AskRequest], stream *connect.ServerStream[hubv1.AskResponse]) error {
	if !v.s.begin() {
		return unavailable()
	}
	defer v.s.wg.Done()
	return v.s.ask(trace.With(ctx, req.Header().Get(trace.Header)), req.Msg, stream)
}

func (v service) Providers(ctx context.Context, req *connect.Request[hubv1.ProvidersRequest]) (*connect.Response[hubv1.ProvidersResponse], error) {
	if _, err := v.s.caller(ctx); err != nil {
		return nil, err
	}
	limit := v.s.cfg.Listing
	if n := req.Msg.GetLimit(); n > 0 && n < uint32(limit) {
		limit = int(n)
	}
	v.s.mu.Lock()
	defer v.s.mu.Unlock()
	return connect.NewResponse(&hubv1.ProvidersResponse{Providers: v.s.index.sample(limit, rand.Uint64())}), nil
}

func (v service) Status(ctx context.Context, _ *connect.Request[hubv1.StatusRequest]) (*connect.Response[hubv1.StatusResponse], error) {
	if _, err := v.s.caller(ctx); err != nil {
		return nil, err
	}
	out := v.s.stats.status()
	out.Protocol, out.ChainId = fallow.Protocol, v.s.deps.ChainID
	if v.s.deps.Addrs != nil {
		out.Addrs = v.s.deps.Addrs()
	}
	v.s.mu.Lock()
	defer v.s.mu.Unlock()
	out.Providers = uint32(len(v.s.sessions))
	return connect.NewResponse(out), nil
}

// caller is who asks, within its rate.
func (s *Server) caller(ctx context.Context) (fallow.Key, error) {
	k, ok := s.deps.PeerKey(ctx)
	if !ok {
		return k, connect.NewError(connect.CodeUnauthenticated, errors.New("the connection proves no key"))
	}
	if !s.peers.Allow(k, s.deps.Now()) {
		return k, s.refuse(connect.CodeResourceExhausted, fallow.ReasonRateLimited, errors.New("too many requests from this peer; wait a moment"))
	}
	return k, nil
}

// refuse counts a refusal and words it: the reason first, for programs.
func (s *Server) refuse(code connect.Code, reason fallow.Reason, err error) error {
	s.stats.refuse(reason)
	return connect.NewError(code, fmt.Errorf("%s: %w", reason, err))
}

func unavailable() error {
	return connect.NewError(connect.CodeUnavailable, fmt.Errorf("%s: this hub is closing; ask another", fallow.ReasonDraining))
}

// decode opens a demand for the board.
func (s *Server) decode(m market.Signed) (market.Demand, error) {
	d, err := wire.OpenDemand(s.deps.ChainID, m)
	if err != nil {
		return d, s.refuse(connect.CodeInvalidArgument, wire.ReasonOf(err), err)
	}
	return d, nil
}
