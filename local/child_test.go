//go:build unix

package local

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// told gathers what is told.
type told struct {
	mu    sync.Mutex
	lines []string
}

func (s *told) tell(party, what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, party+" "+what)
}

func (s *told) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.lines, "\n")
}

// sh is a party that runs a script.
func sh(name, script string) party { return party{name: name, argv: []string{"/bin/sh", "-c", script}} }

// until waits for what a process does.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("did not happen: %s", what)
		}
	}
}

func TestChildComesBack(t *testing.T) {
	dir := t.TempDir()
	var said told
	c := &child{party: sh("p", "echo run; exit 3"), log: filepath.Join(dir, "p.log"), restart: true, events: said.tell, backoff: time.Millisecond}
	ctx, cancel := context.WithCancel(t.Context())
	var pids []int
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.run(ctx, func(pid int) { pids = append(pids, pid) })
	}()
	until(t, "four ends", func() bool { return c.ends.Load() >= 4 })
	cancel()
	<-done
	for _, w := range []string{"p ended (exit status 3); back in 1ms", "back in 2ms", "back in 4ms"} {
		if !strings.Contains(said.String(), w) {
			t.Errorf("lacks %q:\n%s", w, &said)
		}
	}
	if len(pids) < 4 || lastLines(c.log, 1000) != strings.Repeat("run\n", len(pids)) {
		t.Errorf("%d starts left %q", len(pids), lastLines(c.log, 1000))
	}
	if got := lastLines(c.log, 7); got != "run\n" {
		t.Errorf("a cut log ends with %q", got)
	}
	if st, err := os.Stat(c.log); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the log: %v, %v", st, err)
	}
}

func TestChildStaysAway(t *testing.T) {
	var said told
	c := &child{party: sh("p", "exit 0"), log: filepath.Join(t.TempDir(), "p.log"), events: said.tell}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	starts := 0
	go func() {
		defer close(done)
		c.run(ctx, func(int) { starts++ })
	}()
	until(t, "its end", func() bool { return strings.Contains(said.String(), "stays away") })
	select {
	case <-done:
		t.Error("it is waited for no longer")
	case <-time.After(20 * time.Millisecond):
	}
	cancel()
	<-done
	if starts != 1 {
		t.Errorf("started %d times", starts)
	}
}

func TestChildThatIsMissing(t *testing.T) {
	c := &child{party: party{name: "p", argv: []string{"/nowhere/fallow"}}, log: filepath.Join(t.TempDir(), "p.log")}
	if err := c.once(t.Context(), func(int) { t.Error("it started") }); err == nil || !strings.Contains(err.Error(), "start fallow") {
		t.Errorf("got %v", err)
	}
}

// patient writes its name once it is asked to leave, after a while.
func patient(name, order string, wait float64) party {
	return sh(name, fmt.Sprintf("trap 'sleep %g; echo %s >>%s; exit 0' TERM; echo up; while :; do sleep 0.01; done", wait, name, order))
}

// testUp is a network without anything made.
func testUp(t *testing.T, said *told) *up {
	t.Helper()
	c := Default(t.TempDir())
	if err := os.MkdirAll(filepath.Join(c.Dir, "logs"), 0o700); err != nil {
		t.Fatal(err)
	}
	return &up{Config: c, events: said.tell, children: map[string]*child{}, running: Running{Parties: map[string]int{}}}
}

// Providers leave first, then hubs, then the node, each when the layer after it has gone.
func TestStopOrder(t *testing.T) {
	var said told
	u := testUp(t, &said)
	order := filepath.Join(u.Dir, "order")
	u.launch(t.Context(), []party{patient("node", order, 0)})
	u.launch(t.Context(), []party{patient("hub-1", order, 0.1)})
	u.launch(t.Context(), []party{patient("provider-1", order, 0.1), patient("provider-2", order, 0.3)})
	for _, name := range []string{"node", "hub-1", "provider-1", "provider-2"} {
		until(t, name+" up", func() bool { return strings.Contains(lastLines(u.logFile(name), 100), "up") })
	}
	var r Running
	until(t, "four parties written down", func() bool {
		r, _ = readRunning(u.Dir)
		return len(r.Parties) == 4
	})
	if !Alive(r.Parties["provider-2"]) {
		t.Errorf("who runs: %+v", r)
	}
	u.stop()
	b, err := os.ReadFile(order)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(strings.Fields(string(b)), " "); got != "provider-1 provider-2 hub-1 node" {
		t.Errorf("left in the order %q", got)
	}
	for name, pid := range r.Parties {
		if Alive(pid) {
			t.Errorf("%s runs on", name)
		}
	}
	if s := said.String(); s != "" {
		t.Errorf("told of an end that was asked for: %s", s)
	}
}

// A party that can't start is told at once and not after a minute.
func TestAwait(t *testing.T) {
	var said told
	u := testUp(t, &said)
	u.Restart = false
	u.launch(t.Context(), []party{sh("node", "echo no such genesis; exit 1")})
	defer u.stop()
	begun := time.Now()
	err := u.await(t.Context(), "node", func(context.Context) error { return os.ErrNotExist })
	if err == nil || !strings.Contains(err.Error(), "ends as soon as it starts") || !strings.Contains(err.Error(), "no such genesis") {
		t.Errorf("got %v", err)
	}
	if d := time.Since(begun); d > readyWait/2 {
		t.Errorf("after %s", d)
	}

	u.launch(t.Context(), []party{sh("hub-1", "echo thinking; sleep 60")})
	tries := 0
	if err := u.await(t.Context(), "hub-1", func(context.Context) error {
		if tries++; tries < 3 {
			return os.ErrNotExist
		}
		return nil
	}); err != nil || tries != 3 {
		t.Errorf("after %d tries: %v", tries, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := u.await(ctx, "hub-1", func(context.Context) error { return os.ErrNotExist }); err == nil || !strings.Contains(err.Error(), "hub-1 does not answer") {
		t.Errorf("got %v", err)
	}
}
