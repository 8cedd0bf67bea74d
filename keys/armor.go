package keys

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/chacha20poly1305"
	"golang.org/x/crypto/openpgp/armor" //nolint:staticcheck // the format that Cosmos tools read is this package's
)

// The ASCII-armoured private key of Cosmos tools: argon2id of the passphrase
// gives the key of a ChaCha20-Poly1305 box with a zero nonce (the salt is
// fresh each time) around the amino form of the private key.
const (
	armorBegin = "-----BEGIN TENDERMINT PRIVATE KEY-----"
	armorType  = "TENDERMINT PRIVATE KEY"
	argonTime  = 1
	argonKiB   = 64 * 1024
	argonLanes = 4
	saltSize   = 16
	maxArmor   = 4096
)

// aminoPrefix stands before the 32 bytes of a secp256k1 private key: the hash
// prefix of "tendermint/PrivKeySecp256k1" and the length.
var aminoPrefix = []byte{0xe1, 0xb0, 0xf7, 0x9b, 0x20}

// ErrPassphrase is a passphrase that does not open a key.
var ErrPassphrase = errors.New("wrong passphrase")

// Armor writes s as Cosmos tools export and import private keys, sealed under
// a passphrase of its own.
func (s *Secret) Armor(passphrase string) (string, error) {
	if passphrase == "" {
		return "", errors.New("armour a key: the passphrase is empty")
	}
	salt := make([]byte, saltSize)
	if _, err := rand.Read(salt); err != nil {
		return "", fmt.Errorf("draw a salt: %w", err)
	}
	box, err := chacha20poly1305.New(argon(passphrase, salt))
	if err != nil {
		return "", fmt.Errorf("armour a key: %w", err)
	}
	plain := append(bytes.Clone(aminoPrefix), s.Bytes()...)
	sealed := box.Seal(nil, make([]byte, box.NonceSize()), plain, nil)
	var out strings.Builder
	w, err := armor.Encode(&out, armorType, map[string]string{
		"kdf": "argon2", "salt": strings.ToUpper(hex.EncodeToString(salt)), "type": "secp256k1",
	})
	if err != nil {
		return "", fmt.Errorf("armour a key: %w", err)
	}
	if _, err := w.Write(sealed); err != nil {
		return "", fmt.Errorf("armour a key: %w", err)
	}
	if err := w.Close(); err != nil {
		return "", fmt.Errorf("armour a key: %w", err)
	}
	return out.String() + "\n", nil
}

// sealedKey is an armoured key before its passphrase is known.
type sealedKey struct{ salt, box []byte }

func parseArmor(text string) (sealedKey, error) {
	if len(text) > maxArmor {
		return sealedKey{}, fmt.Errorf("armoured key of %d characters: want at most %d", len(text), maxArmor)
	}
	block, err := armor.Decode(strings.NewReader(text))
	if err != nil {
		return sealedKey{}, fmt.Errorf("armoured key: %w", err)
	}
	if block.Type != armorType {
		return sealedKey{}, fmt.Errorf("armoured key: it is a %.40q, want %s", block.Type, armorType)
	}
	switch kdf := block.Header["kdf"]; kdf {
	case "argon2":
	case "bcrypt":
		return sealedKey{}, errors.New("armoured key: sealed with bcrypt by an old tool; import it there, export it as hex (--unarmored-hex --unsafe) and import that")
	default:
		return sealedKey{}, fmt.Errorf("armoured key: unknown kdf %.20q", kdf)
	}
	if t := block.Header["type"]; t != "" && t != "secp256k1" {
		return sealedKey{}, fmt.Errorf("armoured key: of type %.20q, want secp256k1", t)
	}
	salt, err := hex.DecodeString(block.Header["salt"])
	if err != nil || len(salt) < 8 || len(salt) > 64 {
		return sealedKey{}, errors.New("armoured key: its salt is missing or malformed")
	}
	box, err := io.ReadAll(block.Body)
	if err != nil {
		return sealedKey{}, fmt.Errorf("armoured key: %w", err)
	}
	return sealedKey{salt, box}, nil
}

func (k sealedKey) open(passphrase string) (*Secret, error) {
	box, err := chacha20poly1305.New(argon(passphrase, k.salt))
	if err != nil {
		return nil, fmt.Errorf("open an armoured key: %w", err)
	}
	plain, err := box.Open(nil, make([]byte, box.NonceSize()), k.box, nil)
	if err != nil {
		return nil, fmt.Errorf("open an armoured key: %w", ErrPassphrase)
	}
	raw, ok := bytes.CutPrefix(plain, aminoPrefix)
	if !ok {
		return nil, errors.New("armoured key: not a secp256k1 private key")
	}
	return SecretFrom(raw)
}

func argon(passphrase string, salt []byte) []byte {
	return argon2.IDKey([]byte(passphrase), salt, argonTime, argonKiB, argonLanes, chacha20poly1305.KeySize)
}

// ParseSecret reads what people import: a mnemonic (its first account), 64 hex
// digits, or an armoured private key, for which passphrase is asked.
func ParseSecret(text string, passphrase func() (string, error)) (*Secret, error) {
	text = strings.TrimSpace(text)
	switch {
	case text == "":
		return nil, errors.New("import a key: nothing was given; want a mnemonic, 64 hex digits or an armoured key")
	case len(text) > maxArmor:
		return nil, fmt.Errorf("import a key: %d characters, want at most %d", len(text), maxArmor)
	case strings.HasPrefix(text, "-----BEGIN"):
		k, err := parseArmor(text)
		if err != nil {
			return nil, err
		}
		p, err := passphrase()
		if err != nil {
			return nil, fmt.Errorf("armoured key: %w", err)
		}
		return k.open(p)
	case !strings.ContainsAny(text, " \t\r\n"):
		return secretFromHex(strings.TrimPrefix(text, "0x"))
	default:
		return Derive(text, 0)
	}
}
