package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"cosmossdk.io/log/v2"
	dbm "github.com/cosmos/cosmos-db"
	clienttx "github.com/cosmos/cosmos-sdk/client/tx"
	"github.com/cosmos/cosmos-sdk/crypto/keys/secp256k1"
	sdk "github.com/cosmos/cosmos-sdk/types"
	"github.com/cosmos/cosmos-sdk/types/tx/signing"
	authsigning "github.com/cosmos/cosmos-sdk/x/auth/signing"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"fallow.network"
	leaseapi "fallow.network/api/chain/lease"
	leasev1 "fallow.network/api/lease"
	"fallow.network/chain/app"
)

// asProgram makes this test binary the program itself.
const asProgram = "FALLOWD_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// run runs the program in this process.
func run(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	code = doMain(args, strings.NewReader(""), &out, &errs)
	return out.String(), errs.String(), code
}

func TestVersion(t *testing.T) {
	out, _, code := run(t, "version", "--json")
	var v versionFacts
	if err := json.Unmarshal([]byte(out), &v); err != nil || code != 0 || v.Protocol != fallow.Protocol || v.Version == "" {
		t.Errorf("%v, code %d: %s", err, code, out)
	}
	if out, _, code := run(t, "version"); code != 0 || !strings.HasPrefix(out, "fallowd ") {
		t.Errorf("code %d: %s", code, out)
	}
}

func TestBadUse(t *testing.T) {
	dir := t.TempDir()
	good := sdk.AccAddress(secp256k1.GenPrivKeyFromSecret([]byte("a")).PubKey().Address())
	app.SetPrefixes()
	tests := []struct {
		name string
		args []string
		want string
		code int
	}{
		{"no such flag", []string{"start", "--nope"}, "unknown flag", exitUsage},
		{"no home", []string{"start", "--home", filepath.Join(dir, "none")}, "fallowd init --home", exitUsage},
		{"status of no home", []string{"status", "--home", filepath.Join(dir, "none")}, "holds no node", exitUsage},
		{"audit of no home", []string{"audit", "--home", filepath.Join(dir, "none")}, "holds no node", exitUsage},
		{"nobody answers", []string{"status", "--rpc", "127.0.0.1:1"}, "is fallowd start running?", exitAway},
		{"blocks too fast", []string{"init", "--home", dir, "--block-time", "249ms"}, "250ms to 1m", exitUsage},
		{"no account", []string{"init", "--home", dir, "--account", "fal1qqq=5ufal"}, "fal1qqq", exitUsage},
		{"no coins", []string{"init", "--home", dir, "--account", good.String()}, "ADDRESS=COINS", exitUsage},
		{"negative coins", []string{"init", "--home", dir, "--account", good.String() + "=-5ufal"}, "want amounts", exitUsage},
		{"an account twice", []string{"init", "--home", dir, "--account", good.String() + "=5ufal", "--account", good.String() + "=6ufal"}, "given twice", exitFailed},
		{"unbonding within the check window", []string{"init", "--home", dir, "--check-window", "10s", "--unbonding", "10s"}, "not longer than the check window", exitFailed},
		{"half a millisecond", []string{"init", "--home", dir, "--grace", "0.5ms"}, "whole milliseconds", exitUsage},
		{"no genesis", []string{"init", "--home", dir, "--genesis", filepath.Join(dir, "nope")}, "read genesis", exitFailed},
		{"no trust", []string{"audit", "--rpc", "127.0.0.1:1", "--trust", "7"}, "HEIGHT:HASH", exitUsage},
		{"a short hash", []string{"audit", "--rpc", "127.0.0.1:1", "--trust", "7:abcd"}, "64 hex digits", exitUsage},
		{"no genesis hash", []string{"audit", "--rpc", "127.0.0.1:1", "--genesis-hash", "abc"}, "sha256:", exitUsage},
		{"a node that is away", []string{"audit", "--rpc", "127.0.0.1:1"}, "fetch genesis", exitAway},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, errs, code := run(t, test.args...)
			if code != test.code || !strings.Contains(errs, test.want) {
				t.Errorf("code %d, want %d: %s", code, test.code, errs)
			}
		})
	}
	if app.Exists(dir) {
		t.Error("a refused init left a node behind")
	}
}

// daemon is fallowd start in a process of its own.
type daemon struct {
	readyFacts
	t   *testing.T
	cmd *exec.Cmd
	out io.Reader
}

func startDaemon(t *testing.T, home string) *daemon {
	t.Helper()
	d := begin(t, home)
	d.ready()
	return d
}

// begin starts a daemon and does not wait for it. It dies with the test's own
// process.
func begin(t *testing.T, home string, more ...string) *daemon {
	t.Helper()
	d := &daemon{t: t, cmd: exec.Command(os.Args[0], append([]string{"start", "--home", home, "--ready-json"}, more...)...)}
	d.cmd.Env = append(os.Environ(), asProgram+"=1")
	d.cmd.Stderr = t.Output()
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	d.out = out
	t.Cleanup(d.kill)
	return d
}

// ready waits until the daemon says that it answers.
func (d *daemon) ready() {
	d.t.Helper()
	line, err := bufio.NewReader(d.out).ReadBytes('\n')
	if err != nil {
		d.t.Fatalf("the node said nothing: %v", err)
	}
	if err := json.Unmarshal(line, &d.readyFacts); err != nil || !d.Ready {
		d.t.Fatalf("%v: %s", err, line)
	}
}

// kill ends the daemon at once.
func (d *daemon) kill() {
	_ = d.cmd.Process.Kill()
	_ = d.cmd.Wait()
}

// get asks over HTTP.
func (d *daemon) get(url string, into any) {
	d.t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // it was read
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		d.t.Fatalf("%s: %v: %s", url, err, raw)
	}
}

func (d *daemon) height() int64 {
	d.t.Helper()
	out, errs, code := run(d.t, "status", "--json", "--rpc", d.RPC)
	var s statusFacts
	if err := json.Unmarshal([]byte(out), &s); err != nil || code != 0 {
		d.t.Fatalf("%v, code %d: %s", err, code, errs)
	}
	if s.GenesisHash != d.GenesisHash || !s.Validator {
		d.t.Errorf("status: %+v", s)
	}
	return s.Height
}

// TestLife founds a network, runs its node, crowds a block, kills the node,
// goes on, audits, and ends it.
func TestLife(t *testing.T) {
	ledger, err := app.New(log.NewNopLogger(), dbm.NewMemDB(), app.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	key := secp256k1.GenPrivKeyFromSecret([]byte("tenant"))
	tenant := sdk.AccAddress(key.PubKey().Address())
	home := filepath.Join(t.TempDir(), "node")
	out, errs, code := run(t, "init", "--json", "--home", home, "--chain-id", "fallow-life-1", "--block-time", "250ms", "--moniker", "life",
		"--rpc", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--api", "127.0.0.1:0", "--p2p", "127.0.0.1:0",
		"--check-window", "10s", "--unbonding", "20s", "--account", tenant.String()+"=1000000000ufal,1000000000ucredit")
	var founded initFacts
	if err := json.Unmarshal([]byte(out), &founded); err != nil || code != 0 {
		t.Fatalf("%v, code %d: %s", err, code, errs)
	}
	if _, errs, code := run(t, "init", "--home", home); code == 0 || !strings.Contains(errs, "already holds a node") {
		t.Errorf("a second init: code %d: %s", code, errs)
	}
	d := startDaemon(t, home)
	if d.GenesisHash != founded.GenesisHash || d.ChainID != "fallow-life-1" || d.Protocol != fallow.Protocol {
		t.Errorf("ready: %+v, founded: %+v", d.readyFacts, founded)
	}
	if _, errs, code := run(t, "start", "--home", home); code != exitBusy || !strings.Contains(errs, "another fallowd runs") {
		t.Errorf("a second daemon: code %d: %s", code, errs)
	}

	// Many transactions of one account in flight at once.
	const many = 40
	config := ledger.Encoding().Tx
	for sequence := range uint64(many) {
		b := config.NewTxBuilder()
		if err := b.SetMsgs(&leaseapi.MsgDeposit{Sender: tenant.String(), Amount: 1_000 + sequence}); err != nil {
			t.Fatal(err)
		}
		b.SetGasLimit(200_000)
		b.SetFeeAmount(sdk.NewCoins(sdk.NewInt64Coin(fallow.TokenDenom, 200)))
		mode := signing.SignMode_SIGN_MODE_DIRECT
		if err := b.SetSignatures(signing.SignatureV2{PubKey: key.PubKey(), Data: &signing.SingleSignatureData{SignMode: mode}, Sequence: sequence}); err != nil {
			t.Fatal(err)
		}
		who := authsigning.SignerData{ChainID: "fallow-life-1", AccountNumber: 1, Sequence: sequence, PubKey: key.PubKey(), Address: tenant.String()}
		sig, err := clienttx.SignWithPrivKey(t.Context(), mode, who, b, key, config, sequence)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.SetSignatures(sig); err != nil {
			t.Fatal(err)
		}
		raw, err := config.TxEncoder()(b.GetTx())
		if err != nil {
			t.Fatal(err)
		}
		var answer struct {
			Result struct {
				Code int    `json:"code"`
				Log  string `json:"log"`
			} `json:"result"`
		}
		d.get("http://"+d.RPC+"/broadcast_tx_sync?tx=0x"+hex.EncodeToString(raw), &answer)
		if answer.Result.Code != 0 {
			t.Fatalf("transaction %d: %s", sequence, answer.Result.Log)
		}
	}
	conn, err := grpc.NewClient(d.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // nothing is left to do about it
	want := fmt.Sprintf("%d000000", many*1_000+many*(many-1)/2)
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		r, err := leasev1.NewQueryClient(conn).Account(t.Context(), &leasev1.QueryAccountRequest{Owner: tenant.String()})
		if err == nil && r.GetAccount().GetFree() == want {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("free escrow is %s pico-credits, want %s: %v", r.GetAccount().GetFree(), want, err)
		}
	}
	var rest struct {
		Account struct {
			Owner string `json:"owner"`
		} `json:"account"`
	}
	d.get("http://"+d.API+"/fallow/lease/v1/accounts/"+tenant.String(), &rest)
	if rest.Account.Owner != tenant.String() {
		t.Errorf("REST answered %s", rest.Account.Owner)
	}
	var node struct {
		Version struct {
			Tags string `json:"build_tags"`
			Name string `json:"app_name"`
		} `json:"application_version"`
	}
	d.get("http://"+d.API+"/cosmos/base/tendermint/v1beta1/node_info", &node)
	if node.Version.Tags != fallow.Protocol || node.Version.Name != app.Name {
		t.Errorf("the node calls itself %+v", node.Version)
	}
	var genesis struct {
		Result struct {
			Data string `json:"data"`
		} `json:"result"`
	}
	d.get("http://"+d.RPC+"/genesis_chunked?chunk=0", &genesis)
	raw, err := base64.StdEncoding.DecodeString(genesis.Result.Data)
	if err != nil || fallow.Sum(raw) != founded.GenesisHash {
		t.Errorf("the RPC's genesis is %s, %v", fallow.Sum(raw), err)
	}

	before := d.height()
	d.kill()
	d = startDaemon(t, home)
	for end := time.Now().Add(20 * time.Second); d.height() <= before+1; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("height %d after a kill at %d", d.height(), before)
		}
	}
	report, errs, code := run(t, "audit", "--rpc", d.RPC, "--genesis-hash", founded.GenesisHash.String())
	if code != 0 || !strings.Contains(report, "the books are sound") {
		t.Errorf("audit: code %d: %s%s", code, report, errs)
	}
	other := fallow.Sum([]byte("another"))
	if report, _, code := run(t, "audit", "--json", "--rpc", d.RPC, "--genesis-hash", other.String()); code != exitBreach || !strings.Contains(report, `"node_lied":true`) {
		t.Errorf("audit of another network: code %d: %s", code, report)
	}

	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
	exported, errs, code := run(t, "export", "--home", home, "--modules", "lease")
	if code != 0 || !strings.Contains(exported, `"entries":[{`) {
		t.Errorf("export: code %d: %s%s", code, exported, errs)
	}
}
