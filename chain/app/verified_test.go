package app

import (
	"testing"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"
	sdk "github.com/cosmos/cosmos-sdk/types"
	txtypes "github.com/cosmos/cosmos-sdk/types/tx"
	"github.com/cosmos/cosmos-sdk/types/tx/signing"
	banktypes "github.com/cosmos/cosmos-sdk/x/bank/types"

	"fallow.network"
)

// TestVerified: a node that checked a transaction when it came, and one that
// sees it in its block first, come to the same result, gas and state; and a
// signature that was never checked is not believed for another's sake.
func TestVerified(t *testing.T) {
	run := func(first bool) (*ledger, *abci.ExecTxResult) {
		a, b := newPerson("ann"), newPerson("bob")
		l := newLedger(t, nil, a, b)
		l.mode = signing.SignMode_SIGN_MODE_DIRECT
		pay := &banktypes.MsgSend{FromAddress: a.String(), ToAddress: b.String(), Amount: sdk.NewCoins(sdk.NewInt64Coin(fallow.TokenDenom, 7))}
		l.must(l.send(a, pay)) // the account has its key from here on
		raw := l.sign(a, nil, pay)
		check := func(raw []byte) uint32 {
			r, err := l.app.CheckTx(&abci.RequestCheckTx{Tx: raw, Type: abci.CheckTxType_New})
			if err != nil {
				t.Fatal(err)
			}
			return r.Code
		}
		if first {
			if code := check(raw); code != 0 {
				t.Fatalf("checked: code %d", code)
			}
		}
		var tx txtypes.TxRaw
		if err := tx.Unmarshal(raw); err != nil {
			t.Fatal(err)
		}
		tx.Signatures[0][5] ^= 1
		forged, err := tx.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		results := l.block(time.Second, forged, raw)
		if results[0].Code == 0 {
			t.Error("a forged signature was taken in a block")
		}
		return l, l.must(results[1])
	}
	checked, a := run(true)
	unseen, b := run(false)
	if a.GasUsed != b.GasUsed || a.GasWanted != b.GasWanted || string(a.Data) != string(b.Data) {
		t.Errorf("checked before: %d of %d gas; not: %d of %d", a.GasUsed, a.GasWanted, b.GasUsed, b.GasWanted)
	}
	for _, l := range []*ledger{checked, unseen} {
		if got := l.balance(newPerson("bob").addr, fallow.TokenDenom); got != unseen.balance(newPerson("bob").addr, fallow.TokenDenom) {
			t.Errorf("bob has %d", got)
		}
	}
}

// TestVerifiedForgets: it is bounded, and keeps what is recent.
func TestVerifiedForgets(t *testing.T) {
	v := newVerified(nil, nil)
	id := func(i int) (id [32]byte) {
		id[0], id[1], id[2] = byte(i), byte(i>>8), byte(i>>16)
		return id
	}
	for i := range 3 * rememberedSignatures {
		v.note(id(i))
		if !v.known(id(i)) || i >= rememberedSignatures && !v.known(id(i-rememberedSignatures+1)) {
			t.Fatalf("%d is forgotten", i)
		}
	}
	if v.known(id(0)) || len(v.new)+len(v.old) > 2*rememberedSignatures {
		t.Errorf("%d remembered", len(v.new)+len(v.old))
	}
}
