// Package app wires the ledger: the Cosmos SDK's modules, our provider and
// lease modules, and a node that runs them inside the calling process.
//
// Its one invariant: credits (ucredit) move only between an account and the
// lease module's escrow; no other message, fee, grant or vote carries them.
//
// It holds no rules of the market: those stand in market and settle, and
// chain/provider and chain/lease carry them out.
package app

import (
	"encoding/json"
	"fmt"
	"sync"

	autocliv1 "cosmossdk.io/api/cosmos/autocli/v1"
	reflectionv1 "cosmossdk.io/api/cosmos/reflection/v1"
	"cosmossdk.io/log/v2"
	abci "github.com/cometbft/cometbft/abci/types"
	dbm "github.com/cosmos/cosmos-db"
	"github.com/cosmos/cosmos-sdk/baseapp"
	"github.com/cosmos/cosmos-sdk/baseapp/blockexec"
	"github.com/cosmos/cosmos-sdk/client"
	"github.com/cosmos/cosmos-sdk/codec"
	"github.com/cosmos/cosmos-sdk/codec/address"
	codectypes "github.com/cosmos/cosmos-sdk/codec/types"
	runtimeservices "github.com/cosmos/cosmos-sdk/runtime/services"
	servertypes "github.com/cosmos/cosmos-sdk/server/types"
	"github.com/cosmos/cosmos-sdk/std"
	storetypes "github.com/cosmos/cosmos-sdk/store/v2/types"
	sdk "github.com/cosmos/cosmos-sdk/types"
	"github.com/cosmos/cosmos-sdk/types/module"
	"github.com/cosmos/cosmos-sdk/types/msgservice"
	"github.com/cosmos/cosmos-sdk/version"
	"github.com/cosmos/cosmos-sdk/x/auth"
	authsim "github.com/cosmos/cosmos-sdk/x/auth/simulation"
	authtx "github.com/cosmos/cosmos-sdk/x/auth/tx"
	authtypes "github.com/cosmos/cosmos-sdk/x/auth/types"
	"github.com/cosmos/cosmos-sdk/x/tx/signing"
	"github.com/cosmos/gogoproto/proto"

	"fallow.network"
	_ "fallow.network/api/lease"    // amino JSON finds our types by their plain
	_ "fallow.network/api/provider" // descriptors; by gogoproto's alone it orders fields otherwise
)

// Name is what the ledger calls itself to CometBFT and to tools.
const Name = "fallowd"

const (
	valoper = fallow.Bech32Prefix + "valoper"
	valcons = fallow.Bech32Prefix + "valcons"
)

// Options answers the SDK's questions about settings; a viper does, and so
// does a map.
type Options = servertypes.AppOptions

// Settings is an Options made by hand.
type Settings map[string]any

// Get returns the setting's value, or nil.
func (s Settings) Get(key string) any { return s[key] }

// App is the ledger's state machine.
type App struct {
	*baseapp.BaseApp
	keepers

	legacyAmino *codec.LegacyAmino
	codec       codec.Codec
	txConfig    client.TxConfig
	registry    codectypes.InterfaceRegistry
	keys        map[string]*storetypes.KVStoreKey

	modules    *module.Manager
	basics     module.BasicManager
	simulation *module.SimulationManager
	follower   *follower // of the node that runs it; may be nil

	market bool // the block at hand has a message of the market; known where a test may kill us
}

var prefixes sync.Once

// SetPrefixes makes the SDK write addresses as fal…; it acts once a process.
func SetPrefixes() {
	prefixes.Do(func() {
		cfg := sdk.GetConfig()
		cfg.SetBech32PrefixForAccount(fallow.Bech32Prefix, fallow.Bech32Prefix+"pub")
		cfg.SetBech32PrefixForValidator(valoper, valoper+"pub")
		cfg.SetBech32PrefixForConsensusNode(valcons, valcons+"pub")
		cfg.SetCoinType(fallow.CoinType)
		sdk.DefaultBondDenom = fallow.TokenDenom
	})
}

// Encoding is how the ledger writes messages, transactions and state.
type Encoding struct {
	Codec    codec.Codec
	Amino    *codec.LegacyAmino
	Tx       client.TxConfig
	Registry codectypes.InterfaceRegistry
}

// NewEncoding makes codecs that know the base types alone; modules add theirs.
func NewEncoding() (Encoding, error) {
	SetPrefixes()
	registry, err := codectypes.NewInterfaceRegistryWithOptions(codectypes.InterfaceRegistryOptions{
		ProtoFiles: proto.HybridResolver,
		SigningOptions: signing.Options{
			AddressCodec:          address.Bech32Codec{Bech32Prefix: fallow.Bech32Prefix},
			ValidatorAddressCodec: address.Bech32Codec{Bech32Prefix: valoper},
		},
	})
	if err != nil {
		return Encoding{}, fmt.Errorf("make the interface registry: %w", err)
	}
	cdc := codec.NewProtoCodec(registry)
	e := Encoding{Codec: cdc, Amino: codec.NewLegacyAmino(), Registry: registry, Tx: authtx.NewTxConfig(cdc, authtx.DefaultSignModes)}
	if err := registry.SigningContext().Validate(); err != nil {
		return Encoding{}, fmt.Errorf("check the messages' signers: %w", err)
	}
	std.RegisterLegacyAminoCodec(e.Amino)
	std.RegisterInterfaces(registry)
	return e, nil
}

// New builds the ledger over db and loads its latest state. home (where
// upgrades leave their notes) and settings come from options; more set the
// base app: chain id, pruning, least gas price.
func New(logger log.Logger, db dbm.DB, options Options, more ...func(*baseapp.BaseApp)) (*App, error) {
	enc, err := NewEncoding()
	if err != nil {
		return nil, err
	}
	base := baseapp.NewBaseApp(Name, logger, db, enc.Tx.TxDecoder(), more...)
	base.SetVersion(version.Version)
	base.SetInterfaceRegistry(enc.Registry)
	base.SetTxEncoder(enc.Tx.TxEncoder())

	app := &App{BaseApp: base, legacyAmino: enc.Amino, codec: enc.Codec, txConfig: enc.Tx, registry: enc.Registry}
	objects := app.makeKeepers(logger, options)
	app.makeModules()

	configurator := module.NewConfigurator(app.codec, app.MsgServiceRouter(), app.GRPCQueryRouter())
	if err := app.modules.RegisterServices(configurator); err != nil {
		return nil, fmt.Errorf("register services: %w", err)
	}
	autocliv1.RegisterQueryServer(app.GRPCQueryRouter(), runtimeservices.NewAutoCLIQueryService(app.modules.Modules))
	reflection, err := runtimeservices.NewReflectionService()
	if err != nil {
		return nil, fmt.Errorf("make the reflection service: %w", err)
	}
	reflectionv1.RegisterReflectionServiceServer(app.GRPCQueryRouter(), reflection)
	app.simulation = module.NewSimulationManagerFromAppModules(app.modules.Modules, map[string]module.AppModuleSimulation{
		authtypes.ModuleName: auth.NewAppModule(app.codec, app.Auth, authsim.RandomGenesisAccounts),
	})
	app.simulation.RegisterStoreDecoders()

	app.MountKVStores(app.keys)
	app.MountObjectStores(objects)
	app.SetInitChainer(app.initChain)
	app.SetPreBlocker(func(ctx sdk.Context, _ *abci.RequestFinalizeBlock) (*sdk.ResponsePreBlock, error) {
		return app.modules.PreBlock(ctx)
	})
	app.SetBeginBlocker(app.modules.BeginBlock)
	app.SetEndBlocker(app.modules.EndBlock)
	app.SetAnteHandler(app.anteHandler())
	stores := make([]storetypes.StoreKey, 0, len(app.keys)+len(objects))
	for _, k := range app.keys {
		stores = append(stores, k)
	}
	for _, k := range objects {
		stores = append(stores, k)
	}
	blockexec.Apply(base, options, stores, app.txConfig.TxDecoder(), func(storetypes.MultiStore) string { return fallow.TokenDenom })

	files, err := proto.MergedRegistry()
	if err != nil {
		return nil, fmt.Errorf("merge the proto registries: %w", err)
	}
	if err := msgservice.ValidateProtoAnnotations(files); err != nil {
		return nil, fmt.Errorf("check the messages' annotations: %w", err)
	}
	if err := app.LoadLatestVersion(); err != nil {
		return nil, fmt.Errorf("load the latest state: %w", err)
	}
	return app, nil
}

func (app *App) initChain(ctx sdk.Context, req *abci.RequestInitChain) (*abci.ResponseInitChain, error) {
	var state map[string]json.RawMessage
	if err := json.Unmarshal(req.AppStateBytes, &state); err != nil {
		return nil, fmt.Errorf("read genesis: %w", err)
	}
	if err := app.Upgrade.SetModuleVersionMap(ctx, app.modules.GetVersionMap()); err != nil {
		return nil, fmt.Errorf("note module versions: %w", err)
	}
	return app.modules.InitGenesis(ctx, app.codec, state)
}

// Encoding returns the codecs with every module's messages.
func (app *App) Encoding() Encoding {
	return Encoding{Codec: app.codec, Amino: app.legacyAmino, Tx: app.txConfig, Registry: app.registry}
}

// SimulationManager is how the SDK's simulator reaches the modules.
func (app *App) SimulationManager() *module.SimulationManager { return app.simulation }

// Basics are the modules' commands, routes and default genesis.
func (app *App) Basics() module.BasicManager { return app.basics }

// StoreKey returns the key of a module's store, or nil; tests reach state by it.
func (app *App) StoreKey(name string) *storetypes.KVStoreKey { return app.keys[name] }

// ModulesEncoding returns codecs that know every module's messages, for those
// who read the ledger without running one.
func ModulesEncoding() (Encoding, error) {
	app, err := New(log.NewNopLogger(), dbm.NewMemDB(), Settings{})
	if err != nil {
		return Encoding{}, err
	}
	return app.Encoding(), app.Close()
}
