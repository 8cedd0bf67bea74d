package sdk

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"fallow.network"
	"fallow.network/client"
	"fallow.network/ledger"
	"fallow.network/market"
)

// tenantLedger is the ledger as the client wants it.
type tenantLedger struct {
	client *ledger.Client
	sender *ledger.Sender
}

// away marks what is worth trying again.
func away(err error) error {
	var u *ledger.UnsettledError
	if ledger.Away(err) || errors.As(err, &u) {
		return fmt.Errorf("%w: %w", client.ErrAway, err)
	}
	return err
}

// transactions lists what was sent, failed attempts included: they paid too.
func transactions(txs ...ledger.Tx) []client.Transaction {
	var out []client.Transaction
	for _, tx := range txs {
		for _, one := range append(tx.Failed, tx) {
			if one.Hash == (ledger.Hash{}) {
				continue
			}
			t := client.Transaction{Hash: one.Hash.String(), Height: one.Height, Bytes: uint64(one.Bytes), Fee: uint64(one.Fee), GasUsed: one.GasUsed}
			if !slices.Contains(out, t) { // calls that shared one count it once
				out = append(out, t)
			}
		}
	}
	return out
}

func (t tenantLedger) Open(ctx context.Context, tenant fallow.Account, entries []client.OpenEntry) ([]client.OpenResult, []client.Transaction, error) {
	opens := make([]ledger.Open, len(entries))
	for i, e := range entries {
		opens[i] = ledger.Open{Offer: e.Offer, Session: e.SessionKey, Reserve: e.Reserve}
	}
	results, txs, err := t.sender.OpenLeases(ctx, tenant, opens)
	out := make([]client.OpenResult, len(results))
	for i, r := range results {
		out[i] = client.OpenResult{Lease: r.Lease, Reason: r.Reason}
	}
	return out, transactions(txs...), away(err)
}

func (t tenantLedger) Raise(ctx context.Context, lease fallow.LeaseID, reserve fallow.Credits) (client.Transaction, error) {
	tx, err := t.sender.Raise(ctx, lease, reserve)
	var sent client.Transaction
	if all := transactions(tx); len(all) > 0 {
		sent = all[len(all)-1]
	}
	return sent, away(err)
}

func (t tenantLedger) Close(ctx context.Context, leases []fallow.LeaseID, releases []market.Signed, reason fallow.Reason) ([]client.Transaction, error) {
	// Both go out at once, so that they share a transaction. A close's result
	// says nothing new: a lease that is closed already stays so.
	type sent struct {
		txs []ledger.Tx
		err error
	}
	released := make(chan sent, 1)
	go func() {
		var s sent
		if len(releases) > 0 {
			_, s.txs, s.err = t.sender.Release(ctx, releases)
		}
		released <- s
	}()
	var closed sent
	if len(leases) > 0 {
		_, closed.txs, closed.err = t.sender.CloseLeases(ctx, reason, leases)
	}
	first := <-released
	return transactions(append(first.txs, closed.txs...)...), away(errors.Join(first.err, closed.err))
}

func (t tenantLedger) Hand(ctx context.Context, leases []fallow.LeaseID, releases []market.Signed, reason fallow.Reason) (client.Transaction, error) {
	tx, err := t.sender.Leave(ctx, releases, reason, leases)
	if err != nil {
		return client.Transaction{}, away(err)
	}
	return transactions(tx)[0], nil
}

func (t tenantLedger) Escrow(ctx context.Context, tenant fallow.Account) (client.Escrow, error) {
	head, err := t.client.Head(ctx)
	if err != nil {
		return client.Escrow{}, away(err)
	}
	a, err := t.client.Escrow(ctx, tenant)
	if errors.Is(err, ledger.ErrNotFound) {
		return client.Escrow{Height: head.Height, Time: head.Time}, nil
	}
	if err != nil {
		return client.Escrow{}, away(err)
	}
	account, err := accountOf(a)
	if err != nil {
		return client.Escrow{}, err
	}
	return client.Escrow{Free: account.Free, Reserved: account.Reserved, Height: head.Height, Time: head.Time}, nil
}

func (t tenantLedger) Leases(ctx context.Context, tenant fallow.Account) ([]client.Lease, error) {
	var out []client.Lease
	for l, err := range t.client.Leases(ctx, ledger.LeaseFilter{Tenant: tenant, Open: true}) {
		if err != nil {
			return nil, away(err)
		}
		lease, err := leaseOf(l)
		if err != nil {
			return nil, err
		}
		out = append(out, client.Lease{
			ID: lease.ID, Provider: lease.Provider, NodeKey: lease.NodeKey, SessionKey: lease.SessionKey, Offer: lease.Offer,
			Reserve: lease.Reserve, Claimed: lease.Claimed, Closing: lease.Reason != "", Opened: lease.Opened.Time,
		})
	}
	return out, nil
}

func (t tenantLedger) Providers(ctx context.Context, limit int) ([]client.Listing, error) {
	var out []client.Listing
	for p, err := range t.client.Providers(ctx) {
		if err != nil {
			return nil, away(err)
		}
		if p.GetPaused() || p.GetBond() == 0 {
			continue
		}
		listing := client.Listing{Provider: fallow.Account(p.GetOwner())}
		for _, n := range p.GetNodes() {
			k, err := fallow.KeyFrom(n.GetKey())
			if err != nil {
				return nil, fmt.Errorf("provider %s: %w", p.GetOwner(), err)
			}
			listing.NodeKeys = append(listing.NodeKeys, k)
			listing.Addrs = append(listing.Addrs, n.GetAddrs()...)
		}
		if out = append(out, listing); len(out) >= limit {
			break
		}
	}
	return out, nil
}

func (t tenantLedger) Standing(ctx context.Context, provider fallow.Account) (client.Standing, error) {
	p, err := t.client.Provider(ctx, provider)
	if errors.Is(err, ledger.ErrNotFound) {
		return client.Standing{}, nil
	}
	if err != nil {
		return client.Standing{}, away(err)
	}
	var nodes []fallow.Key
	for _, n := range p.GetNodes() {
		k, err := fallow.KeyFrom(n.GetKey())
		if err != nil {
			return client.Standing{}, fmt.Errorf("provider %s: %w", provider, err)
		}
		nodes = append(nodes, k)
	}
	_, ceiling, err := t.client.Exposure(ctx, provider)
	if err != nil {
		return client.Standing{}, away(err)
	}
	// The ceiling is half of the bond's value.
	return client.Standing{Bond: 2 * ceiling, Nodes: nodes}, nil
}
