package keys

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"filippo.io/age"
	"filippo.io/age/armor"

	"fallow.network"
)

// Cost of unlocking, as the logarithm of scrypt's N. A person's passphrase
// takes about 0.1 s and 32 MiB a key, so that a verb stays quick; a drawn one
// of 256 bits cannot be guessed however fast the guessing, and takes 3 ms.
// Files that ask for more than maxWork are refused, not waited for.
const (
	personWork = 15
	drawnWork  = 10
	maxWork    = 20

	maxKeyFile = 16 << 10
	maxKeys    = 1000
	keySuffix  = ".key"
)

// Errors that a caller acts on.
var (
	ErrNoKey  = errors.New("no such key")
	ErrExists = errors.New("key exists")
	ErrName   = errors.New("want 1 to 40 of a-z, 0-9, - and _, beginning with a letter or digit")
)

// Key is what a keyring shows of a key without unlocking it.
type Key struct {
	Name    string         `json:"name"`
	Account fallow.Account `json:"account"`
	// Public is the compressed secp256k1 key in hex.
	Public string `json:"public_key"`
	// Path is how a mnemonic leads to it; empty for a key imported by itself.
	Path string `json:"path,omitempty"`
}

// entry is a key file: what is shown, and the secret sealed with age.
type entry struct {
	Version int `json:"version"`
	Key
	Sealed string `json:"sealed"`
}

// Ring is a folder of account keys, one file each, all sealed under one
// passphrase. It is safe for concurrent use.
type Ring struct {
	dir  string
	find Passphrase

	mu    sync.Mutex
	words string // the passphrase, once found
}

// OpenRing uses the keys in the folder dir (by custom <home>/keys), which need
// not exist yet. The passphrase is looked for once, when it is first needed.
func OpenRing(dir string, find Passphrase) *Ring { return &Ring{dir: dir, find: find} }

// Create makes a key from a fresh mnemonic of 24 words and returns both. The
// mnemonic is kept nowhere: show it once and ask for a backup.
func (r *Ring) Create(name string) (Key, string, error) {
	m, err := NewMnemonic()
	if err != nil {
		return Key{}, "", err
	}
	k, err := r.Import(name, m, nil)
	return k, m, err
}

// Import keeps a key given as a mnemonic, 64 hex digits or an armoured
// private key, for which armorPassphrase is asked. It fails with ErrExists
// rather than replace a key.
func (r *Ring) Import(name, text string, armorPassphrase func() (string, error)) (Key, error) {
	if err := checkName(name); err != nil {
		return Key{}, err
	}
	if armorPassphrase == nil {
		armorPassphrase = func() (string, error) { return "", ErrNoPassphrase }
	}
	s, err := ParseSecret(text, armorPassphrase)
	if err != nil {
		return Key{}, fmt.Errorf("key %s: %w", name, err)
	}
	k := Key{Name: name, Account: s.Account(), Public: hex.EncodeToString(s.Public())}
	if len(strings.Fields(text)) > 1 && !strings.Contains(text, "-----BEGIN") {
		k.Path = Path(0)
	}
	return k, r.keep(k, s)
}

// Put keeps a secret under a name.
func (r *Ring) Put(name string, s *Secret) (Key, error) {
	k := Key{Name: name, Account: s.Account(), Public: hex.EncodeToString(s.Public())}
	if err := checkName(name); err != nil {
		return Key{}, err
	}
	return k, r.keep(k, s)
}

func (r *Ring) keep(k Key, s *Secret) error {
	all, err := r.List()
	if err != nil {
		return err
	}
	if len(all) >= maxKeys {
		return fmt.Errorf("key %s: the keyring holds %d keys, its most", k.Name, maxKeys)
	}
	for _, have := range all {
		if have.Name == k.Name {
			return fmt.Errorf("key %s: %w; choose another name, or delete it first", k.Name, ErrExists)
		}
		if have.Account == k.Account {
			return fmt.Errorf("key %s: %w as %s", k.Account, ErrExists, have.Name)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	words, err := r.passphrase(all)
	if err != nil {
		return err
	}
	sealed, err := seal(s, words)
	if err != nil {
		return fmt.Errorf("key %s: %w", k.Name, err)
	}
	b, err := json.MarshalIndent(entry{Version: 1, Key: k, Sealed: sealed}, "", "  ")
	if err != nil {
		return fmt.Errorf("key %s: %w", k.Name, err)
	}
	err = writeNew(r.path(k.Name), append(b, '\n'))
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("key %s: %w; choose another name, or delete it first", k.Name, ErrExists)
	}
	return err
}

// passphrase finds the words once; when the ring has keys already they must
// open the first, so that no ring ends up under two passphrases.
func (r *Ring) passphrase(all []Key) (string, error) {
	if r.words != "" {
		return r.words, nil
	}
	words, err := r.find(len(all) == 0)
	if err != nil {
		return "", err
	}
	if err := checkPassphrase(words); err != nil {
		return "", err
	}
	if len(all) > 0 {
		e, err := r.read(all[0].Name)
		if err != nil {
			return "", err
		}
		if _, err := e.open(words); err != nil {
			return "", err
		}
	}
	r.words = words
	return words, nil
}

// List is every key in the folder, by name.
func (r *Ring) List() ([]Key, error) {
	files, err := os.ReadDir(r.dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	var all []Key
	for _, f := range files {
		name, ok := strings.CutSuffix(f.Name(), keySuffix)
		if !ok || checkName(name) != nil {
			continue
		}
		e, err := r.read(name)
		if errors.Is(err, ErrNoKey) {
			continue // deleted meanwhile
		}
		if err != nil {
			return nil, err
		}
		all = append(all, e.Key)
	}
	slices.SortFunc(all, func(a, b Key) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// Show is the key of a name, or of an address; ErrNoKey when there is none.
func (r *Ring) Show(name string) (Key, error) {
	if strings.HasPrefix(name, fallow.Bech32Prefix+"1") {
		all, err := r.List()
		if err != nil {
			return Key{}, err
		}
		for _, k := range all {
			if string(k.Account) == name {
				return k, nil
			}
		}
		return Key{}, fmt.Errorf("key %.60q: %w in %s", name, ErrNoKey, r.dir)
	}
	e, err := r.read(name)
	return e.Key, err
}

// Secret unlocks a key by name.
func (r *Ring) Secret(name string) (*Secret, error) {
	e, err := r.read(name)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	words := r.words
	if words == "" {
		if words, err = r.find(false); err != nil {
			return nil, err
		}
	}
	s, err := e.open(words)
	if err != nil {
		return nil, err
	}
	r.words = words
	return s, nil
}

// Delete removes a key for good.
func (r *Ring) Delete(name string) error {
	if _, err := r.read(name); err != nil {
		return err
	}
	if err := os.Remove(r.path(name)); err != nil {
		return fmt.Errorf("key %s: %w", name, err)
	}
	return nil
}

func (r *Ring) path(name string) string { return filepath.Join(r.dir, name+keySuffix) }

func (r *Ring) read(name string) (entry, error) {
	if err := checkName(name); err != nil {
		return entry{}, err
	}
	b, err := readSecretFile(r.path(name), maxKeyFile, true)
	if errors.Is(err, os.ErrNotExist) {
		return entry{}, fmt.Errorf("key %s: %w in %s; fallow keys list shows what there is", name, ErrNoKey, r.dir)
	}
	if err != nil {
		return entry{}, fmt.Errorf("key %s: %w", name, err)
	}
	e, err := parseEntry(b)
	if err != nil {
		return entry{}, fmt.Errorf("key file %s: %w", r.path(name), err)
	}
	if e.Name != name {
		return entry{}, fmt.Errorf("key file %s: it holds the key %q", r.path(name), e.Name)
	}
	return e, nil
}

func parseEntry(b []byte) (entry, error) {
	var e entry
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil {
		return e, err
	}
	if e.Version != 1 {
		return e, fmt.Errorf("version %d: this program reads 1", e.Version)
	}
	if err := checkName(e.Name); err != nil {
		return e, err
	}
	public, err := hex.DecodeString(e.Public)
	if err != nil {
		return e, fmt.Errorf("public key: %w", err)
	}
	account, err := AccountOf(public)
	if err != nil {
		return e, err
	}
	if account != e.Account {
		return e, errors.New("its address is not that of its public key")
	}
	return e, nil
}

// open unseals the secret and checks that it is the one that the file shows,
// so that an edited file cannot show an address that its key does not hold.
func (e entry) open(words string) (*Secret, error) {
	id, err := age.NewScryptIdentity(words)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", e.Name, err)
	}
	id.SetMaxWorkFactor(maxWork)
	plain, err := age.Decrypt(armor.NewReader(strings.NewReader(e.Sealed)), id)
	if err != nil {
		var mismatch *age.NoIdentityMatchError
		if errors.As(err, &mismatch) {
			return nil, fmt.Errorf("key %s: %w", e.Name, ErrPassphrase)
		}
		return nil, fmt.Errorf("key %s: %w", e.Name, err)
	}
	b, err := io.ReadAll(io.LimitReader(plain, 64))
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", e.Name, err)
	}
	s, err := SecretFrom(b)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", e.Name, err)
	}
	if s.Account() != e.Account {
		return nil, fmt.Errorf("key %s: the sealed key is not that of %s", e.Name, e.Account)
	}
	return s, nil
}

func seal(s *Secret, words string) (string, error) {
	to, err := age.NewScryptRecipient(words)
	if err != nil {
		return "", err
	}
	to.SetWorkFactor(personWork)
	if strings.HasPrefix(words, drawn) && len(words) == len(drawn)+52 {
		to.SetWorkFactor(drawnWork)
	}
	var out strings.Builder
	a := armor.NewWriter(&out)
	w, err := age.Encrypt(a, to)
	if err != nil {
		return "", err
	}
	if _, err := w.Write(s.Bytes()); err != nil {
		return "", err
	}
	if err := errors.Join(w.Close(), a.Close()); err != nil {
		return "", err
	}
	return out.String(), nil
}

func checkName(name string) error {
	ok := name != "" && len(name) <= 40
	for i, c := range []byte(name) {
		letter := 'a' <= c && c <= 'z' || '0' <= c && c <= '9'
		ok = ok && (letter || i > 0 && (c == '-' || c == '_'))
	}
	if !ok {
		return fmt.Errorf("key name %.50q: %w", name, ErrName)
	}
	return nil
}
