package sdk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"fallow.network/keys"
	"fallow.network/ledger"
	"fallow.network/trace"
)

// batchWindow is how long calls of one account wait for each other, to share
// a transaction.
const batchWindow = 5 * time.Millisecond

// Dial opens a client of the network's ledger.
func Dial(ctx context.Context, n Network, c Config, log *slog.Logger) (*ledger.Client, error) {
	return ledger.Dial(ctx, ledger.Config{ChainID: n.ChainID, GRPC: n.GRPC, RPC: n.RPC, GasPrice: c.GasPrice, Logger: log, Trace: trace.From(ctx)})
}

// Status is where a network's ledger stands.
type Status struct {
	ledger.Head
	// Behind is how old the latest block is.
	Behind time.Duration
}

// NetworkStatus asks the ledger for its latest block.
func NetworkStatus(ctx context.Context, n Network) (Status, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c, err := Dial(ctx, n, Config{}, slog.New(slog.DiscardHandler))
	if err != nil {
		return Status{}, err
	}
	head, err := c.Head(ctx)
	if err = errors.Join(err, c.Close()); err != nil {
		return Status{}, err
	}
	return Status{Head: head, Behind: time.Since(time.UnixMilli(int64(head.Time)))}, nil
}

// Purse is a home's account on its network, ready to sign.
type Purse struct {
	Config  Config
	Network Network
	Client  *ledger.Client
	Sender  *ledger.Sender
	Secret  *keys.Secret
}

// Close ends the client.
func (p *Purse) Close() error { return p.Client.Close() }

// OpenPurse unlocks the home's account and dials its network's ledger.
func (h Home) OpenPurse(ctx context.Context, ring *keys.Ring, log *slog.Logger) (*Purse, error) {
	c, err := h.Load()
	if err != nil {
		return nil, err
	}
	n, err := h.Network()
	if err != nil {
		return nil, err
	}
	secret, err := ring.Secret(c.Account)
	if err != nil {
		return nil, fmt.Errorf("account %s: %w", c.Account, err)
	}
	client, err := Dial(ctx, n, c, log)
	if err != nil {
		return nil, err
	}
	return &Purse{Config: c, Network: n, Client: client, Sender: client.Sender(secret, ledger.Options{Window: batchWindow}), Secret: secret}, nil
}
