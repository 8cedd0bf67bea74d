package provider

import (
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"fallow.network"
	"fallow.network/api/hub/hubv1connect"
	"fallow.network/blob"
	"fallow.network/hardware"
	"fallow.network/market"
	"fallow.network/receipt"
	"fallow.network/settle"
	"fallow.network/trace"
)

// Books is what the provider reads from the ledger. Every method fails while
// no node answers; then nothing is torn down and no offer is made.
type Books interface {
	// Lease is one lease; ErrNoLease when the ledger has none by that number.
	Lease(ctx context.Context, id fallow.LeaseID) (settle.Lease, error)
	// Leases are the leases of a provider that are not closed.
	Leases(ctx context.Context, provider fallow.Account) ([]settle.Lease, error)
	// Escrow is a tenant's account as it stands now; a tenant that never
	// deposited has an empty one and no error.
	Escrow(ctx context.Context, tenant fallow.Account) (settle.Account, error)
	// Standing is what the ledger thinks of this provider and node.
	Standing(ctx context.Context, provider fallow.Account, node fallow.Key) (Standing, error)
}

// ErrNoLease is a lease that the ledger does not have.
var ErrNoLease = errors.New("no lease has that number")

// Standing is what the ledger thinks of a provider and one of its nodes.
type Standing struct {
	// Epoch of the node key; 0 when it is not registered.
	Epoch uint64
	// Ceiling is half the bond's value, Exposure the open reserves and
	// unmatured payouts that count against it.
	Ceiling, Exposure fallow.Credits
}

// Chain is how the provider follows the ledger and acts on it.
type Chain interface {
	// Follow calls seen for new blocks, in order but perhaps not each, until
	// ctx ends or the ledger is away.
	Follow(ctx context.Context, seen func(height fallow.Height, at fallow.Time)) error
	// Settle brings vouchers, releases and closes to the ledger in as few
	// transactions as it can, in this order, and returns once they are in a
	// block. Results stand in the order of s.Vouchers; each entry stands alone,
	// but a lease whose voucher the ledger was too busy for is not closed: its
	// end, by its own provider, would leave the voucher worth nothing.
	Settle(ctx context.Context, s Settlement) ([]settle.Result, error)
}

// Settlement is what goes to the ledger together.
type Settlement struct {
	Vouchers []market.Signed
	Releases []market.Signed
	Closes   []Closing
}

// Closing ends a lease with a reason.
type Closing struct {
	Lease  fallow.LeaseID
	Reason fallow.Reason
}

// Courier is how the provider reaches hubs and is reached.
type Courier interface {
	Paths
	// Hub connects to the hub at a multiaddr.
	Hub(ctx context.Context, addr string) (hubv1connect.HubServiceClient, error)
	// Addrs are the multiaddrs of this node, relayed ones included.
	Addrs() []string
	// Changed is closed when Addrs changes; ask again for the next change.
	Changed() <-chan struct{}
	// Close ends every connection, and the requests that run.
	Close() error
}

// Runner starts sandboxes.
type Runner interface {
	// Start starts the sandbox of one lease, for at most this many tasks at
	// once. ctx bounds the start alone.
	Start(ctx context.Context, lease fallow.LeaseID, slots uint32) (Sandbox, error)
}

// Sandbox runs the tasks of one lease.
type Sandbox interface {
	// Run runs one task to a result. An error is no result: a *Failure says
	// why with a reason for the tenant; any other means that the sandbox is
	// of no more use. When ctx ends the task is killed.
	Run(ctx context.Context, job Job) (Result, error)
	// Close kills what runs and frees everything.
	Close() error
}

// Job is one task for a sandbox. Its blobs are in the store.
type Job struct {
	Task receipt.Task
	// Wall bounds the run; 0 is the sandbox's own bound.
	Wall time.Duration
}

// Result is what a task came to. It repeats on every machine.
type Result struct {
	Gas      fallow.Gas
	Outcome  receipt.Outcome
	ExitCode uint32
	Trap     string
	// Outputs ascend by path.
	Outputs []Output
}

// Output is one file that a task wrote: its bytes where they are few, or a
// name in the blob store.
type Output struct {
	receipt.Output
	// Small holds the bytes when they are not in the store.
	Small []byte
}

// Failure is a task without a result, and why.
//
//nolint:errname // it is a fact about a task before it is an error
type Failure struct {
	Reason fallow.Reason
	Detail string
}

// Error is the reason and the detail.
func (f *Failure) Error() string { return string(f.Reason) + ": " + f.Detail }

// Watcher says what others than this program do on the machine;
// hardware.Sampler is one.
type Watcher interface {
	Sample(ctx context.Context) hardware.Activity
}

// Deps is what a daemon is made of, beside its config.
type Deps struct {
	ChainID string
	// NodeKey signs offers, receipts and releases, and is the libp2p identity.
	NodeKey ed25519.PrivateKey
	Books   Books
	Chain   Chain
	// Listen puts this node on the network, serving handler to peers. It is
	// called once this process is known to be the only one of its home; the
	// daemon closes what it returns.
	Listen func(ctx context.Context, handler http.Handler) (Courier, error)
	// PeerKey is the key that the sender of a request proved.
	PeerKey func(ctx context.Context) (fallow.Key, bool)
	Runner  Runner
	// Blobs holds modules, inputs and outputs. The daemon opens and closes
	// nothing of it.
	Blobs *blob.Store
	// Machine is what the hardware was found to be.
	Machine hardware.Machine
	Watcher Watcher
	Log     *slog.Logger
	// Trace follows demands and tasks; nil does not.
	Trace *trace.Tracer
	// Now is the clock; nil means time.Now.
	Now func() time.Time

	// patience is how long a lease or a raise may take to show up that the
	// tenant has seen; zero means leaseWait.
	patience time.Duration
}

func (d Deps) check() error {
	switch {
	case d.ChainID == "" || len(d.ChainID) > market.MaxChainID:
		return errors.New("provider: no chain id")
	case len(d.NodeKey) != ed25519.PrivateKeySize:
		return errors.New("provider: no node key")
	case d.Books == nil || d.Chain == nil || d.Listen == nil || d.PeerKey == nil || d.Runner == nil || d.Blobs == nil || d.Watcher == nil || d.Log == nil:
		return errors.New("provider: a dependency is missing")
	}
	return nil
}
