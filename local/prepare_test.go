package local

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"fallow.network/sdk"
)

// TestMain stands in for the ledger's binary: it founds a ledger whose genesis is
// the list of who has coins.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "init" {
		if err := fakeInit(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func fakeInit(args []string) error {
	var home string
	var accounts []string
	for i, a := range args {
		switch a {
		case "--home":
			home = args[i+1]
		case "--account":
			accounts = append(accounts, args[i+1])
		}
	}
	if _, err := os.Stat(home); err == nil {
		return fmt.Errorf("%s stands already", home)
	}
	text := strings.Join(accounts, "\n")
	if err := os.MkdirAll(home, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(home, "genesis"), []byte(text), 0o600); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]string{"genesis_hash": fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(text)))})
}

func testConfig(t *testing.T, dir string) Config {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := Default(dir)
	c.Fallow, c.Node, c.Hubs, c.Providers = self, self, 2, c.Providers[:2]
	return c
}

func testPrepare(t *testing.T, dir string) (Config, sdk.Network) {
	t.Helper()
	c := testConfig(t, dir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	p, err := c.loadPorts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.release)
	n, err := c.prepare(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	return c, n
}

// written is every file of a network in the order in which prepare writes them.
func written() []string {
	files := []string{"ports.toml"}
	for _, p := range []string{"tenant", "provider-1", "provider-2"} {
		files = append(files, p+"/passphrase", p+"/keys/main.key", p+"/fallow.toml")
	}
	files = append(files, "hub-1/hub.toml", "hub-1/hub/node.key", "hub-2/hub.toml", "hub-2/hub/node.key", "node/genesis", "genesis.digest")
	for _, p := range []string{"provider-1", "provider-2"} {
		files = append(files, p+"/provider.toml", p+"/provider/node.key")
	}
	for _, p := range []string{"", "tenant/", "hub-1/", "hub-2/", "provider-1/", "provider-2/"} {
		files = append(files, p+"network.toml")
	}
	return files
}

// check sees that what stands fits together.
func check(t *testing.T, c Config, n sdk.Network) {
	t.Helper()
	genesis, err := os.ReadFile(filepath.Join(c.Dir, "node", "genesis"))
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("sha256:%x", sha256.Sum256(genesis)); n.Genesis.String() != got {
		t.Errorf("the network's genesis is %s, the node's %s", n.Genesis, got)
	}
	for _, name := range []string{"tenant", "provider-1", "provider-2"} {
		h := c.home(name)
		s, err := h.Account(sdk.Default(), nil, io.Discard)
		if err != nil {
			t.Errorf("%s can't be unlocked: %v", name, err)
			continue
		}
		if !strings.Contains(string(genesis), string(s.Account())+"=") {
			t.Errorf("%s has no coins", name)
		}
	}
	for i := range c.Hubs {
		addr, err := sdk.InitHub(c.home(c.hubName(i)), sdk.HubSettings{})
		if err != nil || n.Hubs[i] != addr {
			t.Errorf("hub %d is %s, %v; the network has %s", i+1, addr, err, n.Hubs[i])
		}
	}
	for _, name := range []string{"", "tenant", "hub-1", "hub-2", "provider-1", "provider-2"} {
		if got, err := c.home(name).Network(); err != nil || !reflect.DeepEqual(got, n) {
			t.Errorf("%q has joined %+v, %v; want %+v", name, got, err, n)
		}
	}
}

func filesOf(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(at string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, at)
		all = append(all, filepath.ToSlash(name))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// A crash after any file leaves what the next start goes on from: nobody gets
// another key, and whoever has coins can spend them.
func TestPrepareAfterACrash(t *testing.T) {
	whole := t.TempDir()
	c, n := testPrepare(t, whole)
	check(t, c, n)
	order, have := written(), filesOf(t, whole)
	if want := slices.Sorted(slices.Values(order)); !slices.Equal(slices.Sorted(slices.Values(have)), want) {
		t.Fatalf("wrote %q\nwant %q", have, want)
	}
	for k := range len(order) + 1 {
		dir := t.TempDir()
		kept := map[string]string{}
		for _, name := range order[:k] {
			b, err := os.ReadFile(filepath.Join(whole, name))
			if err != nil {
				t.Fatal(err)
			}
			at := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(at, b, 0o600); err != nil {
				t.Fatal(err)
			}
			kept[name] = string(b)
		}
		c, n := testPrepare(t, dir)
		check(t, c, n)
		for name, text := range kept {
			b, err := os.ReadFile(filepath.Join(dir, name))
			if remade := k <= slices.Index(order, "genesis.digest") && name == "node/genesis"; err != nil || !remade && string(b) != text {
				t.Errorf("after %d files, %s became other: %v", k, name, err)
			}
		}
		if _, again := testPrepare(t, dir); !reflect.DeepEqual(again, n) {
			t.Errorf("after %d files: %+v, and again %+v", k, n, again)
		}
		if t.Failed() {
			t.Fatalf("a crash after %d files, the last of them %q", k, append([]string{"none"}, order...)[k])
		}
	}
}

// No secret can be read by others, none stands in a config or on a command line.
func TestNothingIsOpen(t *testing.T) {
	dir := t.TempDir()
	c, _ := testPrepare(t, filepath.Join(dir, "net"))
	err := filepath.WalkDir(c.Dir, func(at string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		switch {
		case d.IsDir():
			want = 0o700
		case d.Name() == "network.toml": // meant for everybody
			want = 0o644
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %o, want %o", at, info.Mode().Perm(), want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var secrets []string
	for _, name := range []string{"tenant", "provider-1"} {
		b, err := os.ReadFile(c.home(name).PassphraseFile())
		if err != nil {
			t.Fatal(err)
		}
		s, err := c.home(name).Account(sdk.Default(), nil, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, strings.TrimSpace(string(b)), fmt.Sprintf("%x", s.Bytes()))
	}
	for _, name := range filesOf(t, c.Dir) {
		b, err := os.ReadFile(filepath.Join(c.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range secrets {
			if strings.Contains(string(b), s) && filepath.Base(name) != "passphrase" {
				t.Errorf("%s shows a secret", name)
			}
		}
	}
	u := up{Config: c}
	for _, p := range []party{u.verb("hub-1", "hub", "start"), u.verb("provider-1", "provider", "start")} {
		for _, s := range secrets {
			if strings.Contains(strings.Join(p.argv, " "), s) {
				t.Errorf("%s is started with a secret: %q", p.name, p.argv)
			}
		}
	}
}
