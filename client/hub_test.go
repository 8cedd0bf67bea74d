package client

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"connectrpc.com/connect"

	"fallow.network"
	hubv1 "fallow.network/api/hub"
	"fallow.network/api/hub/hubv1connect"
	marketv1 "fallow.network/api/market"
	"fallow.network/wire"
)

// testHub passes demands to providers and their answers back.
type testHub struct {
	hubv1connect.UnimplementedHubServiceHandler
	key       fallow.Key
	server    *httptest.Server
	providers []*testProvider
	noise     int           // answers of nobody that it sends first
	after     *testHub      // whose noise it waits for
	noisy     chan struct{} // closed when its own is over
	over      sync.Once
	asked     int
	mu        sync.Mutex
}

func (h *testHub) Ask(ctx context.Context, r *connect.Request[hubv1.AskRequest], s *connect.ServerStream[hubv1.AskResponse]) error {
	h.mu.Lock()
	h.asked++
	list := h.providers
	h.mu.Unlock()
	if err := s.Send(&hubv1.AskResponse{First: true, Asked: uint32(len(list))}); err != nil {
		return err
	}
	for range h.noise {
		if err := s.Send(&hubv1.AskResponse{Answer: &marketv1.SealedAnswer{}}); err != nil {
			break
		}
	}
	h.over.Do(func() { close(h.noisy) })
	if h.after != nil {
		select {
		case <-h.after.noisy:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, p := range list {
		wg.Go(func() {
			a := p.answer(ctx, r.Msg.GetDemand())
			if a == nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			_ = s.Send(&hubv1.AskResponse{Answer: a})
		})
	}
	wg.Wait()
	return nil
}

func startHub(t *testing.T, n *testNet, name string, providers ...*testProvider) *testHub {
	t.Helper()
	h := &testHub{providers: providers, noisy: make(chan struct{})}
	seed := sha256.Sum256([]byte(name))
	h.key = wire.PublicKey(ed25519.NewKeyFromSeed(seed[:]))
	mux := http.NewServeMux()
	mux.Handle(hubv1connect.NewHubServiceHandler(h))
	h.server = listen(t, mux, "")
	n.at(h.key, h.server.URL)
	t.Cleanup(h.server.Close)
	return h
}

func (h *testHub) addr() string { return h.key.String() }
