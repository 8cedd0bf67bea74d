package ledger

import (
	"bytes"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	bankv1 "cosmossdk.io/api/cosmos/bank/v1beta1"
	basev1 "cosmossdk.io/api/cosmos/base/v1beta1"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"fallow.network"
	leasev1 "fallow.network/api/lease"
	"fallow.network/keys"
	"fallow.network/market"
)

// TestVectors compares our bytes with those that cosmos-sdk v0.55.0 signed:
// account number 3, sequence 6, gas 200000.
func TestVectors(t *testing.T) {
	k := secret(t, 0)
	to, err := keys.AccountFrom(make([]byte, 20))
	if err != nil {
		t.Fatal(err)
	}
	fill := func(n int, v byte) []byte { return bytes.Repeat([]byte{v}, n) }
	me := string(k.Account())
	operator := &Sender{key: k, options: Options{Owner: to}}
	exec, err := operator.wrap([]proto.Message{&leasev1.MsgRedeem{
		Signer: string(to), Vouchers: []*leasev1.Signed{{Message: []byte("v"), Signature: fill(64, 9)}}, Services: []uint64{1, 300},
	}})
	if err != nil {
		t.Fatal(err)
	}
	drafts := map[string]draft{
		"send": {
			messages: []proto.Message{&bankv1.MsgSend{FromAddress: me, ToAddress: string(to), Amount: []*basev1.Coin{coin(12345)}}},
			fee:      150, until: 77,
		},
		"two": {
			messages: []proto.Message{
				&leasev1.MsgDeposit{Sender: me, Amount: 5_000_000},
				&leasev1.MsgOpenLeases{Signer: me, Tenant: me, Entries: []*leasev1.OpenEntry{
					{Offer: signed(market.Signed{Message: []byte("an offer"), Signature: fill(64, 7)}), SessionKey: fill(32, 5), Reserve: 9},
					{Offer: &leasev1.Signed{}},
				}},
			},
			memo: "a memo", fee: 1,
		},
		"exec": {messages: exec, payer: to, until: 1 << 40},
	}
	text, err := os.ReadFile("testdata/transactions.txt")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for line := range strings.Lines(string(text)) {
		name, want, _ := strings.Cut(strings.TrimSpace(line), " ")
		d, ok := drafts[name]
		if !ok {
			t.Fatalf("vector %q has no draft", name)
		}
		d.chainID, d.number, d.sequence, d.gas = testChain, 3, 6, 200_000
		got, err := d.sign(k.Public(), k)
		if err != nil {
			t.Fatal(err)
		}
		if hex.EncodeToString(got) != want {
			t.Errorf("%s:\ngot  %x\nwant %s", name, got, want)
		}
		seen++
	}
	if seen != len(drafts) {
		t.Errorf("%d vectors for %d drafts", seen, len(drafts))
	}
}

func TestDraftBounds(t *testing.T) {
	k := secret(t, 0)
	for name, d := range map[string]draft{
		"empty": {},
		"many":  {messages: make([]proto.Message, maxMessages+1)},
		"gas":   {messages: []proto.Message{&leasev1.MsgClose{}}, gas: maxGas + 1},
		"bytes": {messages: []proto.Message{&leasev1.MsgClose{Reason: strings.Repeat("x", maxTxBytes)}}},
	} {
		if _, err := d.sign(k.Public(), k); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
}

func TestFee(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		gas := rapid.Uint64Range(0, maxGas).Draw(t, "gas")
		price := rapid.Uint64Range(0, 1_000_000_000_000).Draw(t, "price") // below 1 ufal
		fee, err := feeFor(gas, fallow.PicoOf(price))
		if err != nil {
			t.Fatal(err)
		}
		want, _ := fallow.PicoOf(price).Mul(gas)
		paid, _ := fallow.PicoOf(1_000_000_000_000).Mul(uint64(fee))
		if paid.Cmp(want) < 0 {
			t.Fatalf("%d ufal for %d gas at %d is too little", fee, gas, price)
		}
		if fee > 0 {
			less, _ := fallow.PicoOf(1_000_000_000_000).Mul(uint64(fee - 1))
			if less.Cmp(want) >= 0 {
				t.Fatalf("%d ufal for %d gas at %d is too much", fee, gas, price)
			}
		}
	})
	price, err := fallow.ParsePico("0.001")
	if err != nil {
		t.Fatal(err)
	}
	if fee, err := feeFor(200_001, price); err != nil || fee != 201 {
		t.Errorf("fee %d, %v", fee, err)
	}
}

func TestPico(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := fallow.Pico{Hi: rapid.Uint64().Draw(t, "hi"), Lo: rapid.Uint64().Draw(t, "lo")}
		// The digits without the point, which String puts before the last twelve.
		text := p.String()
		whole, frac, _ := strings.Cut(text, ".")
		digits := strings.TrimLeft(whole+frac+strings.Repeat("0", 12-len(frac)), "0")
		if digits == "" {
			digits = "0"
		}
		if got, err := Pico(digits); err != nil || got != p {
			t.Fatalf("%s: %v, %v", digits, got, err)
		}
	})
	for _, bad := range []string{"", "-1", "1.5", "340282366920938463463374607431768211456", strings.Repeat("1", 50)} {
		if _, err := Pico(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestTokens(t *testing.T) {
	if v, err := ParseTokens("1.25"); err != nil || v != 1_250_000 || v.String() != "1.25" {
		t.Errorf("%v, %v", v, err)
	}
	if _, err := ParseTokens("1.1234567"); err == nil {
		t.Error("seven decimals")
	}
}
