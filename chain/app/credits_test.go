package app

import (
	"strings"
	"testing"
	"time"

	codectypes "github.com/cosmos/cosmos-sdk/codec/types"
	sdk "github.com/cosmos/cosmos-sdk/types"
	vestingtypes "github.com/cosmos/cosmos-sdk/x/auth/vesting/types"
	"github.com/cosmos/cosmos-sdk/x/authz"
	banktypes "github.com/cosmos/cosmos-sdk/x/bank/types"
	distrtypes "github.com/cosmos/cosmos-sdk/x/distribution/types"
	"github.com/cosmos/cosmos-sdk/x/feegrant"
	govv1 "github.com/cosmos/cosmos-sdk/x/gov/types/v1"
	stakingtypes "github.com/cosmos/cosmos-sdk/x/staking/types"

	"fallow.network"
)

// TestCreditsOnlyThroughEscrow tries every message that could carry credits
// from one account to another.
func TestCreditsOnlyThroughEscrow(t *testing.T) {
	ann, ben := newPerson("ann"), newPerson("ben")
	l := newLedger(t, nil, ann, ben)
	credits := sdk.NewCoins(sdk.NewInt64Coin(fallow.CreditDenom, 1000))
	mixed := credits.Add(sdk.NewInt64Coin(fallow.TokenDenom, 1000))
	pack := func(m sdk.Msg) *codectypes.Any {
		a, err := codectypes.NewAnyWithValue(m)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	far := l.now.Add(time.Hour)
	for name, grant := range map[string]authz.Authorization{
		"send":    banktypes.NewSendAuthorization(credits, nil),
		"generic": authz.NewGenericAuthorization(sdk.MsgTypeURL(&distrtypes.MsgFundCommunityPool{})),
	} {
		m, err := authz.NewMsgGrant(ann.addr, ben.addr, grant, &far)
		if err != nil {
			t.Fatal(err)
		}
		if r := l.send(ann, m); r.Code != 0 {
			t.Fatalf("grant %s: %s", name, r.Log)
		}
	}
	send := banktypes.NewMsgSend(ann.addr, ben.addr, credits)
	exec := authz.NewMsgExec(ben.addr, []sdk.Msg{send})
	execFund := authz.NewMsgExec(ben.addr, []sdk.Msg{distrtypes.NewMsgFundCommunityPool(credits, ann.String())})
	validators, err := l.app.Staking.GetAllValidators(l.ctx())
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		by   person
		msg  sdk.Msg
	}{
		{"send", ann, send},
		{"send with tokens", ann, banktypes.NewMsgSend(ann.addr, ben.addr, mixed)},
		{"send to escrow by hand", ann, banktypes.NewMsgSend(ann.addr, escrow, credits)},
		{"multisend", ann, banktypes.NewMsgMultiSend(banktypes.NewInput(ann.addr, credits), []banktypes.Output{banktypes.NewOutput(ben.addr, credits)})},
		{"authz send", ben, &exec},
		{"authz community pool", ben, &execFund},
		{"community pool", ann, distrtypes.NewMsgFundCommunityPool(credits, ann.String())},
		{"validator rewards", ann, distrtypes.NewMsgDepositValidatorRewardsPool(ann.String(), validators[0].OperatorAddress, credits)},
		{"delegate", ann, stakingtypes.NewMsgDelegate(ann.String(), validators[0].OperatorAddress, credits[0])},
		{"gov deposit", ann, &govv1.MsgSubmitProposal{
			Messages:       []*codectypes.Any{pack(&banktypes.MsgSetSendEnabled{Authority: Authority(), SendEnabled: []*banktypes.SendEnabled{{Denom: fallow.CreditDenom, Enabled: true}}})},
			InitialDeposit: credits, Proposer: ann.String(), Title: "t", Summary: "s",
		}},
		{"vesting account", ann, vestingtypes.NewMsgCreateVestingAccount(ann.addr, newPerson("cy").addr, credits, l.now.Add(time.Hour).Unix(), false)},
		{"permanent locked", ann, vestingtypes.NewMsgCreatePermanentLockedAccount(ann.addr, newPerson("di").addr, credits)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := l.send(test.by, test.msg)
			if r.Code == 0 {
				t.Errorf("credits moved")
			}
			if l.balance(ann.addr, fallow.CreditDenom) != 1_000_000_000 || l.balance(ben.addr, fallow.CreditDenom) != 1_000_000_000 {
				t.Errorf("balances changed: %s", r.Log)
			}
		})
	}
	t.Run("fee", func(t *testing.T) {
		fee := sdk.NewCoins(sdk.NewInt64Coin(fallow.TokenDenom, 100_000), sdk.NewInt64Coin(fallow.CreditDenom, 5))
		token := sdk.NewCoins(sdk.NewInt64Coin(fallow.TokenDenom, 1))
		r := l.block(time.Second, l.sign(ann, fee, banktypes.NewMsgSend(ann.addr, ben.addr, token)))[0]
		if r.Code == 0 || !strings.Contains(r.Log, "escrow") {
			t.Errorf("code %d: %s", r.Code, r.Log)
		}
	})
	t.Run("fee by grant", func(t *testing.T) {
		m, err := feegrant.NewMsgGrantAllowance(&feegrant.BasicAllowance{}, ann.addr, ben.addr)
		if err != nil {
			t.Fatal(err)
		}
		l.must(l.send(ann, m))
	})
	t.Run("governance lifts only the switch", func(t *testing.T) {
		// Even with SendEnabled lifted the restriction stands.
		if err := l.app.Bank.SendCoins(l.ctx(), ann.addr, ben.addr, credits); err == nil {
			t.Error("the bank moved credits between accounts")
		}
		if err := l.app.Bank.SendCoinsFromAccountToModule(l.ctx(), ann.addr, "distribution", credits); err == nil {
			t.Error("the bank moved credits to a module")
		}
	})
	t.Run("tokens move", func(t *testing.T) {
		before := l.balance(ben.addr, fallow.TokenDenom)
		l.must(l.send(ann, banktypes.NewMsgSend(ann.addr, ben.addr, sdk.NewCoins(sdk.NewInt64Coin(fallow.TokenDenom, 7)))))
		if got := l.balance(ben.addr, fallow.TokenDenom); got != before+7 {
			t.Errorf("ben has %d, want %d", got, before+7)
		}
	})
}
