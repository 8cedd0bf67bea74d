package ledger

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	basev1 "cosmossdk.io/api/cosmos/base/v1beta1"
	secpv1 "cosmossdk.io/api/cosmos/crypto/secp256k1"
	signingv1 "cosmossdk.io/api/cosmos/tx/signing/v1beta1"
	txv1 "cosmossdk.io/api/cosmos/tx/v1beta1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"fallow.network"
)

// Hash names a transaction: sha256 of its bytes.
type Hash [sha256.Size]byte

// String is the hash as Cosmos tools print it.
func (h Hash) String() string { return strings.ToUpper(hex.EncodeToString(h[:])) }

// MarshalText writes the hash as String does.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads 64 hex digits.
func (h *Hash) UnmarshalText(b []byte) error {
	if len(b) != 2*len(h) {
		return fmt.Errorf("transaction hash of %d characters: want %d hex digits", len(b), 2*len(h))
	}
	_, err := hex.Decode(h[:], b)
	return err
}

// Tokens is an amount in ufal: 1 FAL is 1,000,000 ufal.
type Tokens uint64

// String is the amount in FAL with up to six decimals.
func (t Tokens) String() string { return fallow.Credits(t).String() }

// ParseTokens reads an amount in FAL, as 1.25.
func ParseTokens(s string) (Tokens, error) {
	c, err := fallow.ParseCredits(s)
	if err != nil {
		return 0, fmt.Errorf("FAL %.40q: want an amount with at most 6 decimals, as 1.25", s)
	}
	return Tokens(c), nil
}

// Signer signs for one account. keys.Secret is one.
type Signer interface {
	Account() fallow.Account
	// Public is the compressed secp256k1 key.
	Public() []byte
	// Sign signs sha256(doc) and returns R||S with a low S.
	Sign(doc []byte) ([]byte, error)
}

// draft is all that a transaction's bytes follow from.
type draft struct {
	chainID  string
	messages []proto.Message
	memo     string
	number   uint64 // of the account
	sequence uint64
	until    fallow.Height // last block that it may enter
	gas      uint64
	fee      Tokens
	payer    fallow.Account // pays the fee by a grant; empty for the signer
}

// Bounds of what is sent; a node's queue takes no more anyhow.
const (
	maxMessages = 200
	maxTxBytes  = 1 << 20
	// maxGas is the gas of a block on the networks that fallowd founds.
	maxGas = 200_000_000
)

// sign builds the transaction in direct mode. With a nil key its signature is
// empty, as a simulation takes it.
func (d draft) sign(public []byte, key Signer) ([]byte, error) {
	if len(d.messages) == 0 || len(d.messages) > maxMessages {
		return nil, fmt.Errorf("transaction of %d messages: want 1 to %d", len(d.messages), maxMessages)
	}
	if d.gas > maxGas {
		return nil, fmt.Errorf("transaction of %d gas: want at most %d; send fewer entries at once", d.gas, maxGas)
	}
	body := &txv1.TxBody{Memo: d.memo, TimeoutHeight: uint64(d.until)}
	for _, m := range d.messages {
		a, err := anyOf(m)
		if err != nil {
			return nil, err
		}
		body.Messages = append(body.Messages, a)
	}
	pub, err := anyOf(&secpv1.PubKey{Key: public})
	if err != nil {
		return nil, err
	}
	fee := &txv1.Fee{GasLimit: d.gas, Granter: string(d.payer)}
	if d.fee > 0 {
		fee.Amount = []*basev1.Coin{coin(d.fee)}
	}
	auth := &txv1.AuthInfo{Fee: fee, SignerInfos: []*txv1.SignerInfo{{
		PublicKey: pub, Sequence: d.sequence,
		ModeInfo: &txv1.ModeInfo{Sum: &txv1.ModeInfo_Single_{Single: &txv1.ModeInfo_Single{Mode: signingv1.SignMode_SIGN_MODE_DIRECT}}},
	}}}
	raw := &txv1.TxRaw{}
	if raw.BodyBytes, err = encode(body); err != nil {
		return nil, err
	}
	if raw.AuthInfoBytes, err = encode(auth); err != nil {
		return nil, err
	}
	signature := []byte{}
	if key != nil {
		doc, err := encode(&txv1.SignDoc{BodyBytes: raw.BodyBytes, AuthInfoBytes: raw.AuthInfoBytes, ChainId: d.chainID, AccountNumber: d.number})
		if err != nil {
			return nil, err
		}
		if signature, err = key.Sign(doc); err != nil {
			return nil, fmt.Errorf("sign a transaction: %w", err)
		}
	}
	raw.Signatures = [][]byte{signature}
	b, err := encode(raw)
	if err != nil {
		return nil, err
	}
	if len(b) > maxTxBytes {
		return nil, fmt.Errorf("transaction of %d bytes: want at most %d; send fewer entries at once", len(b), maxTxBytes)
	}
	return b, nil
}

func encode(m proto.Message) ([]byte, error) {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode a %s: %w", m.ProtoReflect().Descriptor().FullName(), err)
	}
	return b, nil
}

// anyOf packs m under its name with a leading slash, as the SDK wants it.
func anyOf(m proto.Message) (*anypb.Any, error) {
	b, err := encode(m)
	if err != nil {
		return nil, err
	}
	return &anypb.Any{TypeUrl: typeURL(m), Value: b}, nil
}

func typeURL(m proto.Message) string { return "/" + string(m.ProtoReflect().Descriptor().FullName()) }

func coin(amount Tokens) *basev1.Coin {
	return &basev1.Coin{Denom: fallow.TokenDenom, Amount: strconv.FormatUint(uint64(amount), 10)}
}

// feeFor is the price of gas, rounded up to whole ufal.
func feeFor(gas uint64, price fallow.Pico) (Tokens, error) {
	total, err := price.Mul(gas)
	if err != nil {
		return 0, fmt.Errorf("fee for %d gas: %w", gas, err)
	}
	const picoPerUfal = 1_000_000_000_000
	fee, err := total.Div(fallow.PicoOf(picoPerUfal))
	if err != nil || fee == math.MaxUint64 {
		return 0, fmt.Errorf("fee for %d gas: %w", gas, errors.Join(err, fallow.ErrOverflow))
	}
	if back, err := fallow.PicoOf(picoPerUfal).Mul(fee); err != nil || back != total {
		fee++
	}
	return Tokens(fee), nil
}
