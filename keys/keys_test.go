package keys

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"fallow.network"
)

// Vectors written by cosmos-sdk v0.55.0 (crypto/hd, crypto/keys/secp256k1 and
// crypto.EncryptArmorPrivKey); the address is the well-known
// cosmos19rl4cm2hmr8afy4kldpxz3fka4jguq0auqdal4.
const (
	abandon   = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about"
	wantHex   = "c4a48e2fce1481cd3294b4490f6678090ea98d3d0e5cd984558ab0968741b104"
	wantPub   = "024f4e2ad99c34d60b9ba6283c9431a8418af8673212961f97a77b6377fcd05b62"
	wantAddr  = "28ff5c6d57d8cfd492b6fb42614536ed648e01fd"
	wantAddr1 = "90edb6e1c8016bcef766d0ba657f9977ee9f72b6"
	wantSig   = "609eb21370b76ed4d8a308ad0d88bb97a02cbd8c8266641308ef54fb71dc4668494921721fb8c7aa65aa1f3a224529ee45fcda20915ab2803eef874b5225b0c4"
	sdkArmor  = `-----BEGIN TENDERMINT PRIVATE KEY-----
kdf: argon2
salt: C055C1972B1183FAD357981FB58FA258
type: secp256k1

VIQDg8CxVtL/xgt8S/MNRRvtjsMzrYZEgg9Vl9512vD0I+CZxkzuk73V+kMzl1Sm
bAE9OKo=
=xsSn
-----END TENDERMINT PRIVATE KEY-----`
)

func TestVectors(t *testing.T) {
	s, err := Derive(abandon, 0)
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(s.Bytes()); got != wantHex {
		t.Errorf("private key %s", got)
	}
	if got := hex.EncodeToString(s.Public()); got != wantPub {
		t.Errorf("public key %s", got)
	}
	b, err := AccountBytes(s.Account())
	if err != nil || hex.EncodeToString(b) != wantAddr {
		t.Errorf("address %x, %v", b, err)
	}
	if got := string(s.Account()); !strings.HasPrefix(got, "fal19rl4cm2hmr8afy4kldpxz3fka4jguq0a") {
		t.Errorf("account %s", got)
	}
	sig, err := s.Sign([]byte("a document"))
	if err != nil || hex.EncodeToString(sig) != wantSig {
		t.Errorf("signature %x, %v", sig, err)
	}
	if !Verify(s.Public(), []byte("a document"), sig) || Verify(s.Public(), []byte("another"), sig) {
		t.Error("verification is wrong")
	}
	s1, err := Derive(strings.ToUpper("  "+abandon+"\n"), 1)
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := AccountBytes(s1.Account()); hex.EncodeToString(b) != wantAddr1 {
		t.Errorf("address 1: %x", b)
	}
}

func TestSignIsLow(t *testing.T) {
	s, err := NewSecret()
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		doc := rapid.SliceOf(rapid.Byte()).Draw(t, "doc")
		sig, err := s.Sign(doc)
		if err != nil || len(sig) != SignatureSize || sig[32] >= 0x80 {
			t.Fatalf("signature %x, %v", sig, err)
		}
		if !Verify(s.Public(), doc, sig) {
			t.Fatal("does not verify")
		}
	})
}

func TestSession(t *testing.T) {
	s, err := Derive(abandon, 0)
	if err != nil {
		t.Fatal(err)
	}
	a, err := s.Session([]byte("0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	again, _ := s.Session([]byte("0123456789abcdef"))
	other, _ := s.Session([]byte("0123456789abcdeg"))
	if !a.Equal(again) || a.Equal(other) {
		t.Error("a session key is a function of client key and nonce")
	}
	if !ed25519.Verify(a.Public().(ed25519.PublicKey), []byte("x"), ed25519.Sign(a, []byte("x"))) {
		t.Error("not an Ed25519 key")
	}
}

func TestParseAccount(t *testing.T) {
	s, err := Derive(abandon, 0)
	if err != nil {
		t.Fatal(err)
	}
	good := string(s.Account())
	for _, in := range []string{good, strings.ToUpper(good), " " + good + "\n"} {
		if a, err := ParseAccount(in); err != nil || a != s.Account() {
			t.Errorf("%q: %s, %v", in, a, err)
		}
	}
	typo := []byte(good)
	typo[10] ^= 1
	for in, want := range map[string]string{
		"":           "empty",
		"bob":        "begin with fal1",
		string(typo): "",
		good[:20]:    "checksum",
		"cosmos19rl4cm2hmr8afy4kldpxz3fka4jguq0auqdal4": "another network (cosmos)",
		strings.Repeat("fal1", 50):                      "too long",
		good[:8] + "A" + good[9:]:                       "",
	} {
		_, err := ParseAccount(in)
		if !errors.Is(err, ErrAddress) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", in, err, want)
		}
	}
}

func TestParseSecret(t *testing.T) {
	none := func() (string, error) { return "", ErrNoPassphrase }
	phrase := func(p string) func() (string, error) { return func() (string, error) { return p, nil } }
	for name, c := range map[string]struct {
		text string
		ask  func() (string, error)
		want string // of the error; empty for success
	}{
		"mnemonic":        {abandon, none, ""},
		"hex":             {wantHex, none, ""},
		"hex with 0x":     {"0x" + wantHex + "\n", none, ""},
		"armoured":        {sdkArmor, phrase("correct horse"), ""},
		"wrong words":     {sdkArmor, phrase("wrong"), "wrong passphrase"},
		"no words":        {sdkArmor, none, "no passphrase"},
		"nothing":         {" ", none, "nothing was given"},
		"few words":       {"abandon about", none, "2 words"},
		"unknown word":    {strings.Replace(abandon, "about", "fallow", 1), none, `word 12, "fallow"`},
		"checksum":        {strings.Replace(abandon, "about", "zoo", 1), none, "checksum"},
		"short hex":       {wantHex[:62], none, "31 bytes"},
		"not hex":         {"zz" + wantHex[2:], none, "64 hex digits"},
		"zero":            {strings.Repeat("0", 64), none, "curve"},
		"above the order": {strings.Repeat("f", 64), none, "curve"},
		"other block":     {strings.ReplaceAll(sdkArmor, "PRIVATE", "PUBLIC"), none, "PUBLIC KEY"},
		"bcrypt":          {strings.Replace(sdkArmor, "argon2", "bcrypt", 1), none, "export it as hex"},
		"no salt":         {strings.Replace(sdkArmor, "salt: C0", "salt: Z0", 1), none, "salt"},
		"huge":            {strings.Repeat("a ", maxArmor), none, "at most"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := ParseSecret(c.text, c.ask)
			if c.want == "" {
				if err != nil || hex.EncodeToString(s.Bytes()) != wantHex {
					t.Errorf("got %v", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestArmorRoundTrip(t *testing.T) {
	s, err := NewSecret()
	if err != nil {
		t.Fatal(err)
	}
	text, err := s.Armor("correct horse")
	if err != nil {
		t.Fatal(err)
	}
	back, err := ParseSecret(text, func() (string, error) { return "correct horse", nil })
	if err != nil || !bytes.Equal(back.Bytes(), s.Bytes()) {
		t.Errorf("got %v", err)
	}
	if _, err := s.Armor(""); err == nil {
		t.Error("sealed under nothing")
	}
}

func fixed(words string) Passphrase { return func(bool) (string, error) { return words, nil } }

func TestRing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	r := OpenRing(dir, fixed("correct horse"))
	if all, err := r.List(); err != nil || len(all) != 0 {
		t.Fatalf("empty ring: %v, %v", all, err)
	}
	k, words, err := r.Create("tenant")
	if err != nil || len(strings.Fields(words)) != 24 || k.Path != "m/44'/118'/0'/0/0" {
		t.Fatalf("create: %+v, %v", k, err)
	}
	known, err := r.Import("known", abandon, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Import("known", wantHex, nil); !errors.Is(err, ErrExists) {
		t.Errorf("same name: %v", err)
	}
	if _, err := r.Import("twin", wantHex, nil); !errors.Is(err, ErrExists) {
		t.Errorf("same account: %v", err)
	}
	if _, err := r.Import("../x", wantHex, nil); err == nil {
		t.Error("a name left the folder")
	}

	// Another process sees the same, without the passphrase until it signs.
	locked := OpenRing(dir, func(bool) (string, error) { return "", ErrNoPassphrase })
	all, err := locked.List()
	if err != nil || len(all) != 2 || all[0] != known || all[1] != k {
		t.Fatalf("list: %+v, %v", all, err)
	}
	if got, err := locked.Show(string(k.Account)); err != nil || got != k {
		t.Errorf("show by address: %+v, %v", got, err)
	}
	if _, err := locked.Secret("tenant"); !errors.Is(err, ErrNoPassphrase) {
		t.Errorf("locked: %v", err)
	}
	s, err := OpenRing(dir, fixed("correct horse")).Secret("tenant")
	if err != nil || s.Account() != k.Account {
		t.Fatalf("secret: %v", err)
	}
	fromWords, err := Derive(words, 0)
	if err != nil || !bytes.Equal(fromWords.Bytes(), s.Bytes()) {
		t.Errorf("the mnemonic does not lead back: %v", err)
	}
	wrong := OpenRing(dir, fixed("wrong horse"))
	if _, err := wrong.Secret("tenant"); !errors.Is(err, ErrPassphrase) {
		t.Errorf("wrong passphrase: %v", err)
	}
	if _, _, err := wrong.Create("second"); !errors.Is(err, ErrPassphrase) {
		t.Errorf("two passphrases in one ring: %v", err)
	}
	info, err := os.Stat(filepath.Join(dir, "tenant.key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := r.Delete("tenant"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Secret("tenant"); !errors.Is(err, ErrNoKey) {
		t.Errorf("deleted: %v", err)
	}
	if err := r.Delete("tenant"); !errors.Is(err, ErrNoKey) {
		t.Errorf("deleted twice: %v", err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestRingRefusesEditedFiles(t *testing.T) {
	dir := t.TempDir()
	r := OpenRing(dir, fixed("correct horse"))
	if _, err := r.Import("a", abandon, nil); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Create("b"); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "a.key")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.ReadFile(filepath.Join(dir, "b.key"))
	if err != nil {
		t.Fatal(err)
	}
	sealed := func(b []byte) string { return string(b[bytes.Index(b, []byte(`"sealed"`)):]) }
	for name, b := range map[string]string{
		"renamed":        string(other),
		"truncated":      string(whole[:100]),
		"another secret": strings.Replace(string(whole), sealed(whole), sealed(other), 1),
		"another address": strings.Replace(string(whole), wantPub,
			"024f4e2ad99c34d60b9ba6283c9431a8418af8673212961f97a77b6377fcd05b63", 1),
		"unknown field": strings.Replace(string(whole), `"version"`, `"evil": 1, "version"`, 1),
		"newer":         strings.Replace(string(whole), `"version": 1`, `"version": 2`, 1),
	} {
		if err := os.WriteFile(path, []byte(b), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Secret("a"); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Secret("a"); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("open to others: %v", err)
	}
}

func TestPassphrases(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "home", "passphrase")
	if err := WritePassphrase(file); err != nil {
		t.Fatal(err)
	}
	words, err := FromFile(file)(false)
	if err != nil || len(words) < 60 {
		t.Fatalf("%q, %v", words, err)
	}
	if err := WritePassphrase(file); err != nil {
		t.Fatal(err)
	}
	if again, _ := FromFile(file)(false); again != words {
		t.Error("an existing passphrase was replaced")
	}
	t.Setenv(PassphraseVariable, "")
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	if _, err := Find("", nil, nil)(false); !errors.Is(err, ErrNoPassphrase) {
		t.Errorf("nowhere: %v", err)
	}
	credentials := filepath.Join(dir, "credentials")
	if err := os.MkdirAll(credentials, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", credentials)
	if _, err := Find("", nil, nil)(false); !errors.Is(err, ErrNoPassphrase) {
		t.Errorf("no credential: %v", err)
	}
	if err := os.WriteFile(filepath.Join(credentials, PassphraseCredential), []byte("from systemd\n"), 0o440); err != nil {
		t.Fatal(err)
	}
	if p, err := Find("", nil, nil)(false); err != nil || p != "from systemd" {
		t.Errorf("credential: %q, %v", p, err)
	}
	t.Setenv(PassphraseVariable, file)
	if p, err := Find("", nil, nil)(false); err != nil || p != words {
		t.Errorf("variable: %q, %v", p, err)
	}
	short := filepath.Join(dir, "short")
	if err := os.WriteFile(short, []byte("1234\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Find(short, nil, nil)(false); err == nil || !strings.Contains(err.Error(), "want 8") {
		t.Errorf("short: %v", err)
	}
	if err := os.Chmod(short, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := FromFile(short)(false); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("open to others: %v", err)
	}
	if _, err := FromFile(filepath.Join(dir, "none"))(false); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

func TestNode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "home", "node.key")
	n, err := OpenNode(path)
	if err != nil {
		t.Fatal(err)
	}
	n.Epoch = 7
	if err := n.Save(path); err != nil {
		t.Fatal(err)
	}
	again, err := OpenNode(path)
	if err != nil || again.Key() != n.Key() || again.Epoch != 7 {
		t.Fatalf("%+v, %v", again, err)
	}
	next, err := RotateNode(path)
	if err != nil || next.Key() == n.Key() || next.Epoch != 0 {
		t.Fatalf("rotate: %v", err)
	}
	old, err := OpenNode(path + ".old")
	if err != nil || old.Key() != n.Key() {
		t.Errorf("the old key is lost: %v", err)
	}
	if err := os.Chmod(path, 0o604); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenNode(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("open to others: %v", err)
	}
}

func FuzzParseSecret(f *testing.F) {
	for _, s := range []string{abandon, wantHex, "0x" + wantHex, sdkArmor, "", "zoo zoo", "-----BEGIN"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.HasPrefix(strings.TrimSpace(text), "-----BEGIN") {
			k, err := parseArmor(text) // opening costs 64 MiB: not here
			if err == nil && len(k.salt) < 8 {
				t.Error("a salt of no use")
			}
			return
		}
		s, err := ParseSecret(text, nil)
		if err == nil && (len(s.Bytes()) != 32 || len(s.Account()) < 40) {
			t.Errorf("%q gave a key of no use", text)
		}
	})
}

func FuzzParseAccount(f *testing.F) {
	s, err := Derive(abandon, 0)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(s.Account()))
	f.Add("fal1")
	f.Fuzz(func(t *testing.T, text string) {
		a, err := ParseAccount(text)
		if err != nil {
			return
		}
		if again, err := ParseAccount(string(a)); err != nil || again != a {
			t.Errorf("%q: %s does not read back: %v", text, a, err)
		}
	})
}

func FuzzParseFiles(f *testing.F) {
	n, err := OpenNode(filepath.Join(f.TempDir(), "n"))
	if err != nil {
		f.Fatal(err)
	}
	b, err := n.file()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"version":1,"name":"a","account":"fal1","public_key":"02","sealed":""}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, err := parseNode(b); err == nil && n.Key() == (fallow.Key{}) {
			t.Error("a node key of zeros")
		}
		if e, err := parseEntry(b); err == nil && e.Account == "" {
			t.Error("a key without an account")
		}
	})
}

func BenchmarkUnlock(b *testing.B) {
	for name, words := range map[string]string{"person": "correct horse", "drawn": drawn + strings.Repeat("a", 52)} {
		r := OpenRing(b.TempDir(), fixed(words))
		if _, err := r.Import("a", abandon, nil); err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := r.Secret("a"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
