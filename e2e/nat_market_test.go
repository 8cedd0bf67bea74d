//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"fallow.network"
)

var hubHosts = []string{"192.0.0.130", "192.0.0.131"}

// apart is a market whose provider and tenant sit behind routers of their own.
type apart struct {
	*internet
	dir string
}

const natWait = 90 * time.Second

// newApart starts a ledger and two hubs on the public side and a provider
// behind router A, as people would, and waits until the provider offers.
func newApart(t *testing.T, n *internet) *apart {
	t.Helper()
	m := &apart{n, t.TempDir()}
	account := func(who string) string {
		var facts struct {
			Account string `json:"account"`
		}
		m.facts(m.fallow("pub", who, "init", "--draw-passphrase"), &facts)
		return facts.Account
	}
	provider, tenant := account("provider"), account("tenant")
	var node struct {
		Genesis string `json:"genesis_hash"`
	}
	m.facts(m.once("pub", "fallowd", "init", "--json", "--home", m.home("node"), "--chain-id", "apart-1", "--block-time", "250ms",
		"--rpc", publicHost+":26657", "--p2p", publicHost+":26656", "--grpc", publicHost+":9090", "--api", publicHost+":1317",
		"--check-window", "5s", "--unbonding", "1m",
		"--account", provider+"=20000000000ufal", "--account", tenant+"=1000000000ufal,1000000000ucredit"), &node)
	var hubs []string
	for i, host := range hubHosts {
		var hub struct {
			Addr string `json:"addr"`
		}
		m.facts(m.fallow("pub", fmt.Sprintf("hub-%d", i), "hub", "init", "--open", "--status", fmt.Sprintf("127.0.0.1:%d", 8461+i),
			"--listen", "/ip4/"+host+"/tcp/4100,/ip4/"+host+"/udp/4100/quic-v1"), &hub)
		hubs = append(hubs, hub.Addr)
	}
	file := filepath.Join(m.dir, "network.toml")
	text := fmt.Sprintf("protocol = %q\nchain_id = 'apart-1'\ngenesis = %q\nrpc = ['http://%s:26657']\ngrpc = ['%s:9090']\nhubs = ['%s']\n",
		fallow.Protocol, node.Genesis, publicHost, publicHost, strings.Join(hubs, "', '"))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	m.begin("pub", "fallowd", "start", "--home", m.home("node"))
	for i := range hubHosts {
		name := fmt.Sprintf("hub-%d", i)
		m.fallow("pub", name, "join", file)
		m.beginFallow("pub", name, "hub", "start")
	}
	for who, ns := range map[string]string{"provider": "a", "tenant": "b"} {
		m.fallow(ns, who, "join", file)
	}
	m.await("the tenant's deposit", func() error {
		_, err := m.try("b", "fallow", "--home", m.home("tenant"), "deposit", "100", "--json")
		return err
	})
	// Nothing is said of addresses: joining a network elsewhere is enough.
	m.fallow("a", "provider", "provider", "init", "--slots", "1", "--bond", "10000")
	m.beginFallow("a", "provider", "provider", "start")
	m.await("the provider's offers", func() error {
		s, err := m.status()
		if err == nil && (!s.Offering || len(s.Reach.Relays) != 2) {
			err = fmt.Errorf("offering %t: %s", s.Offering, s.Reach.Text)
		}
		return err
	})
	return m
}

func (m *apart) home(who string) string { return filepath.Join(m.dir, who) }

// providerStatus is what the provider says of its paths.
type providerStatus struct {
	Offering bool
	Earned   string
	Reach    struct {
		Path, Text     string
		Direct, Relays []string
	}
	Traffic struct {
		DirectIn   uint64 `json:"direct_in"`
		DirectOut  uint64 `json:"direct_out"`
		RelayedIn  uint64 `json:"relayed_in"`
		RelayedOut uint64 `json:"relayed_out"`
	}
	Leases []struct{ Running, Receipts int }
}

func (m *apart) status() (providerStatus, error) {
	var s providerStatus
	out, err := m.try("a", "fallow", "--home", m.home("provider"), "provider", "status", "--json")
	if err == nil {
		err = json.Unmarshal([]byte(out), &s)
	}
	return s, err
}

func (m *apart) mustStatus() providerStatus {
	m.t.Helper()
	s, err := m.status()
	if err != nil {
		m.t.Fatal(err)
	}
	return s
}

func (m *apart) await(what string, ok func() error) {
	m.t.Helper()
	var err error
	if !eventually(natWait, func() bool { err = ok(); return err == nil }) {
		m.t.Fatalf("%s: %v", what, err)
	}
}

// try runs a command in a namespace and gives what it prints.
func (m *apart) try(ns, program string, words ...string) (string, error) {
	cmd := m.command(m.t.Context(), ns, filepath.Join(root, "build", program), words...)
	var out, errs output
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.Env = append(os.Environ(), "HOME="+m.dir)
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w: %s%s", program, strings.Join(words, " "), err, out.String(), errs.String())
	}
	return out.String(), nil
}

func (m *apart) once(ns, program string, words ...string) string {
	m.t.Helper()
	out, err := m.try(ns, program, words...)
	if err != nil {
		m.t.Fatal(err)
	}
	return out
}

func (m *apart) fallow(ns, who string, words ...string) string {
	m.t.Helper()
	return m.once(ns, "fallow", append([]string{"--json", "--home", m.home(who)}, words...)...)
}

func (m *apart) facts(text string, v any) {
	m.t.Helper()
	if err := json.Unmarshal([]byte(text), v); err != nil {
		m.t.Fatalf("%v: %s", err, text)
	}
}

func (m *apart) beginFallow(ns, who string, words ...string) *process {
	return m.begin(ns, "fallow", append([]string{"--home", m.home(who)}, words...)...)
}

// begin runs a command in the background until the test ends.
func (m *apart) begin(ns, program string, words ...string) *process {
	m.t.Helper()
	cmd := m.command(m.t.Context(), ns, filepath.Join(root, "build", program), words...)
	cmd.Env = append(os.Environ(), "HOME="+m.dir)
	p, err := background(cmd, syscall.SIGKILL)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() {
		p.kill()
		if m.t.Failed() {
			text := p.err.String()
			m.t.Logf("%s %s\n%s", program, strings.Join(words, " "), text[max(0, len(text)-6000):])
		}
	})
	return p
}

// work makes a job of so many tasks, each with an input of its own of so many
// bytes, which counts to so many millions first.
func (m *apart) work(name string, tasks, size int, millions uint64) string {
	m.t.Helper()
	dir := m.home("job-" + name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		m.t.Fatal(err)
	}
	put := func(file string, b []byte) {
		if err := os.WriteFile(filepath.Join(dir, file), b, 0o600); err != nil {
			m.t.Fatal(err)
		}
	}
	put("work.wasm", guest("work", millions*1_000_000))
	noise := rand.NewChaCha8([32]byte([]byte(fmt.Sprintf("%-32.32s", name))))
	for i := range tasks {
		b := make([]byte, size)
		if _, err := io.ReadFull(noise, b); err != nil {
			m.t.Fatal(err)
		}
		put(fmt.Sprintf("in-%d.bin", i), b)
	}
	put("job.yaml", []byte("name: "+name+"\nmodule: work.wasm\nforeach: {in: {files: \"in-*.bin\"}}\nargs: [work]\nstdin: ${in}\n"+
		"limits: {gas: 20G, memory: 64KiB, output: 64MiB, wall: 120s}\nchecks: {rate: never}\n"))
	return filepath.Join(dir, "job.yaml")
}

// bill is what a job's end tells.
type bill struct {
	State string `json:"state"`
	Paid  string `json:"paid"`
	Tasks int    `json:"tasks"`
	Done  int    `json:"done"`
}

// rent runs a job as the tenant does.
func (m *apart) rent(job, name string, words ...string) *process {
	return m.beginFallow("b", "tenant", append([]string{"run", job, "--json", "-v", "--out", m.home("out-" + name)}, words...)...)
}

// echoed is how much of its input the guest gives back, in bytes.
const echoed = 4096

// ended waits for a job and sees that every output is its input's beginning.
func (m *apart) ended(p *process, name string, tasks int) bill {
	m.t.Helper()
	code, err := p.wait(3 * time.Minute)
	if err != nil || code != 0 {
		m.t.Fatalf("exit code %d, %v: %s%s", code, err, p.out.String(), p.err.String())
	}
	var b bill
	m.facts(p.out.String(), &b)
	for i := range tasks {
		want, err := os.ReadFile(filepath.Join(m.home("job-"+name), fmt.Sprintf("in-%d.bin", i)))
		if err != nil {
			m.t.Fatal(err)
		}
		folder := fmt.Sprint(i)
		if tasks == 1 {
			folder = "."
		}
		got, err := os.ReadFile(filepath.Join(m.home("out-"+name), folder, "stdout"))
		if err != nil || fallow.Sum(got) != fallow.Sum(want[:echoed]) {
			m.t.Errorf("output of task %d: %v, %d bytes, want %d", i, err, len(got), echoed)
		}
	}
	return b
}
