//go:build linux

package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"fallow.network/trace"
)

// story is what one script has started.
type story struct {
	home    string
	running map[string]*process
	parties map[string]int // of the network as last seen, to see that they end
	until   time.Time
	// collector takes the story's spans, once it began.
	collector *collector
}

type storyKey struct{}

func storyOf(ts *testscript.TestScript) *story { return ts.Value(storyKey{}).(*story) }

// left is the time that the story still has, at most most.
func (s *story) left(most time.Duration) time.Duration { return min(most, time.Until(s.until)) }

// process is a command of a story in the background.
type process struct {
	cmd      *exec.Cmd
	out, err output
	done     chan struct{}
}

// output can be read while it is written.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// launch starts fallow, or fallowd where that is the first word. It ends with
// the test's own process, however that ends.
func launch(ts *testscript.TestScript, args ...string) (*process, error) {
	bin := "fallow"
	if args[0] == "fallowd" {
		bin, args = args[0], args[1:]
	}
	cmd := exec.Command(filepath.Join(root, "build", bin), args...)
	cmd.Dir = ts.MkAbs(".")
	for _, v := range []string{"PATH", "HOME", "TMPDIR", "FALLOW_HOME", "COLUMNS", trace.Variable} {
		cmd.Env = append(cmd.Env, v+"="+ts.Getenv(v))
	}
	return background(cmd, syscall.SIGTERM)
}

// background starts a command, which gets the signal when the test's own process ends.
func background(cmd *exec.Cmd, orphaned syscall.Signal) (*process, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: orphaned}
	p := &process{cmd: cmd, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &p.out, &p.err
	// What outlives it, as a detached network, must not hold its streams.
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = cmd.Wait() // the exit code is read from the state
		close(p.done)
	}()
	return p, nil
}

// wait gives the exit code, or -1 with the signal's name when it was killed.
func (p *process) wait(most time.Duration) (int, error) {
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode(), nil
	case <-time.After(most):
		return 0, fmt.Errorf("still running after %s", most.Round(time.Second))
	}
}

// kill ends it at once.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// up is the local network's own account of who runs.
type up struct {
	PID     int            `json:"pid"`
	Ready   bool           `json:"ready"`
	Parties map[string]int `json:"parties"`
}

func (s *story) readUp() (up, error) {
	var u up
	b, err := os.ReadFile(filepath.Join(s.home, "local", "up.json"))
	if err != nil {
		return u, err
	}
	if err := json.Unmarshal(b, &u); err != nil {
		return u, err
	}
	s.parties = u.Parties
	return u, nil
}

// pid finds a process by its name in the story, or a party of the network.
func (s *story) pid(name string) (int, error) {
	if p := s.running[name]; p != nil {
		return p.cmd.Process.Pid, nil
	}
	u, err := s.readUp()
	if err != nil {
		return 0, err
	}
	if pid := u.Parties[name]; pid > 0 {
		return pid, nil
	}
	return 0, fmt.Errorf("nothing called %s runs", name)
}

// runs says whether a process does anything still: one that waits to be reaped
// does not.
func runs(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, after, ok := strings.Cut(string(b), ") ")
	return ok && !strings.HasPrefix(after, "Z")
}

// network is the name under which the network in the foreground runs.
const network = "up"

// endAll ends everything that the story started, and fails when the network
// could not end by itself.
func (s *story) endAll() error {
	var errs []error
	for name, p := range s.running {
		if name != network {
			p.kill()
		}
	}
	u, err := s.readUp()
	if err == nil && runs(u.PID) {
		for _, pid := range u.Parties { // a stopped one could not leave
			_ = syscall.Kill(pid, syscall.SIGCONT)
		}
		_ = syscall.Kill(u.PID, syscall.SIGTERM)
		if !eventually(40*time.Second, func() bool { return !runs(u.PID) }) {
			errs = append(errs, errors.New("the network did not end in 40 s"))
			_ = syscall.Kill(u.PID, syscall.SIGKILL)
		}
	}
	if p := s.running[network]; p != nil {
		p.kill()
	}
	for name, pid := range s.parties {
		if !eventually(2*time.Second, func() bool { return !runs(pid) }) {
			errs = append(errs, fmt.Errorf("%s was left running", name))
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	return errors.Join(errs...)
}

// eventually polls until ok, for as long as wait.
func eventually(wait time.Duration, ok func() bool) bool {
	for end := time.Now().Add(wait); ; time.Sleep(50 * time.Millisecond) {
		if ok() {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}
