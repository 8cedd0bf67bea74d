package lease

import (
	"bytes"
	"crypto/ed25519"
	"testing"

	"fallow.network/market"
	"fallow.network/settle"
	"fallow.network/wire"
)

// TestProven: whatever is remembered, the answer is that of a check.
func TestProven(t *testing.T) {
	secret := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, ed25519.SeedSize))
	other := wire.PublicKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{2}, ed25519.SeedSize)))
	key := wire.PublicKey(secret)
	s := wire.Sign(secret, market.SignsOffer, "chain-1", []byte("offer"))
	bad := bytes.Clone(s.Signature)
	bad[0] ^= 1
	var p proven
	for range 3 {
		for i, c := range []struct {
			chain, kind string
			key         [32]byte
			message     string
			signature   []byte
		}{
			{"chain-1", market.SignsOffer, key, "offer", s.Signature},
			{"chain-2", market.SignsOffer, key, "offer", s.Signature},
			{"chain-1", market.SignsVoucher, key, "offer", s.Signature},
			{"chain-1", market.SignsOffer, other, "offer", s.Signature},
			{"chain-1", market.SignsOffer, key, "offers", s.Signature},
			{"chain-1", market.SignsOffer, key, "offer", bad},
			{"chain-1", market.SignsOffer, key, "offer", s.Signature[:63]},
			{"chain-1", market.SignsOffer, key, "offer", nil},
		} {
			want := settle.Verifier(c.chain)(c.kind, c.key, []byte(c.message), c.signature)
			if got := p.verifier(c.chain)(c.kind, c.key, []byte(c.message), c.signature); got != want || want != (i == 0) {
				t.Errorf("case %d: got %v, a check says %v", i, got, want)
			}
		}
	}
	if len(p.new) != 1 {
		t.Errorf("%d signatures are remembered, one is good", len(p.new))
	}
	for i := range 2*rememberedProofs + 1 {
		p.note([32]byte{byte(i), byte(i >> 8), byte(i >> 16), 1})
	}
	if n := len(p.new) + len(p.old); n > 2*rememberedProofs {
		t.Errorf("%d signatures are remembered", n)
	}
}
