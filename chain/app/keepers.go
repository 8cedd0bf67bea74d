package app

import (
	"cosmossdk.io/log/v2"
	"github.com/cosmos/cosmos-sdk/runtime"
	storetypes "github.com/cosmos/cosmos-sdk/store/v2/types"
	authcodec "github.com/cosmos/cosmos-sdk/x/auth/codec"
	authkeeper "github.com/cosmos/cosmos-sdk/x/auth/keeper"
	authtypes "github.com/cosmos/cosmos-sdk/x/auth/types"
	authzkeeper "github.com/cosmos/cosmos-sdk/x/authz/keeper"
	bankkeeper "github.com/cosmos/cosmos-sdk/x/bank/keeper"
	banktypes "github.com/cosmos/cosmos-sdk/x/bank/types"
	consensuskeeper "github.com/cosmos/cosmos-sdk/x/consensus/keeper"
	consensustypes "github.com/cosmos/cosmos-sdk/x/consensus/types"
	distrkeeper "github.com/cosmos/cosmos-sdk/x/distribution/keeper"
	distrtypes "github.com/cosmos/cosmos-sdk/x/distribution/types"
	evidencekeeper "github.com/cosmos/cosmos-sdk/x/evidence/keeper"
	evidencetypes "github.com/cosmos/cosmos-sdk/x/evidence/types"
	"github.com/cosmos/cosmos-sdk/x/feegrant"
	feegrantkeeper "github.com/cosmos/cosmos-sdk/x/feegrant/keeper"
	govkeeper "github.com/cosmos/cosmos-sdk/x/gov/keeper"
	govtypes "github.com/cosmos/cosmos-sdk/x/gov/types"
	govv1beta1 "github.com/cosmos/cosmos-sdk/x/gov/types/v1beta1"
	mintkeeper "github.com/cosmos/cosmos-sdk/x/mint/keeper"
	minttypes "github.com/cosmos/cosmos-sdk/x/mint/types"
	slashingkeeper "github.com/cosmos/cosmos-sdk/x/slashing/keeper"
	slashingtypes "github.com/cosmos/cosmos-sdk/x/slashing/types"
	stakingkeeper "github.com/cosmos/cosmos-sdk/x/staking/keeper"
	stakingtypes "github.com/cosmos/cosmos-sdk/x/staking/types"
	upgradekeeper "github.com/cosmos/cosmos-sdk/x/upgrade/keeper"
	upgradetypes "github.com/cosmos/cosmos-sdk/x/upgrade/types"
	"github.com/spf13/cast"

	"fallow.network"
	"fallow.network/chain/lease"
	"fallow.network/chain/provider"
)

// keepers hold what each module keeps.
type keepers struct {
	Auth         authkeeper.AccountKeeper
	Bank         bankkeeper.BaseKeeper
	Staking      *stakingkeeper.Keeper
	Slashing     slashingkeeper.Keeper
	Mint         mintkeeper.Keeper
	Distribution distrkeeper.Keeper
	Gov          *govkeeper.Keeper
	Upgrade      *upgradekeeper.Keeper
	Evidence     *evidencekeeper.Keeper
	Consensus    consensuskeeper.Keeper
	Authz        authzkeeper.Keeper
	FeeGrant     feegrantkeeper.Keeper
	Provider     *provider.Keeper
	Lease        *lease.Keeper
}

// accountRights says what each module's account may do with coins. Ours mint
// and burn nothing.
func accountRights() map[string][]string {
	return map[string][]string{
		authtypes.FeeCollectorName:          nil,
		distrtypes.ModuleName:               nil,
		minttypes.ModuleName:                {authtypes.Minter},
		stakingtypes.BondedPoolName:         {authtypes.Burner, authtypes.Staking},
		stakingtypes.NotBondedPoolName:      {authtypes.Burner, authtypes.Staking},
		stakingtypes.KeyRotationFeePoolName: {authtypes.Burner}, // staking refuses to start without
		govtypes.ModuleName:                 {authtypes.Burner},
		provider.Name:                       nil,
		lease.Name:                          nil,
	}
}

// Authority is the account that speaks for governance.
func Authority() string { return authtypes.NewModuleAddress(govtypes.ModuleName).String() }

func (app *App) makeKeepers(logger log.Logger, options Options) map[string]*storetypes.ObjectStoreKey {
	app.keys = storetypes.NewKVStoreKeys(authtypes.StoreKey, banktypes.StoreKey, stakingtypes.StoreKey,
		minttypes.StoreKey, distrtypes.StoreKey, slashingtypes.StoreKey, govtypes.StoreKey,
		consensustypes.StoreKey, upgradetypes.StoreKey, feegrant.StoreKey, evidencetypes.StoreKey,
		authzkeeper.StoreKey, provider.Name, lease.Name)
	objects := storetypes.NewObjectStoreKeys(banktypes.ObjectStoreKey)
	rights, gov, cdc := accountRights(), Authority(), app.codec
	store := func(name string) runtimeStore { return runtime.NewKVStoreService(app.keys[name]) }

	app.Consensus = consensuskeeper.NewKeeper(cdc, store(consensustypes.StoreKey), gov, runtime.EventService{})
	app.SetParamStore(app.Consensus.ParamsStore)
	app.Auth = authkeeper.NewAccountKeeper(cdc, store(authtypes.StoreKey), authtypes.ProtoBaseAccount, rights,
		authcodec.NewBech32Codec(fallow.Bech32Prefix), fallow.Bech32Prefix, gov, authkeeper.WithUnorderedTransactions(true))
	// Nobody sends to a module's account by hand: its books would not know.
	blocked := map[string]bool{}
	for name := range rights {
		if name != govtypes.ModuleName { // deposits come back through it
			blocked[authtypes.NewModuleAddress(name).String()] = true
		}
	}
	app.Bank = bankkeeper.NewBaseKeeper(cdc, store(banktypes.StoreKey), app.Auth, blocked, gov, logger).
		WithObjStoreKey(objects[banktypes.ObjectStoreKey])
	app.Bank.AppendSendRestriction(restrictCredits)
	app.Staking = stakingkeeper.NewKeeper(cdc, store(stakingtypes.StoreKey), app.Auth, app.Bank, gov,
		authcodec.NewBech32Codec(valoper), authcodec.NewBech32Codec(valcons))
	app.Mint = mintkeeper.NewKeeper(cdc, store(minttypes.StoreKey), app.Staking, app.Auth, app.Bank, authtypes.FeeCollectorName, gov)
	app.Distribution = distrkeeper.NewKeeper(cdc, store(distrtypes.StoreKey), app.Auth, app.Bank, app.Staking, authtypes.FeeCollectorName, gov)
	app.Slashing = slashingkeeper.NewKeeper(cdc, app.legacyAmino, store(slashingtypes.StoreKey), app.Staking, gov)
	app.FeeGrant = feegrantkeeper.NewKeeper(cdc, store(feegrant.StoreKey), app.Auth)
	app.Staking.SetHooks(stakingtypes.NewMultiStakingHooks(app.Distribution.Hooks(), app.Slashing.Hooks()))
	app.Authz = authzkeeper.NewKeeper(store(authzkeeper.StoreKey), cdc, app.MsgServiceRouter(), app.Auth)
	skip := map[int64]bool{}
	for _, height := range cast.ToIntSlice(options.Get("unsafe-skip-upgrades")) {
		skip[int64(height)] = true
	}
	app.Upgrade = upgradekeeper.NewKeeper(skip, store(upgradetypes.StoreKey), cdc, cast.ToString(options.Get("home")), app.BaseApp, gov)
	app.Gov = govkeeper.NewKeeper(cdc, store(govtypes.StoreKey), app.Auth, app.Bank, app.Distribution, app.MsgServiceRouter(),
		govtypes.DefaultConfig(), gov, govkeeper.NewDefaultCalculateVoteResultsAndVotingPower(app.Staking))
	// Without a legacy router the SDK's simulation of governance panics.
	app.Gov.SetLegacyRouter(govv1beta1.NewRouter().AddRoute(govtypes.RouterKey, govv1beta1.ProposalHandler))
	app.Gov = app.Gov.SetHooks(govtypes.NewMultiGovHooks())
	app.Evidence = evidencekeeper.NewKeeper(cdc, store(evidencetypes.StoreKey), app.Staking, app.Slashing,
		app.Auth.AddressCodec(), runtime.ProvideCometInfoService())
	app.Provider = provider.NewKeeper(store(provider.Name), app.Auth, app.Bank, gov)
	app.Lease = lease.NewKeeper(store(lease.Name), app.Auth, app.Bank, app.Provider, gov)
	app.Provider.SetExposure(app.Lease.Exposure)
	app.Provider.SetCheckWindow(app.Lease.CheckWindow)
	return objects
}
