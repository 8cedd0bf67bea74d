package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"

	"fallow.network"
	"fallow.network/blob"
	"fallow.network/market"
	"fallow.network/trace"
)

// Ports are what a client needs of the rest of the world.
type Ports struct {
	Ledger   Ledger
	Books    Books
	Network  Network
	Identity Identity
	// Machine checks on this machine; nil when it can't.
	Machine Machine
	// Trace follows jobs; nil does not.
	Trace *trace.Tracer
	// Hubs gives a hub's key by its address; sdk knows multiaddrs.
	Log *slog.Logger
}

// Client is a tenant's engine on one home. Its methods may be called from
// several goroutines; one job is run by one process at a time.
type Client struct {
	config   Config
	ledger   Ledger
	books    Books
	network  Network
	identity Identity
	machine  Machine
	trace    *trace.Tracer
	log      *slog.Logger
	store    *store
	blobs    *blob.Store
	key      market.ClientKey
	coin     []byte // the secret that draws checks
}

// New opens the home. Close it.
func New(ctx context.Context, config Config, p Ports) (*Client, error) {
	config = config.withDefaults()
	if err := config.Validate(); err != nil {
		return nil, err
	}
	if p.Ledger == nil || p.Books == nil || p.Network == nil || p.Identity == nil {
		return nil, errors.New("client: a ledger, its books, a network and an identity are needed")
	}
	c := &Client{config: config, ledger: p.Ledger, books: p.Books, network: p.Network, identity: p.Identity, machine: p.Machine, trace: p.Trace, log: p.Log}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if n := copy(c.key[:], p.Identity.Public()); n != len(c.key) {
		return nil, fmt.Errorf("client: a public key of %d bytes: want %d", n, len(c.key))
	}
	var err error
	if c.store, err = openStore(ctx, config.db()); err != nil {
		return nil, err
	}
	c.coin, err = c.store.secret(ctx, "coin", func() []byte {
		b := make([]byte, 32)
		_, _ = rand.Read(b) // never fails
		return b
	})
	if err != nil {
		return nil, errors.Join(err, c.store.close())
	}
	if c.blobs, err = blob.Open(ctx, blob.Config{Dir: config.blobs()}); err != nil {
		return nil, errors.Join(err, c.store.close())
	}
	return c, nil
}

// Close ends what New opened. No job may be running.
func (c *Client) Close() error { return c.store.close() }

// Jobs lists the jobs of this home, oldest first.
func (c *Client) Jobs(ctx context.Context) ([]Job, error) { return c.store.jobs(ctx) }

// Job tells of one.
func (c *Client) Job(ctx context.Context, id JobID) (Job, error) { return c.store.job(ctx, id) }

// Outputs lists the files that a job's tasks left.
func (c *Client) Outputs(ctx context.Context, id JobID) ([]Output, error) {
	j, err := c.store.job(ctx, id)
	if err != nil {
		return nil, err
	}
	return c.store.outputs(ctx, j)
}

// ErrRunning is a job that another process runs.
var ErrRunning = errors.New("another process runs this job")

// lock makes this process the only one that runs a job or a standing lease.
func (c *Client) lock(name string) (unlock func(), err error) {
	if !jobID.MatchString(name) {
		return nil, fmt.Errorf("%.80q: %w", name, ErrNoJob)
	}
	if err := os.MkdirAll(c.config.locks(), 0o700); err != nil {
		return nil, err
	}
	f := flock.New(filepath.Join(c.config.locks(), name), flock.SetPermissions(0o600))
	ok, err := f.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	if !ok {
		return nil, fmt.Errorf("%s: %w", name, ErrRunning)
	}
	return func() { _ = f.Unlock() }, nil
}

// session is the key pair of a demand's leases.
func (c *Client) sessionKey(nonce []byte) (fallow.Key, error) {
	private, err := c.identity.Session(nonce)
	if err != nil {
		return fallow.Key{}, err
	}
	return publicKey(private)
}
