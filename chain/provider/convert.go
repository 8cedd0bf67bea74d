package provider

import (
	"fmt"

	"cosmossdk.io/core/address"
	"github.com/cosmos/gogoproto/proto"

	"fallow.network"
	api "fallow.network/api/chain/provider"
	"fallow.network/chain/adapter"
	"fallow.network/market"
)

// ToParams writes the params as a message.
func ToParams(p market.RegistryParams) api.Params {
	m := api.Params{
		MinBond: uint64(p.MinBond), UnbondingMs: p.UnbondingMS, BondPrice: p.BondPrice,
		MaxAttributes: p.MaxAttributes, MaxNodes: p.MaxNodes,
	}
	for _, a := range p.Allowed {
		m.Allowed = append(m.Allowed, string(a))
	}
	return m
}

func fromParams(codec address.Codec, m api.Params) (market.RegistryParams, error) {
	p := market.RegistryParams{
		MinBond: market.Tokens(m.MinBond), UnbondingMS: m.UnbondingMs, BondPrice: m.BondPrice,
		MaxAttributes: m.MaxAttributes, MaxNodes: m.MaxNodes,
	}
	for _, s := range m.Allowed {
		a, err := adapter.Account(codec, s)
		if err != nil {
			return p, fmt.Errorf("allowed: %w", err)
		}
		p.Allowed = append(p.Allowed, a)
	}
	return p, nil
}

func toListing(nodes []api.NodeKey, attributes []api.Attribute, region string, hubs []string) (market.Listing, error) {
	l := market.Listing{Region: region, Hubs: hubs}
	for _, n := range nodes {
		key, err := fallow.KeyFrom(n.Key)
		if err != nil {
			return l, fmt.Errorf("%w: node: %w", market.ErrListing, err)
		}
		l.Nodes = append(l.Nodes, market.NodeListing{Key: key, Addrs: n.Addrs, Rotate: n.Rotate})
	}
	for _, a := range attributes {
		l.Attributes = append(l.Attributes, market.Attribute{Key: a.Key, Value: a.Value})
	}
	return l, nil
}

func toProvider(p market.Provider) api.Provider {
	m := api.Provider{
		Owner: string(p.Owner), Bond: uint64(p.Bond), Region: p.Region, Hubs: p.Hubs, Paused: p.Paused,
		Unbonding: uint64(p.Unbonding), UnbondsUnixMs: int64(p.Unbonds), RegisteredHeight: int64(p.Registered), LastEpoch: p.LastEpoch,
	}
	for _, n := range p.Nodes {
		m.Nodes = append(m.Nodes, api.Node{Key: n.Key[:], Epoch: n.Epoch, Addrs: n.Addrs})
	}
	for _, a := range p.Attributes {
		m.Attributes = append(m.Attributes, api.Attribute{Key: a.Key, Value: a.Value})
	}
	return m
}

// ToEvent writes an effect as the typed event that tells of it, or nil.
func ToEvent(e market.Effect) proto.Message {
	switch e := e.(type) {
	case market.Registered:
		return &api.EventRegistered{Provider: string(e.Provider)}
	case market.Updated:
		return &api.EventUpdated{Provider: string(e.Provider)}
	case market.Unbonding:
		return &api.EventUnbonding{Provider: string(e.Provider), Amount: uint64(e.Amount), UnbondsUnixMs: int64(e.Unbonds)}
	case market.Unbonded:
		return &api.EventUnbonded{Provider: string(e.Provider), Amount: uint64(e.Amount)}
	default:
		return nil
	}
}
