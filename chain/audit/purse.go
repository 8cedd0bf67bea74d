package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"cosmossdk.io/math"
	sdk "github.com/cosmos/cosmos-sdk/types"
	authtypes "github.com/cosmos/cosmos-sdk/x/auth/types"
	banktypes "github.com/cosmos/cosmos-sdk/x/bank/types"

	"fallow.network"
	"fallow.network/chain/app"
	"fallow.network/chain/lease"
	"fallow.network/chain/provider"
)

// purse is a bank that knows what our modules move: every account's credits,
// which nothing else moves, and the tokens of the bond pool.
type purse struct {
	credits map[string]math.Int // by address
	supply  math.Int            // of credits, at genesis
	pool    math.Int            // tokens in the provider module's account
	in, out math.Int            // credits that went into and out of escrow
}

var (
	escrowAddress = authtypes.NewModuleAddress(lease.Name)
	bondAddress   = authtypes.NewModuleAddress(provider.Name)
)

func newPurse(enc app.Encoding, state map[string]json.RawMessage) (*purse, error) {
	bank := banktypes.GetGenesisStateFromAppState(enc.Codec, state)
	p := &purse{credits: map[string]math.Int{}, supply: math.ZeroInt(), pool: math.ZeroInt(), in: math.ZeroInt(), out: math.ZeroInt()}
	for _, b := range bank.Balances {
		address, err := sdk.AccAddressFromBech32(b.Address)
		if err != nil {
			return nil, fmt.Errorf("genesis balance of %.90q: %w", b.Address, err)
		}
		if amount := b.Coins.AmountOf(fallow.CreditDenom); amount.IsPositive() {
			p.credits[string(address)] = amount
			p.supply = p.supply.Add(amount)
		}
		if address.Equals(bondAddress) {
			p.pool = b.Coins.AmountOf(fallow.TokenDenom)
		}
	}
	return p, nil
}

// SendCoins moves coins as the bank does. It refuses credits that aren't there;
// whether an account has the tokens of a bond is the bank's to know.
func (p *purse) SendCoins(_ context.Context, from, to sdk.AccAddress, amount sdk.Coins) error {
	for _, c := range amount {
		switch c.Denom {
		case fallow.CreditDenom:
			has := p.of(from)
			if has.LT(c.Amount) {
				return fmt.Errorf("%s has %s%s, and %s were moved", from, has, c.Denom, c.Amount)
			}
			p.credits[string(from)] = has.Sub(c.Amount)
			p.credits[string(to)] = p.of(to).Add(c.Amount)
			if to.Equals(escrowAddress) {
				p.in = p.in.Add(c.Amount)
			} else {
				p.out = p.out.Add(c.Amount)
			}
		case fallow.TokenDenom:
			switch {
			case to.Equals(bondAddress):
				p.pool = p.pool.Add(c.Amount)
			case from.Equals(bondAddress) && p.pool.GTE(c.Amount):
				p.pool = p.pool.Sub(c.Amount)
			default:
				return fmt.Errorf("%s left a pool of %s", c, p.pool)
			}
		default:
			return fmt.Errorf("our modules moved %s", c)
		}
	}
	return nil
}

func (p *purse) of(a sdk.AccAddress) math.Int {
	if v, ok := p.credits[string(a)]; ok {
		return v
	}
	return math.ZeroInt()
}

// holders are the accounts that ever had credits, ascending.
func (p *purse) holders() []string { return slices.Sorted(maps.Keys(p.credits)) }

func (p *purse) escrow() (fallow.Credits, error) {
	v := p.of(escrowAddress)
	if !v.IsUint64() {
		return 0, fmt.Errorf("escrow of %s%s: %w", v, fallow.CreditDenom, fallow.ErrOverflow)
	}
	return fallow.Credits(v.Uint64()), nil
}

func (p *purse) bonds() math.Int { return p.pool }
