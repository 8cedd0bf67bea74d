package main

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cosmos/cosmos-sdk/crypto/keys/secp256k1"
	sdktypes "github.com/cosmos/cosmos-sdk/types"

	"fallow.network"
	"fallow.network/chain/app"
	"fallow.network/sdk"
)

// validatorsOnly writes a network without parties that need fallow.
func validatorsOnly(t *testing.T, dir string, more ...string) testnetFacts {
	t.Helper()
	out, errs, code := run(t, append([]string{"testnet", dir, "--json", "--hubs", "0", "--providers", "0", "--tenants", "0"}, more...)...)
	var f testnetFacts
	if err := json.Unmarshal([]byte(out), &f); err != nil || code != 0 {
		t.Fatalf("%v, code %d: %s", err, code, errs)
	}
	return f
}

// TestTestnet looks at what is written: one genesis, peers, ports, keys.
func TestTestnet(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "net")
	f := validatorsOnly(t, dir, "--first-port", "30000", "--chain-id", "fallow-many-1", "--block-time", "500ms", "--min-gas-price", "0.002ufal")
	if len(f.Validators) != 4 || f.ChainID != "fallow-many-1" {
		t.Fatalf("%+v", f)
	}
	genesis, err := os.ReadFile(f.Genesis)
	if err != nil || fallow.Sum(genesis) != f.GenesisHash {
		t.Errorf("genesis.json: %v", err)
	}
	if n := strings.Count(string(genesis), "MsgCreateValidator"); n != 4 {
		t.Errorf("%d validators in the genesis", n)
	}
	seen := map[string]bool{}
	for _, v := range f.Validators {
		own, err := os.ReadFile(filepath.Join(v.Home, "config", "genesis.json"))
		if err != nil || string(own) != string(genesis) {
			t.Errorf("%s has another genesis: %v", v.Name, err)
		}
		cfg, srv, _, err := app.ReadHome(v.Home, nil)
		if err != nil {
			t.Fatal(err)
		}
		peers := strings.Split(cfg.P2P.PersistentPeers, ",")
		if len(peers) != 3 || slices.Contains(peers, v.Address) || !strings.Contains(f.Peers, peers[0]) {
			t.Errorf("%s dials %q", v.Name, peers)
		}
		if srv.MinGasPrices != "0.002ufal" || cfg.Consensus.TimeoutCommit.String() != "500ms" || cfg.Moniker != v.Name {
			t.Errorf("%s: price %s, blocks of %s, called %s", v.Name, srv.MinGasPrices, cfg.Consensus.TimeoutCommit, cfg.Moniker)
		}
		for _, at := range []string{cfg.RPC.ListenAddress, cfg.P2P.ListenAddress, "tcp://" + srv.GRPC.Address, srv.API.Address, "tcp://" + cfg.Instrumentation.PrometheusListenAddr} {
			if seen[at] || !strings.HasPrefix(at, "tcp://127.0.0.1:30") {
				t.Errorf("%s listens on %s", v.Name, at)
			}
			seen[at] = true
		}
	}
	n, err := sdk.LoadNetwork(f.NetworkFile)
	if err != nil || n.ChainID != f.ChainID || n.Genesis != f.GenesisHash || len(n.RPC) != 4 || len(n.GRPC) != 4 {
		t.Errorf("network file: %+v, %v", n, err)
	}
	secrets := 0
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if name := d.Name(); strings.HasSuffix(name, "_key.json") || strings.HasSuffix(name, ".info") {
			if secrets++; info.Mode().Perm() != 0o600 {
				t.Errorf("%s has mode %s", path, info.Mode())
			}
		}
		return err
	})
	if err != nil || secrets != 12 {
		t.Errorf("%d secrets, %v", secrets, err)
	}
	if _, errs, code := run(t, "testnet", dir); code != exitUsage || !strings.Contains(errs, "is not empty; name another folder") {
		t.Errorf("a second one: code %d: %s", code, errs)
	}
}

// TestTestnetHosts writes homes for machines of their own.
func TestTestnetHosts(t *testing.T) {
	f := validatorsOnly(t, filepath.Join(t.TempDir(), "net"), "--validators", "2", "--hosts", "{}.example.org")
	v := f.Validators[1]
	cfg, srv, _, err := app.ReadHome(v.Home, nil)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.P2P.ExternalAddress != "validator-2.example.org:27011" || cfg.RPC.ListenAddress != "tcp://0.0.0.0:27010" || srv.API.Address != "tcp://127.0.0.1:27013" {
		t.Errorf("%s, %s, %s", cfg.P2P.ExternalAddress, cfg.RPC.ListenAddress, srv.API.Address)
	}
	if !strings.HasSuffix(cfg.P2P.PersistentPeers, "@validator-1.example.org:27001") || v.Address != v.NodeID+"@validator-2.example.org:27011" {
		t.Errorf("it dials %s and is %s", cfg.P2P.PersistentPeers, v.Address)
	}
}

func TestTestnetBadUse(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "net")
	app.SetPrefixes()
	good := sdktypes.AccAddress(secp256k1.GenPrivKeyFromSecret([]byte("a")).PubKey().Address()).String()
	t.Setenv("FALLOW", filepath.Join(dir, "no-such-program"))
	for _, test := range []struct {
		name string
		args []string
		want string
	}{
		{"no folder", nil, "name the folder"},
		{"no validator", []string{dir, "--validators", "0"}, "--validators 0: want 1 to 64"},
		{"too many", []string{dir, "--providers", "65"}, "--providers 65: want 0 to 64"},
		{"a port of the system's", []string{dir, "--first-port", "80"}, "--first-port 80: want 1024 to"},
		{"ports past the last", []string{dir, "--first-port", "65500"}, "for 7 parties"},
		{"too few hosts", []string{dir, "--hosts", "a,b"}, "--hosts names 2: want one for each of 4 validators and 1 hubs"},
		{"a host with a port", []string{dir, "--hosts", "a:1"}, "without a port"},
		{"blocks too fast", []string{dir, "--block-time", "1ms"}, "250ms to 1m"},
		{"an account without coins", []string{dir, "--account", good}, "ADDRESS=COINS"},
		{"no fallow", []string{dir}, "no-such-program"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, errs, code := run(t, append([]string{"testnet"}, test.args...)...); code != exitUsage || !strings.Contains(errs, test.want) {
				t.Errorf("code %d: %s", code, errs)
			}
		})
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("a refused testnet left a folder behind")
	}
}

// TestInitAgain makes a home whose making was cut short before its genesis.
func TestInitAgain(t *testing.T) {
	home := filepath.Join(t.TempDir(), "node")
	made := func() (f initFacts) {
		t.Helper()
		out, errs, code := run(t, "init", "--json", "--home", home)
		if err := json.Unmarshal([]byte(out), &f); err != nil || code != 0 {
			t.Fatalf("%v, code %d: %s", err, code, errs)
		}
		return f
	}
	first := made()
	if err := os.Remove(filepath.Join(home, "config", "genesis.json")); err != nil {
		t.Fatal(err)
	}
	if second := made(); second.NodeID != first.NodeID {
		t.Errorf("the node was %s and is %s", first.NodeID, second.NodeID)
	}
}
