package app

import (
	"cosmossdk.io/core/store"
	"github.com/cosmos/cosmos-sdk/types/module"
	"github.com/cosmos/cosmos-sdk/x/auth"
	authtypes "github.com/cosmos/cosmos-sdk/x/auth/types"
	"github.com/cosmos/cosmos-sdk/x/auth/vesting"
	vestingtypes "github.com/cosmos/cosmos-sdk/x/auth/vesting/types"
	"github.com/cosmos/cosmos-sdk/x/authz"
	authzmodule "github.com/cosmos/cosmos-sdk/x/authz/module"
	"github.com/cosmos/cosmos-sdk/x/bank"
	banktypes "github.com/cosmos/cosmos-sdk/x/bank/types"
	"github.com/cosmos/cosmos-sdk/x/consensus"
	consensustypes "github.com/cosmos/cosmos-sdk/x/consensus/types"
	distr "github.com/cosmos/cosmos-sdk/x/distribution"
	distrtypes "github.com/cosmos/cosmos-sdk/x/distribution/types"
	"github.com/cosmos/cosmos-sdk/x/evidence"
	evidencetypes "github.com/cosmos/cosmos-sdk/x/evidence/types"
	"github.com/cosmos/cosmos-sdk/x/feegrant"
	feegrantmodule "github.com/cosmos/cosmos-sdk/x/feegrant/module"
	"github.com/cosmos/cosmos-sdk/x/genutil"
	genutiltypes "github.com/cosmos/cosmos-sdk/x/genutil/types"
	"github.com/cosmos/cosmos-sdk/x/gov"
	govclient "github.com/cosmos/cosmos-sdk/x/gov/client"
	govtypes "github.com/cosmos/cosmos-sdk/x/gov/types"
	"github.com/cosmos/cosmos-sdk/x/mint"
	minttypes "github.com/cosmos/cosmos-sdk/x/mint/types"
	"github.com/cosmos/cosmos-sdk/x/slashing"
	slashingtypes "github.com/cosmos/cosmos-sdk/x/slashing/types"
	"github.com/cosmos/cosmos-sdk/x/staking"
	stakingtypes "github.com/cosmos/cosmos-sdk/x/staking/types"
	"github.com/cosmos/cosmos-sdk/x/upgrade"
	upgradetypes "github.com/cosmos/cosmos-sdk/x/upgrade/types"

	"fallow.network/chain/lease"
	"fallow.network/chain/provider"
)

type runtimeStore = store.KVStoreService

func (app *App) makeModules() {
	app.modules = module.NewManager(
		genutil.NewAppModule(app.Auth, app.Staking, app, app.txConfig),
		auth.NewAppModule(app.codec, app.Auth, nil),
		vesting.NewAppModule(app.Auth, app.Bank),
		bank.NewAppModule(app.codec, app.Bank, app.Auth),
		feegrantmodule.NewAppModule(app.codec, app.Auth, app.Bank, app.FeeGrant, app.registry),
		gov.NewAppModule(app.codec, app.Gov, app.Auth, app.Bank),
		mint.NewAppModule(app.codec, app.Mint, app.Auth, nil),
		slashing.NewAppModule(app.codec, app.Slashing, app.Auth, app.Bank, app.Staking, app.registry),
		distr.NewAppModule(app.codec, app.Distribution, app.Auth, app.Bank, app.Staking),
		staking.NewAppModule(app.codec, app.Staking, app.Auth, app.Bank),
		upgrade.NewAppModule(app.Upgrade, app.Auth.AddressCodec()),
		evidence.NewAppModule(*app.Evidence),
		authzmodule.NewAppModule(app.codec, app.Authz, app.Auth, app.Bank, app.registry),
		consensus.NewAppModule(app.codec, app.Consensus),
		provider.NewModule(app.Provider),
		lease.NewModule(app.Lease),
	)
	app.basics = module.NewBasicManagerFromManager(app.modules, map[string]module.AppModuleBasic{
		genutiltypes.ModuleName: genutil.NewAppModuleBasic(genutiltypes.DefaultMessageValidator),
		govtypes.ModuleName:     gov.NewAppModuleBasic([]govclient.ProposalHandler{}),
	})
	app.basics.RegisterLegacyAminoCodec(app.legacyAmino)
	app.basics.RegisterInterfaces(app.registry)

	app.modules.SetOrderPreBlockers(upgradetypes.ModuleName, authtypes.ModuleName)
	app.modules.SetOrderBeginBlockers(minttypes.ModuleName, distrtypes.ModuleName, slashingtypes.ModuleName,
		evidencetypes.ModuleName, stakingtypes.ModuleName, genutiltypes.ModuleName, authz.ModuleName)
	// Bank comes first: it books the block's fees before others spend them.
	// Ours come last, leases before the bonds that cover them: an audit
	// replays this order.
	app.modules.SetOrderEndBlockers(banktypes.ModuleName, govtypes.ModuleName, stakingtypes.ModuleName,
		genutiltypes.ModuleName, feegrant.ModuleName, lease.Name, provider.Name)
	order := []string{
		authtypes.ModuleName, banktypes.ModuleName, distrtypes.ModuleName, stakingtypes.ModuleName,
		slashingtypes.ModuleName, govtypes.ModuleName, minttypes.ModuleName, genutiltypes.ModuleName,
		evidencetypes.ModuleName, authz.ModuleName, feegrant.ModuleName, upgradetypes.ModuleName,
		vestingtypes.ModuleName, consensustypes.ModuleName, provider.Name, lease.Name,
	}
	app.modules.SetOrderInitGenesis(order...)
	app.modules.SetOrderExportGenesis(order...)
}
