package keys

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"github.com/btcsuite/btcd/btcutil/bech32"
	"golang.org/x/crypto/ripemd160" //nolint:staticcheck // the ledger's addresses are defined by it

	"fallow.network"
)

// ErrAddress is text that is not an account address of this ledger.
var ErrAddress = errors.New("not an account address")

// maxAddressText bounds what is decoded: 64 bytes of address, as the ledger allows.
const maxAddressText = 120

// AccountOf is the address of a compressed secp256k1 public key: bech32 of
// ripemd160(sha256(key)).
func AccountOf(public []byte) (fallow.Account, error) {
	if len(public) != PublicSize {
		return "", fmt.Errorf("public key of %d bytes: want %d", len(public), PublicSize)
	}
	sum := sha256.Sum256(public)
	h := ripemd160.New()
	h.Write(sum[:])
	return AccountFrom(h.Sum(nil))
}

// AccountFrom writes the bytes of an address as bech32. People's accounts have
// 20 bytes, derived ones of modules may have 32.
func AccountFrom(b []byte) (fallow.Account, error) {
	if len(b) != 20 && len(b) != 32 {
		return "", fmt.Errorf("address of %d bytes: want 20 or 32", len(b))
	}
	s, err := bech32.EncodeFromBase256(fallow.Bech32Prefix, b)
	if err != nil {
		return "", fmt.Errorf("write an address: %w", err)
	}
	return fallow.Account(s), nil
}

// ParseAccount reads an address, as fal1...; an error wraps ErrAddress and
// says what is wrong with it. Upper case is taken and made lower.
func ParseAccount(s string) (fallow.Account, error) {
	b, err := addressBytes(s)
	if err != nil {
		return "", err
	}
	return AccountFrom(b)
}

// AccountBytes is the bytes that an address stands for.
func AccountBytes(a fallow.Account) ([]byte, error) { return addressBytes(string(a)) }

func addressBytes(s string) ([]byte, error) {
	s = strings.TrimSpace(s)
	fail := func(why string) error { return fmt.Errorf("%.60q: %w: %s", s, ErrAddress, why) }
	switch {
	case s == "":
		return nil, fail("it is empty; addresses begin with " + fallow.Bech32Prefix + "1")
	case len(s) > maxAddressText:
		return nil, fail("it is too long")
	}
	prefix, b, err := bech32.DecodeToBase256(s)
	var sum bech32.ErrInvalidChecksum
	switch {
	case errors.As(err, &sum):
		return nil, fail("its checksum does not fit: a letter is wrong, missing or doubled")
	case err != nil && !strings.HasPrefix(strings.ToLower(s), fallow.Bech32Prefix+"1"):
		return nil, fail("addresses begin with " + fallow.Bech32Prefix + "1; fallow keys list shows your own")
	case err != nil:
		return nil, fail(err.Error())
	case prefix == fallow.Bech32Prefix+"valoper":
		return nil, fail("it names a validator; give the operator's account address")
	case prefix != fallow.Bech32Prefix:
		return nil, fail(fmt.Sprintf("it belongs to another network (%s); here addresses begin with %s1", prefix, fallow.Bech32Prefix))
	case len(b) != 20 && len(b) != 32:
		return nil, fail(fmt.Sprintf("it holds %d bytes, not 20 or 32", len(b)))
	}
	return b, nil
}
