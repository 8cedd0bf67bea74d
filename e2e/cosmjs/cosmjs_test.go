// Package cosmjs_test has a wallet's library sign and send our messages.
package cosmjs_test

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"fallow.network"
	"fallow.network/keys"
	"fallow.network/market"
	"fallow.network/receipt"
	"fallow.network/wire"
)

const chain = "fallow-cosmjs-1"

// signed is a signed message as the script reads it.
type signed struct {
	Message   []byte `json:"message"`
	Signature []byte `json:"signature"`
}

// party is a tenant and a provider who sign in one mode.
type party struct {
	Mode    string         `json:"mode"`
	Tenant  string         `json:"tenant"` // mnemonics
	Owner   string         `json:"owner"`
	Node    []byte         `json:"node"`
	Session []byte         `json:"session"`
	Lease   fallow.LeaseID `json:"lease"`
	Offer   signed         `json:"offer"`
	Voucher signed         `json:"voucher"`
	Release signed         `json:"release"`
}

func seeded(name string) ed25519.PrivateKey {
	sum := fallow.Sum([]byte(name))
	return ed25519.NewKeyFromSeed(sum[:])
}

// prepare makes a party and what is signed off the ledger for it. Leases are
// numbered from 1, so that of the first to open is known beforehand.
func prepare(t *testing.T, mode string, lease fallow.LeaseID) (party, []fallow.Account) {
	t.Helper()
	p := party{Mode: mode, Lease: lease}
	var accounts []fallow.Account
	for _, words := range []*string{&p.Tenant, &p.Owner} {
		m, err := keys.NewMnemonic()
		if err != nil {
			t.Fatal(err)
		}
		s, err := keys.Derive(m, 0)
		if err != nil {
			t.Fatal(err)
		}
		*words, accounts = m, append(accounts, s.Account())
	}
	node, session := seeded("node "+mode), seeded("session "+mode)
	nodeKey, sessionKey := wire.PublicKey(node), wire.PublicKey(session)
	p.Node, p.Session = nodeKey[:], sessionKey[:]
	must := func(b []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	sign := func(key ed25519.PrivateKey, kind string, b []byte) signed {
		s := wire.Sign(key, kind, chain, b)
		return signed{s.Message, s.Signature}
	}
	epoch := uint64(1) // of the first node key that a provider registers
	p.Offer = sign(node, market.SignsOffer, must(wire.EncodeOffer(market.Offer{
		Demand: fallow.Sum([]byte("demand")), Tenant: accounts[0], Provider: accounts[1], NodeKey: nodeKey, KeyEpoch: epoch,
		Kind: market.KindBatch, Workload: fallow.Sum([]byte("work")), Nonce: market.Nonce{1}, LastHeight: 500, Profile: "wasm/1",
		Terms: market.Terms{
			GasPrice: fallow.PicoOf(1000), Slots: 1, Slot: market.Resources{MilliCPU: 1000, Memory: 1 << 28},
			LeastSpeed: 1, UnpaidCeiling: 1000, MaxReserve: 1_000_000, ClaimWindowMS: 1000, IdleMS: 60_000,
		},
	})))
	p.Voucher = sign(session, market.SignsVoucher, must(wire.EncodeVoucher(receipt.Voucher{
		Lease: lease, Amount: fallow.Credits(1000).Pico(), ReceiptsRoot: fallow.Sum([]byte("root")), Receipts: 1,
	})))
	p.Release = sign(node, market.SignsRelease, must(wire.EncodeRelease(receipt.Release{Lease: lease, Amount: fallow.Credits(1000).Pico()})))
	return p, accounts
}

// node runs fallowd on a fresh network and returns its RPC address.
func node(t *testing.T, accounts []fallow.Account) string {
	t.Helper()
	binary := os.Getenv("FALLOWD")
	if binary == "" {
		binary = "../../build/fallowd"
	}
	if _, err := os.Stat(binary); err != nil {
		t.Fatalf("%v; run: make build", err)
	}
	home := filepath.Join(t.TempDir(), "node")
	args := []string{"init", "--home", home, "--chain-id", chain, "--block-time", "250ms"}
	for _, flag := range []string{"--rpc", "--grpc", "--p2p", "--api"} {
		args = append(args, flag, "127.0.0.1:0")
	}
	for _, a := range accounts {
		args = append(args, "--account", string(a)+"=2000000000ufal,500000000ucredit")
	}
	if out, err := exec.Command(binary, args...).CombinedOutput(); err != nil {
		t.Fatalf("init: %v\n%s", err, out)
	}
	c := exec.Command(binary, "start", "--home", home, "--ready-json")
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	var facts struct {
		Ready bool   `json:"ready"`
		RPC   string `json:"rpc"`
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &facts)
	}
	if _, _, bad := net.SplitHostPort(facts.RPC); err != nil || !facts.Ready || bad != nil {
		t.Fatalf("start: %v %v\n%s", err, bad, line)
	}
	return "http://" + facts.RPC
}

// TestCosmJS is part of make test-all: it takes packages from npm.
func TestCosmJS(t *testing.T) {
	if os.Getenv("FALLOW_LONG") == "" {
		return
	}
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%v; run: apt-get install nodejs npm", err)
		}
	}
	dir := t.TempDir()
	for _, f := range []string{"package.json", "package-lock.json", "sign.mjs"} {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, f), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	install := exec.Command("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	install.Dir = dir
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	direct, accounts := prepare(t, "direct", 1)
	amino, more := prepare(t, "amino", 2)
	protos, err := filepath.Abs("../../api/proto")
	if err != nil {
		t.Fatal(err)
	}
	task, err := json.Marshal(map[string]any{
		"rpc": node(t, append(accounts, more...)), "proto": protos, "parties": []party{direct, amino},
	})
	if err != nil {
		t.Fatal(err)
	}
	run := exec.Command("node", "sign.mjs")
	run.Dir, run.Stdin, run.Stderr = dir, bytes.NewReader(task), t.Output()
	out, err := run.Output()
	sent := 0
	for line := range bytes.Lines(out) {
		var r struct {
			Mode string `json:"mode"`
			Type string `json:"type"`
			OK   bool   `json:"ok"`
			Log  string `json:"log"`
		}
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if sent++; !r.OK {
			t.Errorf("%s %s: %s", r.Mode, r.Type, r.Log)
		}
	}
	if err != nil || sent < 30 {
		t.Errorf("%d transactions, %v", sent, err)
	}
	t.Logf("%d transactions by CosmJS", sent)
}
