package hub_test

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"fallow.network"
	"fallow.network/hub"
	"fallow.network/p2p"
)

// hubChild is the argument under which the test's binary is a hub.
const hubChild = "hub-child"

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == hubChild {
		if err := serveChild(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// everybody is an escrow in which all have funds.
type everybody struct{}

func (everybody) Free(context.Context, fallow.Account) (fallow.Credits, error) { return 1 << 40, nil }

// serveChild is a hub in a process of its own, as fallow hub start runs it,
// until in ends.
func serveChild(in io.Reader, out io.Writer) error {
	_, priv, err := ed25519.GenerateKey(nil)
	if err != nil {
		return err
	}
	ctx := context.Background()
	limits := hub.Default()
	h, err := p2p.New(ctx, p2p.Config{Identity: priv, Role: p2p.RoleHub, Public: true, Listen: []string{"/ip4/127.0.0.1/tcp/0"}, MaxPeers: limits.Providers * 2})
	if err != nil {
		return err
	}
	defer func() { _ = h.Close() }()
	s, err := hub.New(limits, hub.Deps{ChainID: chainID, Escrow: everybody{}, Addrs: h.Addrs})
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle(s.Handler())
	if err := h.Serve(mux); err != nil {
		return err
	}
	if err := json.NewEncoder(out).Encode(h.Addrs()); err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, in)
	now, cancel := context.WithCancel(ctx)
	cancel()
	s.Close(now)
	return nil
}

// startChild starts a hub's process and gives its addresses.
func startChild(t *testing.T) (pid int, addrs []string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], hubChild)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the hub's process: %v", err)
		}
	})
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &addrs)
	}
	if err != nil || len(addrs) == 0 {
		t.Fatalf("the hub's addresses: %q, %v", line, err)
	}
	return cmd.Process.Pid, addrs
}

// resident is what memory a process holds, in bytes.
func resident(t *testing.T, pid int) (bytes int64) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		t.Fatal(err)
	}
	var size, pages int64
	if _, err := fmt.Sscan(string(b), &size, &pages); err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// asksOf asks the hub as somebody new or as somebody who stays connected.
func asksOf(t *testing.T, n *tenant, h *p2p.Host, addrs []string) (time.Duration, error) {
	t.Helper()
	begun := time.Now()
	s := n.demand(t, 20*time.Second, nil)
	err := askAddrs(t.Context(), h, addrs, s)
	return time.Since(begun), err
}

// TestSlowConnections opens connections to a hub's process that say a byte a
// second and never who they are: 10,000, or as many as the machine lets one
// process have.
func TestSlowConnections(t *testing.T) {
	want := 500
	if long() {
		want = 10_000
	}
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	want = min(want, int(files.Cur)-500)
	pid, addrs := startChild(t)
	at := strings.Split(addrs[0], "/") // /ip4/127.0.0.1/tcp/PORT/p2p/ID
	if len(at) < 5 || at[3] != "tcp" {
		t.Fatalf("address %s", addrs[0])
	}
	target := net.JoinHostPort(at[2], at[4])

	n := newTenant(t, "honest")
	stays := host(t, p2p.RoleTenant)
	provider := newProvider(t, "p")
	ctx, stop := context.WithCancel(t.Context())
	var held sync.WaitGroup
	held.Go(func() { provider.keep(ctx, addrs) })
	defer held.Wait()
	defer stop()
	eventually(t, "an answer", func() bool { _, err := asksOf(t, n, stays, addrs); return err == nil && provider.heard.Load() > 0 })
	measure := func(newcomer bool) (took []time.Duration, refused int) {
		for range 9 {
			h := stays
			if newcomer {
				h = host(t, p2p.RoleTenant)
			}
			begun := time.Now()
			for {
				if _, err := asksOf(t, n, h, addrs); err == nil {
					break
				}
				if refused++; time.Since(begun) > time.Minute {
					t.Fatalf("no answer in a minute (a newcomer: %v)", newcomer)
				}
				time.Sleep(100 * time.Millisecond)
			}
			took = append(took, time.Since(begun))
			time.Sleep(250 * time.Millisecond) // within a tenant's rate
		}
		return took, refused
	}
	calmStays, _ := measure(false)
	calmNew, _ := measure(true)
	before := resident(t, pid)

	conns := make([]net.Conn, 0, want)
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	dialer := net.Dialer{Timeout: 10 * time.Second}
	for range want {
		c, err := dialer.DialContext(t.Context(), "tcp", target)
		if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.EADDRNOTAVAIL) {
			break // all that this machine has
		}
		if err == nil {
			conns = append(conns, c)
		}
	}
	// Each sends the beginning of what a client says, a byte a second.
	const hello = "\x13/multistream/1.0.0\n"
	held.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			for _, c := range conns {
				_ = c.SetWriteDeadline(time.Now().Add(time.Millisecond))
				_, _ = c.Write([]byte{hello[i%len(hello)]}) // it may be closed
			}
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
	})
	slowStays, lostStays := measure(false)
	slowNew, lostNew := measure(true)
	after := resident(t, pid)
	open := 0
	for _, c := range conns {
		_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
		_, err := io.Copy(io.Discard, c)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			open++
		}
	}
	t.Logf("%d slow connections, %d still open after the measuring; the hub holds %d MiB, %d MiB before; a demand took %s before and %s meanwhile (%.1fx, %d tries failed), by somebody new %s and %s (%.1fx, %s at worst, %d tries failed)",
		len(conns), open, after>>20, before>>20,
		middle(calmStays).Round(10*time.Microsecond), middle(slowStays).Round(10*time.Microsecond), float64(middle(slowStays))/float64(middle(calmStays)), lostStays,
		middle(calmNew).Round(10*time.Microsecond), middle(slowNew).Round(10*time.Microsecond), float64(middle(slowNew))/float64(middle(calmNew)), slices.Max(slowNew).Round(time.Millisecond), lostNew)
	if lostStays > 0 {
		t.Errorf("%d demands of somebody who was connected failed", lostStays)
	}
	if after-before > 512<<20 {
		t.Errorf("the hub grew by %d MiB", (after-before)>>20)
	}
	if len(conns) < want*9/10 {
		t.Errorf("only %d of %d connections could be opened", len(conns), want)
	}
}
