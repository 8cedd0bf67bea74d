package wire

import (
	"crypto/sha256"
	"fmt"
	"strings"

	"golang.org/x/crypto/ripemd160" //nolint:staticcheck // addresses of the ledger are defined by it

	"fallow.network"
	"fallow.network/market"
)

const charset = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"

// CheckAccount says why s is not an account address of the ledger: bech32
// (BIP-173) with our prefix over 20 or 32 bytes.
func CheckAccount(s string) error {
	rest, ok := strings.CutPrefix(s, fallow.Bech32Prefix+"1")
	if !ok {
		return fmt.Errorf("account %.20q: want an address that begins with %s1", s, fallow.Bech32Prefix)
	}
	// 20 bytes are 32 digits, 32 bytes are 52; six more are the sum.
	if len(rest) != 38 && len(rest) != 58 {
		return fmt.Errorf("account %.20q of %d characters", s, len(s))
	}
	values := expandPrefix()
	for i := range len(rest) {
		v := strings.IndexByte(charset, rest[i])
		if v < 0 {
			return fmt.Errorf("account %.20q: character %q is not bech32", s, rest[i])
		}
		values = append(values, byte(v))
	}
	if polymod(values) != 1 {
		return fmt.Errorf("account %.20q: wrong checksum, mistyped?", s)
	}
	// Five-bit digits over a whole number of bytes leave padding, which is zero.
	pad := len(rest[:len(rest)-6]) * 5 % 8
	if values[len(values)-7]&(1<<pad-1) != 0 {
		return fmt.Errorf("account %.20q: padding is not zero", s)
	}
	return nil
}

// Address is the account of a compressed secp256k1 key: bech32 over
// ripemd160(sha256(key)), as everywhere on Cosmos.
func Address(key market.ClientKey) fallow.Account {
	sum := sha256.Sum256(key[:])
	h := ripemd160.New()
	h.Write(sum[:])
	return encodeAccount(h.Sum(nil))
}

// encodeAccount writes 20 or 32 bytes as an address.
func encodeAccount(addr []byte) fallow.Account {
	var digits []byte
	var acc, bits uint
	for _, b := range addr {
		acc, bits = acc<<8|uint(b), bits+8
		for bits >= 5 {
			bits -= 5
			digits = append(digits, byte(acc>>bits&31))
		}
	}
	if bits > 0 {
		digits = append(digits, byte(acc<<(5-bits)&31))
	}
	sum := polymod(append(append(expandPrefix(), digits...), 0, 0, 0, 0, 0, 0)) ^ 1
	for i := range 6 {
		digits = append(digits, byte(sum>>(5*(5-i))&31))
	}
	var b strings.Builder
	b.WriteString(fallow.Bech32Prefix + "1")
	for _, d := range digits {
		b.WriteByte(charset[d])
	}
	return fallow.Account(b.String())
}

func expandPrefix() []byte {
	var v []byte
	for _, c := range []byte(fallow.Bech32Prefix) {
		v = append(v, c>>5)
	}
	v = append(v, 0)
	for _, c := range []byte(fallow.Bech32Prefix) {
		v = append(v, c&31)
	}
	return v
}

// polymod is the checksum of BIP-173.
func polymod(values []byte) uint32 {
	generator := [5]uint32{0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3}
	sum := uint32(1)
	for _, v := range values {
		top := sum >> 25
		sum = sum&0x1ffffff<<5 ^ uint32(v)
		for i, g := range generator {
			if top>>i&1 == 1 {
				sum ^= g
			}
		}
	}
	return sum
}
