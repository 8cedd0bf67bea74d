package ledger

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	authv1 "cosmossdk.io/api/cosmos/auth/v1beta1"
	authzv1 "cosmossdk.io/api/cosmos/authz/v1beta1"
	txv1 "cosmossdk.io/api/cosmos/tx/v1beta1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"fallow.network"
	leasev1 "fallow.network/api/lease"
	"fallow.network/trace"
)

// A simulation runs on the last block's state, without what is in flight, so
// the block may need more gas than it says: an entry that it skipped may open.
const (
	marginPercent = 130
	marginFlat    = 20_000
	// simulatedFee makes a simulation move a fee, which takes gas too.
	simulatedFee Tokens = 1
	// maxKinds bounds how many estimates a sender remembers.
	maxKinds = 256
)

func hashOf(raw []byte) Hash { return sha256.Sum256(raw) }

// estimate is the gas to allow. While nothing is in flight it simulates, which
// also finds a refusal before it costs a fee; else it takes the estimate of
// the last transaction of the same kind where there is one.
func (s *Sender) estimate(ctx context.Context, body []proto.Message, least uint64) (uint64, error) {
	kind := kindOf(body)
	if have := s.gas[kind]; have > 0 && have >= least && len(s.flights) > 0 {
		return have, nil
	}
	raw, err := s.draft(body, 0, simulatedFee, 0).sign(s.public, nil)
	if err != nil {
		return 0, err
	}
	used, err := s.client.simulate(ctx, raw)
	var r *RefusalError
	if errors.As(err, &r) && !is(err, codeWrongSequence) && len(s.flights) > 0 {
		// What it lacks may be in flight: a deposit, say.
		if used, err = s.simulateLater(ctx, body); err != nil {
			return 0, err
		}
	}
	if err != nil {
		return 0, err
	}
	gas := max(min(used*marginPercent/100+marginFlat, maxGas), least)
	if len(s.gas) >= maxKinds {
		clear(s.gas)
	}
	s.gas[kind] = max(gas, s.gas[kind])
	return s.gas[kind], nil
}

// simulateLater asks again when what is in flight has had two blocks to land.
func (s *Sender) simulateLater(ctx context.Context, body []proto.Message) (uint64, error) {
	head, err := s.client.Head(ctx)
	if err != nil {
		return 0, err
	}
	if _, err := s.client.WaitHeight(ctx, head.Height+2); err != nil {
		return 0, err
	}
	raw, err := s.draft(body, 0, simulatedFee, 0).sign(s.public, nil)
	if err != nil {
		return 0, err
	}
	return s.client.simulate(ctx, raw)
}

// simulate is the gas that a transaction used on the last block's state.
func (c *Client) simulate(ctx context.Context, raw []byte) (uint64, error) {
	r, err := c.tx.Simulate(ctx, &txv1.SimulateRequest{TxBytes: raw})
	if err == nil {
		return r.GetGasInfo().GetGasUsed(), nil
	}
	if errors.Is(err, ErrAway) || ctx.Err() != nil {
		return 0, fmt.Errorf("simulate a transaction: %w", err)
	}
	// gRPC gives a sentence; the code that belongs to it comes by this way.
	var a struct {
		Response struct {
			Code      uint32 `json:"code"`
			Codespace string `json:"codespace"`
			Log       string `json:"log"`
		} `json:"response"`
	}
	params := map[string]string{"path": "/app/simulate", "data": hex.EncodeToString(raw)}
	if rpcErr := c.rpc.call(ctx, "abci_query", params, &a); rpcErr == nil && a.Response.Code != 0 {
		return 0, &RefusalError{Codespace: a.Response.Codespace, Code: a.Response.Code, Log: a.Response.Log}
	}
	if want, ok := expected(err.Error()); ok {
		return 0, &RefusalError{Codespace: sdkSpace, Code: codeWrongSequence, Log: fmt.Sprintf("account sequence mismatch, expected %d, got 0", want)}
	}
	return 0, refused("simulate a transaction", err)
}

// broadcast hands a transaction to one node. With an error, sure says that no
// node can have taken it; without sure, one may have.
func (c *Client) broadcast(ctx context.Context, raw []byte) (sure bool, err error) {
	tries := 0
	var answer *txv1.BroadcastTxResponse
	// The caller leaving in the middle must not leave us ignorant of the answer.
	err = c.each(context.WithoutCancel(ctx), func(ctx context.Context, n *node) error {
		tries++
		var err error
		if parent := trace.Parent(ctx); parent != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "traceparent", parent)
		}
		answer, err = txv1.NewServiceClient(n.conn).BroadcastTx(ctx, &txv1.BroadcastTxRequest{TxBytes: raw, Mode: txv1.BroadcastMode_BROADCAST_MODE_SYNC})
		return err
	})
	if err != nil {
		// Without a try no node was reached that is known to be ours.
		return tries == 0 || definite(err), fmt.Errorf("broadcast a transaction: %w", err)
	}
	r := answer.GetTxResponse()
	if r.GetCode() == 0 || r.GetCodespace() == sdkSpace && r.GetCode() == codeInCache {
		return true, nil
	}
	return tries == 1, &RefusalError{Codespace: r.GetCodespace(), Code: r.GetCode(), Log: r.GetRawLog(), Hash: hashOf(raw)}
}

// definite says that the node answered, and took nothing.
func definite(err error) bool {
	return status.Code(err) == codes.InvalidArgument
}

// account is what a transaction needs to know of its signer.
type account struct{ number, sequence uint64 }

// sequence asks for an account's number and sequence, and at which height
// that was (0 when the node does not say).
func (c *Client) sequence(ctx context.Context, a fallow.Account) (account, fallow.Height, error) {
	var header metadata.MD
	r, err := authv1.NewQueryClient(c).AccountInfo(ctx, &authv1.QueryAccountInfoRequest{Address: string(a)}, grpc.Header(&header))
	if status.Code(err) == codes.NotFound {
		return account{}, 0, fmt.Errorf("account %s: %w; send it some FAL for fees first", a, ErrNoAccount)
	}
	if err != nil {
		return account{}, 0, refused(fmt.Sprintf("account %s", a), err)
	}
	var at int64
	if v := header.Get("x-cosmos-block-height"); len(v) == 1 {
		if at, err = strconv.ParseInt(v[0], 10, 64); err != nil {
			at = 0
		}
	}
	return account{r.GetInfo().GetAccountNumber(), r.GetInfo().GetSequence()}, fallow.Height(at), nil
}

// kindOf groups transactions that need about the same gas: by their messages
// and how many entries each has, rounded up to powers of two.
func kindOf(body []proto.Message) string {
	var b strings.Builder
	for _, m := range body {
		if exec, ok := m.(*authzv1.MsgExec); ok {
			b.WriteString("exec ")
			for _, a := range exec.GetMsgs() {
				inner, err := a.UnmarshalNew()
				if err != nil {
					b.WriteString(a.GetTypeUrl())
					continue
				}
				writeKind(&b, inner)
			}
			continue
		}
		writeKind(&b, m)
	}
	return b.String()
}

func writeKind(b *strings.Builder, m proto.Message) {
	n := 1
	for n < entries(m) {
		n *= 2
	}
	fmt.Fprintf(b, "%s*%d ", m.ProtoReflect().Descriptor().FullName(), n)
}

// entries is how many entries a message holds that are each treated alone.
func entries(m proto.Message) int {
	switch m := m.(type) {
	case *leasev1.MsgOpenLeases:
		return len(m.GetEntries())
	case *leasev1.MsgRelease:
		return len(m.GetReleases())
	case *leasev1.MsgStart:
		return len(m.GetHorizons())
	case *leasev1.MsgRedeem:
		return len(m.GetVouchers()) + len(m.GetServices())
	case *leasev1.MsgClose:
		return len(m.GetLeases())
	default:
		return 1
	}
}

// wrap puts the messages into a MsgExec when the key acts for an owner.
func (s *Sender) wrap(messages []proto.Message) ([]proto.Message, error) {
	if s.options.Owner == "" {
		return messages, nil
	}
	exec := &authzv1.MsgExec{Grantee: string(s.key.Account())}
	for _, m := range messages {
		a, err := anyOf(m)
		if err != nil {
			return nil, err
		}
		exec.Msgs = append(exec.Msgs, &anypb.Any{TypeUrl: a.GetTypeUrl(), Value: a.GetValue()})
	}
	return []proto.Message{exec}, nil
}
