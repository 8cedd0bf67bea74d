package ledger

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	txv1 "cosmossdk.io/api/cosmos/tx/v1beta1"
	"google.golang.org/protobuf/proto"

	"fallow.network"
	leasev1 "fallow.network/api/lease"
)

// maxFootprint bounds the blocks that Footprint reads.
const maxFootprint = 100_000

// Trace is a transaction that did something to one of the leases asked for.
type Trace struct {
	Hash   Hash          `json:"hash"`
	Height fallow.Height `json:"height"`
	// Bytes is its size on the ledger.
	Bytes int    `json:"bytes"`
	Fee   Tokens `json:"fee_ufal"`
	// Kinds are what its messages do, as open, redeem, release, close.
	Kinds []string `json:"kinds"`
}

// Footprint reads blocks from one height to another and lists the
// transactions, of whoever, that did something to the given leases. Block and
// results are as the node tells them; the audit proves them.
func (c *Client) Footprint(ctx context.Context, leases []fallow.LeaseID, from, to fallow.Height) ([]Trace, error) {
	if to-from > maxFootprint {
		return nil, fmt.Errorf("blocks %d to %d: more than %d at once", from, to, maxFootprint)
	}
	want := map[uint64]bool{}
	for _, l := range leases {
		want[uint64(l)] = true
	}
	var out []Trace
	for h := max(from, 1); h <= to; h++ {
		b, results, err := c.rpc.block(ctx, h)
		if err != nil {
			return nil, err
		}
		for i, r := range results.Txs {
			if !touches(readEvents(r.Events, i), want) {
				continue
			}
			t, err := traceOf(b.Block.Data.Txs[i])
			if err != nil {
				return nil, fmt.Errorf("block %d, transaction %d: %w", h, i, err)
			}
			t.Height = h
			out = append(out, t)
		}
	}
	return out, nil
}

// touches says whether events tell of one of the leases.
func touches(events []Event, want map[uint64]bool) bool {
	for _, e := range events {
		m, of := e.Message.(interface{ GetLease() uint64 })
		if of && want[m.GetLease()] {
			return true
		}
	}
	return false
}

// traceOf reads a transaction's size, fee and kinds of messages.
func traceOf(raw []byte) (Trace, error) {
	t := Trace{Hash: Hash(fallow.Sum(raw)), Bytes: len(raw)}
	var tx txv1.TxRaw
	var body txv1.TxBody
	var auth txv1.AuthInfo
	if err := proto.Unmarshal(raw, &tx); err != nil {
		return t, err
	}
	if err := proto.Unmarshal(tx.GetBodyBytes(), &body); err != nil {
		return t, err
	}
	if err := proto.Unmarshal(tx.GetAuthInfoBytes(), &auth); err != nil {
		return t, err
	}
	for _, coin := range auth.GetFee().GetAmount() {
		if coin.GetDenom() != fallow.TokenDenom {
			continue
		}
		fee, err := strconv.ParseUint(coin.GetAmount(), 10, 64)
		if err != nil {
			return t, err
		}
		t.Fee += Tokens(fee)
	}
	open := string((&leasev1.MsgOpenLeases{}).ProtoReflect().Descriptor().FullName())
	for _, m := range body.GetMessages() {
		name := strings.TrimPrefix(m.GetTypeUrl(), "/")
		kind := strings.ToLower(name[strings.LastIndex(name, ".Msg")+len(".Msg"):])
		if name == open {
			kind = "open"
		}
		t.Kinds = append(t.Kinds, kind)
	}
	return t, nil
}
