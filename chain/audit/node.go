package audit

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	rpc "github.com/cometbft/cometbft/rpc/client"
	rpchttp "github.com/cometbft/cometbft/rpc/client/http"
	coretypes "github.com/cometbft/cometbft/rpc/core/types"
	cmttypes "github.com/cometbft/cometbft/types"

	"fallow.network"
)

// Bounds of what a node may answer.
const (
	maxAnswer  = 256 << 20
	maxGenesis = 64 // chunks of 16 MiB
	patience   = 30 * time.Second
)

// node is the node under audit: nothing that it says is believed.
type node struct {
	address string
	rpc     *rpchttp.HTTP
}

func dial(address string) (*node, error) {
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	address = strings.Replace(address, "tcp://", "http://", 1)
	c, err := rpchttp.NewWithClient(address, "/websocket", &http.Client{Timeout: patience, Transport: bounded{http.DefaultTransport}})
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", address, err)
	}
	return &node{address, c}, nil
}

// bounded ends answers that are too long.
type bounded struct{ under http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.under.RoundTrip(r)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	}
	return resp, err
}

// genesis fetches the genesis document and checks it against a pinned hash.
func (n *node) genesis(ctx context.Context, pinned fallow.Digest, report *Report) (*cmttypes.GenesisDoc, error) {
	var raw []byte
	for i, total := uint(0), uint(1); i < total; i++ {
		chunk, err := n.rpc.GenesisChunked(ctx, i)
		if err != nil {
			return nil, fmt.Errorf("fetch genesis from %s: %w", n.address, err)
		}
		if chunk.TotalChunks < 1 || chunk.TotalChunks > maxGenesis {
			return nil, lie(0, "a genesis of %d chunks", chunk.TotalChunks)
		}
		part, err := base64.StdEncoding.DecodeString(chunk.Data)
		if err != nil {
			return nil, lie(0, "genesis is not base64: %v", err)
		}
		raw, total = append(raw, part...), uint(chunk.TotalChunks)
	}
	report.Genesis = fallow.Sum(raw)
	if pinned.IsZero() {
		report.told("the genesis (%s): no hash was given", report.Genesis)
	} else if pinned != report.Genesis {
		return nil, lie(0, "its genesis is %s, the network's is %s", report.Genesis, pinned)
	}
	doc, err := cmttypes.GenesisDocFromJSON(raw)
	if err != nil {
		return nil, lie(0, "genesis: %v", err)
	}
	if doc.InitialHeight != 1 {
		return nil, fmt.Errorf("the ledger begins at block %d: this audit replays from block 1", doc.InitialHeight)
	}
	report.ChainID = doc.ChainID
	return doc, nil
}

// latest is the height of the node's last block.
func (n *node) latest(ctx context.Context) (int64, error) {
	s, err := n.rpc.Status(ctx)
	if err != nil {
		return 0, fmt.Errorf("ask %s for its height: %w", n.address, err)
	}
	return s.SyncInfo.LatestBlockHeight, nil
}

// whole says why a node can't be audited that lacks the first blocks.
func (n *node) whole(ctx context.Context) error {
	s, err := n.rpc.Status(ctx)
	if err != nil {
		return fmt.Errorf("ask %s which blocks it has: %w", n.address, err)
	}
	if first := s.SyncInfo.EarliestBlockHeight; first > 1 {
		return fmt.Errorf("%s keeps blocks from %d on, as it began from a snapshot or prunes them, and an audit replays from block 1: ask a node that keeps all blocks (min-retain-blocks = 0)", n.address, first)
	}
	return nil
}

// headers fetches those from low to high, at most 20, ascending.
func (n *node) headers(ctx context.Context, low, high int64) ([]cmttypes.Header, error) {
	info, err := n.rpc.BlockchainInfo(ctx, low, high)
	if err != nil {
		return nil, fmt.Errorf("fetch headers %d to %d from %s (audit needs a node that keeps all blocks): %w", low, high, n.address, err)
	}
	if int64(len(info.BlockMetas)) != high-low+1 {
		return nil, fmt.Errorf("%s has %d of the headers %d to %d: audit needs a node that keeps all blocks", n.address, len(info.BlockMetas), low, high)
	}
	list := make([]cmttypes.Header, len(info.BlockMetas))
	for i, m := range info.BlockMetas {
		if m == nil || m.Header.Height != high-int64(i) {
			return nil, lie(high-int64(i), "another header was asked for")
		}
		list[len(list)-1-i] = m.Header
	}
	return list, nil
}

// txs fetches a block's transactions and proves them by its header.
func (n *node) txs(ctx context.Context, b block) (cmttypes.Txs, error) {
	if len(b.data) == 0 || bytes.Equal(b.data, noTxs) {
		return nil, nil
	}
	got, err := n.rpc.Block(ctx, &b.height)
	if err != nil {
		return nil, fmt.Errorf("fetch block %d from %s: %w", b.height, n.address, err)
	}
	if got.Block == nil || !bytes.Equal(got.Block.Txs.Hash(), b.data) {
		return nil, lie(b.height, "its transactions are not those that the header names")
	}
	return got.Block.Txs, nil
}

var noTxs = cmttypes.Txs{}.Hash()

// results fetches what became of a block's transactions. Codes, data and gas
// are proven by the next header; events are not.
func (n *node) results(ctx context.Context, b, next block) (*coretypes.ResultBlockResults, error) {
	got, err := n.rpc.BlockResults(ctx, &b.height)
	if err != nil {
		return nil, fmt.Errorf("fetch the results of block %d from %s: %w", b.height, n.address, err)
	}
	for _, r := range got.TxsResults {
		if r == nil {
			return nil, lie(b.height, "an empty result")
		}
	}
	if !bytes.Equal(cmttypes.NewResults(got.TxsResults).Hash(), next.results) {
		return nil, lie(b.height, "its results are not those that the next header names")
	}
	return got, nil
}

// query reads a key of a module's store with its proof.
func (n *node) query(ctx context.Context, store string, key []byte, height int64) (*coretypes.ResultABCIQuery, error) {
	got, err := n.rpc.ABCIQueryWithOptions(ctx, "/store/"+store+"/key", key, rpc.ABCIQueryOptions{Height: height, Prove: true})
	if err != nil {
		return nil, fmt.Errorf("query %s of block %d at %s: %w", store, height, n.address, err)
	}
	r := got.Response
	if r.Code != 0 {
		return nil, fmt.Errorf("query %s of block %d at %s: %s (does it still keep that state?)", store, height, n.address, r.Log)
	}
	if r.Height != height || r.ProofOps == nil {
		return nil, lie(height, "a query of %s came back without a proof", store)
	}
	return got, nil
}
