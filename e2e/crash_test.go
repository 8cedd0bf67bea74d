//go:build linux

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"fallow.network"
	"fallow.network/fault"
	"fallow.network/local"
	"fallow.network/provider"
)

// The jobs of the matrix: small, and long enough that somebody dies in one.
const (
	crashTasks    = 8
	crashMillions = 150
)

// crash is one row of the matrix: who dies, where, and what came of it.
type crash struct {
	point  string
	party  fault.Party
	pid    int
	took   time.Duration
	ended  string // what became of the job
	paid   fallow.Pico
	lost   fallow.Pico
	leases int
}

// TestCrashes kills each party at each step in turn. Every time the job ends with
// the right outputs, nobody is paid twice, and everybody for what the tenant
// took; at the end the audit holds.
func TestCrashes(t *testing.T) {
	if os.Getenv("FALLOW_LONG") == "" {
		return // some minutes: make test-all
	}
	bin := filepath.Join(root, "build", "fault")
	build := exec.CommandContext(t.Context(), "go", "build", "-tags", "fault", "-o", bin+"/", "./cmd/fallow", "./cmd/fallowd")
	build.Dir = root
	if b, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	theirs, ours := t.TempDir(), t.TempDir() // where points are armed
	m := newMarket(t, bin, []string{fault.Folder + "=" + theirs}, "--hubs", "2")
	t.Cleanup(func() { m.keepLogs("crashes") })
	var rows []crash
	only := os.Getenv("FALLOW_CRASH") // of one row, to look closer
	for _, s := range fault.Steps() {
		for _, p := range s.Parties {
			if only != "" && !strings.Contains(s.Name+" "+string(p), only) {
				continue
			}
			dir := theirs
			if p == fault.Tenant {
				dir = ours
			}
			row := crash{point: s.Name, party: p}
			begun := time.Now()
			if err := m.crash(&row, len(rows)+1, dir, ours); err != nil {
				t.Errorf("%s of the %s: %v", s.Name, p, err)
				row.ended = "FAILED"
			}
			row.took = time.Since(begun)
			rows = append(rows, row)
			t.Log(row)
		}
	}
	if strings.Contains("leaves", only) {
		if err := m.tenantLeaves(len(rows)+1, ours); err != nil {
			t.Error("a tenant that never returns:", err)
		}
	}
	if len(rows) == 0 && !strings.Contains("leaves", only) {
		t.Errorf("FALLOW_CRASH: no row has %q", only)
	}
	var b strings.Builder
	for _, r := range rows {
		fmt.Fprintln(&b, r)
	}
	t.Logf("\n%-26s %-9s %8s %7s %7s %16s %16s  %s\n%s", "point", "party", "killed", "took", "leases", "paid", "work unpaid", "job", b.String())
	out, err := m.run(2*time.Minute, "audit")
	if err != nil {
		t.Fatal(err)
	}
	t.Log(out)
	t.Log(m.up.out.String())
}

func (c crash) String() string {
	return fmt.Sprintf("%-26s %-9s %8d %6.1fs %7d %16s %16s  %s", c.point, c.party, c.pid, c.took.Seconds(), c.leases, c.paid, c.lost, c.ended)
}

// crash runs a job in which somebody dies at one point, that is armed in dir for
// the network or for the tenant, whose folder ours is.
func (m *market) crash(row *crash, serial int, dir, ours string) error {
	if err := m.await(90*time.Second, "everybody is back", m.whole); err != nil {
		return err
	}
	before, err := m.accounts(m.Context())
	if err != nil {
		return err
	}
	armed := filepath.Join(dir, "armed")
	defer func() { _ = os.Remove(armed); _ = os.Remove(filepath.Join(dir, "hit")) }()
	arm := func() error { return os.WriteFile(armed, []byte(row.point+" 1\n"), 0o600) }
	if row.party != fault.Node {
		if err := arm(); err != nil {
			return err
		}
	}
	if row.point == "hub/session-accepted" {
		m.kill("provider-1") // a board is joined by who comes back
	}
	file, out := m.job(serial, crashTasks, crashMillions)
	p := m.begin([]string{fault.Folder + "=" + ours}, "run", file, "--out", out)
	if row.party == fault.Node {
		// Not by what is left of the job before: no job starts while the ledger
		// is away.
		time.Sleep(200 * time.Millisecond)
		if err := arm(); err != nil {
			return err
		}
	}
	code, err := p.wait(verbWait)
	if err != nil {
		p.kill()
		return fmt.Errorf("fallow run: %w\n%s%s", err, p.out.String(), p.err.String())
	}
	if row.pid, err = m.victim(dir, row.point); err != nil {
		return fmt.Errorf("%w\n%s%s", err, p.out.String(), p.err.String())
	}
	row.ended = "done"
	switch {
	case row.party == fault.Tenant:
		if !p.cmd.ProcessState.Sys().(syscall.WaitStatus).Signaled() || row.pid != p.cmd.Process.Pid {
			return fmt.Errorf("the tenant ended with %s, and %d was killed\n%s%s", p.cmd.ProcessState, row.pid, p.out.String(), p.err.String())
		}
		row.ended = "done when resumed"
		if _, err := m.run(verbWait, "job", "resume", m.last()); err != nil {
			return err
		}
	case code != 0:
		return fmt.Errorf("fallow run: exit code %d\n%s%s", code, p.out.String(), p.err.String())
	}
	if err := m.outputs(serial, crashTasks); err != nil {
		return err
	}
	return m.settled(row, len(before))
}

// settled waits for the books of the leases since the first ones to agree.
func (m *market) settled(row *crash, since int) error {
	return m.await(2*time.Minute, "the books agree", func() error {
		all, err := m.accounts(m.Context())
		if err != nil {
			return err
		}
		row.leases, row.paid, row.lost = len(all)-since, fallow.Pico{}, fallow.Pico{}
		if row.leases == 0 {
			return errors.New("the job has no lease on the ledger")
		}
		var errs []error
		for _, a := range all[since:] {
			errs = append(errs, a.check())
			row.paid, err = row.paid.Add(a.claimed)
			errs = append(errs, err)
			row.lost, err = row.lost.Add(a.lost())
			errs = append(errs, err)
			if most := ceiling(); a.lost().Cmp(most) > 0 {
				errs = append(errs, fmt.Errorf("lease %d: %s lost, more than the unpaid ceiling allows, %s", a.lease, a.lost(), most))
			}
		}
		return errors.Join(errs...)
	})
}

// victim waits for word of who was killed at a point: one that nobody passes
// is no test.
func (m *market) victim(dir, point string) (pid int, err error) {
	err = m.await(30*time.Second, "somebody dies at "+point, func() error {
		b, err := os.ReadFile(filepath.Join(dir, "hit"))
		if errors.Is(err, fs.ErrNotExist) {
			return errors.New("nobody has passed it")
		}
		if err != nil {
			return err
		}
		var at string
		if _, err := fmt.Sscan(string(b), &at, &pid); err != nil || at != point {
			return fmt.Errorf("hit is %q", b)
		}
		if runs(pid) {
			return fmt.Errorf("process %d runs on", pid)
		}
		return nil
	})
	return pid, err
}

// kill ends a party at once, from outside.
func (m *market) kill(party string) {
	if pid := m.pid(party); pid > 0 {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may end by itself
	}
}

// last is the newest job.
func (m *market) last() string {
	m.Helper()
	var jobs []struct {
		ID string `json:"id"`
	}
	if err := m.ask(&jobs, "jobs"); err != nil || len(jobs) == 0 {
		m.Fatal("no jobs: ", err)
	}
	return jobs[len(jobs)-1].ID
}

// ceiling is what one lease of the local network may come to without a voucher:
// a task beyond the ceiling for each slot that ran when it was reached.
func ceiling() fallow.Pico {
	const slots = 2 // the most that a provider of the local network has
	p, err := provider.Default().Offers.UnpaidCeiling.Mul(slots + 1)
	if err != nil {
		return fallow.Pico{}
	}
	return p
}

// tenantLeaves kills the tenant in the middle of a job that nobody resumes: its
// providers lose no more than they work ahead, and its escrow is free again.
func (m *market) tenantLeaves(serial int, dir string) error {
	if err := m.await(90*time.Second, "everybody is back", m.whole); err != nil {
		return err
	}
	before, err := m.accounts(m.Context())
	if err != nil {
		return err
	}
	// A silent tenant is waited for two minutes; here, less.
	for _, p := range local.Default(m.dir()).Providers {
		file := m.party(p.Name).ProviderFile()
		b, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		text := regexp.MustCompile(`(?m)^silence = .*$`).ReplaceAll(b, []byte(`silence = "3s"`))
		if bytes.Equal(text, b) {
			return fmt.Errorf("%s names no silence", file)
		}
		if err := errors.Join(os.WriteFile(file, text, 0o600), syscall.Kill(m.pid(p.Name), syscall.SIGHUP)); err != nil {
			return err
		}
	}
	time.Sleep(time.Second) // the config is read
	if err := os.WriteFile(filepath.Join(dir, "armed"), []byte("client/receipt-written 3\n"), 0o600); err != nil {
		return err
	}
	file, out := m.job(serial, 2*crashTasks, crashMillions)
	p := m.begin([]string{fault.Folder + "=" + dir}, "run", file, "--out", out)
	if _, err := p.wait(verbWait); err != nil {
		p.kill()
		return fmt.Errorf("fallow run: %w", err)
	}
	if _, err := m.victim(dir, "client/receipt-written"); err != nil {
		return err
	}
	return m.await(time.Minute, "its leases end", func() error {
		all, err := m.accounts(m.Context())
		if err != nil {
			return err
		}
		var errs []error
		var reserved struct {
			Reserved fallow.Pico `json:"escrow_reserved"`
			Open     int         `json:"open_leases"`
		}
		for _, a := range all[len(before):] {
			switch most := ceiling(); {
			case a.open:
				errs = append(errs, fmt.Errorf("lease %d is open", a.lease))
			case a.claimed.Cmp(a.vouched) != 0:
				errs = append(errs, fmt.Errorf("lease %d: a voucher of %s, and %s claimed", a.lease, a.vouched, a.claimed))
			case a.lost().Cmp(most) > 0:
				errs = append(errs, fmt.Errorf("lease %d: %s lost, more than %s", a.lease, a.lost(), most))
			}
			m.Logf("tenant never returns: lease %d, signed %s, taken %s, vouched %s, claimed %s", a.lease, a.signed, a.accepted, a.vouched, a.claimed)
		}
		if err := m.ask(&reserved, "balance"); err != nil {
			return err
		}
		if !reserved.Reserved.IsZero() || reserved.Open != 0 {
			errs = append(errs, fmt.Errorf("%s in escrow are reserved, for %d open leases", reserved.Reserved, reserved.Open))
		}
		return errors.Join(errs...)
	})
}
