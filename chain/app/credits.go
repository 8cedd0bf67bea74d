package app

import (
	"context"

	errorsmod "cosmossdk.io/errors"
	sdk "github.com/cosmos/cosmos-sdk/types"
	sdkerrors "github.com/cosmos/cosmos-sdk/types/errors"
	authtypes "github.com/cosmos/cosmos-sdk/x/auth/types"

	"fallow.network"
	"fallow.network/chain/lease"
)

// escrow is the lease module's account, the one door through which credits pass.
var escrow = authtypes.NewModuleAddress(lease.Name)

// restrictCredits is asked by the bank before every movement of coins, fees
// and deposits included: credits only go into escrow or out of it.
func restrictCredits(_ context.Context, from, to sdk.AccAddress, amount sdk.Coins) (sdk.AccAddress, error) {
	if amount.AmountOf(fallow.CreditDenom).IsZero() || from.Equals(escrow) != to.Equals(escrow) {
		return to, nil
	}
	return nil, errorsmod.Wrapf(sdkerrors.ErrUnauthorized,
		"%s only moves into and out of escrow; deposit it to pay for work", fallow.CreditDenom)
}
