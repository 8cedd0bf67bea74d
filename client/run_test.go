package client

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"fallow.network"
	"fallow.network/formats"
)

// bench is a market with a tenant.
type stage struct {
	t       *testing.T
	net     *testNet
	ledger  *testLedger
	machine *testMachine
	config  Config
	dir     string
	leave   bool // jobs wait for no closing

	mu     sync.Mutex
	events []Event
}

func newStage(t *testing.T) *stage {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"module.wasm": "\x00asm\x01\x00\x00\x00 and so on", "scene.txt": "a teapot"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := Default()
	c.Home, c.ChainID, c.Tenant = filepath.Join(dir, "home"), testChain, newTestIdentity("tenant").account()
	c.AnswerWait, c.DemandLife, c.GoneAfter, c.DialTimeout = 100*time.Millisecond, time.Second, 300*time.Millisecond, 500*time.Millisecond
	c.VoucherEvery, c.StragglerMin, c.Patience = 50*time.Millisecond, 300*time.Millisecond, 10*time.Second
	c.DebtWait = time.Second
	return &stage{t: t, net: &testNet{urls: map[fallow.Key]string{}}, ledger: newTestLedger(50_000_000), machine: &testMachine{}, config: c, dir: dir}
}

func (s *stage) provider(name string, gasPrice uint64) *testProvider {
	return startProvider(s.t, s.net, s.ledger, name, gasPrice)
}

func (s *stage) hub(name string, providers ...*testProvider) *testHub {
	h := startHub(s.t, s.net, name, providers...)
	s.config.Hubs = append(s.config.Hubs, h.addr())
	return h
}

// client opens the home, as a process that starts does.
func (s *stage) client() *Client {
	s.t.Helper()
	c, err := New(context.Background(), s.config, Ports{Ledger: s.ledger, Books: s.ledger, Network: s.net, Identity: newTestIdentity("tenant"), Machine: s.machine})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.Close() })
	return c
}

func (s *stage) watch(e Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, e)
	if testing.Verbose() {
		s.t.Logf("%T %+v", e, e)
	}
}

func count[T Event](s *stage, where func(T) bool) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.events {
		if v, ok := e.(T); ok && (where == nil || where(v)) {
			n++
		}
	}
	return n
}

// job is a job of n tasks.
func (s *stage) job(n int, change func(*formats.Job)) *formats.Job {
	s.t.Helper()
	text := fmt.Sprintf(`
name: film
module: module.wasm
foreach: {n: 1..%d}
args: [film, "${n}"]
inputs: {scene.txt: scene.txt}
outputs: ["*.txt", "*.bin"]
limits: {gas: 2M, memory: 1MiB, output: 8MiB, scratch: 0, wall: 20s}
budget: 5
`, n)
	j, err := formats.Parse("job.yaml", []byte(text), Folder(s.dir))
	if err != nil {
		s.t.Fatal(err)
	}
	if change != nil {
		change(j)
	}
	return j
}

func (s *stage) submit(c *Client, j *formats.Job) JobID {
	s.t.Helper()
	o := OptionsOf(j)
	o.Out, o.Leave = filepath.Join(s.dir, "out"), s.leave
	id, err := c.Submit(context.Background(), j, Folder(s.dir), o)
	if err != nil {
		s.t.Fatal(err)
	}
	return id
}

func (s *stage) run(j *formats.Job) (*Client, *Bill, error) {
	s.t.Helper()
	c := s.client()
	id := s.submit(c, j)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	bill, err := c.Run(ctx, id, s.watch)
	return c, bill, err
}

// whole checks that every task's outputs lie in their place and are right,
// that the books agree and that nothing is left open.
func (s *stage) whole(c *Client, b *Bill, providers ...*testProvider) {
	s.t.Helper()
	if b.State != StateDone || b.Done != b.Tasks {
		s.t.Errorf("state %s, %d of %d tasks", b.State, b.Done, b.Tasks)
	}
	outputs, err := c.Outputs(context.Background(), b.Job)
	if err != nil {
		s.t.Fatal(err)
	}
	tasks := map[uint32]bool{}
	for _, o := range outputs {
		got, err := os.ReadFile(o.File)
		if err != nil {
			s.t.Error(err)
		}
		if fallow.Sum(got) != o.Digest {
			s.t.Errorf("%s does not hash to its digest", o.File)
		}
		if o.Path == "out.txt" {
			tasks[o.Task] = true
			if !strings.HasPrefix(string(got), fmt.Sprintf("result of film %d", o.Task+1)) {
				s.t.Errorf("%s holds %q", o.File, got)
			}
		}
	}
	if len(tasks) != b.Tasks {
		s.t.Errorf("outputs of %d tasks, want %d", len(tasks), b.Tasks)
	}
	if n := s.ledger.openLeases(); n != 0 {
		s.t.Errorf("%d leases are still open", n)
	}
	for _, p := range providers {
		var paid fallow.Pico
		for _, l := range b.Providers {
			if l.Provider == p.account {
				paid = plus(paid, l.Paid)
			}
		}
		// Who is dead gets its last voucher when it comes back.
		if got := p.paid(); got != paid && !p.isDead() {
			s.t.Errorf("a provider holds vouchers over %s, the bill says %s", got, paid)
		}
	}
	left, err := os.ReadDir(filepath.Join(s.dir, "out"))
	if err != nil {
		s.t.Error(err)
	}
	for _, f := range left {
		if strings.HasPrefix(f.Name(), ".partial") {
			s.t.Errorf("%s is left behind", f.Name())
		}
	}
}

func TestOneJobOfHonestProviders(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a, b := s.provider("a", 1_000_000), s.provider("b", 2_000_000)
	b.noInline = true
	s.hub("hub", a, b)
	c, bill, err := s.run(s.job(12, nil))
	if err != nil {
		t.Fatal(err)
	}
	s.whole(c, bill, a, b)
	if bill.Paid.IsZero() || bill.Paid != bill.Charged || len(bill.Transactions) < 2 || bill.ChainBytes == 0 || bill.FirstOutput <= 0 || bill.Speed == nil {
		t.Errorf("bill: %+v", bill)
	}
	if bill.Checks.Agreed < 3 || bill.Checks.Wrong != 0 || s.machine.runs == 0 {
		t.Errorf("the first three tasks of a newcomer are to be checked: %+v", bill.Checks)
	}
	if a.runs() == 0 || b.runs() == 0 {
		t.Errorf("runs: %d and %d", a.runs(), b.runs())
	}
	if !a.finished[1] && !a.finished[2] {
		t.Error("the provider was not told that the job is done")
	}
	if n := s.ledger.calls["open"]; n != 1 {
		t.Errorf("%d transactions to open leases, want one for all", n)
	}
	again, err := c.Run(context.Background(), bill.Job, nil)
	if err != nil || again.Paid != bill.Paid {
		t.Errorf("a job that has ended: %v, %v", again, err)
	}
	jobs, err := c.Jobs(context.Background())
	if err != nil || len(jobs) != 1 || jobs[0].Done != 12 || jobs[0].Paid != bill.Paid {
		t.Errorf("jobs: %+v, %v", jobs, err)
	}
}

func TestNoOffersSaysWhy(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a, b := s.provider("a", 1), s.provider("b", 1)
	a.decline, b.decline = fallow.ReasonPaused, fallow.ReasonTooLarge
	s.hub("hub", a, b)
	_, bill, err := s.run(s.job(2, nil))
	var none *NoOffersError
	if !errors.As(err, &none) || len(none.Declined) != 2 || !strings.Contains(err.Error(), "paused lending") || !strings.Contains(err.Error(), string(b.account)) {
		t.Fatalf("got %v", err)
	}
	if bill.State != StateFailed || !strings.Contains(bill.Reason, "no offers") {
		t.Errorf("%s: %s", bill.State, bill.Reason)
	}
}

func TestCapacityThatIsTakenIsWaitedFor(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a := s.provider("a", 1_000_000)
	a.decline = fallow.ReasonNoCapacity
	s.hub("hub", a)
	go func() {
		for count[Declined](s, nil) == 0 {
			time.Sleep(5 * time.Millisecond)
		}
		a.mu.Lock()
		a.decline = ""
		a.mu.Unlock()
	}()
	c, bill, err := s.run(s.job(2, nil))
	if err != nil {
		t.Fatal(err)
	}
	s.whole(c, bill, a)
}
