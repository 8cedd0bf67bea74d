package app

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	cmttypes "github.com/cometbft/cometbft/types"
	sdk "github.com/cosmos/cosmos-sdk/types"
	authtypes "github.com/cosmos/cosmos-sdk/x/auth/types"
	banktypes "github.com/cosmos/cosmos-sdk/x/bank/types"
	govtypes "github.com/cosmos/cosmos-sdk/x/gov/types"
	govv1 "github.com/cosmos/cosmos-sdk/x/gov/types/v1"
	minttypes "github.com/cosmos/cosmos-sdk/x/mint/types"
	stakingtypes "github.com/cosmos/cosmos-sdk/x/staking/types"
	gogoproto "github.com/cosmos/gogoproto/proto"

	"fallow.network"
	leaseapi "fallow.network/api/chain/lease"
	providerapi "fallow.network/api/chain/provider"
	"fallow.network/chain/lease"
	"fallow.network/chain/provider"
	"fallow.network/market"
	"fallow.network/settle"
)

type (
	rawJSON      = json.RawMessage
	codecMessage = gogoproto.Message
)

// Bounds of a block on every network that Genesis founds. A full block of
// lease messages takes about half a second of one core.
const (
	MaxBlockBytes = 4 << 20
	MaxBlockGas   = 200_000_000
)

// Funding gives coins to an account at genesis.
type Funding struct {
	Address string
	Coins   sdk.Coins
}

// ParseFunding reads ADDRESS=COINS, as fal1…=5000000ufal,100ucredit.
func ParseFunding(s string) (Funding, error) {
	address, amount, ok := strings.Cut(s, "=")
	if !ok {
		return Funding{}, fmt.Errorf("account %.80q: want ADDRESS=COINS, as fal1…=5000000ufal,100ucredit", s)
	}
	if _, err := sdk.AccAddressFromBech32(address); err != nil {
		return Funding{}, fmt.Errorf("account %.80q: %w", address, err)
	}
	coins, err := sdk.ParseCoinsNormalized(amount)
	if err != nil || coins.IsZero() {
		return Funding{}, fmt.Errorf("coins %.80q: want amounts with denominations, as 5000000ufal,100ucredit", amount)
	}
	return Funding{Address: address, Coins: coins}, nil
}

// Genesis says what a new network begins with.
type Genesis struct {
	ChainID  string
	Time     time.Time
	Accounts []Funding
	// Stake of the first validator in ufal.
	Stake uint64
	// VotingPeriod of governance.
	VotingPeriod time.Duration
	// BlockTime tells mint how many blocks make a year.
	BlockTime time.Duration
	// Params of our modules.
	Lease    settle.Params
	Provider market.RegistryParams
}

// DefaultGenesis founds a network at now with one validator's stake of a
// million FAL and no other accounts.
func DefaultGenesis(chainID string, now time.Time) Genesis {
	return Genesis{
		ChainID: chainID, Time: now, Stake: 1_000_000_000_000, VotingPeriod: 48 * time.Hour, BlockTime: time.Second,
		Lease: settle.DefaultParams(), Provider: market.DefaultRegistryParams(),
	}
}

// Validate says what is wrong with g and how to put it right.
func (g Genesis) Validate() error {
	switch {
	case g.ChainID == "" || len(g.ChainID) > cmttypes.MaxChainIDLen:
		return fmt.Errorf("chain id of %d bytes: want 1 to %d", len(g.ChainID), cmttypes.MaxChainIDLen)
	case g.Stake < 1_000_000 || g.Stake > 1<<62:
		return fmt.Errorf("stake of %d%s: want at least 1000000", g.Stake, fallow.TokenDenom)
	case g.BlockTime < LeastBlockTime:
		return fmt.Errorf("block time %s: want at least %s", g.BlockTime, LeastBlockTime)
	case g.VotingPeriod < time.Second:
		return fmt.Errorf("voting period %s: want at least 1s", g.VotingPeriod)
	}
	if err := g.Lease.Check(); err != nil {
		return err
	}
	if err := g.Provider.Check(); err != nil {
		return err
	}
	if g.Provider.UnbondingMS <= g.Lease.CheckWindowMS {
		return fmt.Errorf("unbonding of %d ms is not longer than the check window of %d ms", g.Provider.UnbondingMS, g.Lease.CheckWindowMS)
	}
	seen := map[string]bool{}
	for _, f := range g.Accounts {
		if seen[f.Address] {
			return fmt.Errorf("account %s is given twice; add its coins up", f.Address)
		}
		seen[f.Address] = true
	}
	return nil
}

// document builds the genesis document; last may still change the state.
func (g Genesis) document(app *App, last func(map[string]rawJSON) error) (*cmttypes.GenesisDoc, error) {
	cdc := app.codec
	state := app.basics.DefaultGenesis(cdc)

	auth := authtypes.GetGenesisStateFromAppState(cdc, state)
	bank := banktypes.GetGenesisStateFromAppState(cdc, state)
	accounts := make(authtypes.GenesisAccounts, 0, len(g.Accounts))
	for i, f := range g.Accounts {
		address, err := sdk.AccAddressFromBech32(f.Address)
		if err != nil {
			return nil, fmt.Errorf("account %.80q: %w", f.Address, err)
		}
		accounts = append(accounts, authtypes.NewBaseAccount(address, nil, uint64(i), 0))
		bank.Balances = append(bank.Balances, banktypes.Balance{Address: f.Address, Coins: f.Coins})
	}
	packed, err := authtypes.PackAccounts(accounts)
	if err != nil {
		return nil, fmt.Errorf("write accounts: %w", err)
	}
	auth.Accounts = packed
	bank.Balances = banktypes.SanitizeGenesisBalances(bank.Balances)
	bank.SendEnabled = []banktypes.SendEnabled{{Denom: fallow.CreditDenom, Enabled: false}}
	bank.DenomMetadata = denominations()

	var gov govv1.GenesisState
	cdc.MustUnmarshalJSON(state[govtypes.ModuleName], &gov)
	expedited := g.VotingPeriod / 2
	gov.Params.VotingPeriod, gov.Params.ExpeditedVotingPeriod = &g.VotingPeriod, &expedited

	var mint minttypes.GenesisState
	cdc.MustUnmarshalJSON(state[minttypes.ModuleName], &mint)
	mint.Params.BlocksPerYear = uint64(365 * 24 * time.Hour / g.BlockTime)

	for _, part := range []struct {
		module string
		state  codecMessage
	}{
		{authtypes.ModuleName, &auth},
		{banktypes.ModuleName, bank},
		{govtypes.ModuleName, &gov},
		{minttypes.ModuleName, &mint},
		{lease.Name, &leaseapi.GenesisState{Params: lease.ToParams(g.Lease)}},
		{provider.Name, &providerapi.GenesisState{Params: provider.ToParams(g.Provider)}},
	} {
		if err := setJSON(cdc, state, part.module, part.state); err != nil {
			return nil, err
		}
	}
	if err := last(state); err != nil {
		return nil, err
	}
	if err := app.basics.ValidateGenesis(cdc, app.txConfig, state); err != nil {
		return nil, fmt.Errorf("check genesis: %w", err)
	}
	raw, err := json.Marshal(state)
	if err != nil {
		return nil, fmt.Errorf("write genesis: %w", err)
	}
	params := cmttypes.DefaultConsensusParams()
	params.Block.MaxBytes, params.Block.MaxGas = MaxBlockBytes, MaxBlockGas
	params.Evidence.MaxAgeDuration = stakingtypes.DefaultUnbondingTime
	doc := &cmttypes.GenesisDoc{
		ChainID: g.ChainID, GenesisTime: g.Time.UTC(), InitialHeight: 1, ConsensusParams: params, AppState: raw,
	}
	if err := doc.ValidateAndComplete(); err != nil {
		return nil, fmt.Errorf("check genesis: %w", err)
	}
	return doc, nil
}

func denominations() []banktypes.Metadata {
	meta := func(base, display, name, symbol, about string) banktypes.Metadata {
		return banktypes.Metadata{
			Description: about, Base: base, Display: display, Name: name, Symbol: symbol,
			DenomUnits: []*banktypes.DenomUnit{{Denom: base}, {Denom: display, Exponent: 6}},
		}
	}
	return []banktypes.Metadata{
		meta(fallow.CreditDenom, "credit", "Credit", "CREDIT", "what compute is priced and paid in; moves through escrow alone"),
		meta(fallow.TokenDenom, "fal", "Fallow", "FAL", "the token of fees, bonds and stake"),
	}
}
