package lease

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"fallow.network"
	"fallow.network/market"
	"fallow.network/settle"
	"fallow.network/wire"
)

// TestGolden reads the vectors that clients and the simulator read too: what
// they sign, the ledger believes, and nothing that differs in a bit.
func TestGolden(t *testing.T) {
	decoder := wire.Decoder{}
	decode := map[string]func([]byte) error{
		market.SignsOffer:   func(b []byte) error { _, err := decoder.Offer(b); return err },
		market.SignsVoucher: func(b []byte) error { _, err := decoder.Voucher(b); return err },
		market.SignsHorizon: func(b []byte) error { _, err := decoder.Horizon(b); return err },
		market.SignsRelease: func(b []byte) error { _, err := decoder.Release(b); return err },
	}
	for kind, read := range decode {
		t.Run(kind, func(t *testing.T) {
			raw, err := os.ReadFile(filepath.Join("..", "..", "testdata", "golden", kind+".json"))
			if err != nil {
				t.Fatal(err)
			}
			var v struct {
				ChainID   string        `json:"chain_id"`
				Message   string        `json:"message"`
				Digest    fallow.Digest `json:"digest"`
				PublicKey fallow.Key    `json:"public_key"`
				Signature string        `json:"signature"`
			}
			if err := json.Unmarshal(raw, &v); err != nil {
				t.Fatal(err)
			}
			message, err := hex.DecodeString(v.Message)
			if err != nil {
				t.Fatal(err)
			}
			signature, err := hex.DecodeString(v.Signature)
			if err != nil {
				t.Fatal(err)
			}
			if err := read(message); err != nil {
				t.Error(err)
			}
			if got := (market.Signed{Message: message}).ID(); got != v.Digest {
				t.Errorf("digest %s, want %s", got, v.Digest)
			}
			if !settle.Verifier(v.ChainID)(kind, v.PublicKey, message, signature) {
				t.Error("the ledger does not believe the signature")
			}
			if settle.Verifier("another")(kind, v.PublicKey, message, signature) {
				t.Error("the ledger believes it on another chain")
			}
			for i := range message {
				message[i] ^= 1
				if settle.Verifier(v.ChainID)(kind, v.PublicKey, message, signature) {
					t.Fatalf("byte %d changed, and the ledger believes it", i)
				}
				message[i] ^= 1
			}
		})
	}
}
