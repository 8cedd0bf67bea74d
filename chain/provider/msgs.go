package provider

import (
	"context"
	"fmt"

	"cosmossdk.io/core/address"
	errorsmod "cosmossdk.io/errors"
	sdk "github.com/cosmos/cosmos-sdk/types"
	sdkerrors "github.com/cosmos/cosmos-sdk/types/errors"
	"github.com/cosmos/gogoproto/proto"

	"fallow.network"
	api "fallow.network/api/chain/provider"
	"fallow.network/chain/adapter"
	"fallow.network/market"
)

// Handle carries out one message: load, pure call, save and apply effects. The
// ledger's handlers call it, and so does an audit. known is false for a
// message that is not this module's.
func (k *Keeper) Handle(ctx context.Context, msg proto.Message) (resp proto.Message, known bool, err error) {
	r, at := k.Registry(ctx), adapter.Block(sdk.UnwrapSDKContext(ctx))
	m := run{r, at, k.accounts.AddressCodec(), k.authority}
	var effects []market.Effect
	switch msg := msg.(type) {
	case *api.MsgRegister:
		resp, effects, err = m.register(msg)
	case *api.MsgUpdate:
		resp, effects, err = m.update(msg)
	case *api.MsgBond:
		resp = &api.MsgBondResponse{}
		effects, err = m.byOwner(msg.Owner, func(owner fallow.Account) ([]market.Effect, error) {
			return r.Bond(at, owner, market.Tokens(msg.Amount))
		})
	case *api.MsgPause:
		resp = &api.MsgPauseResponse{}
		effects, err = m.byOwner(msg.Owner, func(owner fallow.Account) ([]market.Effect, error) {
			return r.Pause(at, owner, msg.Paused)
		})
	case *api.MsgUnbond:
		unbond := &api.MsgUnbondResponse{}
		resp = unbond
		effects, err = m.byOwner(msg.Owner, func(owner fallow.Account) ([]market.Effect, error) {
			when, effects, err := r.Unbond(at, owner, market.Tokens(msg.Amount))
			unbond.UnbondsUnixMs = int64(when)
			return effects, err
		})
	case *api.MsgUpdateParams:
		resp, err = m.updateParams(ctx, k.window, msg)
	default:
		return nil, false, nil
	}
	if err == nil {
		err = k.apply(ctx, effects)
	}
	return resp, true, refusals.Error(err)
}

type run struct {
	registry  market.Registry
	at        market.Block
	codec     address.Codec
	authority string
}

func (m run) byOwner(owner string, rule func(fallow.Account) ([]market.Effect, error)) ([]market.Effect, error) {
	account, err := adapter.Account(m.codec, owner)
	if err != nil {
		return nil, err
	}
	return rule(account)
}

func (m run) register(msg *api.MsgRegister) (proto.Message, []market.Effect, error) {
	listing, err := toListing(msg.Nodes, msg.Attributes, msg.Region, msg.Hubs)
	if err != nil {
		return nil, nil, err
	}
	effects, err := m.byOwner(msg.Owner, func(owner fallow.Account) ([]market.Effect, error) {
		return m.registry.Register(m.at, owner, market.Tokens(msg.Bond), listing)
	})
	return &api.MsgRegisterResponse{}, effects, err
}

func (m run) update(msg *api.MsgUpdate) (proto.Message, []market.Effect, error) {
	listing, err := toListing(msg.Nodes, msg.Attributes, msg.Region, msg.Hubs)
	if err != nil {
		return nil, nil, err
	}
	effects, err := m.byOwner(msg.Owner, func(owner fallow.Account) ([]market.Effect, error) {
		return m.registry.Update(m.at, owner, listing)
	})
	return &api.MsgUpdateResponse{}, effects, err
}

func (m run) updateParams(ctx context.Context, window CheckWindow, msg *api.MsgUpdateParams) (proto.Message, error) {
	if msg.Authority != m.authority {
		return nil, errorsmod.Wrapf(sdkerrors.ErrUnauthorized, "params are changed by %s, not by %s", m.authority, msg.Authority)
	}
	params, err := fromParams(m.codec, msg.Params)
	if err != nil {
		return nil, err
	}
	if window != nil {
		ms, err := window(ctx)
		if err != nil {
			return nil, err
		}
		if params.UnbondingMS <= ms {
			return nil, fmt.Errorf("unbonding of %d ms is not longer than the check window of %d ms: %w", params.UnbondingMS, ms, market.ErrParams)
		}
	}
	return &api.MsgUpdateParamsResponse{}, m.registry.SetParams(params)
}

// messages serves fallow.provider.v1.Msg.
type messages struct{ *Keeper }

var _ api.MsgServer = messages{}

func handle[R proto.Message](ctx context.Context, k *Keeper, msg proto.Message) (R, error) {
	var none R
	resp, _, err := k.Handle(ctx, msg)
	if err != nil {
		return none, err
	}
	return resp.(R), nil
}

// Register takes a bond and lists node keys.
func (s messages) Register(ctx context.Context, m *api.MsgRegister) (*api.MsgRegisterResponse, error) {
	return handle[*api.MsgRegisterResponse](ctx, s.Keeper, m)
}

// Update replaces a provider's listing.
func (s messages) Update(ctx context.Context, m *api.MsgUpdate) (*api.MsgUpdateResponse, error) {
	return handle[*api.MsgUpdateResponse](ctx, s.Keeper, m)
}

// Bond adds to a bond.
func (s messages) Bond(ctx context.Context, m *api.MsgBond) (*api.MsgBondResponse, error) {
	return handle[*api.MsgBondResponse](ctx, s.Keeper, m)
}

// Pause shows the market that no offers come.
func (s messages) Pause(ctx context.Context, m *api.MsgPause) (*api.MsgPauseResponse, error) {
	return handle[*api.MsgPauseResponse](ctx, s.Keeper, m)
}

// Unbond begins the way out.
func (s messages) Unbond(ctx context.Context, m *api.MsgUnbond) (*api.MsgUnbondResponse, error) {
	return handle[*api.MsgUnbondResponse](ctx, s.Keeper, m)
}

// UpdateParams changes the params, for governance.
func (s messages) UpdateParams(ctx context.Context, m *api.MsgUpdateParams) (*api.MsgUpdateParamsResponse, error) {
	return handle[*api.MsgUpdateParamsResponse](ctx, s.Keeper, m)
}
