package ledger

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	authv1 "cosmossdk.io/api/cosmos/auth/v1beta1"
	authzv1 "cosmossdk.io/api/cosmos/authz/v1beta1"
	bankv1 "cosmossdk.io/api/cosmos/bank/v1beta1"
	abciv1 "cosmossdk.io/api/cosmos/base/abci/v1beta1"
	nodev1 "cosmossdk.io/api/cosmos/base/node/v1beta1"
	cmtv1 "cosmossdk.io/api/cosmos/base/tendermint/v1beta1"
	secpv1 "cosmossdk.io/api/cosmos/crypto/secp256k1"
	txv1 "cosmossdk.io/api/cosmos/tx/v1beta1"
	p2pv1 "cosmossdk.io/api/tendermint/p2p"
	"github.com/gorilla/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"fallow.network"
	leasev1 "fallow.network/api/lease"
	"fallow.network/keys"
)

const testChain = "fallow-test-1"

// ledgerFake is a ledger in memory that keeps the rules which matter to a
// sender: signatures, sequences checked on top of the queue, gas, timeouts, a
// queue that a restart loses, blocks that a restart keeps.
type ledgerFake struct {
	t        *testing.T
	network  string
	protocol string
	syncing  bool
	grpcAt   string
	rpcAt    string
	servers  []func()

	mu       sync.Mutex
	blocks   []fakeBlock // blocks[i] is height i+1
	queue    [][]byte
	accounts map[string]*fakeAccount
	done     map[string]int // effects by name: how often each happened
	gasNeed  func(entries int) uint64
	simNeed  func(entries int) uint64
	onSend   func(raw []byte) error // before a broadcast is answered; may lose the answer
	refuse   func(raw []byte) bool  // take a broadcast and forget it
	sockets  map[chan Head]bool
	events   []rawEvent // of the next block itself
	calls    map[string]int
}

type fakeBlock struct {
	at      time.Time
	txs     [][]byte
	results []txAnswer
	events  []rawEvent
}

type fakeAccount struct{ number, committed, checked uint64 }

func newFake(t *testing.T, accounts ...fallow.Account) *ledgerFake {
	t.Helper()
	l := &ledgerFake{
		t: t, network: testChain, protocol: fallow.Protocol, accounts: map[string]*fakeAccount{}, done: map[string]int{},
		gasNeed: func(n int) uint64 { return 50_000 * uint64(n) }, sockets: map[chan Head]bool{}, calls: map[string]int{},
	}
	l.simNeed = func(n int) uint64 { return l.gasNeed(n) }
	for i, a := range accounts {
		l.accounts[string(a)] = &fakeAccount{number: uint64(i + 3)}
	}
	l.commit()
	l.start()
	t.Cleanup(l.stop)
	return l
}

func listenAt(t *testing.T, at *string) net.Listener {
	t.Helper()
	address := *at
	if address == "" {
		address = "127.0.0.1:0"
	}
	var err error
	for range 100 {
		var n net.Listener
		if n, err = net.Listen("tcp", address); err == nil {
			*at = n.Addr().String()
			return n
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal(err)
	return nil
}

func (l *ledgerFake) start() {
	g := grpc.NewServer()
	txv1.RegisterServiceServer(g, fakeTx{ledger: l})
	authv1.RegisterQueryServer(g, fakeAuth{ledger: l})
	nodev1.RegisterServiceServer(g, fakeNode{})
	cmtv1.RegisterServiceServer(g, fakeInfo{ledger: l})
	h := &http.Server{Handler: l, ReadHeaderTimeout: time.Second}
	gl, hl := listenAt(l.t, &l.grpcAt), listenAt(l.t, &l.rpcAt)
	var serving sync.WaitGroup
	serving.Go(func() { _ = g.Serve(gl) })
	serving.Go(func() { _ = h.Serve(hl) })
	l.servers = append(l.servers, func() {
		g.Stop()
		_ = h.Close()
		l.mu.Lock()
		for s := range l.sockets {
			close(s)
			delete(l.sockets, s)
		}
		l.mu.Unlock()
		serving.Wait()
	})
}

func (l *ledgerFake) stop() {
	for _, f := range l.servers {
		f()
	}
	l.servers = nil
}

// crash is kill -9: the queue is lost, the blocks are kept.
func (l *ledgerFake) crash() {
	l.stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue = nil
	for _, a := range l.accounts {
		a.checked = a.committed
	}
}

func (l *ledgerFake) config() Config {
	return Config{ChainID: testChain, GRPC: []string{l.grpcAt}, RPC: []string{"http://" + l.rpcAt}, GasPrice: "0.001", CallTimeout: 2 * time.Second}
}

func (l *ledgerFake) dial() *Client {
	l.t.Helper()
	c, err := Dial(l.t.Context(), l.config())
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() {
		if err := c.Close(); err != nil {
			l.t.Error(err)
		}
	})
	return c
}

// tick commits a block each interval until the test ends.
func (l *ledgerFake) tick(each time.Duration) {
	done := make(chan struct{})
	var ticking sync.WaitGroup
	ticking.Go(func() {
		t := time.NewTicker(each)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				l.commit()
			case <-done:
				return
			}
		}
	})
	l.t.Cleanup(func() { close(done); ticking.Wait() })
}

func (l *ledgerFake) commit() fallow.Height {
	l.mu.Lock()
	defer l.mu.Unlock()
	height := int64(len(l.blocks) + 1)
	b := fakeBlock{at: time.UnixMilli(1_700_000_000_000 + height*1000), txs: l.queue, events: l.events}
	l.queue, l.events = nil, nil
	for _, raw := range b.txs {
		b.results = append(b.results, l.deliver(raw, uint64(height)))
	}
	for _, a := range l.accounts {
		a.checked = max(a.checked, a.committed)
	}
	l.blocks = append(l.blocks, b)
	for s := range l.sockets {
		select {
		case s <- Head{fallow.Height(height), fallow.Time(b.at.UnixMilli())}:
		default:
		}
	}
	return fallow.Height(height)
}

// open checks a transaction as the ante handlers do.
func (l *ledgerFake) open(raw []byte, sequence func(*fakeAccount) uint64, height uint64, check bool) (*txv1.TxBody, *txv1.AuthInfo, *fakeAccount, *RefusalError) {
	var tx txv1.TxRaw
	var body txv1.TxBody
	var auth txv1.AuthInfo
	var pub secpv1.PubKey
	if err := errors.Join(proto.Unmarshal(raw, &tx), proto.Unmarshal(tx.GetBodyBytes(), &body), proto.Unmarshal(tx.GetAuthInfoBytes(), &auth)); err != nil {
		return nil, nil, nil, &RefusalError{Codespace: sdkSpace, Code: 2, Log: err.Error()}
	}
	if err := auth.GetSignerInfos()[0].GetPublicKey().UnmarshalTo(&pub); err != nil {
		return nil, nil, nil, &RefusalError{Codespace: sdkSpace, Code: 2, Log: err.Error()}
	}
	signer, err := keys.AccountOf(pub.GetKey())
	a := l.accounts[string(signer)]
	if err != nil || a == nil {
		return nil, nil, nil, &RefusalError{Codespace: sdkSpace, Code: 9, Log: "unknown account"}
	}
	if body.GetTimeoutHeight() > 0 && height > body.GetTimeoutHeight() {
		return nil, nil, nil, &RefusalError{Codespace: sdkSpace, Code: codeTimeoutHeight, Log: "tx timeout height"}
	}
	if got := auth.GetSignerInfos()[0].GetSequence(); got != sequence(a) {
		return nil, nil, nil, &RefusalError{Codespace: sdkSpace, Code: codeWrongSequence, Log: fmt.Sprintf("account sequence mismatch, expected %d, got %d: incorrect account sequence", sequence(a), got)}
	}
	doc, err := proto.MarshalOptions{Deterministic: true}.Marshal(&txv1.SignDoc{BodyBytes: tx.GetBodyBytes(), AuthInfoBytes: tx.GetAuthInfoBytes(), ChainId: l.network, AccountNumber: a.number})
	if err != nil || check && !keys.Verify(pub.GetKey(), doc, tx.GetSignatures()[0]) {
		return nil, nil, nil, &RefusalError{Codespace: sdkSpace, Code: 4, Log: "signature verification failed"}
	}
	return &body, &auth, a, nil
}

func (l *ledgerFake) deliver(raw []byte, height uint64) txAnswer {
	body, auth, a, refusal := l.open(raw, func(a *fakeAccount) uint64 { return a.committed }, height, true)
	if refusal != nil {
		return txAnswer{Code: refusal.Code, Codespace: refusal.Codespace, Log: refusal.Log}
	}
	a.committed++
	data, effects, events, need, refusal := l.execute(body, l.gasNeed)
	r := txAnswer{GasWanted: number(auth.GetFee().GetGasLimit()), GasUsed: number(need)}
	if refusal == nil && auth.GetFee().GetGasLimit() < need {
		refusal = &RefusalError{Codespace: sdkSpace, Code: codeOutOfGas, Log: "out of gas in location: WriteFlat"}
	}
	if refusal != nil {
		r.Code, r.Codespace, r.Log = refusal.Code, refusal.Codespace, refusal.Log
		return r
	}
	for _, e := range effects {
		l.done[e]++
	}
	r.Data, r.Events = data, events
	return r
}

// execute says what the messages would do.
func (l *ledgerFake) execute(body *txv1.TxBody, gas func(int) uint64) (data []byte, effects []string, events []rawEvent, need uint64, refusal *RefusalError) {
	var out abciv1.TxMsgData
	n := 0
	for i, a := range body.GetMessages() {
		m, err := a.UnmarshalNew()
		if err != nil {
			return nil, nil, nil, 0, &RefusalError{Codespace: sdkSpace, Code: 6, Log: err.Error()}
		}
		var response proto.Message
		if exec, ok := m.(*authzv1.MsgExec); ok {
			all := &authzv1.MsgExecResponse{}
			for _, inner := range exec.GetMsgs() {
				im, err := inner.UnmarshalNew()
				if err != nil {
					return nil, nil, nil, 0, &RefusalError{Codespace: sdkSpace, Code: 6, Log: err.Error()}
				}
				r, did, e, bad := l.message(im)
				if bad != nil {
					return nil, nil, nil, 0, bad
				}
				effects, events, n = append(effects, did...), append(events, e...), n+entries(im)
				b, err := proto.Marshal(r)
				if err != nil {
					l.t.Error(err)
				}
				all.Results = append(all.Results, b)
			}
			response = all
		} else {
			r, did, e, bad := l.message(m)
			if bad != nil {
				bad.Log = fmt.Sprintf("failed to execute message; message index: %d: %s", i, bad.Log)
				return nil, nil, nil, 0, bad
			}
			effects, events, n, response = append(effects, did...), append(events, e...), n+entries(m), r
		}
		packed, err := anyOf(response)
		if err != nil {
			l.t.Error(err)
		}
		out.MsgResponses = append(out.MsgResponses, packed)
	}
	data, err := proto.Marshal(&out)
	if err != nil {
		l.t.Error(err)
	}
	return data, effects, events, gas(n), nil
}

func (l *ledgerFake) message(m proto.Message) (response proto.Message, effects []string, events []rawEvent, refusal *RefusalError) {
	switch m := m.(type) {
	case *bankv1.MsgSend:
		if m.GetAmount()[0].GetAmount() == "666" {
			return nil, nil, nil, &RefusalError{Codespace: sdkSpace, Code: 5, Log: "spendable balance 1ufal is smaller than 666ufal: insufficient funds [cosmos/x/bank/keeper/send.go:1]"}
		}
		return &bankv1.MsgSendResponse{}, []string{"send " + m.GetAmount()[0].GetAmount()}, nil, nil
	case *leasev1.MsgOpenLeases:
		r := &leasev1.MsgOpenLeasesResponse{}
		for _, e := range m.GetEntries() {
			name := string(e.GetOffer().GetMessage())
			if strings.HasPrefix(name, "bad") {
				r.Results = append(r.Results, &leasev1.Result{Reason: string(fallow.ReasonOfferUsed)})
				continue
			}
			effects = append(effects, "open "+name)
			r.Results = append(r.Results, &leasev1.Result{Lease: e.GetReserve(), Amount: e.GetReserve()})
			events = append(events, typedEvent("fallow.lease.v1.EventLeaseOpened", "lease", fmt.Sprintf("%q", fmt.Sprint(e.GetReserve())), "offer", fmt.Sprintf("%q", name), "msg_index", "0"))
		}
		return r, effects, events, nil
	case *leasev1.MsgClose:
		r := &leasev1.MsgCloseResponse{}
		for _, id := range m.GetLeases() {
			if id == 666 {
				return nil, nil, nil, &RefusalError{Codespace: "lease", Code: 7, Log: "no such lease"}
			}
			effects = append(effects, fmt.Sprint("close ", id))
			r.Results = append(r.Results, &leasev1.Result{Lease: id})
		}
		return r, effects, nil, nil
	case *leasev1.MsgRedeem:
		r := &leasev1.MsgRedeemResponse{}
		for i := range m.GetVouchers() {
			effects = append(effects, "redeem "+string(m.GetVouchers()[i].GetMessage()))
			r.Results = append(r.Results, &leasev1.Result{Amount: uint64(i)})
		}
		return r, effects, nil, nil
	default:
		r, err := responseTo(m)
		if err != nil {
			return nil, nil, nil, &RefusalError{Codespace: sdkSpace, Code: 6, Log: err.Error()}
		}
		return r, []string{typeURL(m)}, nil, nil
	}
}

func typedEvent(kind string, pairs ...string) rawEvent {
	var e rawEvent
	e.Type = kind
	for i := 0; i < len(pairs); i += 2 {
		e.Attributes = append(e.Attributes, struct {
			Key   string `json:"key"`
			Value string `json:"value"`
		}{pairs[i], pairs[i+1]})
	}
	return e
}

type fakeTx struct {
	txv1.UnimplementedServiceServer
	ledger *ledgerFake
}

func (f fakeTx) Simulate(_ context.Context, r *txv1.SimulateRequest) (*txv1.SimulateResponse, error) {
	l := f.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls["simulate"]++
	body, _, _, refusal := l.open(r.GetTxBytes(), func(a *fakeAccount) uint64 { return a.checked }, 0, false)
	var need uint64
	if refusal == nil {
		_, _, _, need, refusal = l.execute(body, l.simNeed)
	}
	if refusal != nil {
		return nil, status.Errorf(codes.Unknown, "%s with gas used: '1'", refusal.Log)
	}
	return &txv1.SimulateResponse{GasInfo: &abciv1.GasInfo{GasUsed: need}}, nil
}

func (f fakeTx) BroadcastTx(_ context.Context, r *txv1.BroadcastTxRequest) (*txv1.BroadcastTxResponse, error) {
	l := f.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls["broadcast"]++
	answer := l.check(r.GetTxBytes())
	if l.onSend != nil {
		if err := l.onSend(r.GetTxBytes()); err != nil {
			return nil, err
		}
	}
	return &txv1.BroadcastTxResponse{TxResponse: answer}, nil
}

func (l *ledgerFake) check(raw []byte) *abciv1.TxResponse {
	for _, q := range l.queue {
		if sha256.Sum256(q) == sha256.Sum256(raw) {
			return &abciv1.TxResponse{Codespace: sdkSpace, Code: codeInCache}
		}
	}
	if l.refuse != nil && l.refuse(raw) {
		return &abciv1.TxResponse{}
	}
	_, _, a, refusal := l.open(raw, func(a *fakeAccount) uint64 { return a.checked }, uint64(len(l.blocks)), true)
	if refusal != nil {
		return &abciv1.TxResponse{Codespace: refusal.Codespace, Code: refusal.Code, RawLog: refusal.Log}
	}
	a.checked++
	l.queue = append(l.queue, raw)
	return &abciv1.TxResponse{}
}

type fakeAuth struct {
	authv1.UnimplementedQueryServer
	ledger *ledgerFake
}

func (f fakeAuth) AccountInfo(ctx context.Context, r *authv1.QueryAccountInfoRequest) (*authv1.QueryAccountInfoResponse, error) {
	f.ledger.mu.Lock()
	defer f.ledger.mu.Unlock()
	a := f.ledger.accounts[r.GetAddress()]
	if a == nil {
		return nil, status.Error(codes.NotFound, "no such account")
	}
	if err := grpc.SetHeader(ctx, metadata.Pairs("x-cosmos-block-height", fmt.Sprint(len(f.ledger.blocks)))); err != nil {
		return nil, err
	}
	return &authv1.QueryAccountInfoResponse{Info: &authv1.BaseAccount{Address: r.GetAddress(), AccountNumber: a.number, Sequence: a.committed}}, nil
}

type fakeNode struct {
	nodev1.UnimplementedServiceServer
}

func (fakeNode) Config(context.Context, *nodev1.ConfigRequest) (*nodev1.ConfigResponse, error) {
	return &nodev1.ConfigResponse{MinimumGasPrice: "1stake,0.002500000000000000ufal"}, nil
}

type fakeInfo struct {
	cmtv1.UnimplementedServiceServer
	ledger *ledgerFake
}

func (f fakeInfo) GetSyncing(context.Context, *cmtv1.GetSyncingRequest) (*cmtv1.GetSyncingResponse, error) {
	return &cmtv1.GetSyncingResponse{Syncing: f.ledger.syncing}, nil
}

func (f fakeInfo) GetNodeInfo(context.Context, *cmtv1.GetNodeInfoRequest) (*cmtv1.GetNodeInfoResponse, error) {
	return &cmtv1.GetNodeInfoResponse{
		DefaultNodeInfo:    &p2pv1.DefaultNodeInfo{Network: f.ledger.network},
		ApplicationVersion: &cmtv1.VersionInfo{BuildTags: f.ledger.protocol},
	}, nil
}

func (l *ledgerFake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/websocket" {
		l.socket(w, r)
		return
	}
	var q struct {
		Method string            `json:"method"`
		Params map[string]string `json:"params"`
	}
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	answer := func(result any) {
		if err := json.NewEncoder(w).Encode(map[string]any{"jsonrpc": "2.0", "id": 1, "result": result}); err != nil {
			l.t.Log(err)
		}
	}
	var h int
	_, _ = fmt.Sscan(q.Params["height"], &h)
	if q.Method == "block" || q.Method == "block_results" {
		if h < 1 || h > len(l.blocks) {
			_ = json.NewEncoder(w).Encode(map[string]any{"error": rpcError{Code: -32603, Message: "Internal error", Data: "height must be less"}})
			return
		}
	}
	switch q.Method {
	case "status":
		answer(map[string]any{
			"node_info": map[string]any{"network": l.network},
			"sync_info": map[string]any{"latest_block_height": fmt.Sprint(len(l.blocks)), "latest_block_time": l.blocks[len(l.blocks)-1].at, "catching_up": l.syncing},
		})
	case "block":
		b := l.blocks[h-1]
		answer(map[string]any{"block": map[string]any{
			"header": map[string]any{"height": fmt.Sprint(h), "time": b.at}, "data": map[string]any{"txs": b.txs},
		}})
	case "block_results":
		b := l.blocks[h-1]
		answer(map[string]any{"txs_results": b.results, "finalize_block_events": b.events})
	case "abci_query":
		answer(map[string]any{"response": map[string]any{"code": 0}})
	default:
		http.Error(w, "unknown", http.StatusNotFound)
	}
}

func (l *ledgerFake) socket(w http.ResponseWriter, r *http.Request) {
	up := websocket.Upgrader{}
	conn, err := up.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	if _, _, err := conn.ReadMessage(); err != nil {
		return
	}
	word := make(chan Head, 100)
	l.mu.Lock()
	l.sockets[word] = true
	l.mu.Unlock()
	go func() { // reads pings, ends with the connection
		for {
			if _, _, err := conn.ReadMessage(); err != nil {
				return
			}
		}
	}()
	_ = conn.WriteMessage(websocket.TextMessage, []byte(`{"jsonrpc":"2.0","id":1,"result":{}}`))
	for h := range word {
		text := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"result":{"data":{"type":"x","value":{"header":{"height":"%d","time":%q}}}}}`, h.Height, time.UnixMilli(int64(h.Time)).UTC().Format(time.RFC3339Nano))
		if err := conn.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
			return
		}
	}
}

func secret(tb testing.TB, i uint32) *keys.Secret {
	tb.Helper()
	s, err := keys.Derive("abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about", i)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}
