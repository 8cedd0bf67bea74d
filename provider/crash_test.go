package provider

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"fallow.network"
	"fallow.network/blob"
	"fallow.network/receipt"
	"fallow.network/settle"
	"fallow.network/wire"
)

// crashHome tells a copy of this test program to be a daemon, to be killed.
const crashHome = "FALLOW_TEST_CRASH_HOME"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashHome); dir != "" {
		if err := crashDaemon(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if guestChild() {
		return
	}
	os.Exit(m.Run())
}

// crashState is what the killed daemon and its test share on disk: the ledger.
type crashState struct {
	Leases []settle.Lease
}

// quick is a sandbox whose every run writes a line, so that runs are counted
// over many lives of the daemon; results depend on the task alone.
type quick struct{ log *os.File }

func (q quick) Start(context.Context, fallow.LeaseID, uint32) (Sandbox, error) { return q, nil }
func (q quick) Close() error                                                   { return nil }
func (q quick) Run(_ context.Context, j Job) (Result, error) {
	if _, err := fmt.Fprintf(q.log, "%d\n", j.Task.Task); err != nil {
		return Result{}, err
	}
	time.Sleep(time.Millisecond)
	out := fmt.Appendf(nil, "output of %d", j.Task.Task)
	return Result{Gas: 1000, Outcome: receipt.Exited, Outputs: []Output{{receipt.Output{Path: "o", Digest: fallow.Sum(out), Size: uint64(len(out))}, out}}}, nil
}

// crashDaemon runs a daemon on a home until it is killed or its input ends.
func crashDaemon(dir string) error {
	b, err := os.ReadFile(filepath.Join(dir, "ledger.json"))
	if err != nil {
		return err
	}
	var state crashState
	if err := json.Unmarshal(b, &state); err != nil {
		return err
	}
	ledger := newFakeLedger()
	for _, l := range state.Leases {
		ledger.leases[l.ID] = &l
	}
	log, err := os.OpenFile(filepath.Join(dir, "runs"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	t := &testing.T{}
	w := &world{t: t, dir: dir, ledger: ledger, watch: &fakeWatcher{}, node: testNode()}
	w.config = Default()
	w.config.Home, w.config.Provider = filepath.Join(dir, "provider"), wire.Address(mustClientKey("owner"))
	w.config.StatusAddr, w.config.Slots = "127.0.0.1:0", 4
	if w.store, err = blob.Open(context.Background(), blob.Config{Dir: filepath.Join(dir, "blobs")}); err != nil {
		return err
	}
	deps := w.deps(nil)
	deps.Runner = quick{log}
	deps.Listen = func(_ context.Context, h http.Handler) (Courier, error) {
		s := h2c(t, h)
		fmt.Println(s.URL) // the test waits for this line
		return &fakeCourier{server: s, moved: make(chan struct{})}, nil
	}
	d, err := New(context.Background(), w.config, deps)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	return d.Run(ctx)
}

// life is one run of the daemon in a process of its own.
type life struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	url string
}

func (w *world) live(t *testing.T) *life {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), crashHome+"="+w.dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
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
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the daemon did not start: %v\n%s", errors.Join(err, cmd.Wait()), stderr.String())
	}
	return &life{cmd, in, line[:len(line)-1]}
}

func (l *life) kill(t *testing.T) {
	t.Helper()
	if err := l.cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = l.cmd.Wait() // it was killed
}

// TestKillMinusNine kills the daemon again and again in the middle of work:
// every task ends with one receipt, always the same, and what has a receipt
// never runs again.
func TestKillMinusNine(t *testing.T) {
	const tasks, lives = 400, 5
	w := newWorld(t, func(w *world) { w.node = testNode() })
	c := w.tenant("anna", 10_000_000)
	c.rent(1_000_000, nil)
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	w.stop = nil
	b, err := json.Marshal(crashState{Leases: []settle.Lease{*w.ledger.leases[c.lease]}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.dir, "ledger.json"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	seen := map[uint32]string{} // the receipts that any life has sent
	note := func(k *work) {
		for i, r := range k.receipts {
			if old, ok := seen[r.Task]; ok && old != string(k.signed[i].Message) {
				t.Fatalf("two receipts for task %d", r.Task)
			}
			seen[r.Task] = string(k.signed[i].Message)
		}
	}
	for i := range lives {
		l := w.live(t)
		w.url = l.url
		k := c.connect()
		sent := sync.WaitGroup{}
		sent.Go(func() {
			for n := range uint32(tasks) {
				if k.stream.Send(taskRequest(c, n)) != nil {
					return // killed
				}
			}
		})
		if i < lives-1 {
			// A bit further in each life.
			for len(k.receipts) < len(seen)+20+i*7 && len(k.receipts) < tasks {
				k.next("a receipt", hasReceipt)
			}
			l.kill(t)
			for m := range k.in {
				k.take(m)
			}
		} else {
			for len(seen) < tasks {
				k.next("a receipt", hasReceipt)
				note(k)
			}
		}
		sent.Wait()
		note(k)
		k.close()
		if i == lives-1 {
			if err := l.in.Close(); err != nil {
				t.Error(err)
			}
			if err := l.cmd.Wait(); err != nil {
				t.Error(err)
			}
		}
		if runs := countLines(t, filepath.Join(w.dir, "runs")); i == lives-1 && (runs < tasks || runs > tasks+lives*300) {
			t.Errorf("%d runs of %d tasks", runs, tasks)
		}
	}
	db, err := sql.Open("sqlite", w.config.journalFile())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	var n, distinct int
	if err := db.QueryRowContext(t.Context(), `SELECT count(*), count(DISTINCT task) FROM receipts`).Scan(&n, &distinct); err != nil {
		t.Fatal(err)
	}
	if n != tasks || distinct != tasks {
		t.Errorf("%d receipts for %d of %d tasks", n, distinct, tasks)
	}
}

func countLines(t *testing.T, path string) int {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Count(b, []byte("\n"))
}
