package app

import (
	"errors"
	"strings"
	"testing"
	"time"

	codectypes "github.com/cosmos/cosmos-sdk/codec/types"
	sdk "github.com/cosmos/cosmos-sdk/types"
	"github.com/cosmos/cosmos-sdk/types/tx/signing"
	"github.com/cosmos/cosmos-sdk/x/authz"
	govv1 "github.com/cosmos/cosmos-sdk/x/gov/types/v1"
	stakingtypes "github.com/cosmos/cosmos-sdk/x/staking/types"

	"fallow.network"
	leaseapi "fallow.network/api/chain/lease"
	providerapi "fallow.network/api/chain/provider"
	"fallow.network/chain/lease"
	"fallow.network/chain/provider"
	"fallow.network/market"
	"fallow.network/settle"
)

func (f fixture) service() leaseapi.OpenEntry {
	e := f.entry(func(o *market.Offer) {
		o.Kind = market.KindService
		o.Terms.SecondPrice = credits(1000)
		o.Terms.DiskPrice = credits(10)
	})
	e.Reserve = 0
	return e
}

// TestService opens services, lets one accrue, pause, resume and end, and one
// lapse free.
func TestService(t *testing.T) {
	for name, mode := range signModes {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, mode, func(g *Genesis) {
				g.Lease.StartWindowMS, g.Lease.GraceMS, g.Lease.DepositSeconds = 10_000, 30_000, 10
			})
			wantReasons(t, f.open(f.service(), f.service()), "", "")
			r := f.send(f.tom, &leaseapi.MsgStart{Signer: f.tom.String(), Horizons: []leaseapi.Signed{
				f.horizon(f.work, 1, 1, f.now.Add(time.Minute)),
				f.horizon(session{newKey("other")}, 2, 1, f.now.Add(time.Minute)),
				f.horizon(f.work, 2, 1, f.now.Add(100*time.Hour)),
			}})
			wantReasons(t, answer(f.ledger, r, &leaseapi.MsgStartResponse{}).Results, "", fallow.ReasonSignature, fallow.ReasonFarAhead)
			f.block(20 * time.Second) // lease 2 lapses; lease 1 has run 20 s
			state := func(id fallow.LeaseID) settle.Lease {
				l, ok, err := f.app.Lease.Books(f.ctx()).Lease(settle.Block{Height: fallow.Height(f.height), Time: fallow.Time(f.now.UnixMilli())}, id)
				if err != nil || !ok {
					t.Fatalf("lease %d: %v", id, err)
				}
				return l
			}
			if l := state(2); l.State != settle.Closed || l.Reason != fallow.ReasonNeverStarted || !l.Claimed.IsZero() {
				t.Errorf("lease 2: %s for %q, claimed %s", l.State, l.Reason, l.Claimed)
			}
			r = f.send(f.pia, &leaseapi.MsgRedeem{Signer: f.pia.String(), Services: []uint64{1, 2}})
			got := answer(f.ledger, r, &leaseapi.MsgRedeemResponse{}).Results
			wantReasons(t, got, "", fallow.ReasonLeaseClosed)
			if got[0].Amount != 21_000 { // 21 s at 1000 ucredit
				t.Errorf("redeemed %d ucredit", got[0].Amount)
			}
			r = f.send(f.tom, &leaseapi.MsgClose{Signer: f.tom.String(), Leases: []uint64{1}, Reason: string(fallow.ReasonCompleted)})
			wantReasons(t, answer(f.ledger, r, &leaseapi.MsgCloseResponse{}).Results, "")
			f.books()
			f.block(30 * time.Second)
			if got := f.balance(f.pia.addr, fallow.CreditDenom); got != 1_000_000_000+22_000 {
				t.Errorf("the provider has %d ucredit", got)
			}
			f.books()
		})
	}
}

// TestClientKey lets a key without funds open within its limit, and stop.
func TestClientKey(t *testing.T) {
	for name, mode := range signModes {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, mode, nil)
			cleo := newPerson("cleo")
			open := func(entries ...leaseapi.OpenEntry) []leaseapi.Result {
				r := f.send(cleo, &leaseapi.MsgOpenLeases{Signer: cleo.String(), Tenant: f.tom.String(), Entries: entries})
				return answer(f.ledger, r, &leaseapi.MsgOpenLeasesResponse{}).Results
			}
			wantReasons(t, open(f.entry(nil)), fallow.ReasonClientKey)
			f.must(f.send(f.tom, &leaseapi.MsgSetClientKey{Tenant: f.tom.String(), Address: strings.ToUpper(cleo.String()), Limit: 1_500_000, ExpiresHeight: f.height + 50}))
			wantReasons(t, open(f.entry(nil), f.entry(nil)), "", fallow.ReasonClientKey)
			f.must(f.send(f.tom, &leaseapi.MsgSetClientKey{Tenant: f.tom.String(), Address: cleo.String()}))
			wantReasons(t, open(f.entry(nil)), fallow.ReasonClientKey)
			f.books()
		})
	}
}

// TestProvider takes a provider through every message of its life.
func TestProvider(t *testing.T) {
	for name, mode := range signModes {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, mode, nil)
			key, second := f.node.id(), newMachine("second").id()
			if r := f.send(f.pia, &providerapi.MsgRegister{Owner: f.pia.String(), Bond: 200_000_000}); r.Code != market.ErrRegistered.Code || r.Codespace != provider.Name {
				t.Errorf("registered twice: %s %d", r.Codespace, r.Code)
			}
			if r := f.send(newPerson("eve"), &providerapi.MsgRegister{Owner: newPerson("eve").String(), Bond: 1}); r.Code != market.ErrBond.Code {
				t.Errorf("a bond of 1 ufal: %s %d", r.Codespace, r.Code)
			}
			f.must(f.send(f.pia, &providerapi.MsgUpdate{Owner: f.pia.String(), Region: "us", Nodes: []providerapi.NodeKey{{Key: key[:], Rotate: true}, {Key: second[:]}}}))
			wantReasons(t, f.open(f.entry(nil)), fallow.ReasonKeyEpoch) // the old epoch has ended
			f.node.epoch = 2
			wantReasons(t, f.open(f.entry(nil)), "")
			f.must(f.send(f.pia, &providerapi.MsgBond{Owner: f.pia.String(), Amount: 5_000_000}))
			f.books()
			resp := answer(f.ledger, f.send(f.pia, &providerapi.MsgUnbond{Owner: f.pia.String()}), &providerapi.MsgUnbondResponse{})
			if want := f.now.Add(time.Minute).UnixMilli(); resp.UnbondsUnixMs != want {
				t.Errorf("unbonds at %d, want %d", resp.UnbondsUnixMs, want)
			}
			before := f.balance(f.pia.addr, fallow.TokenDenom)
			f.block(61 * time.Second)
			if f.balance(f.pia.addr, fallow.TokenDenom) != before {
				t.Error("the bond left while a lease was open")
			}
			f.must(f.send(f.pia, &leaseapi.MsgClose{Signer: f.pia.String(), Leases: []uint64{1}}))
			f.block(61 * time.Second)
			if got := f.balance(f.pia.addr, fallow.TokenDenom) - before; got != 205_000_000-50_000 {
				t.Errorf("the provider got %d ufal back", got)
			}
			f.books()
		})
	}
}

// TestOperator lets a key with an authz grant redeem for a provider's owner.
func TestOperator(t *testing.T) {
	f := newFixture(t, signing.SignMode_SIGN_MODE_DIRECT, nil)
	eve := newPerson("eve")
	wantReasons(t, f.open(f.entry(nil)), "")
	redeem := &leaseapi.MsgRedeem{Signer: f.pia.String(), Vouchers: []leaseapi.Signed{f.voucher(f.work, 1, credits(1000), 1)}}
	exec := authz.NewMsgExec(eve.addr, []sdk.Msg{redeem})
	if r := f.send(eve, &exec); r.Code == 0 {
		t.Fatal("a stranger redeemed")
	}
	far := f.now.Add(time.Hour)
	grant, err := authz.NewMsgGrant(f.pia.addr, eve.addr, authz.NewGenericAuthorization(sdk.MsgTypeURL(redeem)), &far)
	if err != nil {
		t.Fatal(err)
	}
	f.must(f.send(f.pia, grant))
	f.must(f.send(eve, &exec))
	l, _, err := f.app.Lease.Books(f.ctx()).Lease(settle.Block{Height: fallow.Height(f.height), Time: fallow.Time(f.now.UnixMilli())}, 1)
	if err != nil || l.Paid != 1000 {
		t.Errorf("lease 1 paid %d: %v", l.Paid, err)
	}
	f.books()
}

// TestGovernance changes both modules' params by a vote, and nobody else can.
func TestGovernance(t *testing.T) {
	f := newFixture(t, signing.SignMode_SIGN_MODE_DIRECT, func(g *Genesis) { g.Stake, g.VotingPeriod = 1_000_000, 10*time.Second })
	params := settle.DefaultParams()
	params.CheckWindowMS = 7_000
	bonds := market.DefaultRegistryParams()
	bonds.MinBond = 123
	direct := []sdk.Msg{
		&leaseapi.MsgUpdateParams{Authority: f.tom.String(), Params: lease.ToParams(params)},
		&providerapi.MsgUpdateParams{Authority: f.tom.String(), Params: provider.ToParams(bonds)},
	}
	for _, mode := range signModes {
		f.mode = mode
		for _, m := range direct {
			if r := f.send(f.tom, m); r.Code != 4 || r.Codespace != sdkSpace {
				t.Errorf("%s by anyone: %s %d %s", sdk.MsgTypeURL(m), r.Codespace, r.Code, r.Log)
			}
		}
	}
	validators, err := f.app.Staking.GetAllValidators(f.ctx())
	if err != nil {
		t.Fatal(err)
	}
	f.must(f.send(f.tom, stakingtypes.NewMsgDelegate(f.tom.String(), validators[0].OperatorAddress, sdk.NewInt64Coin(fallow.TokenDenom, 900_000_000))))
	var content []*codectypes.Any
	for _, m := range []sdk.Msg{
		&leaseapi.MsgUpdateParams{Authority: Authority(), Params: lease.ToParams(params)},
		&providerapi.MsgUpdateParams{Authority: Authority(), Params: provider.ToParams(bonds)},
	} {
		a, err := codectypes.NewAnyWithValue(m)
		if err != nil {
			t.Fatal(err)
		}
		content = append(content, a)
	}
	f.must(f.send(f.tom, &govv1.MsgSubmitProposal{
		Messages: content, InitialDeposit: sdk.NewCoins(sdk.NewInt64Coin(fallow.TokenDenom, 10_000_000)), Proposer: f.tom.String(), Title: "windows", Summary: "shorter",
	}))
	f.must(f.send(f.tom, govv1.NewMsgVote(f.tom.addr, 1, govv1.OptionYes, "")))
	f.block(11 * time.Second)
	f.block(time.Second)
	got, err := f.app.Lease.Books(f.ctx()).Params()
	if err != nil || got != params {
		t.Errorf("lease params %+v, %v", got, err)
	}
	if p, err := f.app.Provider.Registry(f.ctx()).Params(); err != nil || p.MinBond != 123 {
		t.Errorf("provider params %+v, %v", p, err)
	}
}

// TestWindows lets no vote set a check window that bonds do not outlast.
func TestWindows(t *testing.T) {
	f := newFixture(t, signing.SignMode_SIGN_MODE_DIRECT, nil) // 20 s and 60 s
	params, bonds := settle.DefaultParams(), market.DefaultRegistryParams()
	params.CheckWindowMS, bonds.UnbondingMS = 60_000, 20_000
	if _, _, err := f.app.Lease.Handle(f.ctx(), &leaseapi.MsgUpdateParams{Authority: Authority(), Params: lease.ToParams(params)}); !errors.Is(err, settle.ErrParams) {
		t.Errorf("a window as long as unbonding: %v", err)
	}
	if _, _, err := f.app.Provider.Handle(f.ctx(), &providerapi.MsgUpdateParams{Authority: Authority(), Params: provider.ToParams(bonds)}); !errors.Is(err, market.ErrParams) {
		t.Errorf("unbonding as short as the window: %v", err)
	}
	params.CheckWindowMS, bonds.UnbondingMS = 59_999, 20_001
	if _, _, err := f.app.Lease.Handle(f.ctx(), &leaseapi.MsgUpdateParams{Authority: Authority(), Params: lease.ToParams(params)}); err != nil {
		t.Error(err)
	}
}

// TestExport starts a second ledger from what the first one exports, and finds
// the same books.
func TestExport(t *testing.T) {
	f := newFixture(t, signing.SignMode_SIGN_MODE_DIRECT, nil)
	wantReasons(t, f.open(f.entry(nil), f.entry(nil)), "", "")
	wantReasons(t, f.redeem(f.voucher(f.work, 1, credits(1000), 1)), "")
	exported, err := f.app.Export(false, nil)
	if err != nil {
		t.Fatal(err)
	}
	second := f.restart(exported)
	second.books()
	for name, get := range map[string]func(*ledger) any{
		"lease":    func(l *ledger) any { g, _ := l.app.Lease.ExportGenesis(l.ctx()); return g.Entries },
		"provider": func(l *ledger) any { g, _ := l.app.Provider.ExportGenesis(l.ctx()); return g.Entries },
	} {
		if a, b := get(f.ledger), get(second); !equalJSON(t, a, b) {
			t.Errorf("%s: the second ledger holds other entries", name)
		}
	}
	if _, err := f.app.Export(true, nil); err == nil {
		t.Error("export for height zero was not refused")
	}
}
