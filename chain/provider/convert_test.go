package provider

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/cosmos/cosmos-sdk/codec/address"

	"fallow.network"
	api "fallow.network/api/chain/provider"
	"fallow.network/market"
)

// TestEvents tells of every effect that the rules return: one that nothing
// tells of would stop its message.
func TestEvents(t *testing.T) {
	for _, e := range []market.Effect{market.Registered{}, market.Updated{}, market.Unbonding{}, market.Unbonded{}} {
		if ToEvent(e) == nil {
			t.Errorf("nothing tells of %T", e)
		}
	}
}

func TestParams(t *testing.T) {
	codec := address.Bech32Codec{Bech32Prefix: fallow.Bech32Prefix}
	who, err := codec.BytesToString(bytes.Repeat([]byte{1}, 20))
	if err != nil {
		t.Fatal(err)
	}
	p := market.RegistryParams{MinBond: 1, UnbondingMS: 2, BondPrice: 3, Allowed: []fallow.Account{fallow.Account(who)}, MaxAttributes: 4, MaxNodes: 5}
	if got, err := fromParams(codec, ToParams(p)); err != nil || !reflect.DeepEqual(got, p) {
		t.Errorf("there and back: %+v, %v", got, err)
	}
	if _, err := fromParams(codec, api.Params{Allowed: []string{"cosmos1xyz"}}); err == nil {
		t.Error("an address of another network was allowed")
	}
}

func TestListing(t *testing.T) {
	key := fallow.Key{7}
	l, err := toListing([]api.NodeKey{{Key: key[:], Addrs: []string{"a"}, Rotate: true}}, []api.Attribute{{Key: "k", Value: "v"}}, "eu", []string{"h"})
	want := market.Listing{
		Nodes:      []market.NodeListing{{Key: key, Addrs: []string{"a"}, Rotate: true}},
		Attributes: []market.Attribute{{Key: "k", Value: "v"}}, Region: "eu", Hubs: []string{"h"},
	}
	if err != nil || !reflect.DeepEqual(l, want) {
		t.Errorf("listing %+v, %v", l, err)
	}
	if _, err := toListing([]api.NodeKey{{Key: []byte{1}}}, nil, "", nil); err == nil {
		t.Error("a short key was listed")
	}
}
