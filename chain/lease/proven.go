package lease

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"

	"fallow.network"
	"fallow.network/chain/adapter"
	"fallow.network/market"
)

// rememberedProofs is how many signatures of offers, vouchers and releases a
// node remembers to be good, twice, at 32 bytes each: those of a busy minute.
const rememberedProofs = 50_000

// proven remembers which signatures of the market are good, so that one that was
// checked when a transaction's gas was estimated costs its block nothing but a
// hash. Whether a signature is good follows from what is remembered alone, so a
// node that has forgotten it comes to the same state with the same gas; one that
// is bad is never remembered.
type proven struct{ good *adapter.Recent }

// verifier checks Ed25519 signatures for a chain, each once.
func (p proven) verifier(chainID string) func(kind string, key fallow.Key, message, signature []byte) bool {
	return func(kind string, key fallow.Key, message, signature []byte) bool {
		if len(signature) != ed25519.SignatureSize || len(chainID) > market.MaxChainID {
			return false
		}
		signed := fallow.SignedBytes(kind, chainID, message)
		b := make([]byte, 0, len(key)+ed25519.SignatureSize+8+len(signed))
		b = append(append(b, key[:]...), signature...)
		b = append(binary.BigEndian.AppendUint64(b, uint64(len(signed))), signed...)
		id := sha256.Sum256(b)
		if p.good.Has(id) {
			return true
		}
		good := market.VerifyKey(chainID, kind, key, message, signature)
		if good {
			p.good.Add(id)
		}
		return good
	}
}
