package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"sync"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"
	txtypes "github.com/cosmos/cosmos-sdk/types/tx"
	gogogrpc "github.com/cosmos/gogoproto/grpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"fallow.network"
	"fallow.network/trace"
)

// mostNoted bounds the transactions whose sender's span is remembered, and
// noteAge how long.
const (
	mostNoted = 4096
	noteAge   = 10 * time.Minute
)

// follower tells of transactions with messages of ours: of those that came to
// this node, below their sender's span; of all others by their hash alone. The
// ledger itself never holds a trace.
type follower struct {
	tracer *trace.Tracer

	mu    sync.Mutex
	notes map[[sha256.Size]byte]note
	order [][sha256.Size]byte
}

type note struct {
	parent string
	came   time.Time
}

func newFollower(t *trace.Tracer) *follower {
	if t == nil {
		return nil
	}
	return &follower{tracer: t, notes: map[[sha256.Size]byte]note{}}
}

// note remembers whose a transaction is.
func (f *follower) note(ctx context.Context, raw []byte) {
	md, _ := metadata.FromIncomingContext(ctx)
	said := md.Get("traceparent")
	if len(said) != 1 {
		return
	}
	parent := trace.Valid(ctx, said[0])
	if parent == "" {
		return
	}
	id := sha256.Sum256(raw)
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, known := f.notes[id]; known {
		return // the first who brings it is its sender
	}
	if len(f.order) >= mostNoted {
		delete(f.notes, f.order[0])
		f.order = f.order[1:]
	}
	f.notes[id] = note{parent, time.Now()}
	f.order = append(f.order, id)
}

// take gives what is remembered of a transaction, and forgets what is old.
func (f *follower) take(id [sha256.Size]byte, now time.Time) (note, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.order) > 0 {
		old := f.order[0]
		if n, there := f.notes[old]; there && now.Sub(n.came) < noteAge {
			break
		}
		delete(f.notes, old)
		f.order = f.order[1:]
	}
	n, known := f.notes[id]
	delete(f.notes, id)
	return n, known
}

// block tells of a block's transactions that hold messages of ours.
func (f *follower) block(req *abci.RequestFinalizeBlock, began time.Time, r *abci.ResponseFinalizeBlock) {
	now := time.Now()
	for i, raw := range req.Txs {
		if i >= len(r.TxResults) {
			return
		}
		kinds := ours(raw)
		if len(kinds) == 0 {
			continue
		}
		id := sha256.Sum256(raw)
		n, _ := f.take(id, now)
		from := began
		if !n.came.IsZero() {
			from = n.came
		}
		ctx, whole := f.tracer.Since(trace.With(context.Background(), n.parent), "chain.transaction", from)
		whole.Text("ledger.hash", strings.ToUpper(hex.EncodeToString(id[:]))).Int("ledger.height", req.Height).
			Int("ledger.gas", r.TxResults[i].GasUsed).Int("ledger.bytes", int64(len(raw))).Text("ledger.kind", strings.Join(kinds, "+"))
		if !n.came.IsZero() {
			whole.Int("ledger.waited_ms", began.Sub(n.came).Milliseconds())
		}
		_, carried := f.tracer.Since(ctx, "chain.block", began)
		carried.Int("ledger.height", req.Height).Int("ledger.transactions", int64(len(req.Txs))).End("")
		reason := fallow.Reason("")
		if r.TxResults[i].Code != 0 {
			whole.Text("ledger.codespace", r.TxResults[i].Codespace).Int("ledger.code", int64(r.TxResults[i].Code))
			reason = fallow.ReasonAborted
		}
		whole.End(reason)
	}
}

// ours are the names of a transaction's messages of our modules.
func ours(raw []byte) (kinds []string) {
	var tx txtypes.TxRaw
	var body txtypes.TxBody
	if tx.Unmarshal(raw) != nil || body.Unmarshal(tx.BodyBytes) != nil {
		return nil
	}
	for _, m := range body.Messages {
		name, mine := strings.CutPrefix(m.TypeUrl, "/fallow.")
		if m.TypeUrl == "/cosmos.authz.v1beta1.MsgExec" { // an operator's, perhaps with messages of ours
			name, mine = "authz.MsgExec", true
		}
		if mine && len(kinds) < 8 {
			kinds = append(kinds, name[strings.LastIndexByte(name, '.')+1:])
		}
	}
	return kinds
}

// noting is a registrar that has the transactions' service tell f whose a
// transaction is.
type noting struct {
	gogogrpc.Server
	f *follower
}

// RegisterService registers the service with our ear in it.
func (n noting) RegisterService(d *grpc.ServiceDesc, handler any) {
	if s, ok := handler.(txtypes.ServiceServer); ok {
		handler = heard{s, n.f}
	}
	n.Server.RegisterService(d, handler)
}

type heard struct {
	txtypes.ServiceServer
	f *follower
}

// BroadcastTx notes the sender's span and goes on.
func (h heard) BroadcastTx(ctx context.Context, r *txtypes.BroadcastTxRequest) (*txtypes.BroadcastTxResponse, error) {
	h.f.note(ctx, r.TxBytes)
	return h.ServiceServer.BroadcastTx(ctx, r)
}
