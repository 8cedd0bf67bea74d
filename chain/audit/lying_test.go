package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

// liar answers for a node and changes some answers.
type liar struct {
	to     string
	method string
	change func(result map[string]any) bool
	lies   atomic.Int64
}

func (l *liar) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	req, err := http.NewRequestWithContext(r.Context(), r.Method, "http://"+l.to+r.URL.String(), bytes.NewReader(body))
	if err != nil {
		http.Error(rw, err.Error(), http.StatusInternalServerError)
		return
	}
	req.Header = r.Header
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		http.Error(rw, err.Error(), http.StatusBadGateway)
		return
	}
	defer resp.Body.Close() //nolint:errcheck // it was read
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		http.Error(rw, err.Error(), http.StatusBadGateway)
		return
	}
	var call struct {
		Method string `json:"method"`
	}
	var reply map[string]any
	if json.Unmarshal(body, &call) == nil && call.Method == l.method && json.Unmarshal(answer, &reply) == nil {
		if result, ok := reply["result"].(map[string]any); ok && l.change(result) {
			l.lies.Add(1)
			answer, _ = json.Marshal(reply)
		}
	}
	rw.Header().Set("Content-Type", "application/json")
	_, _ = rw.Write(answer)
}

func dig(v any, path ...any) any {
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, ok := v.(map[string]any)
			if !ok {
				return nil
			}
			v = m[p]
		case int:
			list, ok := v.([]any)
			if !ok || len(list) <= p {
				return nil
			}
			v = list[p]
		}
	}
	return v
}

// set changes a field that is there.
func set(v any, field string, to any) bool {
	m, ok := v.(map[string]any)
	if !ok || m[field] == nil {
		return false
	}
	m[field] = to
	return true
}

// TestLyingNode asks a sound ledger through a node that lies about one thing.
func TestLyingNode(t *testing.T) {
	w := newNetwork(t)
	w.live()
	tests := []struct {
		name, method string
		change       func(map[string]any) bool
		want         string
	}{
		{"another genesis", "genesis_chunked", func(r map[string]any) bool { return set(r, "data", "e30=") }, "its genesis is"},
		{"other transactions", "block", func(r map[string]any) bool {
			txs, ok := dig(r, "block", "data", "txs").([]any)
			if ok && len(txs) > 0 {
				txs[0] = "AAAA"
			}
			return ok && len(txs) > 0
		}, "its transactions are not those"},
		{"a missing transaction", "block", func(r map[string]any) bool {
			txs, ok := dig(r, "block", "data", "txs").([]any)
			return ok && len(txs) > 0 && set(dig(r, "block", "data"), "txs", []any{})
		}, "its transactions are not those"},
		{"a success that failed", "block_results", func(r map[string]any) bool {
			one, ok := dig(r, "txs_results", 0).(map[string]any)
			if ok {
				one["code"] = 5
			}
			return ok
		}, "its results are not those"},
		{"another answer", "block_results", func(r map[string]any) bool { return set(dig(r, "txs_results", 0), "data", "AAAA") }, "its results are not those"},
		{"another state", "abci_query", func(r map[string]any) bool { return set(dig(r, "response"), "value", "AAAA") }, "its value is not proven"},
		{"no state", "abci_query", func(r map[string]any) bool { return set(dig(r, "response"), "value", "") }, "its absence is not proven"},
		{"no proof", "abci_query", func(r map[string]any) bool { return set(dig(r, "response"), "proofOps", nil) }, "without a proof"},
		{"another header", "blockchain", func(r map[string]any) bool {
			return set(dig(r, "block_metas", 1, "header"), "time", "2026-01-02T03:04:05Z")
		}, "its header is not the one"},
		{"another application hash", "commit", func(r map[string]any) bool {
			return dig(r, "signed_header", "header", "height") != "1" && set(dig(r, "signed_header", "header"), "app_hash", strings.Repeat("AB", 32))
		}, "light client"},
		{"other validators", "validators", func(r map[string]any) bool {
			return set(dig(r, "validators", 0), "voting_power", "77")
		}, "light client"},
		{"an unsigned block 1", "commit", func(r map[string]any) bool {
			return set(dig(r, "signed_header", "commit", "signatures", 0), "signature", strings.Repeat("A", 86)+"==")
		}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			l := &liar{to: w.node.RPCAddress, method: test.method, change: test.change}
			server := httptest.NewServer(l)
			defer server.Close()
			_, err := w.audit(Config{Node: server.URL})
			if l.lies.Load() == 0 {
				t.Fatal("it never lied")
			}
			if err == nil {
				t.Fatal("the lie was believed")
			}
			if b, ok := errors.AsType[*Breach](err); test.want != "" && (!ok || !b.Node || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("err = %v", err)
			}
		})
	}
	if _, err := w.audit(Config{}); err != nil {
		t.Errorf("without the liar: %v", err)
	}
}
