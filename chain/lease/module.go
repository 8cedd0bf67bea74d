// Package lease is the ledger's module of escrow and leases: a thin shell over
// settle.Books, which holds the rules.
//
// Its one invariant: the module's account holds exactly the credits that the
// books sum up, and nothing else moves credits.
//
// It decides nothing itself: a handler converts a message, calls the rule, and
// carries out the effects.
package lease

import (
	"context"
	"encoding/json"
	"fmt"

	autocliv1 "cosmossdk.io/api/cosmos/autocli/v1"
	"cosmossdk.io/core/appmodule"
	"github.com/cosmos/cosmos-sdk/client"
	"github.com/cosmos/cosmos-sdk/codec"
	"github.com/cosmos/cosmos-sdk/codec/legacy"
	codectypes "github.com/cosmos/cosmos-sdk/codec/types"
	sdk "github.com/cosmos/cosmos-sdk/types"
	"github.com/cosmos/cosmos-sdk/types/module"
	"github.com/cosmos/cosmos-sdk/types/msgservice"
	"github.com/grpc-ecosystem/grpc-gateway/runtime"

	"fallow.network"
	api "fallow.network/api/chain/lease"
	"fallow.network/chain/adapter"
	"fallow.network/settle"
)

// Name is the module's name, store and account.
const Name = string(settle.EscrowPool)

var refusals = adapter.Register(Name, settle.ErrParams, settle.ErrAmount, settle.ErrFunds, settle.ErrEntries, settle.ErrClientKey,
	settle.ErrUnknownLease, settle.ErrNotParty, settle.ErrLeaseClosed, settle.ErrLeaseKind, settle.ErrReserve, settle.ErrExposure,
	settle.ErrUnbonded, settle.ErrReason, settle.ErrBusy, settle.ErrMalformed, settle.ErrSignature, settle.ErrExpired,
	settle.ErrFarAhead, settle.ErrOfferUsed, settle.ErrOtherTenant, settle.ErrKeyEpoch, settle.ErrTerms, settle.ErrServices,
	settle.ErrReplayed, settle.ErrVoucherDown, settle.ErrBeyond, settle.ErrReleaseBelow, settle.ErrHorizonOld)

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
	legacy.RegisterAminoMsg(c, &api.MsgDeposit{}, "fallow/lease/MsgDeposit")
	legacy.RegisterAminoMsg(c, &api.MsgWithdraw{}, "fallow/lease/MsgWithdraw")
	legacy.RegisterAminoMsg(c, &api.MsgSetClientKey{}, "fallow/lease/MsgSetClientKey")
	legacy.RegisterAminoMsg(c, &api.MsgOpenLeases{}, "fallow/lease/MsgOpenLeases")
	legacy.RegisterAminoMsg(c, &api.MsgRaise{}, "fallow/lease/MsgRaise")
	legacy.RegisterAminoMsg(c, &api.MsgRelease{}, "fallow/lease/MsgRelease")
	legacy.RegisterAminoMsg(c, &api.MsgStart{}, "fallow/lease/MsgStart")
	legacy.RegisterAminoMsg(c, &api.MsgRedeem{}, "fallow/lease/MsgRedeem")
	legacy.RegisterAminoMsg(c, &api.MsgClose{}, "fallow/lease/MsgClose")
	legacy.RegisterAminoMsg(c, &api.MsgUpdateParams{}, "fallow/lease/MsgUpdateParams")
}

// RegisterInterfaces makes the messages known to transactions.
func (Module) RegisterInterfaces(r codectypes.InterfaceRegistry) {
	r.RegisterImplementations((*sdk.Msg)(nil), &api.MsgDeposit{}, &api.MsgWithdraw{}, &api.MsgSetClientKey{}, &api.MsgOpenLeases{}, &api.MsgRaise{}, &api.MsgRelease{}, &api.MsgStart{}, &api.MsgRedeem{}, &api.MsgClose{}, &api.MsgUpdateParams{})
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

// EndBlock pays out what has matured and works off what is due.
func (m Module) EndBlock(ctx context.Context) error { return m.keeper.EndBlock(ctx) }

// DefaultGenesis has the default params and no lease.
func (Module) DefaultGenesis(c codec.JSONCodec) json.RawMessage {
	return c.MustMarshalJSON(&api.GenesisState{Params: ToParams(settle.DefaultParams())})
}

// ValidateGenesis checks what a genesis file says.
func (Module) ValidateGenesis(c codec.JSONCodec, _ client.TxEncodingConfig, raw json.RawMessage) error {
	var g api.GenesisState
	if err := c.UnmarshalJSON(raw, &g); err != nil {
		return fmt.Errorf("read the genesis of %s: %w", Name, err)
	}
	return load(settle.Books{Store: &fallow.Memory{}}, g)
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
		Query: &autocliv1.ServiceCommandDescriptor{Service: "fallow.lease.v1.Query", RpcCommandOptions: []*autocliv1.RpcCommandOptions{
			one("Params", "params", "The module's parameters"),
			one("Account", "account [owner]", "A tenant's escrow, computed to the latest block", "owner"),
			one("Lease", "lease [id]", "One lease", "id"),
			one("Leases", "leases", "Leases of a tenant, of a provider, or all"),
			one("Payouts", "payouts [provider]", "What matures for a provider", "provider"),
			one("Exposure", "exposure [provider]", "What a provider's bond has to cover", "provider"),
		}},
		Tx: &autocliv1.ServiceCommandDescriptor{Service: "fallow.lease.v1.Msg", RpcCommandOptions: []*autocliv1.RpcCommandOptions{
			one("Deposit", "deposit [amount]", "Put ucredit into escrow", "amount"),
			one("Withdraw", "withdraw [amount]", "Take free ucredit out; 0 is all", "amount"),
			one("SetClientKey", "set-client-key [address] [limit] [expires-height]", "Let another key open leases, within a limit of ucredit", "address", "limit", "expires_height"),
			one("OpenLeases", "open-leases [tenant]", "Open leases from signed offers", "tenant"),
			one("Raise", "raise [lease] [reserve]", "Raise a batch lease's reserve", "lease", "reserve"),
			one("Release", "release", "Free reserve by the provider's signature"),
			one("Start", "start", "Begin or extend services by signed horizons"),
			one("Redeem", "redeem", "Redeem vouchers and services' accrual"),
			one("Close", "close", "End leases"),
			{RpcMethod: "UpdateParams", Use: "update-params-proposal [params]", Short: "Propose other parameters to governance", GovProposal: true, PositionalArgs: []*autocliv1.PositionalArgDescriptor{{ProtoField: "params"}}},
		}},
	}
}
