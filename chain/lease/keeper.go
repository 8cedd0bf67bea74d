package lease

import (
	"context"
	"fmt"

	"cosmossdk.io/core/address"
	"cosmossdk.io/core/store"
	sdk "github.com/cosmos/cosmos-sdk/types"

	"fallow.network"
	"fallow.network/chain/adapter"
	"fallow.network/market"
	"fallow.network/settle"
	"fallow.network/wire"
)

// Accounts is what the keeper needs of the auth module.
type Accounts interface {
	AddressCodec() address.Codec
	GetModuleAccount(ctx context.Context, name string) sdk.ModuleAccountI
}

// Providers is what the keeper needs of the provider module.
type Providers interface {
	Registry(ctx context.Context) market.Registry
}

// Keeper opens the books over the ledger's state.
type Keeper struct {
	store     store.KVStoreService
	accounts  Accounts
	bank      adapter.Bank
	providers Providers
	authority string
	proven    proven
}

// NewKeeper makes a keeper; authority is who may change the params.
func NewKeeper(s store.KVStoreService, accounts Accounts, bank adapter.Bank, providers Providers, authority string) *Keeper {
	return &Keeper{store: s, accounts: accounts, bank: bank, providers: providers, authority: authority, proven: proven{adapter.NewRecent(rememberedProofs)}}
}

// Books are the state machine over the state that ctx sees, believing
// signatures for its chain.
func (k *Keeper) Books(ctx context.Context) settle.Books {
	return settle.Books{
		Store:  adapter.Store(k.store.OpenKVStore(ctx)),
		Bonds:  k.providers.Registry(ctx),
		Decode: wire.Decoder{},
		Verify: k.proven.verifier(sdk.UnwrapSDKContext(ctx).ChainID()),
	}
}

// Exposure is a provider's open reserves and unmatured payouts; the provider
// module asks before bond leaves.
func (k *Keeper) Exposure(ctx context.Context, at market.Block, provider fallow.Account) (fallow.Credits, error) {
	return k.Books(ctx).Exposure(at, provider)
}

// CheckWindow is how many milliseconds pass from a redemption to its payout;
// the provider module lets no bond leave sooner.
func (k *Keeper) CheckWindow(ctx context.Context) (uint64, error) {
	p, err := k.Books(ctx).Params()
	return p.CheckWindowMS, err
}

// EndBlock pays out what has matured and works off what is due, within the
// params' bound.
func (k *Keeper) EndBlock(ctx context.Context) error {
	effects, err := k.Books(ctx).EndBlock(adapter.Block(sdk.UnwrapSDKContext(ctx)))
	if err != nil {
		return fmt.Errorf("end block of %s: %w", Name, err)
	}
	return k.apply(ctx, effects)
}

// apply carries out effects.
func (k *Keeper) apply(ctx context.Context, effects []settle.Effect) error {
	return adapter.Apply(ctx, k.bank, k.accounts.AddressCodec(), effects, ToEvent)
}
