// Package provider is the ledger's module of providers: a thin shell over
// market.Registry, which holds the rules.
//
// Its one invariant: the module's account holds exactly the bonds, and those
// on their way out, that the registry sums up.
//
// It decides nothing itself: a handler converts a message, calls the rule, and
// carries out the effects.
package provider

import (
	"context"
	"encoding/json"
	"fmt"

	autocliv1 "cosmossdk.io/api/cosmos/autocli/v1"
	"cosmossdk.io/core/appmodule"
	"github.com/cosmos/cosmos-sdk/client"
	"github.com/cosmos/cosmos-sdk/codec"
	"github.com/cosmos/cosmos-sdk/codec/address"
	"github.com/cosmos/cosmos-sdk/codec/legacy"
	codectypes "github.com/cosmos/cosmos-sdk/codec/types"
	sdk "github.com/cosmos/cosmos-sdk/types"
	"github.com/cosmos/cosmos-sdk/types/module"
	"github.com/cosmos/cosmos-sdk/types/msgservice"
	"github.com/grpc-ecosystem/grpc-gateway/runtime"

	"fallow.network"
	api "fallow.network/api/chain/provider"
	"fallow.network/chain/adapter"
	"fallow.network/market"
)

// Name is the module's name, store and account.
const Name = string(market.BondPool)

var refusals = adapter.Register(Name, market.ErrUnknownProvider, market.ErrRegistered, market.ErrBond, market.ErrNotAllowed,
	market.ErrNodeTaken, market.ErrListing, market.ErrExposed, market.ErrParams, market.ErrAmount)

// Module is the module as the SDK's manager sees it.
type Module struct{ keeper *Keeper }

var (
	_ module.AppModuleBasic      = Module{}
	_ module.HasGenesis          = Module{}
	_ module.HasServices         = Module{}
	_ appmodule.AppModule        = Module{}
	_ appmodule.HasEndBlocker    = Module{}
	_ module.HasConsensusVersion = Module{}
)

// NewModule wraps a keeper.
func NewModule(k *Keeper) Module { return Module{k} }

// Name is the module's name.
func (Module) Name() string { return Name }

// IsOnePerModuleType marks a module that stands once in an app.
func (Module) IsOnePerModuleType() {}

// IsAppModule marks a module.
func (Module) IsAppModule() {}

// ConsensusVersion counts changes of the stored state.
func (Module) ConsensusVersion() uint64 { return 1 }

// RegisterLegacyAminoCodec names the messages for amino JSON.
func (Module) RegisterLegacyAminoCodec(c *codec.LegacyAmino) {
	legacy.RegisterAminoMsg(c, &api.MsgRegister{}, "fallow/provider/MsgRegister")
	legacy.RegisterAminoMsg(c, &api.MsgUpdate{}, "fallow/provider/MsgUpdate")
	legacy.RegisterAminoMsg(c, &api.MsgBond{}, "fallow/provider/MsgBond")
	legacy.RegisterAminoMsg(c, &api.MsgPause{}, "fallow/provider/MsgPause")
	legacy.RegisterAminoMsg(c, &api.MsgUnbond{}, "fallow/provider/MsgUnbond")
	legacy.RegisterAminoMsg(c, &api.MsgUpdateParams{}, "fallow/provider/MsgUpdateParams")
}

// RegisterInterfaces makes the messages known to transactions.
func (Module) RegisterInterfaces(r codectypes.InterfaceRegistry) {
	r.RegisterImplementations((*sdk.Msg)(nil), &api.MsgRegister{}, &api.MsgUpdate{}, &api.MsgBond{},
		&api.MsgPause{}, &api.MsgUnbond{}, &api.MsgUpdateParams{})
	msgservice.RegisterMsgServiceDesc(r, &api.Msg_serviceDesc)
}

// RegisterGRPCGatewayRoutes lays the queries' REST routes.
func (Module) RegisterGRPCGatewayRoutes(c client.Context, mux *runtime.ServeMux) {
	if err := api.RegisterQueryHandlerClient(context.Background(), mux, api.NewQueryClient(c)); err != nil {
		panic(fmt.Errorf("lay REST routes: %w", err))
	}
}

// RegisterServices serves the messages and queries.
func (m Module) RegisterServices(c module.Configurator) {
	api.RegisterMsgServer(c.MsgServer(), messages{m.keeper})
	api.RegisterQueryServer(c.QueryServer(), queries{m.keeper})
}

// EndBlock pays back bonds whose time is over.
func (m Module) EndBlock(ctx context.Context) error { return m.keeper.EndBlock(ctx) }

// DefaultGenesis has the default params and no provider.
func (Module) DefaultGenesis(c codec.JSONCodec) json.RawMessage {
	return c.MustMarshalJSON(&api.GenesisState{Params: ToParams(market.DefaultRegistryParams())})
}

// ValidateGenesis checks what a genesis file says.
func (Module) ValidateGenesis(c codec.JSONCodec, _ client.TxEncodingConfig, raw json.RawMessage) error {
	var g api.GenesisState
	if err := c.UnmarshalJSON(raw, &g); err != nil {
		return fmt.Errorf("read the genesis of %s: %w", Name, err)
	}
	return load(market.Registry{Store: &fallow.Memory{}}, address.Bech32Codec{Bech32Prefix: fallow.Bech32Prefix}, g)
}

// InitGenesis loads a genesis; a wrong one stops the ledger.
func (m Module) InitGenesis(ctx sdk.Context, c codec.JSONCodec, raw json.RawMessage) {
	var g api.GenesisState
	c.MustUnmarshalJSON(raw, &g)
	if err := m.keeper.InitGenesis(ctx, g); err != nil {
		panic(fmt.Errorf("load the genesis of %s: %w", Name, err))
	}
}

// ExportGenesis writes the state as a genesis.
func (m Module) ExportGenesis(ctx sdk.Context, c codec.JSONCodec) json.RawMessage {
	g, err := m.keeper.ExportGenesis(ctx)
	if err != nil {
		panic(fmt.Errorf("write the genesis of %s: %w", Name, err))
	}
	return c.MustMarshalJSON(&g)
}

// AutoCLIOptions describes the commands that the SDK makes of our services.
func (Module) AutoCLIOptions() *autocliv1.ModuleOptions {
	one := func(method, use, short string, args ...string) *autocliv1.RpcCommandOptions {
		o := &autocliv1.RpcCommandOptions{RpcMethod: method, Use: use, Short: short}
		for _, a := range args {
			o.PositionalArgs = append(o.PositionalArgs, &autocliv1.PositionalArgDescriptor{ProtoField: a})
		}
		return o
	}
	return &autocliv1.ModuleOptions{
		Query: &autocliv1.ServiceCommandDescriptor{Service: "fallow.provider.v1.Query", RpcCommandOptions: []*autocliv1.RpcCommandOptions{
			one("Params", "params", "The module's parameters"),
			one("Provider", "provider [owner]", "One provider", "owner"),
			one("Providers", "providers", "All providers"),
		}},
		Tx: &autocliv1.ServiceCommandDescriptor{Service: "fallow.provider.v1.Msg", RpcCommandOptions: []*autocliv1.RpcCommandOptions{
			one("Register", "register [bond]", "Become a provider; the bond is in ufal", "bond"),
			one("Update", "update", "Replace nodes, attributes, region and hubs"),
			one("Bond", "bond [amount]", "Add to the bond, in ufal", "amount"),
			one("Pause", "pause [paused]", "Show that no offers come, or that they do", "paused"),
			one("Unbond", "unbond [amount]", "Take bond out, in ufal; 0 is everything", "amount"),
			{RpcMethod: "UpdateParams", Use: "update-params-proposal [params]", Short: "Propose other parameters to governance", GovProposal: true, PositionalArgs: []*autocliv1.PositionalArgDescriptor{{ProtoField: "params"}}},
		}},
	}
}
