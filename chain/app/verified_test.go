package app

import (
	"bytes"
	"reflect"
	"testing"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"
	sdk "github.com/cosmos/cosmos-sdk/types"
	txtypes "github.com/cosmos/cosmos-sdk/types/tx"
	banktypes "github.com/cosmos/cosmos-sdk/x/bank/types"

	"fallow.network"
)

// TestVerified: a node that checked a transaction when it came, and one that
// sees it in its block first, come to the same results, gas, events and state;
// and a signature that was never checked is not believed for another's sake.
func TestVerified(t *testing.T) {
	a, b := newPerson("ann"), newPerson("bob")
	checked := newLedger(t, nil, a, b)
	unseen := checked.twin()
	pay := &banktypes.MsgSend{FromAddress: a.String(), ToAddress: b.String(), Amount: sdk.NewCoins(sdk.NewInt64Coin(fallow.TokenDenom, 7))}
	first := checked.sign(a, nil, pay)
	for _, l := range []*ledger{checked, unseen} {
		l.must(l.block(time.Second, first)[0]) // the account has its key from here on
	}
	raw := checked.sign(a, nil, pay)
	r, err := checked.app.CheckTx(&abci.RequestCheckTx{Tx: raw, Type: abci.CheckTxType_New})
	if err != nil || r.Code != 0 {
		t.Fatalf("checked: %+v, %v", r, err)
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
	results := checked.block(time.Second, forged, raw)
	if results[0].Code == 0 {
		t.Error("a forged signature was taken in a block")
	}
	checked.must(results[1])
	if other := unseen.block(time.Second, forged, raw); !reflect.DeepEqual(results, other) {
		t.Errorf("checked before: %+v; not: %+v", results, other)
	}
	if x, y := checked.app.LastCommitID(), unseen.app.LastCommitID(); x.Version != y.Version || !bytes.Equal(x.Hash, y.Hash) {
		t.Errorf("checked before: %s; not: %s", x, y)
	}
}
