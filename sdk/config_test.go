package sdk

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"fallow.network"
	"fallow.network/hub"
	"fallow.network/provider"
)

// says fails the test unless the error has every one of the words.
func says(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error; want %q", words)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("lacks %q: %v", w, err)
		}
	}
}

func put(t *testing.T, at, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestConfig(t *testing.T) {
	h := Home(t.TempDir())
	if c, err := h.Load(); err != nil || c != Default() {
		t.Errorf("a home without a file: %+v, %v", c, err)
	}
	c := Default()
	c.Account, c.AnswerWait, c.Check, c.LogFormat, c.PassphraseFile = "savings", Duration(time.Second), "own", "json", "/run/words"
	if err := h.Save(c); err != nil {
		t.Fatal(err)
	}
	if got, err := h.Load(); err != nil || got != c {
		t.Errorf("saved %+v, read %+v, %v", c, got, err)
	}
	if st, err := os.Stat(h.ConfigFile()); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the config's file: %v, %v", st, err)
	}
	c.Check = "nobody"
	says(t, h.Save(c), "check", "own", "market", "both")
	if got, _ := h.Load(); got.Check != "own" {
		t.Error("a config that is wrong was saved over one that is right")
	}

	// A field over the default, the rest stays.
	put(t, h.ConfigFile(), "answer_wait = '2s'\n")
	want := Default()
	want.AnswerWait = Duration(2 * time.Second)
	if got, err := h.Load(); err != nil || got != want {
		t.Errorf("read %+v, %v", got, err)
	}
}

// A config that is wrong says in which file, where and what is wanted.
func TestConfigErrors(t *testing.T) {
	h := Home(t.TempDir())
	for text, words := range map[string][]string{
		"account = 'main'\nacount = 'x'\n":  {"line 2, column 1", `unknown field "acount"`},
		"account = 7\n":                     {"line 1, column 11", "integer"},
		"account = 'main\n":                 {"line 1"},
		"account = ''\n":                    {"account is empty", "as main"},
		"answer_wait = 'soon'\n":            {"line 1", "soon"},
		"answer_wait = '1ms'\n":             {"answer_wait = 1ms", "20ms to 1m"},
		"answer_wait = '61s'\n":             {"20ms to 1m"},
		"gas_price = 'dear'\n":              {"gas_price", "dear"},
		"check = 'x'\nlog_level = 'loud'\n": {"check", "log_level", "debug"},
		"log_format = 'xml'\n":              {"log_format", "text", "json"},
		"[hub]\nlisten = 1\n":               {"line", "unknown field"},
	} {
		put(t, h.ConfigFile(), text)
		_, err := h.Load()
		says(t, err, append(words, h.ConfigFile())...)
	}
}

func goodNetwork() Network {
	return Network{
		Protocol: fallow.Protocol, ChainID: "test-1", Genesis: fallow.Sum([]byte("genesis")),
		RPC: []string{"http://127.0.0.1:26657", "https://rpc.example.org"}, GRPC: []string{"127.0.0.1:9090", "[::1]:9090"},
		Hubs: []string{"/ip4/127.0.0.1/tcp/4100/p2p/12D3KooWMjyRmhYvypofhqMz3TVmTBmqFGVfy88ZHXdY72bf2ogN"},
	}
}

func TestNetworkFile(t *testing.T) {
	h := Home(t.TempDir())
	if _, err := h.Network(); !errors.Is(err, ErrNotJoined) {
		t.Errorf("nothing joined: %v", err)
	}
	n := goodNetwork()
	if err := n.Save(h.NetworkFile()); err != nil {
		t.Fatal(err)
	}
	got, err := h.Network()
	if err != nil || got.Genesis != n.Genesis || len(got.RPC) != 2 || got.Hubs[0] != n.Hubs[0] {
		t.Errorf("read %+v, %v", got, err)
	}
	many := make([]string, 65)
	for words, change := range map[string]func(*Network){
		"upgrade the older":        func(n *Network) { n.Protocol = "fallow/0" },
		"chain_id":                 func(n *Network) { n.ChainID = "" },
		"1 to 50 characters":       func(n *Network) { n.ChainID = strings.Repeat("x", 51) },
		"without spaces":           func(n *Network) { n.ChainID = "a/b" },
		"genesis is missing":       func(n *Network) { n.Genesis = fallow.Digest{} },
		"at least one rpc":         func(n *Network) { n.RPC = nil },
		"one grpc":                 func(n *Network) { n.GRPC = nil },
		"more than 64":             func(n *Network) { n.Hubs = many },
		`rpc "ftp://x"`:            func(n *Network) { n.RPC[0] = "ftp://x" },
		`rpc "http://"`:            func(n *Network) { n.RPC[0] = "http://" },
		`grpc "127.0.0.1"`:         func(n *Network) { n.GRPC[0] = "127.0.0.1" },
		`hub "hub.example.org"`:    func(n *Network) { n.Hubs[0] = "hub.example.org" },
		`hub "/ip4/1.2.3.4/tcp/1"`: func(n *Network) { n.Hubs[0] = "/ip4/1.2.3.4/tcp/1" },
	} {
		n := goodNetwork()
		change(&n)
		says(t, n.Validate(), "network file: ", words)
	}
	put(t, h.NetworkFile(), strings.Repeat("#", maxNetworkFile+1))
	_, err = h.Network()
	says(t, err, h.NetworkFile(), "at most 65536")
}

// bent draws a text near a good one: pieces cut, doubled or replaced.
func bent(t *rapid.T, good string) []byte {
	b := []byte(good)
	for range rapid.IntRange(0, 6).Draw(t, "bends") {
		if len(b) == 0 {
			break
		}
		from := rapid.IntRange(0, len(b)-1).Draw(t, "from")
		to := min(len(b), from+rapid.IntRange(0, 12).Draw(t, "length"))
		with := rapid.OneOf(
			rapid.SliceOfN(rapid.Byte(), 0, 8),
			rapid.SampledFrom([][]byte{[]byte("\n"), []byte("'"), []byte("[[x]]"), []byte(" = "), []byte("[]"), []byte("{}"), []byte("-1"), []byte("1e99"), []byte("\"\"\""), []byte("\x00"), b[from:to]}),
		).Draw(t, "with")
		b = append(append(append([]byte{}, b[:from]...), with...), b[to:]...)
	}
	return b
}

// What a parser takes, its writer writes and it takes again; whatever else it
// is given, it refuses in peace.
func TestParsersTakeAnything(t *testing.T) {
	dir := t.TempDir()
	n := goodNetwork()
	if err := n.Save(filepath.Join(dir, "network.toml")); err != nil {
		t.Fatal(err)
	}
	h := Home(filepath.Join(dir, "home"))
	if err := h.Save(Default()); err != nil {
		t.Fatal(err)
	}
	if _, err := InitHub(h, DefaultHub()); err != nil {
		t.Fatal(err)
	}
	read := func(at string) string {
		b, err := os.ReadFile(at)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	networkText, configText, hubText := read(filepath.Join(dir, "network.toml")), read(h.ConfigFile()), read(h.HubFile())
	rapid.Check(t, func(t *rapid.T) {
		if n, err := ParseNetwork(bent(t, networkText)); err == nil {
			at := filepath.Join(dir, "again.toml")
			if err := n.Save(at); err != nil {
				t.Fatal(err)
			}
			if _, err := LoadNetwork(at); err != nil {
				t.Fatalf("took %+v, and then not: %v", n, err)
			}
		}
		c := Default()
		if err := ParseTOML(bent(t, configText), &c); err == nil && c.Validate() == nil {
			if err := h.Save(c); err != nil {
				t.Fatal(err)
			}
			if got, err := h.Load(); err != nil || got != c {
				t.Fatalf("saved %+v, read %+v, %v", c, got, err)
			}
		}
		_, _ = parseHub(bent(t, hubText))
	})
}

func TestHubConfig(t *testing.T) {
	h := Home(t.TempDir())
	d := DefaultHub()
	addr, err := InitHub(h, HubSettings{Listen: d.Listen, Status: d.Status})
	if err != nil || !strings.HasPrefix(addr, d.Listen[0]+"/p2p/12D3Koo") {
		t.Fatal(addr, err)
	}
	if again, err := InitHub(h, HubSettings{}); err != nil || again != addr {
		t.Errorf("a hub that stands became %s, %v", again, err)
	}
	if s, err := parseHub([]byte("listen = ['/ip4/127.0.0.1/tcp/9']\n")); err != nil || s.Limits != hub.Default() || s.Status != d.Status {
		t.Errorf("a short config: %+v, %v", s, err)
	}
	for text, words := range map[string][]string{
		"listen = []":                     {"1 to 16 multiaddrs"},
		"lissten = []":                    {"line 1", "unknown field"},
		"status = '0.0.0.0:1'":            {"loopback", "127.0.0.1:8461"},
		"status = 'x'":                    {"loopback"},
		"listen = ['/ip4/0.0.0.0/tcp/1']": {"leaves this machine", "--open"},
		"[limits]\nproviders = -1":        {"providers = -1: want 1 to"},
		"[limits]\nno_such = 1":           {"line 2", "unknown field"},
	} {
		_, err := parseHub([]byte(text))
		says(t, err, words...)
		put(t, h.HubFile(), text)
		_, err = InitHub(h, HubSettings{})
		says(t, err, h.HubFile())
	}
	open := "open = true\nlisten = ['/ip4/0.0.0.0/tcp/1']\nannounce = ['/dns4/hub.example.org/tcp/1']\n"
	put(t, h.HubFile(), open)
	if addr, err := InitHub(h, HubSettings{}); err != nil || !strings.HasPrefix(addr, "/dns4/hub.example.org/tcp/1/p2p/") {
		t.Errorf("an open hub is at %s, %v", addr, err)
	}
}

func TestDaemonsWithoutAHome(t *testing.T) {
	h := Home(t.TempDir())
	log := discard()
	says(t, ServeHub(t.Context(), h, log), "fallow hub init")
	says(t, ServeProvider(t.Context(), h, h.Ring(Default(), nil, nil), nil, log), "fallow provider init")
	if err := ServeHub(t.Context(), h, log); !errors.Is(err, ErrNoConfig) {
		t.Error(err)
	}
	if _, err := InitHub(h, DefaultHub()); err != nil {
		t.Fatal(err)
	}
	if err := ServeHub(t.Context(), h, log); !errors.Is(err, ErrNotJoined) {
		t.Errorf("a hub of no network: %v", err)
	}
	release, err := hold(filepath.Join(h.HubDir(), "hub.lock"))
	if err != nil {
		t.Fatal(err)
	}
	if err := ServeHub(t.Context(), h, log); !errors.Is(err, ErrBusy) {
		t.Errorf("a second hub: %v", err)
	}
	release()
	_, err = InitProvider(t.Context(), h, ProviderSettings{})
	says(t, err, "fallow init")
}

func TestInitProvider(t *testing.T) {
	h := Home(t.TempDir())
	owner := account(t)
	c, err := InitProvider(t.Context(), h, ProviderSettings{Owner: owner, Slots: 3, GasPrice: "0.000000004", TaskFee: "0", Region: "moon", Bond: 9, ClaimWindow: 7 * time.Second, Status: "127.0.0.1:9"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Provider != owner || c.Slots != 3 || c.Region != "moon" || c.Bond != 9 || !c.Prices.Task.IsZero() || c.Prices.MegaGas.String() != "0.000000004" || time.Duration(c.Offers.ClaimWindow) != 7*time.Second {
		t.Errorf("%+v", c)
	}
	if _, err := InitProvider(t.Context(), h, ProviderSettings{Owner: owner}); !errors.Is(err, provider.ErrExists) {
		t.Errorf("made twice: %v", err)
	}
	if again, err := provider.LoadConfig(h.ProviderFile(), h.ProviderDir()); err != nil || again.Provider != owner || again.Region != "moon" {
		t.Errorf("read %+v, %v", again, err)
	}
	_, err = InitProvider(t.Context(), Home(t.TempDir()), ProviderSettings{Owner: owner, GasPrice: "dear"})
	says(t, err, "dear")
}

func TestFindNode(t *testing.T) {
	dir := t.TempDir()
	at := filepath.Join(dir, "ledger")
	put(t, at, "#!/bin/sh\n")
	if err := os.Chmod(at, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("FALLOWD", at)
	if got, err := FindNode(); err != nil || got != at {
		t.Errorf("found %s, %v", got, err)
	}
	t.Setenv("FALLOWD", filepath.Join(dir, "none"))
	if _, err := FindNode(); err == nil {
		t.Error("found what is not there")
	}
	t.Setenv("FALLOWD", "")
	t.Setenv("PATH", dir)
	_, err := FindNode()
	says(t, err, "fallowd", "PATH")
}
