package ledger

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"fallow.network"
)

// Head is the newest block that is known.
type Head struct {
	Height fallow.Height
	Time   fallow.Time
}

// How the head is kept fresh: by word over a web socket, and by asking while
// that is down.
const (
	pollEvery = 200 * time.Millisecond
	// silence is how long a socket may say nothing, not even answer a ping.
	silence = 3 * time.Second
	maxWord = 4 << 20
)

// watch knows the head and wakes whoever waits for the next one. It begins
// with the first that asks, so that a program that only queries opens no socket.
type watch struct {
	rpc    *rpc
	logger *slog.Logger
	begin  sync.Once
	wanted chan struct{}

	mu      sync.Mutex
	head    Head
	live    bool // the socket is up, so head is current
	links   int  // how often a connection came up
	changed chan struct{}
}

func newWatch(r *rpc, logger *slog.Logger) *watch {
	return &watch{rpc: r, logger: logger, wanted: make(chan struct{}), changed: make(chan struct{})}
}

// now is the head as known, how often the ledger came
// back, and a channel that closes when any of this changes.
func (w *watch) now() (Head, int, <-chan struct{}) {
	w.begin.Do(func() { close(w.wanted) })
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.head, w.links, w.changed
}

// peek is the head as known, and whether it is current; it begins nothing.
func (w *watch) peek() (Head, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.head, w.live
}

func (w *watch) set(h Head, live, linked bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if h.Height <= w.head.Height && live == w.live && !linked {
		return
	}
	if h.Height > w.head.Height {
		w.head = h
	}
	if linked {
		w.links++
	}
	w.live = live
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *watch) run(ctx context.Context) {
	select {
	case <-w.wanted:
	case <-ctx.Done():
		return
	}
	for i := 0; ctx.Err() == nil; i++ {
		endpoint := w.rpc.endpoints[i%len(w.rpc.endpoints)]
		if err := w.listen(ctx, endpoint); err != nil && ctx.Err() == nil {
			w.logger.DebugContext(ctx, "word of new blocks broke off", slog.String("endpoint", endpoint), slog.Any("error", err))
		}
		w.set(Head{}, false, false)
		w.ask(ctx)
		select {
		case <-ctx.Done():
		case <-time.After(pollEvery):
		}
	}
}

// ask learns the head without the socket.
func (w *watch) ask(ctx context.Context) {
	if s, err := w.rpc.status(ctx); err == nil {
		w.set(Head{fallow.Height(s.SyncInfo.Height), fallow.Time(s.SyncInfo.Time.UnixMilli())}, false, false)
	}
}

// listen takes word of new blocks from one endpoint until it breaks off.
func (w *watch) listen(ctx context.Context, endpoint string) error {
	var s statusAnswer
	if err := w.rpc.post(ctx, endpoint, "status", nil, &s); err != nil {
		return err
	}
	if err := checkNode(w.rpc.chainID, s.NodeInfo.Network, ""); err != nil {
		return err
	}
	dialer := websocket.Dialer{HandshakeTimeout: w.rpc.timeout}
	conn, res, err := dialer.DialContext(ctx, "ws"+strings.TrimPrefix(endpoint, "http")+"/websocket", nil)
	if err != nil {
		return fmt.Errorf("open a socket: %w", err)
	}
	if res.Body != nil {
		defer func() { _ = res.Body.Close() }()
	}
	defer func() { _ = conn.Close() }()
	conn.SetReadLimit(maxWord)
	conn.SetPongHandler(func(string) error { return conn.SetReadDeadline(time.Now().Add(silence)) })
	// Reading is not bound to ctx: closing the socket ends it. Pings tell a
	// slow ledger from a dead node.
	done := make(chan struct{})
	var keeper sync.WaitGroup
	defer keeper.Wait()
	defer close(done)
	keeper.Go(func() {
		tick := time.NewTicker(silence / 3)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				_ = conn.Close()
				return
			case <-done:
				return
			case <-tick.C:
				_ = conn.WriteControl(websocket.PingMessage, nil, time.Now().Add(silence))
			}
		}
	})
	ask := map[string]any{"jsonrpc": "2.0", "id": 1, "method": "subscribe", "params": map[string]string{"query": "tm.event='NewBlockHeader'"}}
	if err := conn.WriteJSON(ask); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	// A block between the first answer and the subscription would be missed.
	if err := w.rpc.post(ctx, endpoint, "status", nil, &s); err != nil {
		return err
	}
	w.set(Head{fallow.Height(s.SyncInfo.Height), fallow.Time(s.SyncInfo.Time.UnixMilli())}, true, true)
	for {
		if err := conn.SetReadDeadline(time.Now().Add(silence)); err != nil {
			return fmt.Errorf("wait for a block: %w", err)
		}
		_, b, err := conn.ReadMessage()
		if err != nil {
			return fmt.Errorf("wait for a block: %w", err)
		}
		head, err := parseWord(b)
		if err != nil {
			return err
		}
		if head.Height > 0 {
			w.set(head, true, false)
		}
	}
}

// parseWord reads a socket's message: the head, or nothing for the answer to
// the subscription.
func parseWord(b []byte) (Head, error) {
	var m struct {
		Error  *rpcError `json:"error"`
		Result struct {
			Data struct {
				Value struct {
					Header blockHeader `json:"header"`
				} `json:"value"`
			} `json:"data"`
		} `json:"result"`
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return Head{}, fmt.Errorf("read word of a block: %w", err)
	}
	if m.Error != nil {
		return Head{}, fmt.Errorf("subscribe: %w", m.Error)
	}
	h := m.Result.Data.Value.Header
	if h.Height <= 0 {
		return Head{}, nil
	}
	return Head{fallow.Height(h.Height), fallow.Time(h.Time.UnixMilli())}, nil
}

// Head is the newest block.
func (c *Client) Head(ctx context.Context) (Head, error) {
	if head, live := c.head.peek(); live {
		return head, nil
	}
	s, err := c.rpc.status(ctx)
	if err != nil {
		return Head{}, err
	}
	h := Head{fallow.Height(s.SyncInfo.Height), fallow.Time(s.SyncInfo.Time.UnixMilli())}
	c.head.set(h, false, false)
	return h, nil
}

// WaitHeight waits until the ledger has reached h, through its restarts.
func (c *Client) WaitHeight(ctx context.Context, h fallow.Height) (Head, error) {
	for {
		head, _, changed := c.head.now()
		if head.Height >= h {
			return head, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return head, fmt.Errorf("wait for block %d, now at %d: %w", h, head.Height, ctx.Err())
		}
	}
}
