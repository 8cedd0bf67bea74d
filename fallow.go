// Package fallow is the market's vocabulary: the words, units and contracts
// that every room shares.
//
// Its one invariant: nothing here touches the world. Same input, same output,
// integers only, so the chain, the daemons, the audit and the simulator all
// mean the same by the same word.
//
// It holds no rules: those stand in market, receipt, verify and settle.
package fallow

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// Denominations of the ledger's coins.
const (
	// CreditDenom is the coin that prices and escrow are in: 1 credit is
	// 1,000,000 ucredit and buys 1 US dollar of compute.
	CreditDenom = "ucredit"
	// TokenDenom is the coin of gas fees, bonds and stake: 1 FAL is
	// 1,000,000 ufal.
	TokenDenom = "ufal"
	// Bech32Prefix begins every account address.
	Bech32Prefix = "fal"
	// CoinType is the SLIP-44 number in a key's derivation path.
	CoinType = 118
	// Protocol is the version that programs of one network must share.
	Protocol = "fallow/1"
)

// Digest is a sha256 sum; it names content, workloads and signed messages.
type Digest [sha256.Size]byte

// Sum is the digest of b.
func Sum(b []byte) Digest { return sha256.Sum256(b) }

// String is the OCI form, sha256:<64 hex digits>.
func (d Digest) String() string { return "sha256:" + hex.EncodeToString(d[:]) }

// Short is the first 12 hex digits, for people.
func (d Digest) Short() string { return hex.EncodeToString(d[:6]) }

// IsZero says whether d was never set.
func (d Digest) IsZero() bool { return d == Digest{} }

// MarshalText writes the OCI form.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads the OCI form.
func (d *Digest) UnmarshalText(b []byte) error {
	v, err := ParseDigest(string(b))
	if err != nil {
		return err
	}
	*d = v
	return nil
}

// ParseDigest reads the OCI form sha256:<64 lower-case hex digits>.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	h, ok := strings.CutPrefix(s, "sha256:")
	if !ok || len(h) != 2*len(d) || strings.ToLower(h) != h {
		return d, fmt.Errorf("digest %.80q: want sha256: and 64 lower-case hex digits", s)
	}
	if _, err := hex.Decode(d[:], []byte(h)); err != nil {
		return d, fmt.Errorf("digest %.80q: %w", s, err)
	}
	return d, nil
}

// DigestFrom takes the 32 bytes of a digest as they stand in a message.
func DigestFrom(b []byte) (Digest, error) {
	var d Digest
	if len(b) != len(d) {
		return d, fmt.Errorf("digest of %d bytes: want %d", len(b), len(d))
	}
	copy(d[:], b)
	return d, nil
}

// Key is an Ed25519 public key: a node key (one machine of a provider) or a
// session key (the tenant's side of one lease).
type Key [32]byte

// String is the key in hex.
func (k Key) String() string { return hex.EncodeToString(k[:]) }

// Short is the first 8 hex digits, for people.
func (k Key) Short() string { return hex.EncodeToString(k[:4]) }

// MarshalText writes the key in hex.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads the key from hex.
func (k *Key) UnmarshalText(b []byte) error {
	if len(b) != 2*len(k) {
		return fmt.Errorf("key of %d characters: want %d hex digits", len(b), 2*len(k))
	}
	_, err := hex.Decode(k[:], b)
	return err
}

// KeyFrom takes the 32 bytes of a key as they stand in a message.
func KeyFrom(b []byte) (Key, error) {
	var k Key
	if len(b) != len(k) {
		return k, fmt.Errorf("key of %d bytes: want %d", len(b), len(k))
	}
	copy(k[:], b)
	return k, nil
}

// Account is a bech32 account address of the ledger. The pure rooms compare
// it and never look inside; edges check it on the way in.
type Account string

// LeaseID numbers leases on one ledger, from 1.
type LeaseID uint64

// Height is a block height.
type Height int64

// Time is a moment in Unix milliseconds, as a block's header has it.
type Time int64

// Gas counts WASM work by the published schedule (docs/gas-schedule.md).
type Gas uint64

// Class is the kind of engine a workload needs.
type Class string

// ClassWASM is a batch of WASI preview 1 tasks under the run profile.
const ClassWASM Class = "wasm"

// Store is the ordered key-value space that rules keep their state in: a
// module's store on the ledger, a map in the audit and the simulator. Values
// are never mutated after Set.
type Store interface {
	// Get returns nil when the key is absent.
	Get(key []byte) ([]byte, error)
	Set(key, value []byte) error
	Delete(key []byte) error
	// Scan visits keys in [start, end) in ascending order until yield
	// returns false; a nil end is the end of the space. The store must not
	// be written during a scan.
	Scan(start, end []byte, yield func(key, value []byte) bool) error
}

// SignedBytes is what a signature off the ledger covers:
// "fallow/<kind>/v1", a zero byte, the chain id's length in one byte, the
// chain id, and the digest of the message's bytes exactly as received.
// kind is demand, offer, receipt, voucher, horizon or release.
func SignedBytes(kind, chainID string, message []byte) []byte {
	sum := Sum(message)
	b := make([]byte, 0, len(kind)+len(chainID)+len(sum)+16)
	b = append(b, "fallow/"...)
	b = append(b, kind...)
	b = append(b, "/v1"...)
	b = append(b, 0, byte(len(chainID)))
	b = append(b, chainID...)
	return append(b, sum[:]...)
}
