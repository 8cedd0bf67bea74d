package sdk

import (
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"slices"
	"time"

	"fallow.network"
	"fallow.network/client"
	"fallow.network/formats"
	"fallow.network/keys"
	"fallow.network/p2p"
	"fallow.network/trace"
)

// Tenant is a home's tenant: the engine that runs jobs, and its purse.
type Tenant struct {
	*client.Client
	Purse   *Purse
	machine *machine
}

// OpenTenant unlocks a home's account and makes it ready to rent.
func OpenTenant(ctx context.Context, h Home, ring *keys.Ring, log *slog.Logger, options ...TenantOption) (*Tenant, error) {
	purse, err := h.OpenPurse(ctx, ring, log)
	if err != nil {
		return nil, err
	}
	for _, o := range options {
		o(&purse.Config)
	}
	m, err := newMachine(h)
	if err != nil {
		return nil, errors.Join(err, purse.Close())
	}
	books := tenantLedger{client: purse.Client, sender: purse.Sender}
	c, err := client.New(ctx, client.Config{
		Home: string(h), ChainID: purse.Network.ChainID, Tenant: purse.Secret.Account(), Hubs: purse.Network.Hubs,
		Check: formats.CheckWhere(purse.Config.Check), AnswerWait: time.Duration(purse.Config.AnswerWait),
	}, client.Ports{Ledger: books, Books: books, Network: network{log, Elsewhere(purse.Network.Hubs), purse.Config.Punch}, Identity: purse.Secret, Machine: m, Trace: trace.From(ctx), Log: log})
	if err != nil {
		return nil, errors.Join(err, m.close(), purse.Close())
	}
	return &Tenant{Client: c, Purse: purse, machine: m}, nil
}

// Close ends the engine, its sandboxes and its ledger's client.
func (t *Tenant) Close() error {
	return errors.Join(t.Client.Close(), t.machine.close(), t.Purse.Close())
}

// TenantOption changes how a tenant is opened.
type TenantOption func(*Config)

// RelayOnly keeps a tenant from opening sockets to meet providers halfway.
func RelayOnly(c *Config) { c.Punch = false }

// network opens identities on the network.
type network struct {
	log       *slog.Logger
	elsewhere bool
	punch     bool // a provider behind a NAT is met halfway
}

// Elsewhere says whether the network is on other machines: a tenant of hubs on
// its own looks for providers there, too.
func Elsewhere(hubs []string) bool {
	return len(hubs) > 0 && !slices.ContainsFunc(hubs, func(h string) bool { return !LeavesLoopback([]string{h}) })
}

func (n network) Join(ctx context.Context, identity ed25519.PrivateKey) (client.Peer, error) {
	h, err := p2p.New(ctx, p2p.Config{Identity: identity, Role: p2p.RoleTenant, Elsewhere: n.elsewhere, Punch: n.elsewhere && n.punch, Log: n.log})
	if err != nil {
		return nil, err
	}
	return peer{h}, nil
}

// peer is a host as the client wants it.
type peer struct{ *p2p.Host }

func (peer) URL(k fallow.Key) string { return p2p.URL(k) }

// Fund sees that a home's tenant has at least so much free in escrow.
func Fund(ctx context.Context, h Home, want fallow.Credits) error {
	config, err := h.Load()
	if err != nil {
		return err
	}
	purse, err := h.OpenPurse(ctx, h.Ring(config, nil, nil), slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer func() { _ = purse.Close() }()
	have, err := tenantLedger{client: purse.Client}.Escrow(ctx, purse.Secret.Account())
	if err != nil {
		return err
	}
	free, err := have.Free.Floor()
	if err != nil || free >= want {
		return err
	}
	coins, err := purse.Client.Balance(ctx, purse.Secret.Account())
	if err != nil {
		return err
	}
	add := min(want-free, coins.Credits)
	if add == 0 {
		return nil
	}
	_, err = purse.Sender.Deposit(ctx, "", add)
	return err
}
