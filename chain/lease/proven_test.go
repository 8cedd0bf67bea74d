package lease

import (
	"bytes"
	"crypto/ed25519"
	"testing"

	"fallow.network/chain/adapter"
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
	p := proven{adapter.NewRecent(rememberedProofs)}
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
	if n := p.good.Len(); n != 1 {
		t.Errorf("%d signatures are remembered, one is good", n)
	}
}
