package ledger

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"fallow.network"
	"fallow.network/trace"
)

// Config says which ledger, where its nodes are, and how patient to be.
type Config struct {
	// ChainID is the only ledger that is spoken to.
	ChainID string
	// GRPC lists endpoints as host:port, or https://host:port for TLS. They
	// stand in for each other: any that answers will do.
	GRPC []string
	// RPC lists CometBFT endpoints as http://host:port or https://host:port.
	RPC []string
	// GasPrice is the price of one unit of gas in ufal, as 0.001. Empty asks
	// the node for the least that it takes.
	GasPrice string
	// CallTimeout bounds one call to one endpoint.
	CallTimeout time.Duration
	// TimeoutBlocks is how many blocks a transaction may wait for its place.
	// It bounds, too, how long its fate can be unknown.
	TimeoutBlocks int64
	Logger        *slog.Logger
	// Trace follows transactions; nil does not.
	Trace *trace.Tracer
}

// Default is the configuration that Dial fills gaps from.
func Default() Config {
	return Config{CallTimeout: 5 * time.Second, TimeoutBlocks: 60, Logger: slog.New(slog.DiscardHandler)}
}

const maxEndpoints = 64

// Validate says what is wrong with c and how to put it right.
func (c Config) Validate() error {
	switch {
	case c.ChainID == "" || len(c.ChainID) > 50:
		return fmt.Errorf("chain id %.60q: want 1 to 50 characters", c.ChainID)
	case len(c.GRPC) == 0 || len(c.RPC) == 0:
		return errors.New("endpoints of the ledger: want at least one gRPC (host:port) and one RPC (http://host:port)")
	case len(c.GRPC) > maxEndpoints || len(c.RPC) > maxEndpoints:
		return fmt.Errorf("endpoints of the ledger: more than %d of a kind", maxEndpoints)
	case c.CallTimeout <= 0 || c.TimeoutBlocks < 2:
		return errors.New("ledger: want a call timeout above 0 and at least 2 blocks for a transaction")
	}
	for _, u := range c.RPC {
		if !strings.HasPrefix(u, "http://") && !strings.HasPrefix(u, "https://") {
			return fmt.Errorf("rpc endpoint %.80q: want http:// or https://", u)
		}
	}
	if c.GasPrice != "" {
		if _, err := fallow.ParsePico(c.GasPrice); err != nil {
			return fmt.Errorf("gas price %.40q: want ufal for one gas, as 0.001", c.GasPrice)
		}
	}
	return nil
}

func (c Config) withDefaults() Config {
	d := Default()
	if c.CallTimeout == 0 {
		c.CallTimeout = d.CallTimeout
	}
	if c.TimeoutBlocks == 0 {
		c.TimeoutBlocks = d.TimeoutBlocks
	}
	if c.Logger == nil {
		c.Logger = d.Logger
	}
	return c
}
