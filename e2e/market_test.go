//go:build linux

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"fallow.network/ledger"
	"fallow.network/local"
	"fallow.network/provider"
	"fallow.network/sdk"
)

// market is a local network whose processes a test may kill.
type market struct {
	*testing.T
	home, bin string
	env       []string
	up        *process
	network   sdk.Network
	ledger    *ledger.Client
}

// newMarket brings up a network of the binaries in bin. env is added to that
// of its parties, which come back when they die.
func newMarket(t *testing.T, bin string, env []string, args ...string) *market {
	t.Helper()
	// The kernel ends a process with the thread that started it.
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
	m := &market{T: t, home: filepath.Join(t.TempDir(), "home"), bin: bin}
	user := filepath.Join(m.home, "user")
	if err := os.MkdirAll(user, 0o700); err != nil {
		t.Fatal(err)
	}
	m.env = []string{"PATH=" + bin + string(os.PathListSeparator) + os.Getenv("PATH"), "HOME=" + user, "TMPDIR=" + t.TempDir(), "FALLOW_HOME=" + m.home}
	m.up = m.begin(env, append([]string{"up", "--block-time", "250ms"}, args...)...)
	t.Cleanup(m.end)
	if !eventually(90*time.Second, func() bool {
		r, err := local.Read(m.dir())
		return err == nil && r.Ready
	}) {
		t.Fatalf("the network did not come up: %s%s%s", m.up.out.String(), m.up.err.String(), m.logs())
	}
	var err error
	if m.network, err = m.tenant().Network(); err != nil {
		t.Fatal(err)
	}
	if m.ledger, err = sdk.Dial(t.Context(), m.network, sdk.Default(), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.ledger.Close() })
	return m
}

func (m *market) dir() string      { return filepath.Join(m.home, "local") }
func (m *market) tenant() sdk.Home { return local.Default(m.dir()).Tenant() }

// begin starts fallow, which ends with this test's process however that ends.
func (m *market) begin(env []string, args ...string) *process {
	m.Helper()
	cmd := exec.Command(filepath.Join(m.bin, "fallow"), args...)
	cmd.Env, cmd.Dir = append(env, m.env...), m.home
	p, err := background(cmd, syscall.SIGTERM)
	if err != nil {
		m.Fatal(err)
	}
	return p
}

// run runs fallow to its end; an error says what it wrote.
func (m *market) run(most time.Duration, args ...string) (string, error) {
	m.Helper()
	p := m.begin(nil, args...)
	code, err := p.wait(most)
	if err != nil {
		p.kill()
	} else if code != 0 {
		err = fmt.Errorf("exit code %d", code)
	}
	if err != nil {
		return "", fmt.Errorf("fallow %s: %w\n%s%s", strings.Join(args, " "), err, p.out.String(), p.err.String())
	}
	return p.out.String(), nil
}

// ask reads what a verb says with --json.
func (m *market) ask(v any, args ...string) error {
	m.Helper()
	out, err := m.run(verbWait, append(args, "--json")...)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(out), v)
}

// pid is a party's process, 0 while it has none.
func (m *market) pid(party string) int {
	r, err := local.Read(m.dir())
	if err != nil || !runs(r.Parties[party]) {
		return 0
	}
	return r.Parties[party]
}

// whole says what is missing for everybody to work: a party that is not back
// yet, a provider that makes no offers or is on too few boards.
func (m *market) whole() error {
	c := local.Default(m.dir())
	ctx, cancel := context.WithTimeout(m.Context(), 5*time.Second)
	defer cancel()
	if _, err := sdk.NetworkStatus(ctx, m.network); err != nil {
		return fmt.Errorf("node: %w", err)
	}
	for i, addr := range m.network.Hubs {
		st, err := sdk.HubStatus(ctx, addr)
		if err != nil {
			return fmt.Errorf("hub-%d: %w", i+1, err)
		}
		if int(st.GetProviders()) < len(c.Providers) {
			return fmt.Errorf("hub-%d: %d providers on its board", i+1, st.GetProviders())
		}
	}
	for _, p := range c.Providers {
		control, err := provider.Dial(m.party(p.Name).ProviderDir())
		if err != nil {
			return fmt.Errorf("%s: %w", p.Name, err)
		}
		st, err := control.Status(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", p.Name, err)
		}
		if !st.Offering {
			return fmt.Errorf("%s makes no offers: %s %s", p.Name, st.Reason, st.Detail)
		}
	}
	return nil
}

func (m *market) party(name string) sdk.Home { return sdk.Home(filepath.Join(m.dir(), name)) }

// await waits for what should come true and says why it does not.
func (m *market) await(most time.Duration, what string, check func() error) error {
	m.Helper()
	var err error
	if eventually(most, func() bool { err = check(); return err == nil }) {
		return nil
	}
	return fmt.Errorf("%s: not within %s: %w", what, most, err)
}

func (m *market) logs() string { return (&story{home: m.home}).logs() }

// keepLogs leaves the parties' logs of a test that failed in build/logs.
func (m *market) keepLogs(name string) {
	if !m.Failed() {
		return
	}
	to := filepath.Join(root, "build", "logs", name)
	if err := errors.Join(os.RemoveAll(to), os.CopyFS(to, os.DirFS(filepath.Join(m.dir(), "logs")))); err != nil {
		m.Log(err)
		return
	}
	m.Log("the logs are in", to)
}

// end takes the network down and sees that nothing of it is left.
func (m *market) end() {
	r, err := local.Read(m.dir())
	_ = m.up.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	if _, werr := m.up.wait(40 * time.Second); werr != nil {
		m.Error("the network did not end:", werr)
		m.up.kill()
	}
	if err != nil {
		return
	}
	for name, pid := range r.Parties {
		if !eventually(2*time.Second, func() bool { return !runs(pid) }) {
			m.Errorf("%s was left running", name)
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// job writes a job of so many tasks, each of which works for a while and echoes
// the same line. serial makes its module another than every other job's.
func (m *market) job(serial, tasks int, millions uint64) (file, out string) {
	m.Helper()
	dir := filepath.Join(m.home, fmt.Sprintf("job-%d", serial))
	text := fmt.Sprintf("name: crash\nmodule: work.wasm\nforeach: {n: 0..%d}\nargs: [work, \"${n}\"]\nstdin: words.txt\n"+
		"limits: {gas: 10G, memory: 64KiB, output: 64KiB, wall: 1m}\nchecks: {rate: never}\n", tasks-1)
	err := os.MkdirAll(dir, 0o700)
	for name, b := range map[string][]byte{
		"job.yaml": []byte(text), "words.txt": fmt.Appendf(nil, "words of job %d\n", serial),
		"work.wasm": guest("work", millions*1_000_000+uint64(serial)),
	} {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, name), b, 0o600))
	}
	if err != nil {
		m.Fatal(err)
	}
	return filepath.Join(dir, "job.yaml"), filepath.Join(dir, "out")
}

// outputs says which of a job's outputs are not as they must be.
func (m *market) outputs(serial, tasks int) error {
	out := filepath.Join(m.home, fmt.Sprintf("job-%d", serial), "out")
	want := fmt.Appendf(nil, "words of job %d\n", serial)
	digits := len(fmt.Sprint(tasks - 1))
	for n := range tasks {
		at := filepath.Join(out, fmt.Sprintf("%0*d", digits, n), "stdout")
		b, err := os.ReadFile(at)
		if err != nil {
			return err
		}
		if !bytes.Equal(b, want) {
			return fmt.Errorf("%s holds %q, want %q", at, b, want)
		}
	}
	return nil
}
