package keys

import (
	"errors"
	"fmt"
	"strings"

	"github.com/btcsuite/btcd/btcutil/hdkeychain"
	"github.com/btcsuite/btcd/chaincfg"
	"github.com/tyler-smith/go-bip39"

	"fallow.network"
)

// NewMnemonic draws 24 words (BIP-39, 256 bits).
func NewMnemonic() (string, error) {
	entropy, err := bip39.NewEntropy(256)
	if err != nil {
		return "", fmt.Errorf("draw a mnemonic: %w", err)
	}
	m, err := bip39.NewMnemonic(entropy)
	if err != nil {
		return "", fmt.Errorf("draw a mnemonic: %w", err)
	}
	return m, nil
}

// Path is the BIP-44 path of account number i, as wallets of this coin type
// derive it.
func Path(i uint32) string { return fmt.Sprintf("m/44'/%d'/0'/0/%d", fallow.CoinType, i) }

// Derive is the secret of account number i of a mnemonic (BIP-39 without an
// extra passphrase, BIP-32 along Path). The error names the first unknown word.
func Derive(mnemonic string, i uint32) (*Secret, error) {
	words := strings.Fields(strings.ToLower(mnemonic))
	switch len(words) {
	case 12, 15, 18, 21, 24:
	default:
		return nil, fmt.Errorf("mnemonic of %d words: want 24 (or 12, 15, 18, 21)", len(words))
	}
	for n, w := range words {
		if _, ok := bip39.GetWordIndex(w); !ok {
			return nil, fmt.Errorf("mnemonic: word %d, %.20q, is not in the BIP-39 list", n+1, w)
		}
	}
	if i >= hdkeychain.HardenedKeyStart {
		return nil, fmt.Errorf("account number %d: want below %d", i, hdkeychain.HardenedKeyStart)
	}
	seed, err := bip39.NewSeedWithErrorChecking(strings.Join(words, " "), "")
	if err != nil {
		return nil, errors.New("mnemonic: its checksum does not fit: a word is wrong or out of place")
	}
	key, err := hdkeychain.NewMaster(seed, &chaincfg.MainNetParams)
	if err != nil {
		return nil, fmt.Errorf("derive %s: %w", Path(i), err)
	}
	const hard = hdkeychain.HardenedKeyStart
	for _, step := range []uint32{hard + 44, hard + fallow.CoinType, hard, 0, i} {
		if key, err = key.Derive(step); err != nil {
			return nil, fmt.Errorf("derive %s: %w", Path(i), err)
		}
	}
	priv, err := key.ECPrivKey()
	if err != nil {
		return nil, fmt.Errorf("derive %s: %w", Path(i), err)
	}
	return SecretFrom(priv.Serialize())
}
