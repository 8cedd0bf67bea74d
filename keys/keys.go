// Package keys holds the secrets of the people and machines of the market:
// account keys (secp256k1, the ledger's), node keys (Ed25519, one machine) and
// session keys (Ed25519, derived, one lease).
//
// Its one invariant: a secret reaches the disk only in a file of mode 0600,
// and an account's only sealed under a passphrase.
//
// It does not know what it signs, and it speaks to no network: ledger builds
// transactions, wire builds the messages that are signed off the ledger.
package keys

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"

	"fallow.network"
)

// PublicSize is the length of a compressed secp256k1 public key.
const PublicSize = 33

// SignatureSize is the length of a signature, R||S.
const SignatureSize = 64

// Secret is the private half of an account key or client key.
type Secret struct{ key *secp256k1.PrivateKey }

// NewSecret draws a secret that no mnemonic leads back to; accounts that hold
// funds are made by Ring.Create instead.
func NewSecret() (*Secret, error) {
	k, err := secp256k1.GeneratePrivateKeyFromRand(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("draw a private key: %w", err)
	}
	return &Secret{k}, nil
}

// SecretFrom takes the 32 bytes of a private key; it refuses zero and what is
// not below the curve's order.
func SecretFrom(b []byte) (*Secret, error) {
	if len(b) != secp256k1.PrivKeyBytesLen {
		return nil, fmt.Errorf("private key of %d bytes: want %d", len(b), secp256k1.PrivKeyBytesLen)
	}
	var s secp256k1.ModNScalar
	if overflow := s.SetByteSlice(b); overflow || s.IsZero() {
		return nil, errors.New("private key: not a number of the curve's group")
	}
	return &Secret{secp256k1.NewPrivateKey(&s)}, nil
}

// Bytes is the private key itself, 32 bytes. Session keys are derived from it.
func (s *Secret) Bytes() []byte { return s.key.Serialize() }

// Public is the compressed public key.
func (s *Secret) Public() []byte { return s.key.PubKey().SerializeCompressed() }

// Account is the address that the public key names.
func (s *Secret) Account() fallow.Account {
	a, err := AccountOf(s.Public())
	if err != nil {
		return "" // a compressed key always has an address
	}
	return a
}

// Sign signs sha256(doc) and returns R||S with a low S, as the ledger wants
// it. The nonce is RFC 6979's: equal documents give equal signatures.
func (s *Secret) Sign(doc []byte) ([]byte, error) {
	sum := sha256.Sum256(doc)
	return ecdsa.SignCompact(s.key, sum[:], true)[1:], nil
}

// Verify says whether signature (R||S, low S) over sha256(doc) is by the
// holder of public, a compressed key.
func Verify(public, doc, signature []byte) bool {
	if len(signature) != SignatureSize || len(public) != PublicSize {
		return false
	}
	pub, err := secp256k1.ParsePubKey(public)
	if err != nil {
		return false
	}
	var r, s secp256k1.ModNScalar
	if r.SetByteSlice(signature[:32]) || s.SetByteSlice(signature[32:]) || s.IsOverHalfOrder() {
		return false
	}
	sum := sha256.Sum256(doc)
	return ecdsa.NewSignature(&r, &s).Verify(sum[:], pub)
}

// Session derives the session key of the leases that a demand leads to:
// HKDF-SHA256 of the client key, salted with the demand's nonce, with info
// "fallow/session/v1". Whoever has the client key and the demand finds it again.
func (s *Secret) Session(nonce []byte) (ed25519.PrivateKey, error) {
	seed, err := hkdf.Key(sha256.New, s.Bytes(), nonce, "fallow/session/v1", ed25519.SeedSize)
	if err != nil {
		return nil, fmt.Errorf("derive the session key: %w", err)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// secretFromHex reads 64 hex digits.
func secretFromHex(s string) (*Secret, error) {
	b, err := hex.DecodeString(s)
	if err != nil {
		return nil, errors.New("private key: want 64 hex digits")
	}
	return SecretFrom(b)
}
