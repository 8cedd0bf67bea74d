package app

import (
	"encoding/json"
	"errors"
	"fmt"

	"cosmossdk.io/client/v2/autocli"
	"cosmossdk.io/core/appmodule"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	"github.com/cosmos/cosmos-sdk/client"
	"github.com/cosmos/cosmos-sdk/client/grpc/cmtservice"
	nodeservice "github.com/cosmos/cosmos-sdk/client/grpc/node"
	runtimeservices "github.com/cosmos/cosmos-sdk/runtime/services"
	"github.com/cosmos/cosmos-sdk/server/api"
	"github.com/cosmos/cosmos-sdk/server/config"
	servertypes "github.com/cosmos/cosmos-sdk/server/types"
	"github.com/cosmos/cosmos-sdk/types/module"
	authcodec "github.com/cosmos/cosmos-sdk/x/auth/codec"
	authtx "github.com/cosmos/cosmos-sdk/x/auth/tx"
	authtypes "github.com/cosmos/cosmos-sdk/x/auth/types"
	"github.com/cosmos/cosmos-sdk/x/staking"
	gogogrpc "github.com/cosmos/gogoproto/grpc"

	"fallow.network"
)

var _ servertypes.Application = (*App)(nil)

// ClientContext is how the SDK's commands and services reach this ledger.
func (app *App) ClientContext() client.Context {
	return client.Context{}.WithCodec(app.codec).WithInterfaceRegistry(app.registry).WithTxConfig(app.txConfig).
		WithLegacyAmino(app.legacyAmino).WithAccountRetriever(authtypes.AccountRetriever{}).WithViper("FALLOWD")
}

// AutoCLI describes the query and tx commands that the SDK makes of our services.
func (app *App) AutoCLI() autocli.AppOptions {
	modules := map[string]appmodule.AppModule{}
	for _, m := range app.modules.Modules {
		if named, ok := m.(module.HasName); ok {
			if am, ok := named.(appmodule.AppModule); ok {
				modules[named.Name()] = am
			}
		}
	}
	return autocli.AppOptions{
		Modules: modules, ModuleOptions: runtimeservices.ExtractAutoCLIOptions(app.modules.Modules),
		AddressCodec:          authcodec.NewBech32Codec(fallow.Bech32Prefix),
		ValidatorAddressCodec: authcodec.NewBech32Codec(valoper),
		ConsensusAddressCodec: authcodec.NewBech32Codec(valcons),
	}
}

// RegisterAPIRoutes lays the REST routes of every module over gRPC.
func (app *App) RegisterAPIRoutes(s *api.Server, _ config.APIConfig) {
	authtx.RegisterGRPCGatewayRoutes(s.ClientCtx, s.GRPCGatewayRouter)
	cmtservice.RegisterGRPCGatewayRoutes(s.ClientCtx, s.GRPCGatewayRouter)
	nodeservice.RegisterGRPCGatewayRoutes(s.ClientCtx, s.GRPCGatewayRouter)
	app.basics.RegisterGRPCGatewayRoutes(s.ClientCtx, s.GRPCGatewayRouter)
}

// RegisterTxService serves cosmos.tx.v1beta1: simulate, broadcast, find.
func (app *App) RegisterTxService(c client.Context) {
	var router gogogrpc.Server = app.GRPCQueryRouter()
	if app.follower != nil {
		router = noting{router, app.follower}
	}
	authtx.RegisterTxService(router, c, app.Simulate, app.registry)
}

// RegisterTendermintService serves blocks, validators and the node's name.
func (app *App) RegisterTendermintService(c client.Context) {
	cmtservice.RegisterTendermintService(c, app.GRPCQueryRouter(), app.registry, app.Query)
}

// RegisterNodeService serves the node's own settings, the least gas price among them.
func (app *App) RegisterNodeService(c client.Context, cfg config.Config) {
	nodeservice.RegisterNodeService(c, app.GRPCQueryRouter(), cfg, func() int64 { return app.CommitMultiStore().EarliestVersion() })
}

// Export writes the state at the loaded height as a genesis. zeroHeight, which
// would rewrite other people's stakes, is refused.
func (app *App) Export(zeroHeight bool, modules []string) (servertypes.ExportedApp, error) {
	if zeroHeight {
		return servertypes.ExportedApp{}, errors.New("export for height zero is not supported: start the new chain at the exported height")
	}
	ctx := app.NewContextLegacy(true, cmtproto.Header{Height: app.LastBlockHeight()})
	state, err := app.modules.ExportGenesisForModules(ctx, app.codec, modules)
	if err != nil {
		return servertypes.ExportedApp{}, fmt.Errorf("export modules: %w", err)
	}
	raw, err := json.Marshal(state)
	if err != nil {
		return servertypes.ExportedApp{}, fmt.Errorf("write exported state: %w", err)
	}
	validators, err := staking.WriteValidators(ctx, app.Staking)
	if err != nil {
		return servertypes.ExportedApp{}, fmt.Errorf("export validators: %w", err)
	}
	return servertypes.ExportedApp{
		AppState: raw, Validators: validators, Height: app.LastBlockHeight() + 1, ConsensusParams: app.GetConsensusParams(ctx),
	}, nil
}
