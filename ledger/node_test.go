package ledger

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"fallow.network/keys"
)

// fallowd finds the node's binary: $FALLOWD, build/fallowd, or one built for
// the purpose.
var fallowd = sync.OnceValues(func() (string, error) {
	if p := os.Getenv("FALLOWD"); p != "" {
		return p, nil
	}
	if p, err := filepath.Abs("../build/fallowd"); err == nil {
		if _, err := os.Stat(p); err == nil {
			return p, nil
		}
	}
	p := filepath.Join(built, "fallowd")
	if out, err := exec.Command("go", "build", "-o", p, "../cmd/fallowd").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build fallowd: %w\n%s", err, out)
	}
	return p, nil
})

// built is where TestMain lets the binary lie.
var built string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "fallowd-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	built = dir
	code := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

// realNode is a ledger of one validator in a process of its own.
type realNode struct {
	t       *testing.T
	binary  string
	home    string
	ports   [4]string // rpc, grpc, p2p, api
	process *exec.Cmd
}

const realChain = "fallow-ledger-1"

func startNode(t *testing.T, accounts ...string) *realNode {
	t.Helper()
	binary, err := fallowd()
	if err != nil {
		t.Fatal(err)
	}
	n := &realNode{t: t, binary: binary, home: filepath.Join(t.TempDir(), "node")}
	var held []net.Listener
	for i := range n.ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		n.ports[i], held = l.Addr().String(), append(held, l)
	}
	for _, l := range held {
		_ = l.Close()
	}
	args := []string{
		"init", "--home", n.home, "--chain-id", realChain, "--block-time", "250ms",
		"--rpc", n.ports[0], "--grpc", n.ports[1], "--p2p", n.ports[2], "--api", n.ports[3],
	}
	for _, a := range accounts {
		args = append(args, "--account", a)
	}
	if out, err := exec.Command(binary, args...).CombinedOutput(); err != nil {
		t.Fatalf("init: %v\n%s", err, out)
	}
	n.start()
	t.Cleanup(n.kill)
	return n
}

// start runs the node and waits until it answers.
func (n *realNode) start() {
	n.t.Helper()
	n.process = exec.Command(n.binary, "start", "--home", n.home, "--ready-json")
	n.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	n.process.Stderr = n.t.Output()
	out, err := n.process.StdoutPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	if err := n.process.Start(); err != nil {
		n.t.Fatal(err)
	}
	var facts struct {
		Ready bool `json:"ready"`
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &facts)
	}
	if err != nil || !facts.Ready {
		n.t.Fatalf("start: %v\n%s", err, line)
	}
}

// kill ends the node as kill -9 does.
func (n *realNode) kill() {
	if n.process != nil {
		_ = n.process.Process.Kill()
		_ = n.process.Wait()
		n.process = nil
	}
}

func (n *realNode) dial() *Client {
	n.t.Helper()
	c, err := Dial(n.t.Context(), Config{ChainID: realChain, GRPC: []string{n.ports[1]}, RPC: []string{"http://" + n.ports[0]}})
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestRealNode(t *testing.T) {
	rich, poor := secret(t, 0), secret(t, 1)
	n := startNode(t, string(rich.Account())+"=1000000000ufal,500000000ucredit")
	c := n.dial()
	s := c.Sender(rich, Options{})

	t.Run("balance", func(t *testing.T) {
		b, err := c.Balance(t.Context(), rich.Account())
		if err != nil || b.Tokens != 1_000_000_000 || b.Credits != 500_000_000 {
			t.Errorf("%+v, %v", b, err)
		}
		if ok, err := c.Exists(t.Context(), poor.Account()); err != nil || ok {
			t.Errorf("exists: %v, %v", ok, err)
		}
	})
	t.Run("send", func(t *testing.T) {
		begun := time.Now()
		tx, err := s.Transfer(t.Context(), poor.Account(), 12345)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("in block %d after %s: %d bytes, %d of %d gas, %d ufal", tx.Height, time.Since(begun), tx.Bytes, tx.GasUsed, tx.GasWanted, tx.Fee)
		b, err := c.Balance(t.Context(), poor.Account())
		if err != nil || b.Tokens != 12345 {
			t.Errorf("received %+v, %v", b, err)
		}
		found, err := c.Find(t.Context(), tx.Hash, tx.Height, tx.Height)
		if err != nil || found.Bytes != tx.Bytes || found.GasUsed != tx.GasUsed {
			t.Errorf("found %+v, %v", found, err)
		}
	})
	t.Run("refusals", func(t *testing.T) {
		_, err := s.Transfer(t.Context(), poor.Account(), 1<<60)
		var r *RefusalError
		if !errors.As(err, &r) || r.Codespace != "sdk" || r.Code != 5 {
			t.Errorf("funds: %v", err)
		}
		t.Log(err)
		if _, err := c.Sender(secret(t, 5), Options{}).Transfer(t.Context(), poor.Account(), 1); !errors.Is(err, ErrNoAccount) {
			t.Errorf("no account: %v", err)
		}
		wrong := n.dial()
		wrong.config.ChainID = "elsewhere"
		if _, err := wrong.Sender(rich, Options{}).Transfer(t.Context(), poor.Account(), 1); err == nil {
			t.Error("a signature for another chain was taken")
		} else {
			t.Log(err)
		}
	})
	t.Run("many", func(t *testing.T) {
		before, err := c.Balance(t.Context(), poor.Account())
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() {
				if _, err := s.Transfer(t.Context(), poor.Account(), Tokens(1000+i)); err != nil {
					t.Errorf("%d: %v", i, err)
				}
			})
		}
		all.Wait()
		t.Logf("100 transfers in %s", time.Since(begun))
		after, err := c.Balance(t.Context(), poor.Account())
		if err != nil || after.Tokens-before.Tokens != 104950 {
			t.Errorf("moved %d, %v", after.Tokens-before.Tokens, err)
		}
	})
	t.Run("two senders", func(t *testing.T) {
		other := n.dial().Sender(rich, Options{})
		var all sync.WaitGroup
		for i := range 6 {
			all.Go(func() {
				from := s
				if i%2 == 1 {
					from = other
				}
				if _, err := from.Transfer(t.Context(), poor.Account(), 1); err != nil {
					t.Errorf("%d: %v", i, err)
				}
			})
		}
		all.Wait()
	})
	t.Run("restart", func(t *testing.T) { restart(t, n, c, s, poor) })
}

// restart kills the node with transactions in flight and with a follower, and
// brings it back.
func restart(t *testing.T, n *realNode, c *Client, s *Sender, poor *keys.Secret) {
	t.Helper()
	before, err := c.Balance(t.Context(), poor.Account())
	if err != nil {
		t.Fatal(err)
	}
	head, err := c.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var following sync.WaitGroup
	enough := errors.New("enough")
	following.Go(func() {
		next := head.Height + 1
		err := c.Follow(ctx, next, func(b Block) error {
			if b.Height != next {
				t.Errorf("block %d came for %d", b.Height, next)
			}
			if next++; next > head.Height+20 {
				return enough
			}
			return nil
		})
		if !errors.Is(err, enough) {
			t.Errorf("follow: %v", err)
		}
	})
	var all sync.WaitGroup
	for i := range 30 {
		all.Go(func() {
			time.Sleep(time.Duration(i) * 20 * time.Millisecond)
			for {
				_, err := s.Transfer(ctx, poor.Account(), 100)
				if Away(err) { // not sent: again
					time.Sleep(100 * time.Millisecond)
					continue
				}
				if err != nil {
					t.Errorf("%d: %v", i, err)
				}
				return
			}
		})
	}
	time.Sleep(300 * time.Millisecond)
	n.kill()
	time.Sleep(500 * time.Millisecond)
	n.start()
	all.Wait()
	after, err := c.Balance(t.Context(), poor.Account())
	if err != nil || after.Tokens-before.Tokens != 3000 {
		t.Errorf("moved %d, want 3000: %v", after.Tokens-before.Tokens, err)
	}
	following.Wait()
}
