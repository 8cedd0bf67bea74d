package provider

import (
	"fmt"

	"cosmossdk.io/core/address"
	sdk "github.com/cosmos/cosmos-sdk/types"

	api "fallow.network/api/chain/provider"
	"fallow.network/market"
)

// load puts a genesis into an empty registry: the entries as they
// stand, and over them the params.
func load(r market.Registry, codec address.Codec, g api.GenesisState) error {
	for i, e := range g.Entries {
		if len(e.Key) == 0 || len(e.Key) > 256 {
			return fmt.Errorf("entry %d: key of %d bytes: want 1 to 256", i, len(e.Key))
		}
		if err := r.Store.Set(e.Key, e.Value); err != nil {
			return err
		}
	}
	params, err := fromParams(codec, g.Params)
	if err != nil {
		return err
	}
	if err := r.SetParams(params); err != nil {
		return err
	}
	if _, err := r.Bonded(); err != nil {
		return fmt.Errorf("read entries: %w", err)
	}
	return nil
}

// InitGenesis loads a genesis.
func (k *Keeper) InitGenesis(ctx sdk.Context, g api.GenesisState) error {
	k.accounts.GetModuleAccount(ctx, Name) // makes it
	return load(k.Registry(ctx), k.accounts.AddressCodec(), g)
}

// ExportGenesis writes the state: the params, and every entry as it stands.
func (k *Keeper) ExportGenesis(ctx sdk.Context) (api.GenesisState, error) {
	r := k.Registry(ctx)
	params, err := r.Params()
	if err != nil {
		return api.GenesisState{}, err
	}
	g := api.GenesisState{Params: ToParams(params)}
	err = r.Store.Scan(nil, nil, func(key, value []byte) bool {
		g.Entries = append(g.Entries, api.Entry{Key: key, Value: value})
		return true
	})
	return g, err
}
