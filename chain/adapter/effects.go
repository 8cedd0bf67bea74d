package adapter

import (
	"context"
	"errors"
	"fmt"

	"cosmossdk.io/core/address"
	errorsmod "cosmossdk.io/errors"
	"cosmossdk.io/math"
	sdk "github.com/cosmos/cosmos-sdk/types"
	sdkerrors "github.com/cosmos/cosmos-sdk/types/errors"
	authtypes "github.com/cosmos/cosmos-sdk/x/auth/types"
	"github.com/cosmos/gogoproto/proto"

	"fallow.network"
	"fallow.network/market"
	"fallow.network/settle"
)

// Bank is what moves coins.
type Bank interface {
	SendCoins(ctx context.Context, from, to sdk.AccAddress, amount sdk.Coins) error
}

// Block is the block that a context runs in.
func Block(ctx sdk.Context) market.Block {
	return market.Block{Height: fallow.Height(ctx.BlockHeight()), Time: fallow.Time(ctx.BlockTime().UnixMilli())}
}

// Account reads an address in any spelling that bech32 allows and returns the
// one that the rules know.
func Account(codec address.Codec, s string) (fallow.Account, error) {
	raw, err := codec.StringToBytes(s)
	if err != nil {
		return "", errorsmod.Wrapf(sdkerrors.ErrInvalidAddress, "%.90q: %s", s, err)
	}
	text, err := codec.BytesToString(raw)
	return fallow.Account(text), err
}

// Apply carries out what a rule returned: moves by the bank, and whatever
// event makes a message of as a typed event.
func Apply(ctx context.Context, bank Bank, codec address.Codec, effects []market.Effect, event func(market.Effect) proto.Message) error {
	events := sdk.UnwrapSDKContext(ctx).EventManager()
	for _, e := range effects {
		if m, ok := e.(market.Move); ok {
			if err := move(ctx, bank, codec, m); err != nil {
				return err
			}
			continue
		}
		m := event(e)
		if m == nil {
			return fmt.Errorf("no event tells of %T", e)
		}
		told, err := Event(m)
		if err != nil {
			return fmt.Errorf("tell %T: %w", e, err)
		}
		events.EmitEvent(told)
	}
	return nil
}

func move(ctx context.Context, bank Bank, codec address.Codec, m market.Move) error {
	if m.Amount == 0 {
		return nil
	}
	from, err := where(codec, m.From)
	if err != nil {
		return err
	}
	to, err := where(codec, m.To)
	if err != nil {
		return err
	}
	coins := sdk.NewCoins(sdk.NewCoin(m.Denom, math.NewIntFromUint64(m.Amount)))
	if err := bank.SendCoins(ctx, from, to, coins); err != nil {
		return errorsmod.Wrapf(err, "move %s from %s to %s", coins, m.From, m.To)
	}
	return nil
}

func where(codec address.Codec, a fallow.Account) (sdk.AccAddress, error) {
	if a == market.BondPool || a == settle.EscrowPool {
		return authtypes.NewModuleAddress(string(a)), nil
	}
	return codec.StringToBytes(string(a))
}

// Refusals turns a module's refusals into errors with codes that stay.
type Refusals map[uint32]*errorsmod.Error

// Register makes the codes known; a package does so once, in a variable.
func Register(module string, list ...*market.Refusal) Refusals {
	r := Refusals{}
	for _, x := range list {
		r[x.Code] = errorsmod.Register(module, x.Code, x.Text)
	}
	return r
}

// Error gives err the code of the refusal inside. What is malformed is an
// invalid request; anything else stays as it is.
func (r Refusals) Error(err error) error {
	if err == nil {
		return nil
	}
	if x, ok := errors.AsType[*market.Refusal](err); ok && r[x.Code] != nil {
		return &coded{r[x.Code], err}
	}
	if errors.Is(err, market.ErrMalformed) || errors.Is(err, fallow.ErrOverflow) {
		return errorsmod.Wrap(sdkerrors.ErrInvalidRequest, err.Error())
	}
	return err
}

// coded is an error whose text is the rule's and whose code is registered.
type coded struct {
	code *errorsmod.Error
	err  error
}

func (c *coded) Error() string { return c.err.Error() }

// Cause is how the SDK finds the code.
func (c *coded) Cause() error { return c.code }

// Unwrap is how this process finds the code and the refusal.
func (c *coded) Unwrap() []error { return []error{c.code, c.err} }
