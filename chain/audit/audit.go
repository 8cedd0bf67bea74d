// Package audit proves the ledger's books without trusting the node that it
// asks: blocks are linked to one that a light client verified, our messages
// are replayed by the rules of market and settle, and the state that this
// leaves is compared with the state that the validators signed.
//
// Its one invariant: a line of its report is either proven from a trusted
// block or genesis, or listed as told by the node. It never reads events to
// decide what is true.
//
// It checks no signatures of transactions: that these were good is what the
// validators vouch for.
package audit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"fallow.network"
	"fallow.network/chain/app"
)

// TrustingPeriod is how old a block may be that verification starts from: two
// thirds of the time that stake stays slashable after it leaves.
const TrustingPeriod = 14 * 24 * time.Hour

// Config says whom to ask and what to believe.
type Config struct {
	// Node is the RPC address of the node under audit, as http://127.0.0.1:26657.
	Node string
	// Witnesses are RPC addresses of other nodes; a fork shows when they differ.
	Witnesses []string
	// TrustHeight and TrustHash name a block that the caller believes. Zero
	// begins with the genesis' own validators.
	TrustHeight int64
	TrustHash   []byte
	// GenesisHash pins the genesis document; zero takes the node's.
	GenesisHash fallow.Digest
	// Now is when blocks' ages are taken; the wall clock when nil.
	Now func() time.Time
	// Progress is told how many blocks of how many are replayed; may be nil.
	Progress func(done, of int64)
}

// Breach is something false: in the books, or in what the node says. Height is
// the block that it begins in, Tx the hash of the transaction and Key the
// entry of a module's state, where there is one.
type Breach struct { //nolint:errname // a finding first, that also is an error
	Height int64  `json:"height,omitempty,string"`
	Tx     string `json:"tx,omitempty"`
	Key    string `json:"key,omitempty"`
	What   string `json:"what"`
	// Node is set when it is the node's answer that does not verify, and the
	// ledger's books may be sound.
	Node bool `json:"node_lied,omitempty"`
}

// Error is the breach in one line.
func (b *Breach) Error() string {
	s := b.What
	if b.Key != "" {
		s = "key " + b.Key + ": " + s
	}
	if b.Tx != "" {
		s = "transaction " + b.Tx + ": " + s
	}
	if b.Height > 0 {
		s = fmt.Sprintf("block %d: %s", b.Height, s)
	}
	if b.Node {
		s = "the node's answer does not verify: " + s
	}
	return s
}

func lie(height int64, format string, args ...any) error {
	return &Breach{Height: height, What: fmt.Sprintf(format, args...), Node: true}
}

// Run audits the ledger up to its latest block. The report stands as far as it
// got, also with an error. What is false is a *Breach; other errors say that
// the audit could not be finished.
func Run(ctx context.Context, cfg Config) (Report, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	report := Report{Node: cfg.Node, Witnesses: cfg.Witnesses}
	err := run(ctx, cfg, &report)
	if b, ok := errors.AsType[*Breach](err); ok {
		report.Breach = b
	}
	report.Sound = err == nil
	return report, err
}

func run(ctx context.Context, cfg Config, report *Report) error {
	enc, err := app.ModulesEncoding()
	if err != nil {
		return err
	}
	n, err := dial(cfg.Node)
	if err != nil {
		return err
	}
	doc, err := n.genesis(ctx, cfg.GenesisHash, report)
	if err != nil {
		return err
	}
	if err := n.whole(ctx); err != nil {
		return err
	}
	c, err := follow(ctx, cfg, enc, n, doc, report)
	if err != nil {
		return err
	}
	r, err := newReplay(ctx, enc, doc)
	if err != nil {
		return err
	}
	// The ledger goes on while it is replayed. Its states are kept for a
	// while only, so end close behind its tip.
	for {
		if err := c.advance(ctx); err != nil {
			return err
		}
		behind := c.tip() - 1 - r.height
		if err := r.until(ctx, n, c, c.tip()-1, cfg.Progress); err != nil {
			report.count(r, c)
			return err
		}
		if behind < closeEnough {
			break
		}
	}
	err = r.invariants(ctx)
	report.count(r, c)
	if err != nil {
		return err
	}
	return compare(ctx, enc, n, c, doc, r, report)
}

// closeEnough is how many blocks behind the tip the comparison may begin.
const closeEnough = 100
