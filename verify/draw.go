package verify

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"math/bits"

	"fallow.network"
)

// Secret is drawn at random by the tenant for each job and never shown, so
// that no provider can tell which of its receipts are checked.
type Secret [32]byte

// draw is a number below n that only the secret's holder can foretell, from
// HMAC-SHA256 over the purpose and the receipt's digest. Its bias is below
// n/2^64.
func (s Secret) draw(purpose string, receipt fallow.Digest, n uint64) uint64 {
	h := hmac.New(sha256.New, s[:])
	h.Write([]byte("fallow/" + purpose + "/v1"))
	h.Write([]byte{0})
	h.Write(receipt[:])
	below, _ := bits.Mul64(binary.BigEndian.Uint64(h.Sum(nil)), n)
	return below
}

// Chosen says whether a receipt is to be checked at a rate. The receipt is
// signed before the draw, and whoever is chosen at a rate is chosen at every
// higher one.
func (s Secret) Chosen(receipt fallow.Digest, rate PPM) bool {
	return s.draw("check", receipt, uint64(All)) < uint64(rate)
}

// Checker draws who checks a receipt, out of n that stand in an order known to
// the tenant; n is above zero.
func (s Secret) Checker(receipt fallow.Digest, n int) int {
	return int(s.draw("checker", receipt, uint64(max(n, 1))))
}
