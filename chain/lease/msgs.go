package lease

import (
	"context"
	"fmt"

	errorsmod "cosmossdk.io/errors"
	sdk "github.com/cosmos/cosmos-sdk/types"
	sdkerrors "github.com/cosmos/cosmos-sdk/types/errors"
	"github.com/cosmos/gogoproto/proto"

	"fallow.network"
	api "fallow.network/api/chain/lease"
	"fallow.network/chain/adapter"
	"fallow.network/settle"
)

// Handle carries out one message: load, pure call, save and apply effects. The
// ledger's handlers call it, and so does an audit. known is false for a
// message that is not this module's.
func (k *Keeper) Handle(ctx context.Context, msg proto.Message) (resp proto.Message, known bool, err error) {
	resp, effects, known, err := k.run(ctx, msg)
	if err == nil && known {
		err = k.apply(ctx, effects)
	}
	return resp, known, refusals.Error(err)
}

// run converts a message and calls its rule.
func (k *Keeper) run(ctx context.Context, msg proto.Message) (resp proto.Message, effects []settle.Effect, known bool, err error) {
	b, at := k.Books(ctx), adapter.Block(sdk.UnwrapSDKContext(ctx))
	switch m := msg.(type) {
	case *api.MsgDeposit:
		effects, err = k.deposit(b, at, m)
		return &api.MsgDepositResponse{}, effects, true, err
	case *api.MsgWithdraw:
		tenant, err := k.account(m.Tenant)
		if err != nil {
			return nil, nil, true, err
		}
		amount, effects, err := b.Withdraw(at, tenant, fallow.Credits(m.Amount))
		return &api.MsgWithdrawResponse{Amount: uint64(amount)}, effects, true, err
	case *api.MsgSetClientKey:
		effects, err = k.setClientKey(b, at, m)
		return &api.MsgSetClientKeyResponse{}, effects, true, err
	case *api.MsgOpenLeases:
		results, effects, err := k.openLeases(b, at, m)
		return &api.MsgOpenLeasesResponse{Results: toResults(results)}, effects, true, err
	case *api.MsgRaise:
		signer, err := k.account(m.Signer)
		if err != nil {
			return nil, nil, true, err
		}
		effects, err = b.Raise(at, signer, fallow.LeaseID(m.Lease), fallow.Credits(m.Reserve))
		return &api.MsgRaiseResponse{}, effects, true, err
	case *api.MsgRelease:
		results, effects, err := b.Release(at, toSigned(m.Releases))
		return &api.MsgReleaseResponse{Results: toResults(results)}, effects, true, err
	case *api.MsgStart:
		results, effects, err := b.Start(at, toSigned(m.Horizons))
		return &api.MsgStartResponse{Results: toResults(results)}, effects, true, err
	case *api.MsgRedeem:
		signer, err := k.account(m.Signer)
		if err != nil {
			return nil, nil, true, err
		}
		results, effects, err := b.Redeem(at, signer, toSigned(m.Vouchers), toLeaseIDs(m.Services))
		return &api.MsgRedeemResponse{Results: toResults(results)}, effects, true, err
	case *api.MsgClose:
		signer, err := k.account(m.Signer)
		if err != nil {
			return nil, nil, true, err
		}
		results, effects, err := b.Close(at, signer, toLeaseIDs(m.Leases), fallow.Reason(m.Reason))
		return &api.MsgCloseResponse{Results: toResults(results)}, effects, true, err
	case *api.MsgUpdateParams:
		return &api.MsgUpdateParamsResponse{}, nil, true, k.updateParams(ctx, b, m)
	default:
		return nil, nil, false, nil
	}
}

func (k *Keeper) account(s string) (fallow.Account, error) {
	return adapter.Account(k.accounts.AddressCodec(), s)
}

func (k *Keeper) deposit(b settle.Books, at settle.Block, m *api.MsgDeposit) ([]settle.Effect, error) {
	sender, err := k.account(m.Sender)
	if err != nil {
		return nil, err
	}
	tenant := sender
	if m.Tenant != "" {
		if tenant, err = k.account(m.Tenant); err != nil {
			return nil, fmt.Errorf("tenant: %w", err)
		}
	}
	return b.Deposit(at, sender, tenant, fallow.Credits(m.Amount))
}

func (k *Keeper) setClientKey(b settle.Books, at settle.Block, m *api.MsgSetClientKey) ([]settle.Effect, error) {
	tenant, err := k.account(m.Tenant)
	if err != nil {
		return nil, err
	}
	address, err := k.account(m.Address)
	if err != nil {
		return nil, fmt.Errorf("client key: %w", err)
	}
	return b.SetClientKey(at, tenant, settle.ClientKey{
		Address: address, Limit: fallow.Credits(m.Limit), Expires: fallow.Height(m.ExpiresHeight),
	})
}

func (k *Keeper) openLeases(b settle.Books, at settle.Block, m *api.MsgOpenLeases) ([]settle.Result, []settle.Effect, error) {
	signer, err := k.account(m.Signer)
	if err != nil {
		return nil, nil, err
	}
	tenant, err := k.account(m.Tenant)
	if err != nil {
		return nil, nil, fmt.Errorf("tenant: %w", err)
	}
	entries := make([]settle.OpenEntry, len(m.Entries))
	for i, e := range m.Entries {
		session, err := fallow.KeyFrom(e.SessionKey)
		if err != nil {
			return nil, nil, fmt.Errorf("entry %d: session key: %w: %w", i, settle.ErrMalformed, err)
		}
		entries[i] = settle.OpenEntry{Offer: signed(e.Offer), SessionKey: session, Reserve: fallow.Credits(e.Reserve)}
	}
	return b.OpenLeases(at, signer, tenant, entries)
}

func (k *Keeper) updateParams(ctx context.Context, b settle.Books, m *api.MsgUpdateParams) error {
	if m.Authority != k.authority {
		return errorsmod.Wrapf(sdkerrors.ErrUnauthorized, "params are changed by %s, not by %s", k.authority, m.Authority)
	}
	bonds, err := k.providers.Registry(ctx).Params()
	if err != nil {
		return err
	}
	if m.Params.CheckWindowMs >= bonds.UnbondingMS {
		return fmt.Errorf("a check window of %d ms is not shorter than the unbonding of %d ms: %w", m.Params.CheckWindowMs, bonds.UnbondingMS, settle.ErrParams)
	}
	return b.SetParams(fromParams(m.Params))
}

// messages serves fallow.lease.v1.Msg.
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

// Deposit brings credits into escrow.
func (s messages) Deposit(ctx context.Context, m *api.MsgDeposit) (*api.MsgDepositResponse, error) {
	return handle[*api.MsgDepositResponse](ctx, s.Keeper, m)
}

// Withdraw takes free escrow out.
func (s messages) Withdraw(ctx context.Context, m *api.MsgWithdraw) (*api.MsgWithdrawResponse, error) {
	return handle[*api.MsgWithdrawResponse](ctx, s.Keeper, m)
}

// SetClientKey registers, changes or removes a client key.
func (s messages) SetClientKey(ctx context.Context, m *api.MsgSetClientKey) (*api.MsgSetClientKeyResponse, error) {
	return handle[*api.MsgSetClientKeyResponse](ctx, s.Keeper, m)
}

// OpenLeases opens leases from signed offers.
func (s messages) OpenLeases(ctx context.Context, m *api.MsgOpenLeases) (*api.MsgOpenLeasesResponse, error) {
	return handle[*api.MsgOpenLeasesResponse](ctx, s.Keeper, m)
}

// Raise lifts a batch lease's reserve.
func (s messages) Raise(ctx context.Context, m *api.MsgRaise) (*api.MsgRaiseResponse, error) {
	return handle[*api.MsgRaiseResponse](ctx, s.Keeper, m)
}

// Release frees reserve by providers' signatures.
func (s messages) Release(ctx context.Context, m *api.MsgRelease) (*api.MsgReleaseResponse, error) {
	return handle[*api.MsgReleaseResponse](ctx, s.Keeper, m)
}

// Start begins or extends services.
func (s messages) Start(ctx context.Context, m *api.MsgStart) (*api.MsgStartResponse, error) {
	return handle[*api.MsgStartResponse](ctx, s.Keeper, m)
}

// Redeem pays vouchers and accrual.
func (s messages) Redeem(ctx context.Context, m *api.MsgRedeem) (*api.MsgRedeemResponse, error) {
	return handle[*api.MsgRedeemResponse](ctx, s.Keeper, m)
}

// Close ends leases.
func (s messages) Close(ctx context.Context, m *api.MsgClose) (*api.MsgCloseResponse, error) {
	return handle[*api.MsgCloseResponse](ctx, s.Keeper, m)
}

// UpdateParams changes the params, for governance.
func (s messages) UpdateParams(ctx context.Context, m *api.MsgUpdateParams) (*api.MsgUpdateParamsResponse, error) {
	return handle[*api.MsgUpdateParamsResponse](ctx, s.Keeper, m)
}
