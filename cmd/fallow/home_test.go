package main

import (
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"fallow.network"
	"fallow.network/keys"
	"fallow.network/sdk"
)

// write puts a file into the test's folder.
func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	at := filepath.Join(dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return at
}

func TestInit(t *testing.T) {
	home := filepath.Join(t.TempDir(), "home")
	r := fallowIn(t, home, "", "init", "--draw-passphrase", "--json").want(t, exitOK)
	made := r.facts(t)
	if made["home"] != home || len(strings.Fields(made["mnemonic"].(string))) != 24 {
		t.Errorf("%v", made)
	}
	account := fallowIn(t, home, "", "keys", "show", "--json").want(t, exitOK).facts(t)
	if account["account"] != made["account"] || account["name"] != "main" {
		t.Errorf("%v, made %v", account, made)
	}
	has(t, fallowIn(t, home, "", "keys", "list").want(t, exitOK).out, "main", made["account"].(string), "(signs)")

	// The words alone bring the account back.
	other := filepath.Join(t.TempDir(), "other")
	fallowIn(t, other, "", "init", "--draw-passphrase").want(t, exitOK)
	back := fallowIn(t, other, made["mnemonic"].(string)+"\n", "keys", "import", "back", "--json").want(t, exitOK).facts(t)
	if back["account"] != made["account"] {
		t.Errorf("the words lead to %v, want %v", back["account"], made["account"])
	}

	// An init that was cut short goes on.
	if err := os.Remove(filepath.Join(home, "fallow.toml")); err != nil {
		t.Fatal(err)
	}
	has(t, fallowIn(t, home, "", "init", "--draw-passphrase").want(t, exitOK).out, made["account"].(string), "fallow keys export main")
	fallowIn(t, home, "", "init", "--draw-passphrase").want(t, exitBusy)

	// Nothing of it can be read by others, and no secret is printed twice.
	private(t, home)
	for _, args := range [][]string{{"keys", "list"}, {"keys", "show"}, {"doctor"}, {"keys", "list", "--json"}} {
		r := fallowIn(t, home, "", args...).want(t, exitOK)
		if strings.Contains(r.out+r.err, strings.Fields(made["mnemonic"].(string))[0]+" ") {
			t.Errorf("%v shows the words", args)
		}
	}
}

// private fails the test when anything below dir can be read by others.
func private(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(at string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 && d.Name() != "network.toml" {
			t.Errorf("%s has mode %o", at, info.Mode().Perm())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestInitWithPassphraseFile(t *testing.T) {
	dir := t.TempDir()
	home := filepath.Join(dir, "home")
	words := write(t, dir, "words", "correct horse battery\n")
	fallowIn(t, home, "", "init", "--passphrase-file", words).want(t, exitOK)
	if c, err := sdk.Home(home).Load(); err != nil || c.PassphraseFile != words {
		t.Errorf("the config remembers %q, %v", c.PassphraseFile, err)
	}
	fallowIn(t, home, "", "keys", "add", "second").want(t, exitOK)

	// Another passphrase opens nothing, and nobody is left without a hint.
	wrong := write(t, dir, "wrong", "something else\n")
	has(t, fallowIn(t, home, "", "keys", "export", "main", "--unsafe-hex", "--passphrase-file", wrong).want(t, exitUsage).err, "wrong passphrase")
	has(t, fallowIn(t, filepath.Join(dir, "new"), "", "init").want(t, exitUsage).err, "--passphrase-file FILE", "--draw-passphrase")
	short := write(t, dir, "short", "abc\n")
	has(t, fallowIn(t, filepath.Join(dir, "new"), "", "init", "--passphrase-file", short).want(t, exitUsage).err, "8 to 1024")
	if err := os.Chmod(words, 0o644); err != nil {
		t.Fatal(err)
	}
	has(t, fallowIn(t, home, "", "keys", "export", "main", "--unsafe-hex").want(t, exitUsage).err, "chmod 600")
}

// A key leaves as armour or hex, to a file or the terminal, and comes back.
func TestKeysRoundTrip(t *testing.T) {
	from, to, dir := made(t), made(t), t.TempDir()
	account := fallowIn(t, from, "", "keys", "show", "main", "--json").want(t, exitOK).facts(t)["account"]

	armoured := fallowIn(t, from, "seal it well\n", "keys", "export", "main").want(t, exitOK).out
	has(t, armoured, "-----BEGIN TENDERMINT PRIVATE KEY-----", "kdf: argon2")
	file := write(t, dir, "key.asc", armoured)
	has(t, fallowIn(t, to, "seal it badly\n", "keys", "import", "a", file).want(t, exitUsage).err, "wrong passphrase")
	has(t, fallowIn(t, to, armoured, "keys", "import", "a").want(t, exitUsage).err, "no passphrase on standard input", "as FILE")
	has(t, fallowIn(t, from, "", "keys", "export", "main").want(t, exitUsage).err, "no passphrase on standard input")
	if got := fallowIn(t, to, "seal it well\n", "keys", "import", "a", file, "--json").want(t, exitOK).facts(t); got["account"] != account {
		t.Errorf("armour brought %v, want %v", got, account)
	}
	has(t, fallowIn(t, to, "seal it well\n", "keys", "import", "b", file).want(t, exitUsage).err, "exists", "as a")
	fallowIn(t, to, "", "keys", "delete", "a", "--yes").want(t, exitOK)

	plain := filepath.Join(dir, "key.hex")
	r := fallowIn(t, from, "", "keys", "export", "main", "--unsafe-hex", "-o", plain).want(t, exitOK)
	has(t, r.out, "exported main to "+plain)
	private(t, plain)
	b, err := os.ReadFile(plain)
	if err != nil {
		t.Fatal(err)
	}
	if raw, err := hex.DecodeString(strings.TrimSpace(string(b))); err != nil || len(raw) != 32 || strings.Contains(r.out, strings.TrimSpace(string(b))) {
		t.Errorf("exported %q, printed %q", b, r.out)
	}
	has(t, fallowIn(t, from, "", "keys", "export", "main", "--unsafe-hex", "-o", plain).want(t, exitUsage).err, "does not exist yet")
	has(t, fallowIn(t, to, "", "keys", "import", "a", plain).want(t, exitOK).out, account.(string))
	has(t, fallowIn(t, to, "", "keys", "show", account.(string)).want(t, exitOK).out, "name        a")

	for _, bad := range []string{"", "neither words nor hex", strings.Repeat("f", 63), strings.Repeat("0", 64), strings.Repeat("abandon ", 24), "-----BEGIN PGP MESSAGE-----\n\nzz\n-----END PGP MESSAGE-----"} {
		fallowIn(t, to, bad, "keys", "import", "bad").want(t, exitUsage)
	}
	for _, left := range []string{"main", "a"} {
		fallowIn(t, to, "", "keys", "delete", left, "--yes").want(t, exitOK)
	}
	if r := fallowIn(t, to, "", "keys", "list", "--json").want(t, exitOK); strings.TrimSpace(r.out) != "[]" {
		t.Errorf("no keys are %s", r.out)
	}
	has(t, fallowIn(t, to, "", "keys", "list").want(t, exitOK).out, "fallow init")
}

// network is a network file whose ledger nobody runs.
func network(t *testing.T) sdk.Network {
	t.Helper()
	return sdk.Network{
		Protocol: fallow.Protocol, ChainID: "test-1", Genesis: fallow.Sum([]byte("genesis")),
		RPC: []string{"http://127.0.0.1:1"}, GRPC: []string{"127.0.0.1:1"},
		Hubs: []string{"/ip4/127.0.0.1/tcp/1/p2p/12D3KooWMjyRmhYvypofhqMz3TVmTBmqFGVfy88ZHXdY72bf2ogN"},
	}
}

func TestJoin(t *testing.T) {
	home, dir := made(t), t.TempDir()
	n := network(t)
	file := filepath.Join(dir, "network.toml")
	if err := n.Save(file); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	has(t, fallowIn(t, home, "", "join", file).want(t, exitOK).out, "joined test-1: 1 hub")
	if got, err := sdk.Home(home).Network(); err != nil || got.Genesis != n.Genesis || got.Hubs[0] != n.Hubs[0] {
		t.Errorf("joined %+v, %v", got, err)
	}
	fallowIn(t, home, "", "join", file).want(t, exitOK) // again: endpoints may have changed

	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/network.toml" {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(text)
	}))
	defer web.Close()
	fresh := filepath.Join(t.TempDir(), "fresh")
	has(t, fallowIn(t, fresh, "", "join", web.URL+"/network.toml").want(t, exitOK).out, "fallow init")
	has(t, fallowIn(t, fresh, "", "join", web.URL+"/nothing").want(t, exitUsage).err, "404")

	// Another network by the same name is another network.
	n.Genesis = fallow.Sum([]byte("other"))
	if err := n.Save(file); err != nil {
		t.Fatal(err)
	}
	has(t, fallowIn(t, home, "", "join", file).want(t, exitBusy).err, "has joined test-1 already", "--home DIR")

	for _, c := range []struct{ old, new, says string }{
		{`fallow/\d+`, "fallow/99", "upgrade the older"},
		{`test-1`, "a b", "chain_id"},
		{`sha256:[0-9a-f]+`, "sha256:12", "line 3"},
		{`sha256:[0-9a-f]+`, "", "line 3"},
		{`(?m)^genesis.*$`, "", "genesis is missing"},
		{`http:`, "ftp:", "http://"},
		{`/p2p/[^']*`, "/x", "multiaddr"},
		{`chain_id`, "chain", "unknown field"},
		{`(?m)^rpc = .*$`, "rpc = []", "at least one rpc"},
		{`$`, strings.Repeat("# long\n", 10_000), "at most 65536"},
		{`'`, "", "line 1"},
	} {
		at := write(t, dir, "bad.toml", regexp.MustCompile(c.old).ReplaceAllString(string(text), c.new))
		has(t, fallowIn(t, filepath.Join(dir, "bad"), "", "join", at).want(t, exitUsage).err, "bad.toml", c.says)
	}
}

func TestDoctor(t *testing.T) {
	home := made(t)
	text := fallowIn(t, home, "", "doctor").want(t, exitOK).out
	has(t, text, "processor", "memory", "disk", "WASM tasks", "1 in "+home, "none joined")
	if err := network(t).Save(sdk.Home(home).NetworkFile()); err != nil {
		t.Fatal(err)
	}
	has(t, fallowIn(t, home, "", "doctor").want(t, exitOK).out, "network test-1", "does not answer", "fallow up")
	var facts struct {
		Machine  map[string]any `json:"machine"`
		Findings []finding      `json:"findings"`
	}
	if err := json.Unmarshal([]byte(fallowIn(t, home, "", "doctor", "--json").want(t, exitOK).out), &facts); err != nil {
		t.Fatal(err)
	}
	for _, f := range facts.Findings {
		if f.What == "" || f.Found == "" || f.State != "yes" && f.State != "partly" && f.State != "no" {
			t.Errorf("%+v", f)
		}
	}
	write(t, home, "fallow.toml", "account = 'main'\nlog_lvl = 'info'\n")
	has(t, fallowIn(t, home, "", "doctor").want(t, exitOK).out, "line 2", `unknown field "log_lvl"`)
}

// Where the ledger is away, verbs that need it say so with a code of their own.
func TestAway(t *testing.T) {
	home := made(t)
	if err := network(t).Save(sdk.Home(home).NetworkFile()); err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{"balance", "status", "deposit 1", "withdraw all", "lease ls", "provider bond 1", "hub status"} {
		r := fallowIn(t, home, "", strings.Fields(args)...).want(t, exitAway)
		has(t, r.err, "does not answer")
		if strings.Contains(r.err, "rpc error") || strings.Contains(r.err, "transport") {
			t.Errorf("%s speaks to programmers: %s", args, r.err)
		}
	}
}

func TestProviderAndHubInit(t *testing.T) {
	home := made(t)
	p := fallowIn(t, home, "", "provider", "init", "--region", "eu-west", "--slots", "2", "--gas-price", "0.000000004", "--task-fee", "0", "--bond", "7", "--json").want(t, exitOK).facts(t)
	if p["region"] != "eu-west" || p["slots"] != 2.0 || p["bond"] != 7.0 || p["prices"].(map[string]any)["task"] != "0" {
		t.Errorf("%v", p)
	}
	has(t, fallowIn(t, home, "", "provider", "init").want(t, exitBusy).err, "provider.toml", "move it away")
	h := fallowIn(t, home, "", "hub", "init", "--listen", "/ip4/127.0.0.1/tcp/4100", "--json").want(t, exitOK).facts(t)
	has(t, h["addr"].(string), "/ip4/127.0.0.1/tcp/4100/p2p/12D3Koo")
	if again := fallowIn(t, home, "", "hub", "init", "--json").want(t, exitOK).facts(t); again["addr"] != h["addr"] {
		t.Errorf("a hub's address became %v, was %v", again["addr"], h["addr"])
	}
	private(t, home)
	write(t, home, "hub.toml", "listen = []\n")
	has(t, fallowIn(t, home, "", "hub", "init").want(t, exitUsage).err, "hub.toml", "1 to 16 multiaddrs")

	// With an owner elsewhere the home's key is an operator's.
	owner, err := keys.NewMnemonic()
	if err != nil {
		t.Fatal(err)
	}
	s, err := keys.ParseSecret(owner, nil)
	if err != nil {
		t.Fatal(err)
	}
	machine := made(t)
	p = fallowIn(t, machine, "", "provider", "init", "--owner", string(s.Account()), "--json").want(t, exitOK).facts(t)
	if p["provider"] != string(s.Account()) {
		t.Errorf("paid to %v, want %s", p["provider"], s.Account())
	}
}

// A home that nobody made takes the local network's tenant; one that somebody
// made is itself.
func TestWhichHome(t *testing.T) {
	base := t.TempDir()
	t.Setenv("FALLOW_HOME", base)
	a := &app{}
	is := func(want string) {
		t.Helper()
		if h, err := a.homeDir(); err != nil || string(h) != want {
			t.Errorf("home %s, %v; want %s", h, err, want)
		}
	}
	is(base)
	tenant := filepath.Join(base, "local", "tenant")
	if err := network(t).Save(sdk.Home(tenant).NetworkFile()); err != nil {
		t.Fatal(err)
	}
	is(tenant)
	a.home = t.TempDir()
	is(a.home)
	a.home = ""
	fallowIn(t, base, "", "init", "--draw-passphrase").want(t, exitOK)
	is(base)
	t.Setenv("FALLOW_HOME", "here")
	if h, err := a.homeDir(); err != nil || !filepath.IsAbs(string(h)) {
		t.Errorf("home %s, %v: want it absolute", h, err)
	}
}
