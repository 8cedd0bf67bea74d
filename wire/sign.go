package wire

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"

	"fallow.network"
	"fallow.network/market"
	"fallow.network/receipt"
)

// signatureSize is 64 bytes for Ed25519 and for secp256k1 as R||S alike.
const signatureSize = 64

// Sign signs a message of this kind (market.SignsOffer and so on) for a chain
// by a node or session key.
func Sign(key ed25519.PrivateKey, kind, chainID string, message []byte) market.Signed {
	return market.Signed{
		Message:   message,
		Signature: ed25519.Sign(key, fallow.SignedBytes(kind, chainID, message)),
	}
}

// PublicKey is the public half of an Ed25519 key as the market names it.
func PublicKey(key ed25519.PrivateKey) fallow.Key {
	var k fallow.Key
	copy(k[:], key.Public().(ed25519.PublicKey))
	return k
}

// Verify says whether s is signed by key, as a message of this kind.
func Verify(chainID, kind string, key fallow.Key, s market.Signed) error {
	if !market.VerifyKey(chainID, kind, key, s.Message, s.Signature) {
		return fmt.Errorf("%w: %s by key %s on chain %s", ErrSignature, kind, key.Short(), chainID)
	}
	return nil
}

// DemandHash is what a client key signs for a demand: sha256 of its
// fallow.SignedBytes.
func DemandHash(chainID string, message []byte) [32]byte {
	return sha256.Sum256(fallow.SignedBytes(market.SignsDemand, chainID, message))
}

// ClientKey is the public half of a secp256k1 client key, of 32 bytes.
func ClientKey(secret []byte) (market.ClientKey, error) {
	priv, err := clientSecret(secret)
	if err != nil {
		return market.ClientKey{}, err
	}
	return market.ClientKey(priv.PubKey().SerializeCompressed()), nil
}

// SignDemand signs a demand by a secp256k1 client key of 32 bytes:
// deterministic (RFC 6979), R||S with a low S.
func SignDemand(secret []byte, chainID string, message []byte) (market.Signed, error) {
	priv, err := clientSecret(secret)
	if err != nil {
		return market.Signed{}, err
	}
	hash := DemandHash(chainID, message)
	return market.Signed{Message: message, Signature: ecdsa.SignCompact(priv, hash[:], true)[1:]}, nil
}

func clientSecret(secret []byte) (*secp256k1.PrivateKey, error) {
	var s secp256k1.ModNScalar
	if len(secret) != 32 || s.SetByteSlice(secret) || s.IsZero() {
		return nil, errors.New("client key is not a secp256k1 secret of 32 bytes")
	}
	return secp256k1.NewPrivateKey(&s), nil
}

// OpenDemand decodes a demand and verifies it by the client key that it names.
// Whether that key acts for the tenant is the caller's to ask: Address of it
// is the tenant, or one of the tenant's client keys on the ledger.
func OpenDemand(chainID string, s market.Signed) (market.Demand, error) {
	d, err := Demand(s.Message)
	if err != nil {
		return market.Demand{}, err
	}
	if err := verifyClient(d.ClientKey, DemandHash(chainID, s.Message), s.Signature); err != nil {
		return market.Demand{}, fmt.Errorf("demand of %s: %w", d.Tenant, err)
	}
	return d, nil
}

func verifyClient(key market.ClientKey, hash [32]byte, signature []byte) error {
	pub, err := secp256k1.ParsePubKey(key[:])
	if err != nil {
		return fmt.Errorf("%w: client key: %w", ErrSignature, err)
	}
	var r, s secp256k1.ModNScalar
	if len(signature) != signatureSize ||
		r.SetByteSlice(signature[:32]) || s.SetByteSlice(signature[32:]) || s.IsOverHalfOrder() ||
		!ecdsa.NewSignature(&r, &s).Verify(hash[:], pub) {
		return ErrSignature
	}
	return nil
}

// OpenOffer decodes an offer and verifies it by the node key that it names.
// Whether that key is the provider's is on the ledger.
func OpenOffer(chainID string, s market.Signed) (market.Offer, error) {
	o, err := Offer(s.Message)
	if err != nil {
		return market.Offer{}, err
	}
	return o, Verify(chainID, market.SignsOffer, o.NodeKey, s)
}

// OpenReceipt decodes a receipt and verifies it by the lease's node key.
func OpenReceipt(chainID string, node fallow.Key, s market.Signed) (receipt.Receipt, error) {
	v, err := Receipt(s.Message)
	if err != nil {
		return receipt.Receipt{}, err
	}
	return v, Verify(chainID, market.SignsReceipt, node, s)
}

// OpenVoucher decodes a voucher and verifies it by the lease's session key.
func OpenVoucher(chainID string, session fallow.Key, s market.Signed) (receipt.Voucher, error) {
	v, err := Voucher(s.Message)
	if err != nil {
		return receipt.Voucher{}, err
	}
	return v, Verify(chainID, market.SignsVoucher, session, s)
}

// OpenHorizon decodes a horizon and verifies it by the lease's session key.
func OpenHorizon(chainID string, session fallow.Key, s market.Signed) (receipt.Horizon, error) {
	v, err := Horizon(s.Message)
	if err != nil {
		return receipt.Horizon{}, err
	}
	return v, Verify(chainID, market.SignsHorizon, session, s)
}

// OpenRelease decodes a release and verifies it by the lease's node key.
func OpenRelease(chainID string, node fallow.Key, s market.Signed) (receipt.Release, error) {
	v, err := Release(s.Message)
	if err != nil {
		return receipt.Release{}, err
	}
	return v, Verify(chainID, market.SignsRelease, node, s)
}
