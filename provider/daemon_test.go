package provider

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fallow.network"
	nodev1 "fallow.network/api/node"
	"fallow.network/hardware"
	"fallow.network/settle"
)

func TestSecondDaemonIsRefused(t *testing.T) {
	w := newWorld(t, nil)
	_, err := New(t.Context(), w.config, w.deps(func(string) {}))
	if !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), w.config.Home) {
		t.Errorf("%v", err)
	}
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	d, err := New(t.Context(), w.config, w.deps(func(string) {}))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	w.stop = nil
}

func TestNewChecks(t *testing.T) {
	w := newWorld(t, nil)
	c := w.config
	c.Home, c.Provider = t.TempDir(), "nobody"
	if _, err := New(t.Context(), c, w.deps(func(string) {})); err == nil || !strings.Contains(err.Error(), "fallow provider init") {
		t.Errorf("%v", err)
	}
	deps := w.deps(func(string) {})
	deps.Books = nil
	if _, err := New(t.Context(), w.config, deps); err == nil {
		t.Error("a dependency is missing and nobody says so")
	}
	c = w.config
	c.Home = t.TempDir()
	if err := os.WriteFile(c.journalFile(), []byte("not a database, and long enough to be taken for one or the other"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(t.Context(), c, w.deps(func(string) {})); err == nil || !strings.Contains(err.Error(), "journal") {
		t.Errorf("%v", err)
	}
}

func TestControlPauseAndPage(t *testing.T) {
	w := newWorld(t, nil)
	c := w.tenant("anna", 10_000_000)
	ctl, err := Dial(w.config.Home)
	if err != nil {
		t.Fatal(err)
	}
	if err := ctl.Pause(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if a := c.ask(nil); a.Reason != fallow.ReasonPaused || !strings.Contains(a.Detail, "owner") {
		t.Errorf("%q %s", a.Reason, a.Detail)
	}
	w.restart() // a pause outlives the process
	if ctl, err = Dial(w.config.Home); err != nil {
		t.Fatal(err)
	}
	s, err := ctl.Status(t.Context())
	if err != nil || !s.Paused || s.Offering || s.Reason != fallow.ReasonPaused || s.PID != os.Getpid() {
		t.Errorf("%+v %v", s, err)
	}
	if err := ctl.Pause(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if a := c.ask(nil); a.Reason != "" {
		t.Errorf("%q %s", a.Reason, a.Detail)
	}
	get := func(path, host, method, token string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, ctl.PageURL()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if host != "" {
			r.Host = host
		}
		r.Header.Set("Authorization", token)
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(b)
	}
	if code, page := get("", "", "GET", ""); code != 200 || !strings.Contains(page, "Fallow provider") || strings.Contains(page, "http://") && !strings.Contains(page, "www.w3.org") {
		t.Errorf("page: %d", code)
	}
	if code, text := get("status.json", "", "GET", ""); code != 200 || !json.Valid([]byte(text)) {
		t.Errorf("status: %d %s", code, text)
	}
	if code, text := get("metrics", "", "GET", ""); code != 200 || !strings.Contains(text, "fallow_provider_offers_total 1") {
		t.Errorf("metrics: %d %.300s", code, text)
	}
	if code, _ := get("", "evil.example:80", "GET", ""); code != http.StatusForbidden {
		t.Errorf("another site's name: %d", code)
	}
	if code, _ := get("control/drain", "", "POST", "Bearer guess"); code != http.StatusUnauthorized {
		t.Errorf("a wrong token: %d", code)
	}
	if code, _ := get("control/dance", "", "POST", "Bearer "+w.d.token); code != http.StatusNotFound {
		t.Errorf("an unknown verb: %d", code)
	}
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := Dial(w.config.Home); !errors.Is(err, ErrNotRunning) {
		t.Errorf("%v", err)
	}
	// One that was killed leaves its file behind.
	b, err := json.Marshal(ctl.file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.config.Home, controlName), b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ctl.Status(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("%v", err)
	}
}

func TestDrain(t *testing.T) {
	w := newWorld(t, nil)
	c := w.tenant("anna", 10_000_000)
	c.rent(1_000_000, nil)
	k := c.connect()
	defer k.close()
	k.task(0, "dear")
	k.until(1)
	k.task(1, "wait")
	k.next("a start", func(m *nodev1.WorkResponse) bool { return m.GetStarted() != nil })
	ctl, err := Dial(w.config.Home)
	if err != nil {
		t.Fatal(err)
	}
	if err := ctl.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.until("draining", func() bool { _, d, _ := w.d.gate.is(); return d })
	if a := w.tenant("berta", 10_000_000).ask(nil); a.Reason != fallow.ReasonDraining {
		t.Errorf("%q", a.Reason)
	}
	k.task(2, "noop")
	m := k.next("a refusal", func(m *nodev1.WorkResponse) bool { return m.GetFailed() != nil })
	if m.GetFailed().GetReason() != string(fallow.ReasonDraining) {
		t.Errorf("%v", m)
	}
	// What runs is finished and paid.
	close(w.runner.hold)
	k.until(2)
	k.pay()
	m = k.next("notice", func(m *nodev1.WorkResponse) bool { return m.GetEnding() != "" })
	if m.GetEnding() != string(fallow.ReasonProviderLeft) {
		t.Errorf("%v", m)
	}
	select {
	case <-w.ended:
	case <-time.After(15 * time.Second):
		t.Fatal("the drained daemon does not end")
	}
	want, _ := k.charged.Floor()
	w.until("all is paid and closed", func() bool {
		w.ledger.mu.Lock()
		defer w.ledger.mu.Unlock()
		l := w.ledger.leases[c.lease]
		return w.ledger.paid == want && l.State == settle.Closing && l.Reason == fallow.ReasonProviderLeft
	})
}

func TestDrainGivesNotice(t *testing.T) {
	w := newWorld(t, func(w *world) { w.config.DrainTimeout = Duration(200 * time.Millisecond) })
	c := w.tenant("anna", 10_000_000)
	c.rent(1_000_000, nil)
	k := c.connect()
	defer k.close()
	k.task(0, "wait")
	k.next("a start", func(m *nodev1.WorkResponse) bool { return m.GetStarted() != nil })
	w.d.Drain()
	k.next("notice", func(m *nodev1.WorkResponse) bool { return m.GetEnding() == string(fallow.ReasonProviderLeft) })
	w.until("closed", func() bool {
		w.ledger.mu.Lock()
		defer w.ledger.mu.Unlock()
		return w.ledger.leases[c.lease].State == settle.Closing
	})
}

func TestReload(t *testing.T) {
	w := newWorld(t, nil)
	c := w.config
	c.Prices.MegaGas = fallow.PicoOf(9999)
	c.Slots, c.Listen = 17, []string{"/ip4/127.0.0.1/tcp/7"}
	stale, err := w.d.Reload(c)
	if err != nil {
		t.Fatal(err)
	}
	if len(stale) != 2 {
		t.Errorf("stale %q", stale)
	}
	a := w.tenant("anna", 10_000_000)
	a.rent(1000, nil)
	if a.offer.Terms.GasPrice != c.Prices.MegaGas {
		t.Errorf("price %s", a.offer.Terms.GasPrice)
	}
	c.Prices.MegaGas, c.Prices.Floor, c.Prices.CoreSecond = fallow.Pico{}, fallow.Pico{}, fallow.Pico{}
	if _, err := w.d.Reload(c); err == nil {
		t.Error("a config that is wrong was taken")
	}
	now := time.Now()
	shut := now.Add(2 * time.Hour)
	c = w.config
	c.TimeZone = "UTC"
	c.Hours = []string{"daily " + shut.UTC().Format("15:04") + "-" + shut.Add(time.Hour).UTC().Format("15:04")}
	if _, err := w.d.Reload(c); err != nil {
		t.Fatal(err)
	}
	if got := a.ask(nil); got.Reason != fallow.ReasonPaused || !strings.Contains(got.Detail, "hours") {
		t.Errorf("%q %s", got.Reason, got.Detail)
	}
}

func TestOwnerComesFirst(t *testing.T) {
	w := newWorld(t, func(w *world) {
		w.config.Idle.Only, w.config.Idle.Pause = true, true
		w.config.Idle.Quiet, w.config.Idle.Every = 0, Duration(100*time.Millisecond)
		w.watch.a = hardware.Activity{OthersMilliCPU: 0, GPUBusyPercent: -1}
	})
	c := w.tenant("anna", 10_000_000)
	w.until("idle", func() bool { cfg, s := w.d.config(); r, _ := w.d.gate.offers(cfg, s, time.Now()); return r == "" })
	c.rent(1_000_000, nil)
	k := c.connect()
	defer k.close()
	k.task(0, "noop")
	k.until(1)
	w.watch.set(hardware.Activity{OthersMilliCPU: 1500, GPUBusyPercent: -1})
	w.until("in use", func() bool { cfg, _ := w.d.config(); _, free := w.d.gate.tasks(cfg); return !free })
	if a := c.ask(nil); a.Reason != fallow.ReasonPaused || !strings.Contains(a.Detail, "1.50 cores") {
		t.Errorf("%q %s", a.Reason, a.Detail)
	}
	k.task(1, "noop")
	time.Sleep(50 * time.Millisecond)
	if w.runner.ran(1) != 0 {
		t.Error("a task started while the owner was there")
	}
	w.watch.set(hardware.Activity{OthersMilliCPU: 10, GPUBusyPercent: -1})
	k.until(2)
}

func TestIdleRules(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	cfg := Default()
	cfg.Idle.Only = true
	quiet := time.Duration(cfg.Idle.Quiet)
	free := hardware.Activity{OthersMilliCPU: 100, GPUBusyPercent: -1}
	for _, c := range []struct {
		name  string
		seen  []hardware.Activity // a minute apart, the last one now
		offer bool
	}{
		{"nothing known", nil, false},
		{"just started", []hardware.Activity{free}, false},
		{"quiet for long", []hardware.Activity{free, free, free, free, free, free}, true},
		{"used lately", []hardware.Activity{free, free, free, {OthersMilliCPU: 900, GPUBusyPercent: -1}, free, free}, false},
		{"a GPU game", []hardware.Activity{free, free, free, free, free, {GPUBusyPercent: 90}}, false},
		{"logind knows since when", []hardware.Activity{{
			OthersMilliCPU: -1, GPUBusyPercent: -1,
			Session: hardware.Session{Known: true, Idle: true, SinceUnixMS: now.Add(-time.Hour).UnixMilli()},
		}}, true},
		{"somebody is there", []hardware.Activity{{GPUBusyPercent: -1, Session: hardware.Session{Known: true}}}, false},
	} {
		g := gate{reach: ReachStatus{Path: PathDirect}}
		for i, a := range c.seen {
			g.sample(cfg.Idle, a, now.Add(-time.Duration(len(c.seen)-1-i)*time.Minute))
		}
		r, why := g.offers(cfg, schedule{}, now)
		if (r == "") != c.offer {
			t.Errorf("%s: %q %s (quiet is %s)", c.name, r, why, quiet)
		}
	}
}

// TestMetricsAreDocumented keeps docs/metrics.md and the code together.
func TestMetricsAreDocumented(t *testing.T) {
	b, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, nil)
	families, err := w.d.metrics.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{"fallow_provider_declines_total": true, "fallow_provider_leases_ended_total": true, "fallow_provider_task_failures_total": true}
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "fallow_") {
			have[f.GetName()] = true
		}
	}
	told := map[string]bool{}
	for _, m := range regexp.MustCompile("`(fallow_provider_[a-z_]+)`").FindAllStringSubmatch(string(b), -1) {
		told[m[1]] = true
	}
	if d := cmp.Diff(have, told); d != "" {
		t.Error(d)
	}
}

func TestRunReportsAPortThatIsTaken(t *testing.T) {
	w := newWorld(t, nil)
	c := w.config
	c.Home, c.StatusAddr = t.TempDir(), w.d.page.Addr().String()
	if _, err := New(t.Context(), c, w.deps(func(string) {})); err == nil || !strings.Contains(err.Error(), "status_addr") {
		t.Errorf("%v", err)
	}
	c = w.config
	c.Home = t.TempDir()
	deps := w.deps(func(string) {})
	deps.Listen = func(context.Context, http.Handler) (Courier, error) { return nil, errors.New("port in use") }
	d, err := New(t.Context(), c, deps)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "port in use") {
		t.Errorf("%v", err)
	}
}
