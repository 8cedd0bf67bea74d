package app

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"cosmossdk.io/log/v2"
	abci "github.com/cometbft/cometbft/abci/types"
	cmtcfg "github.com/cometbft/cometbft/config"
	"github.com/cometbft/cometbft/privval"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	cmttypes "github.com/cometbft/cometbft/types"
	dbm "github.com/cosmos/cosmos-db"
	"github.com/cosmos/cosmos-sdk/baseapp"
	clienttx "github.com/cosmos/cosmos-sdk/client/tx"
	"github.com/cosmos/cosmos-sdk/crypto/keys/secp256k1"
	servertypes "github.com/cosmos/cosmos-sdk/server/types"
	sdk "github.com/cosmos/cosmos-sdk/types"
	"github.com/cosmos/cosmos-sdk/types/tx/signing"
	authsigning "github.com/cosmos/cosmos-sdk/x/auth/signing"
	authtypes "github.com/cosmos/cosmos-sdk/x/auth/types"

	"fallow.network"
)

const testChain = "fallow-test-1"

// person is an account with its key.
type person struct {
	key  *secp256k1.PrivKey
	addr sdk.AccAddress
}

func newPerson(name string) person {
	SetPrefixes()
	key := secp256k1.GenPrivKeyFromSecret([]byte(name))
	return person{key, sdk.AccAddress(key.PubKey().Address())}
}

func (p person) String() string { return p.addr.String() }

func (p person) account() fallow.Account { return fallow.Account(p.addr.String()) }

// ledger drives an App block by block, without consensus.
type ledger struct {
	t      *testing.T
	app    *App
	doc    *cmttypes.GenesisDoc
	val    *privval.FilePV
	height int64
	now    time.Time
	mode   signing.SignMode
	nonce  int
}

const sdkSpace = "sdk"

func moduleAddress(name string) sdk.AccAddress { return authtypes.NewModuleAddress(name) }

func freshApp(t *testing.T) *App {
	t.Helper()
	a, err := New(log.NewNopLogger(), dbm.NewMemDB(), Settings{}, baseapp.SetChainID(testChain), baseapp.SetMinGasPrices("0.001ufal"))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// restart founds a second ledger on an exported state.
func (l *ledger) restart(from servertypes.ExportedApp) *ledger {
	l.t.Helper()
	second := &ledger{t: l.t, app: freshApp(l.t), doc: l.doc, val: l.val, now: l.now, height: from.Height - 1, mode: l.mode, nonce: l.nonce}
	_, err := second.app.InitChain(&abci.RequestInitChain{
		Time: l.now, ChainId: testChain, ConsensusParams: &from.ConsensusParams, AppStateBytes: from.AppState, InitialHeight: from.Height,
		Validators: cmttypes.TM2PB.ValidatorUpdates(validatorSet(from.Validators)),
	})
	if err != nil {
		l.t.Fatal(err)
	}
	second.block(time.Second)
	return second
}

func validatorSet(list []cmttypes.GenesisValidator) *cmttypes.ValidatorSet {
	var vals []*cmttypes.Validator
	for _, v := range list {
		vals = append(vals, cmttypes.NewValidator(v.PubKey, v.Power))
	}
	return cmttypes.NewValidatorSet(vals)
}

func equalJSON(t *testing.T, a, b any) bool {
	t.Helper()
	x, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Equal(x, y)
}

// newLedger founds a network in memory; each person gets 1000 FAL and 1000
// credits.
func newLedger(t *testing.T, change func(*Genesis), people ...person) *ledger {
	t.Helper()
	h := DefaultHome()
	h.Dir = t.TempDir()
	g := DefaultGenesis(testChain, time.UnixMilli(1_700_000_000_000))
	for _, p := range people {
		g.Accounts = append(g.Accounts, Funding{p.String(), sdk.NewCoins(sdk.NewInt64Coin(fallow.TokenDenom, 1_000_000_000), sdk.NewInt64Coin(fallow.CreditDenom, 1_000_000_000))})
	}
	if change != nil {
		change(&g)
	}
	raw, err := h.Found(t.Context(), freshApp(t), g)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := cmttypes.GenesisDocFromJSON(raw)
	if err != nil {
		t.Fatal(err)
	}
	cfg := cmtcfg.DefaultConfig()
	cfg.SetRoot(h.Dir)
	l := &ledger{t: t, doc: doc, mode: signing.SignMode_SIGN_MODE_DIRECT}
	l.val = privval.LoadFilePV(cfg.PrivValidatorKeyFile(), cfg.PrivValidatorStateFile())
	return l.twin()
}

// twin is another node of the same network, at its first block.
func (l *ledger) twin() *ledger {
	l.t.Helper()
	other := &ledger{t: l.t, app: freshApp(l.t), doc: l.doc, val: l.val, now: l.doc.GenesisTime, mode: l.mode}
	params := l.doc.ConsensusParams.ToProto()
	if _, err := other.app.InitChain(&abci.RequestInitChain{Time: l.doc.GenesisTime, ChainId: l.doc.ChainID, ConsensusParams: &params, AppStateBytes: l.doc.AppState, InitialHeight: 1}); err != nil {
		l.t.Fatal(err)
	}
	other.block(time.Second)
	return other
}

// block runs one block that comes after step with these transactions.
func (l *ledger) block(step time.Duration, txs ...[]byte) []*abci.ExecTxResult {
	l.t.Helper()
	l.height++
	l.now = l.now.Add(step)
	resp, err := l.app.FinalizeBlock(&abci.RequestFinalizeBlock{Height: l.height, Time: l.now, Txs: txs, Hash: fmt.Appendf(nil, "%032d", l.height), ProposerAddress: l.val.Key.Address})
	if err != nil {
		l.t.Fatalf("block %d: %v", l.height, err)
	}
	if _, err := l.app.Commit(); err != nil {
		l.t.Fatalf("block %d: %v", l.height, err)
	}
	return resp.TxResults
}

// ctx reads the state after the last block.
func (l *ledger) ctx() sdk.Context {
	return l.app.NewContextLegacy(true, cmtproto.Header{ChainID: testChain, Height: l.height, Time: l.now})
}

// sign makes a transaction of p; its fee is coins, or enough ufal when empty.
func (l *ledger) sign(p person, fee sdk.Coins, msgs ...sdk.Msg) []byte {
	l.t.Helper()
	acc := l.app.Auth.GetAccount(l.ctx(), p.addr)
	if acc == nil {
		l.t.Fatalf("no account %s", p)
	}
	raw, err := signTx(l.app, l.mode, p, acc.GetAccountNumber(), acc.GetSequence(), fee, msgs...)
	if err != nil {
		l.t.Fatal(err)
	}
	return raw
}

func signTx(app *App, mode signing.SignMode, p person, number, sequence uint64, fee sdk.Coins, msgs ...sdk.Msg) ([]byte, error) {
	b := app.txConfig.NewTxBuilder()
	if err := b.SetMsgs(msgs...); err != nil {
		return nil, err
	}
	if fee.IsZero() {
		fee = sdk.NewCoins(sdk.NewInt64Coin(fallow.TokenDenom, 50_000))
	}
	b.SetGasLimit(50_000_000)
	b.SetFeeAmount(fee)
	pub := p.key.PubKey()
	empty := signing.SignatureV2{PubKey: pub, Data: &signing.SingleSignatureData{SignMode: mode}, Sequence: sequence}
	if err := b.SetSignatures(empty); err != nil {
		return nil, err
	}
	who := authsigning.SignerData{ChainID: testChain, AccountNumber: number, Sequence: sequence, PubKey: pub, Address: p.String()}
	sig, err := clienttx.SignWithPrivKey(context.Background(), mode, who, b, p.key, app.txConfig, sequence)
	if err != nil {
		return nil, err
	}
	if err := b.SetSignatures(sig); err != nil {
		return nil, err
	}
	return app.txConfig.TxEncoder()(b.GetTx())
}

// send runs msgs of p in a block of their own.
func (l *ledger) send(p person, msgs ...sdk.Msg) *abci.ExecTxResult {
	l.t.Helper()
	return l.block(time.Second, l.sign(p, nil, msgs...))[0]
}

// must fails the test when r is an error.
func (l *ledger) must(r *abci.ExecTxResult) *abci.ExecTxResult {
	l.t.Helper()
	if r.Code != 0 {
		l.t.Fatalf("block %d: code %d of %s: %s", l.height, r.Code, r.Codespace, r.Log)
	}
	return r
}

func (l *ledger) balance(addr sdk.AccAddress, denom string) int64 {
	return l.app.Bank.GetBalance(l.ctx(), addr, denom).Amount.Int64()
}
