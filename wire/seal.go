package wire

import (
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/rand"
	"fmt"

	"fallow.network"
	marketv1 "fallow.network/api/market"
	"fallow.network/market"
)

// sealInfo binds sealed answers to this protocol (RFC 9180's info).
const sealInfo = "fallow/answer/v1"

// NewSealingKey draws a demand's fresh key pair, that answers are sealed to.
func NewSealingKey() (*ecdh.PrivateKey, market.SealingKey, error) {
	k, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, market.SealingKey{}, fmt.Errorf("draw a sealing key: %w", err)
	}
	return k, market.SealingKey(k.PublicKey().Bytes()), nil
}

// SealAnswer encrypts an answer so that only the demand's tenant reads it:
// HPKE base mode with X25519, HKDF-SHA256 and ChaCha20-Poly1305, bound to the
// demand's digest.
func SealAnswer(to market.SealingKey, demand fallow.Digest, a market.Answer) (*marketv1.SealedAnswer, error) {
	b, err := EncodeAnswer(a)
	if err != nil {
		return nil, err
	}
	pub, err := ecdh.X25519().NewPublicKey(to[:])
	if err != nil {
		return nil, malformed("sealing key", err)
	}
	recipient, err := hpke.NewDHKEMPublicKey(pub)
	if err != nil {
		return nil, malformed("sealing key", err)
	}
	enc, sender, err := hpke.NewSender(recipient, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), []byte(sealInfo))
	if err != nil {
		return nil, malformed("sealing key", err)
	}
	sealed, err := sender.Seal(demand[:], b)
	if err != nil {
		return nil, fmt.Errorf("seal answer: %w", err)
	}
	return &marketv1.SealedAnswer{EncapsulatedKey: enc, Ciphertext: sealed}, nil
}

// OpenAnswer decrypts and decodes an answer to a demand. The offer inside is
// still to be opened.
func OpenAnswer(key *ecdh.PrivateKey, demand fallow.Digest, m *marketv1.SealedAnswer) (market.Answer, error) {
	if len(m.GetCiphertext()) > MaxAnswer+64 || len(m.GetEncapsulatedKey()) != 32 {
		return market.Answer{}, malformed("sealed answer", fmt.Errorf("%d bytes under a key of %d", len(m.GetCiphertext()), len(m.GetEncapsulatedKey())))
	}
	priv, err := hpke.NewDHKEMPrivateKey(key)
	if err != nil {
		return market.Answer{}, fmt.Errorf("open answer: %w", err)
	}
	recipient, err := hpke.NewRecipient(m.GetEncapsulatedKey(), priv, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), []byte(sealInfo))
	if err != nil {
		return market.Answer{}, malformed("sealed answer", err)
	}
	b, err := recipient.Open(demand[:], m.GetCiphertext())
	if err != nil {
		return market.Answer{}, malformed("sealed answer", err)
	}
	return Answer(b)
}
