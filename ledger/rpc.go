package ledger

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"fallow.network"
)

// rpc speaks CometBFT's JSON-RPC for what gRPC does not offer: a block with
// its results, and word of new ones. Endpoints stand in for each other.
type rpc struct {
	chainID   string
	endpoints []string
	timeout   time.Duration
	http      *http.Client

	mu    sync.Mutex
	turn  int
	known map[string]bool // endpoints whose ledger has been checked
}

func newRPC(c Config) *rpc {
	transport := &http.Transport{MaxIdleConnsPerHost: 8, IdleConnTimeout: time.Minute, Proxy: http.ProxyFromEnvironment}
	r := &rpc{chainID: c.ChainID, timeout: c.CallTimeout, http: &http.Client{Transport: transport}, known: map[string]bool{}}
	for _, u := range c.RPC {
		r.endpoints = append(r.endpoints, strings.TrimRight(u, "/"))
	}
	return r
}

func (r *rpc) close() { r.http.CloseIdleConnections() }

// rpcError is a node's answer that it can't do what was asked.
type rpcError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	Data    string `json:"data"`
}

// Error is the node's sentence.
func (e *rpcError) Error() string {
	return strings.TrimSuffix(strings.TrimSpace(e.Message+": "+e.Data), ":")
}

// call asks the endpoints in turn until one answers.
func (r *rpc) call(ctx context.Context, method string, params map[string]string, out any) error {
	r.mu.Lock()
	first := r.turn
	r.mu.Unlock()
	var errs []error
	for i := range r.endpoints {
		at := (first + i) % len(r.endpoints)
		endpoint := r.endpoints[at]
		err := r.checked(ctx, endpoint, method, params, out)
		var refusal *rpcError
		if err == nil || errors.As(err, &refusal) {
			r.mu.Lock()
			r.turn = at
			r.mu.Unlock()
			return err
		}
		r.forget(endpoint)
		errs = append(errs, fmt.Errorf("%s: %w", endpoint, err))
		if ctx.Err() != nil {
			break
		}
	}
	return away(ctx, errs)
}

// forget makes the next call check again whose node this is.
func (r *rpc) forget(endpoint string) {
	r.mu.Lock()
	delete(r.known, endpoint)
	r.mu.Unlock()
}

func (r *rpc) checked(ctx context.Context, endpoint, method string, params map[string]string, out any) error {
	r.mu.Lock()
	known := r.known[endpoint]
	r.mu.Unlock()
	if !known {
		var s statusAnswer
		if err := r.post(ctx, endpoint, "status", nil, &s); err != nil {
			return err
		}
		if err := checkNode(r.chainID, s.NodeInfo.Network, ""); err != nil {
			return err
		}
		if s.SyncInfo.Catching {
			return errSyncing
		}
		r.mu.Lock()
		r.known[endpoint] = true
		r.mu.Unlock()
	}
	return r.post(ctx, endpoint, method, params, out)
}

func (r *rpc) post(ctx context.Context, endpoint, method string, params map[string]string, out any) error {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	if params == nil {
		params = map[string]string{}
	}
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
	if err != nil {
		return fmt.Errorf("ask for %s: %w", method, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("ask for %s: %w", method, err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := r.http.Do(req)
	if err != nil {
		return fmt.Errorf("ask for %s: %w", method, err)
	}
	defer func() { _ = res.Body.Close() }()
	answer := struct {
		Result json.RawMessage `json:"result"`
		Error  *rpcError       `json:"error"`
	}{}
	if err := json.NewDecoder(io.LimitReader(res.Body, maxAnswer)).Decode(&answer); err != nil {
		return fmt.Errorf("read the answer to %s (%s): %w", method, res.Status, err)
	}
	if answer.Error != nil {
		return answer.Error
	}
	if err := json.Unmarshal(answer.Result, out); err != nil {
		return fmt.Errorf("read the answer to %s: %w", method, err)
	}
	return nil
}

// number is an integer that CometBFT writes as a string.
type number int64

// UnmarshalJSON reads "12" as well as 12.
func (n *number) UnmarshalJSON(b []byte) error {
	var v int64
	if err := json.Unmarshal(bytes.Trim(b, `"`), &v); err != nil {
		return err
	}
	*n = number(v)
	return nil
}

// statusAnswer and its siblings are CometBFT's answers, as far as they are used.
type statusAnswer struct {
	NodeInfo struct {
		Network string `json:"network"`
	} `json:"node_info"`
	SyncInfo struct {
		Height   number    `json:"latest_block_height"`
		Time     time.Time `json:"latest_block_time"`
		Earliest number    `json:"earliest_block_height"`
		Catching bool      `json:"catching_up"`
	} `json:"sync_info"`
}

type blockHeader struct {
	Height number    `json:"height"`
	Time   time.Time `json:"time"`
}

type blockAnswer struct {
	Block struct {
		Header blockHeader `json:"header"`
		Data   struct {
			Txs [][]byte `json:"txs"`
		} `json:"data"`
	} `json:"block"`
}

type resultsAnswer struct {
	Txs    []txAnswer `json:"txs_results"`
	Events []rawEvent `json:"finalize_block_events"`
}

type txAnswer struct {
	Code      uint32     `json:"code"`
	Data      []byte     `json:"data"`
	Log       string     `json:"log"`
	GasWanted number     `json:"gas_wanted"`
	GasUsed   number     `json:"gas_used"`
	Events    []rawEvent `json:"events"`
	Codespace string     `json:"codespace"`
}

type rawEvent struct {
	Type       string `json:"type"`
	Attributes []struct {
		Key   string `json:"key"`
		Value string `json:"value"`
	} `json:"attributes"`
}

func (r *rpc) status(ctx context.Context) (statusAnswer, error) {
	var s statusAnswer
	if err := r.call(ctx, "status", nil, &s); err != nil {
		return s, fmt.Errorf("ask for the ledger's head: %w", err)
	}
	return s, nil
}

// errNotYet is a block or its results that are not there yet.
var errNotYet = errors.New("not there yet")

// block fetches a block's transactions and time, and its results.
func (r *rpc) block(ctx context.Context, h fallow.Height) (blockAnswer, resultsAnswer, error) {
	at := map[string]string{"height": fmt.Sprint(int64(h))}
	var b blockAnswer
	var results resultsAnswer
	err := r.call(ctx, "block", at, &b)
	if err == nil {
		err = r.call(ctx, "block_results", at, &results)
	}
	var refusal *rpcError
	switch {
	case errors.As(err, &refusal) && strings.Contains(refusal.Error(), "lowest height is"):
		return b, results, fmt.Errorf("block %d: %w: %w", h, ErrPruned, err)
	case errors.As(err, &refusal):
		return b, results, fmt.Errorf("block %d: %w: %w", h, errNotYet, err)
	case err != nil:
		return b, results, fmt.Errorf("block %d: %w", h, err)
	case fallow.Height(b.Block.Header.Height) != h:
		return b, results, fmt.Errorf("block %d: %w", h, errNotYet)
	case len(results.Txs) != len(b.Block.Data.Txs):
		return b, results, fmt.Errorf("block %d: it has %d transactions and %d results", h, len(b.Block.Data.Txs), len(results.Txs))
	}
	return b, results, nil
}
