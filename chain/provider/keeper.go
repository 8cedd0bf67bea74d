package provider

import (
	"context"
	"fmt"

	"cosmossdk.io/core/address"
	"cosmossdk.io/core/store"
	sdk "github.com/cosmos/cosmos-sdk/types"

	"fallow.network"
	"fallow.network/chain/adapter"
	"fallow.network/market"
)

// perBlock bounds the bonds that one block pays back.
const perBlock = 100

// Accounts is what the keeper needs of the auth module.
type Accounts interface {
	AddressCodec() address.Codec
	GetModuleAccount(ctx context.Context, name string) sdk.ModuleAccountI
}

// Exposure is a provider's open reserves and unmatured payouts.
type Exposure func(ctx context.Context, at market.Block, provider fallow.Account) (fallow.Credits, error)

// CheckWindow is how many milliseconds pass from a redemption to its payout.
type CheckWindow func(ctx context.Context) (uint64, error)

// Keeper opens the registry over the ledger's state.
type Keeper struct {
	store     store.KVStoreService
	accounts  Accounts
	bank      adapter.Bank
	authority string
	exposure  Exposure
	window    CheckWindow
}

// NewKeeper makes a keeper; authority is who may change the params.
func NewKeeper(s store.KVStoreService, accounts Accounts, bank adapter.Bank, authority string) *Keeper {
	return &Keeper{store: s, accounts: accounts, bank: bank, authority: authority}
}

// SetExposure tells the keeper what a provider's bond has to cover; the lease
// module knows, and it is made after this one.
func (k *Keeper) SetExposure(e Exposure) { k.exposure = e }

// SetCheckWindow tells the keeper what bonds have to outlast.
func (k *Keeper) SetCheckWindow(w CheckWindow) { k.window = w }

// Registry is the state machine over the state that ctx sees.
func (k *Keeper) Registry(ctx context.Context) market.Registry {
	r := market.Registry{Store: adapter.Store(k.store.OpenKVStore(ctx))}
	if k.exposure != nil {
		r.Exposure = func(at market.Block, provider fallow.Account) (fallow.Credits, error) {
			return k.exposure(ctx, at, provider)
		}
	}
	return r
}

// apply carries out effects.
func (k *Keeper) apply(ctx context.Context, effects []market.Effect) error {
	return adapter.Apply(ctx, k.bank, k.accounts.AddressCodec(), effects, ToEvent)
}

// EndBlock pays back bonds whose time is over.
func (k *Keeper) EndBlock(ctx context.Context) error {
	effects, err := k.Registry(ctx).EndBlock(adapter.Block(sdk.UnwrapSDKContext(ctx)), perBlock)
	if err != nil {
		return fmt.Errorf("end block of %s: %w", Name, err)
	}
	return k.apply(ctx, effects)
}
