package lease

import (
	"fmt"

	sdk "github.com/cosmos/cosmos-sdk/types"

	api "fallow.network/api/chain/lease"
	"fallow.network/settle"
)

// load puts a genesis into empty books: the entries as they stand, and over
// them the params.
func load(b settle.Books, g api.GenesisState) error {
	for i, e := range g.Entries {
		if len(e.Key) == 0 || len(e.Key) > 256 {
			return fmt.Errorf("entry %d: key of %d bytes: want 1 to 256", i, len(e.Key))
		}
		if err := b.Store.Set(e.Key, e.Value); err != nil {
			return err
		}
	}
	return b.SetParams(fromParams(g.Params))
}

// InitGenesis loads a genesis.
func (k *Keeper) InitGenesis(ctx sdk.Context, g api.GenesisState) error {
	k.accounts.GetModuleAccount(ctx, Name) // makes it
	return load(k.Books(ctx), g)
}

// ExportGenesis writes the state: the params, and every entry as it stands.
func (k *Keeper) ExportGenesis(ctx sdk.Context) (api.GenesisState, error) {
	b := k.Books(ctx)
	params, err := b.Params()
	if err != nil {
		return api.GenesisState{}, err
	}
	g := api.GenesisState{Params: ToParams(params)}
	err = b.Store.Scan(nil, nil, func(key, value []byte) bool {
		g.Entries = append(g.Entries, api.Entry{Key: key, Value: value})
		return true
	})
	return g, err
}
