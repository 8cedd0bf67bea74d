package local

import (
	"context"
	"errors"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gofrs/flock"
)

func TestValidate(t *testing.T) {
	if err := Default("x").Validate(); err != nil {
		t.Fatalf("the default is refused: %v", err)
	}
	for says, change := range map[string]func(*Config){
		"no folder":              func(c *Config) { c.Dir = "" },
		"want 250ms to 1m":       func(c *Config) { c.BlockTime = 249 * time.Millisecond },
		"block time 2m0s":        func(c *Config) { c.BlockTime = 2 * time.Minute },
		"0 hubs":                 func(c *Config) { c.Hubs = 0 },
		"5 hubs":                 func(c *Config) { c.Hubs = 5 },
		"0 providers":            func(c *Config) { c.Providers = nil },
		"33 providers":           func(c *Config) { c.Providers = make([]Provider, 33) },
		"escrow of 1001 credits": func(c *Config) { c.Escrow = c.Credits + 1 },
		"longer than the check":  func(c *Config) { c.CheckWindow = c.Unbonding },
		"provider-1: ":           func(c *Config) { c.Providers[0].GasPrice = "dear" },
		"provider-2: ":           func(c *Config) { c.Providers[1].TaskFee = "-1" },
	} {
		c := Default("x")
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("got %v, want %q", err, says)
		}
	}
}

// Ports are chosen once, stay, and are nobody else's.
func TestPorts(t *testing.T) {
	c := Default(t.TempDir())
	p, err := c.loadPorts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.release)
	again, err := c.loadPorts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all := func(p ports) map[string]int {
		m := map[string]int{"rpc": p.RPC, "grpc": p.GRPC, "rest": p.REST, "peer": p.Peer, "metrics": p.Metrics, "up": p.Up}
		for n, port := range p.Listen {
			m["listen "+n] = port
		}
		for n, port := range p.Status {
			m["status "+n] = port
		}
		return m
	}
	had := all(p)
	if len(had) != 6+2*(c.Hubs+len(c.Providers)) {
		t.Errorf("%d ports: %v", len(had), had)
	}
	for name, port := range all(again) {
		if had[name] != port {
			t.Errorf("%s moved from %d to %d", name, had[name], port)
		}
	}

	// A hub more takes ports of its own and moves nobody.
	c.Hubs = 3
	more, err := c.loadPorts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	by := map[int]string{}
	for name, port := range all(more) {
		if other, taken := by[port]; taken {
			t.Errorf("%s and %s share %d", name, other, port)
		}
		by[port] = name
		if was, is := had[name], port; was != 0 && was != is {
			t.Errorf("%s moved from %d to %d", name, was, is)
		}
		if port < lowPort || port >= highPort {
			t.Errorf("%s is at %d, which systems give away", name, port)
		}
	}
	if len(by) != 6+2*(3+len(c.Providers)) {
		t.Errorf("%d ports: %v", len(by), by)
	}

	if err := os.WriteFile(c.portsFile(), []byte("rpc = 1\nprc = 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.loadPorts(t.Context()); err == nil || !strings.Contains(err.Error(), "ports.toml: line 2, column 1") {
		t.Errorf("a broken file: %v", err)
	}
}

// Networks that are made at the same time share no port, long before their
// parties listen; a claim ends with its network.
func TestPortsOfManyNetworks(t *testing.T) {
	by := map[int]int{}
	for i := range 20 {
		c := Default(t.TempDir())
		p, err := c.loadPorts(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.release)
		for _, port := range append([]int{p.RPC, p.GRPC, p.REST, p.Peer, p.Metrics, p.Up}, append(slices.Collect(maps.Values(p.Listen)), slices.Collect(maps.Values(p.Status))...)...) {
			if other, taken := by[port]; taken {
				t.Fatalf("networks %d and %d share %d", other, i, port)
			}
			by[port] = i
		}
		if _, err := claim(t.Context(), p.Up); err == nil {
			t.Fatalf("the block of network %d can be claimed twice", i)
		}
	}
	c := Default(t.TempDir())
	p, err := c.loadPorts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p.release()
	if err := c.waitForPorts(t.Context(), &p, Running{}, func(string, string) {}); err != nil || p.claim == nil {
		t.Errorf("a network that comes back: %v", err)
	}
	p.release()
}

func TestPortsInUse(t *testing.T) {
	c := Default(t.TempDir())
	p, err := c.loadPorts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.release)
	if err := c.free(t.Context(), p); err != nil {
		t.Fatalf("free ports: %v", err)
	}
	for party, take := range map[string]func() error{
		"node":       func() error { return hold(t, "tcp", p.GRPC) },
		"hub-1":      func() error { return hold(t, "udp", p.Listen["hub-1"]) },
		"provider-2": func() error { return hold(t, "tcp", p.Status["provider-2"]) },
	} {
		t.Run(party, func(t *testing.T) {
			if err := take(); err != nil {
				t.Fatal(err)
			}
			if err := c.free(t.Context(), p); !errors.Is(err, errPort) || !strings.Contains(err.Error(), " of ") {
				t.Errorf("a port in use: %v", err)
			}
		})
	}
	if err := hold(t, "tcp", p.RPC); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err = c.waitForPorts(ctx, &p, Running{}, func(string, string) {})
	if err == nil || !strings.Contains(err.Error(), "of node is used by another program") || !strings.Contains(err.Error(), "--dir") {
		t.Errorf("waited for ports: %v", err)
	}
	err = c.waitForPorts(ctx, &p, Running{Parties: map[string]int{"node": os.Getpid()}}, func(string, string) {})
	if err == nil || !strings.Contains(err.Error(), "earlier network") || !strings.Contains(err.Error(), "(node)") {
		t.Errorf("waited for parties: %v", err)
	}
}

// hold takes a port until the test ends.
func hold(t *testing.T, network string, port int) error {
	t.Helper()
	var lc net.ListenConfig
	if network == "udp" {
		l, err := lc.ListenPacket(t.Context(), network, hostPort(port))
		if err == nil {
			t.Cleanup(func() { _ = l.Close() })
		}
		return err
	}
	l, err := lc.Listen(t.Context(), network, hostPort(port))
	if err == nil {
		t.Cleanup(func() { _ = l.Close() })
	}
	return err
}

// What a made network can't give is told, unless it is only the default.
func TestUnlike(t *testing.T) {
	c := Default(t.TempDir())
	c.BlockTime, c.Credits = 500*time.Millisecond, 2000
	p, err := c.loadPorts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.release)
	usual := Default(c.Dir)
	if p, err = usual.loadPorts(t.Context()); err != nil || time.Duration(p.BlockTime) != 500*time.Millisecond || p.Credits != 2000 {
		t.Errorf("made with %+v, %v", p, err)
	}
	if notes := append(p.unlike(c), p.unlike(usual)...); len(notes) > 0 {
		t.Errorf("nothing was asked for: %q", notes)
	}
	wish := usual
	wish.BlockTime, wish.CheckWindow, wish.Credits = 250*time.Millisecond, 20*time.Second, 7000
	notes := strings.Join(p.unlike(wish), "\n")
	for _, w := range []string{"--block-time 250ms", "made with 500ms", "--check-window 20s", "made with 15s", "--credits 7000", "made with 2000", c.Dir} {
		if !strings.Contains(notes, w) {
			t.Errorf("lacks %q:\n%s", w, notes)
		}
	}
}

// Who is up is told by a lock, whatever file a killed network has left.
func TestRead(t *testing.T) {
	dir := t.TempDir()
	down := func(when string) {
		t.Helper()
		if _, err := Read(dir); !errors.Is(err, ErrDown) {
			t.Errorf("%s: %v", when, err)
		}
	}
	down("an empty folder")
	r := Running{PID: os.Getpid(), Ready: true, Parties: map[string]int{"node": 1}, Status: map[string]string{"node": "x"}, Notes: []string{"n"}}
	if err := r.save(dir); err != nil {
		t.Fatal(err)
	}
	down("a file without a lock")
	lock := flock.New(lockFile(dir))
	if ok, err := lock.TryLock(); err != nil || !ok {
		t.Fatal(ok, err)
	}
	if got, err := Read(dir); err != nil || got.PID != r.PID || !got.Ready || got.Parties["node"] != 1 || got.Notes[0] != "n" {
		t.Errorf("read %+v, %v", got, err)
	}
	if err := lock.Unlock(); err != nil {
		t.Fatal(err)
	}
	down("a lock that was left")
	if err := os.WriteFile(runningFile(dir), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(dir); err == nil || !strings.Contains(err.Error(), "up.json") {
		t.Errorf("half a file: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.new")); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

// Two networks don't share a folder, and those who look don't keep one from starting.
func TestLock(t *testing.T) {
	c := Default(t.TempDir())
	unlock, err := c.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.lock(t.Context()); err == nil || !strings.Contains(err.Error(), "is up") {
		t.Errorf("locked twice: %v", err)
	}
	unlock()
	looks := flock.New(lockFile(c.Dir))
	if ok, err := looks.TryRLock(); err != nil || !ok {
		t.Fatal(ok, err)
	}
	go func() {
		time.Sleep(50 * time.Millisecond)
		_ = looks.Unlock()
	}()
	if unlock, err = c.lock(t.Context()); err != nil {
		t.Fatal(err)
	}
	unlock()
}
