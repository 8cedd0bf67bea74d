package client

import (
	"context"
	"crypto/ed25519"
	"errors"
	"net/http"
	"time"

	"fallow.network"
	"fallow.network/market"
	"fallow.network/receipt"
)

// ErrAway is a ledger or network that does not answer: worth trying again.
// Ports wrap it.
var ErrAway = errors.New("does not answer")

// Ledger is what the client writes to the chain.
type Ledger interface {
	// Open opens a lease for each entry, in one message where they fit. Results
	// come in the order of entries; a skipped entry has its reason. An error
	// says that nothing is known: ask Books.Leases.
	Open(ctx context.Context, tenant fallow.Account, entries []OpenEntry) ([]OpenResult, []Transaction, error)
	// Raise lifts a lease's reserve to an amount, claims included.
	Raise(ctx context.Context, lease fallow.LeaseID, reserve fallow.Credits) (Transaction, error)
	// Close brings releases to the ledger and ends leases for a reason. A lease
	// that is closed already is no error.
	Close(ctx context.Context, leases []fallow.LeaseID, releases []market.Signed, reason fallow.Reason) ([]Transaction, error)
	// Hand gives a node the same in one transaction and returns once it has
	// taken it, which is not yet in a block: its height and gas are 0. An error
	// says that it may have been taken or not.
	Hand(ctx context.Context, leases []fallow.LeaseID, releases []market.Signed, reason fallow.Reason) (Transaction, error)
}

// Books is what the client reads from the chain.
type Books interface {
	// Escrow is what the tenant's account has, at the latest block.
	Escrow(ctx context.Context, tenant fallow.Account) (Escrow, error)
	// Leases lists the tenant's leases that are not closed.
	Leases(ctx context.Context, tenant fallow.Account) ([]Lease, error)
	// Providers lists bonded providers, at most limit.
	Providers(ctx context.Context, limit int) ([]Listing, error)
	// Standing is what the ledger knows of a provider; nothing is no error.
	Standing(ctx context.Context, provider fallow.Account) (Standing, error)
}

// OpenEntry is an offer that is to open a lease.
type OpenEntry struct {
	Offer      market.Signed
	SessionKey fallow.Key
	Reserve    fallow.Credits
}

// OpenResult is what became of an entry: a lease, or a reason.
type OpenResult struct {
	Lease  fallow.LeaseID
	Reason fallow.Reason
}

// Transaction is what the ledger took for a message.
type Transaction struct {
	Hash   string        `json:"hash"`
	Height fallow.Height `json:"height"`
	// Bytes is the length of the signed transaction.
	Bytes uint64 `json:"bytes"`
	// Fee in ufal, and the gas that the ledger's node used (not WASM gas).
	Fee     uint64 `json:"fee_ufal"`
	GasUsed uint64 `json:"gas_used"`
}

// Escrow is a tenant's account.
type Escrow struct {
	Free     fallow.Pico
	Reserved fallow.Pico
	Height   fallow.Height
	Time     fallow.Time
}

// Lease is a lease as the ledger has it.
type Lease struct {
	ID         fallow.LeaseID
	Provider   fallow.Account
	NodeKey    fallow.Key
	SessionKey fallow.Key
	Offer      fallow.Digest // of the offer's bytes
	Reserve    fallow.Credits
	Claimed    fallow.Pico
	Closing    bool
	Opened     fallow.Time
}

// Listing is a provider that can be asked directly.
type Listing struct {
	Provider fallow.Account
	NodeKeys []fallow.Key
	Addrs    []string
}

// Standing is a provider's bond as the ledger prices it.
type Standing struct {
	// Bond is the free bond's value.
	Bond fallow.Credits
	// Nodes are the keys that sign for it.
	Nodes []fallow.Key
}

// Network opens identities on the network.
type Network interface {
	// Join makes a host whose peers see the identity's key. Close it.
	Join(ctx context.Context, identity ed25519.PrivateKey) (Peer, error)
}

// Peer is one identity on the network.
type Peer interface {
	// Connect reaches the peer at full addresses that end in its name.
	Connect(ctx context.Context, addrs []string) (fallow.Key, error)
	// HTTPClient sends requests to peers by the addresses that URL makes.
	HTTPClient() *http.Client
	// BulkClient is one for blobs, whose requests are cut when a better path
	// stands; they are tried again from where they stood.
	BulkClient() *http.Client
	URL(fallow.Key) string
	Close() error
}

// Identity is the client key.
type Identity interface {
	// Public is the compressed secp256k1 key.
	Public() []byte
	// Sign signs sha256(doc): R||S with a low S.
	Sign(doc []byte) ([]byte, error)
	// Session derives the session key that belongs to a demand's nonce.
	Session(nonce []byte) (ed25519.PrivateKey, error)
}

// Machine runs tasks on the tenant's own machine, to check others.
type Machine interface {
	// Run runs a task under its profile, as a provider would. blobs gives what
	// the task reads. An abort is an error.
	Run(ctx context.Context, task receipt.Task, blobs Blobs, wall time.Duration) (Result, error)
	// Bare runs a task without metering and gives the time that it took, with
	// the module compiled beforehand.
	Bare(ctx context.Context, task receipt.Task, blobs Blobs) (time.Duration, error)
	// Cores is how many tasks this machine can run at once.
	Cores() int
}

// Blobs gives content by digest as files that may only be read.
type Blobs interface {
	Path(fallow.Digest) (string, error)
}

// Result is what a run gave: what is compared.
type Result struct {
	Outputs  []receipt.Output // ascending by path
	Gas      fallow.Gas
	Outcome  receipt.Outcome
	ExitCode uint32
	Trap     string
	// Took is how long the guest ran.
	Took time.Duration
}
