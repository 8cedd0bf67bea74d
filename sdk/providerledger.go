package sdk

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"fallow.network"
	"fallow.network/ledger"
	"fallow.network/market"
	"fallow.network/provider"
	"fallow.network/settle"
)

// providerLedger is the ledger as the provider wants it.
type providerLedger struct {
	client *ledger.Client
	sender *ledger.Sender
}

func (p providerLedger) Lease(ctx context.Context, id fallow.LeaseID) (settle.Lease, error) {
	l, err := p.client.Lease(ctx, id)
	if errors.Is(err, ledger.ErrNotFound) {
		return settle.Lease{}, fmt.Errorf("lease %d: %w", id, provider.ErrNoLease)
	}
	if err != nil {
		return settle.Lease{}, err
	}
	return leaseOf(l)
}

func (p providerLedger) Leases(ctx context.Context, owner fallow.Account) ([]settle.Lease, error) {
	var out []settle.Lease
	for l, err := range p.client.Leases(ctx, ledger.LeaseFilter{Provider: owner, Open: true}) {
		if err != nil {
			return nil, err
		}
		lease, err := leaseOf(l)
		if err != nil {
			return nil, err
		}
		out = append(out, lease)
	}
	return out, nil
}

func (p providerLedger) Escrow(ctx context.Context, tenant fallow.Account) (settle.Account, error) {
	a, err := p.client.Escrow(ctx, tenant)
	if errors.Is(err, ledger.ErrNotFound) {
		return settle.Account{Owner: tenant}, nil
	}
	if err != nil {
		return settle.Account{}, err
	}
	return accountOf(a)
}

func (p providerLedger) Standing(ctx context.Context, owner fallow.Account, node fallow.Key) (provider.Standing, error) {
	r, err := p.client.Provider(ctx, owner)
	if errors.Is(err, ledger.ErrNotFound) {
		return provider.Standing{}, nil
	}
	if err != nil {
		return provider.Standing{}, err
	}
	var s provider.Standing
	for _, n := range r.GetNodes() {
		if k, err := fallow.KeyFrom(n.GetKey()); err == nil && k == node {
			s.Epoch = n.GetEpoch()
		}
	}
	s.Exposure, s.Ceiling, err = p.client.Exposure(ctx, owner)
	return s, err
}

func (p providerLedger) Follow(ctx context.Context, seen func(fallow.Height, fallow.Time)) error {
	err := p.client.Follow(ctx, 0, func(b ledger.Block) error {
		seen(b.Height, b.Time)
		return nil
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// Settle sends the three kinds in their order. They are separate messages of
// one account, so the ledger keeps that order within a block too.
func (p providerLedger) Settle(ctx context.Context, s provider.Settlement) ([]settle.Result, error) {
	out := make([]settle.Result, 0, len(s.Vouchers))
	waits := map[fallow.LeaseID]bool{}
	if len(s.Vouchers) > 0 {
		results, _, err := p.sender.Redeem(ctx, s.Vouchers)
		for _, r := range results {
			out = append(out, settle.Result{Lease: r.Lease, Reason: r.Reason, Amount: r.Amount})
			waits[r.Lease] = waits[r.Lease] || r.Reason == fallow.ReasonBusy
		}
		if err != nil {
			return out, err
		}
	}
	if len(s.Releases) > 0 {
		if _, _, err := p.sender.Release(ctx, s.Releases); err != nil {
			return out, err
		}
	}
	byReason := map[fallow.Reason][]fallow.LeaseID{}
	var reasons []fallow.Reason
	for _, c := range s.Closes {
		if waits[c.Lease] {
			continue
		}
		if _, seen := byReason[c.Reason]; !seen {
			reasons = append(reasons, c.Reason)
		}
		byReason[c.Reason] = append(byReason[c.Reason], c.Lease)
	}
	for _, r := range reasons {
		if _, _, err := p.sender.CloseLeases(ctx, r, byReason[r]); err != nil {
			return out, err
		}
	}
	return out, nil
}

// register sees that the account is a provider with this node, before its
// daemon makes offers. An address that changed is told as well.
func (p providerLedger) register(ctx context.Context, c provider.Config, node fallow.Key, addrs []string, bond ledger.Tokens) error {
	listing := ledger.Listing{Region: c.Region, Hubs: c.Hubs, Nodes: []ledger.Node{{Key: node, Addrs: addrs}}}
	for k, v := range c.Attributes {
		listing.Attributes = append(listing.Attributes, market.Attribute{Key: k, Value: v})
	}
	slices.SortFunc(listing.Attributes, func(a, b market.Attribute) int { return strings.Compare(a.Key, b.Key) })
	r, err := p.client.Provider(ctx, p.sender.Account())
	if errors.Is(err, ledger.ErrNotFound) {
		if _, err = p.sender.Register(ctx, bond, listing); err != nil {
			return fmt.Errorf("register with a bond of %s FAL: %w", bond, err)
		}
		return nil
	}
	if err != nil {
		return err
	}
	listed := false
	for _, n := range r.GetNodes() {
		k, err := fallow.KeyFrom(n.GetKey())
		switch {
		case err != nil:
			return err
		case k == node:
			listed = slices.Equal(n.GetAddrs(), addrs) && r.GetRegion() == c.Region
		default: // another machine of the same owner stays
			listing.Nodes = append(listing.Nodes, ledger.Node{Key: k, Addrs: n.GetAddrs()})
		}
	}
	if listed {
		return nil
	}
	if _, err := p.sender.Update(ctx, listing); err != nil {
		return fmt.Errorf("update the registration: %w", err)
	}
	return nil
}
