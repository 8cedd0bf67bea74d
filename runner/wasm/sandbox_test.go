package wasm

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fallow.network"
	"fallow.network/receipt"
)

func TestRunSays(t *testing.T) {
	s := open(t, 1)
	task, _ := taskOf(t, says(t, "hello"))
	first := mustRun(t, s, task)
	if first.Outcome != receipt.Exited || first.ExitCode != 0 || string(outputOf(t, first, "stdout")) != "hello" || first.Gas == 0 {
		t.Fatalf("got %+v", first)
	}
	again := mustRun(t, s, task)
	if again.Gas != first.Gas || again.Digest() != first.Digest() {
		t.Errorf("the second run differs: %+v", again)
	}
	task.Bare = true
	bare := mustRun(t, s, task)
	if bare.Gas != 0 || bare.Digest() != first.Digest() || bare.Outcome != first.Outcome {
		t.Errorf("the bare run differs: %+v", bare)
	}
}

// running waits until a sandbox's child is busy, and gives its process.
func running(t *testing.T, s *Sandbox) int {
	t.Helper()
	for range 500 {
		time.Sleep(10 * time.Millisecond)
		s.mu.Lock()
		idle := len(s.idle)
		s.mu.Unlock()
		if all := children(t, os.Getpid()); len(s.turn) == 1 && idle == 0 && len(all) > 0 {
			return all[0]
		}
	}
	t.Fatal("no child is running")
	return 0
}

func TestWallTime(t *testing.T) {
	s := open(t, 1)
	task, _ := taskOf(t, endless(t))
	task.Limits.Gas, task.Wall = 1<<60, 200*time.Millisecond
	_, err := s.Run(t.Context(), task)
	wantAbort(t, err, fallow.ReasonTimeout, "200ms")
	if left := children(t, os.Getpid()); len(left) > 0 {
		t.Errorf("children are left: %v", left)
	}
	task, _ = taskOf(t, says(t, "after"))
	if r := mustRun(t, s, task); string(outputOf(t, r, "stdout")) != "after" {
		t.Error("the next task fails")
	}
}

func TestCancel(t *testing.T) {
	s := open(t, 1)
	task, _ := taskOf(t, endless(t))
	task.Limits.Gas = 1 << 60
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := s.Run(ctx, task)
		done <- err
	}()
	pid := running(t, s)
	// A second task waits for its turn, and no longer than its context.
	short, stop := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer stop()
	if _, err := s.Run(short, task); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a task that waits for its turn: %v", err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled task: %v", err)
	}
	gone(t, pid)
}

func TestCloseDuringARun(t *testing.T) {
	s := open(t, 1)
	task, _ := taskOf(t, endless(t))
	task.Limits.Gas = 1 << 60
	done := make(chan error, 2)
	for range 2 { // one that runs and one that waits
		go func() {
			_, err := s.Run(t.Context(), task)
			done <- err
		}()
	}
	pid := running(t, s)
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for range 2 {
		if err := <-done; !errors.Is(err, ErrClosed) {
			t.Errorf("a run in a closed sandbox: %v", err)
		}
	}
	gone(t, pid)
	if _, err := s.Run(t.Context(), task); !errors.Is(err, ErrClosed) {
		t.Errorf("a run after the close: %v", err)
	}
	if err := s.Warm(); !errors.Is(err, ErrClosed) {
		t.Errorf("warming after the close: %v", err)
	}
}

func TestChildKilled(t *testing.T) {
	s := open(t, 1)
	task, _ := taskOf(t, endless(t))
	task.Limits.Gas = 1 << 60
	done := make(chan error)
	go func() {
		_, err := s.Run(t.Context(), task)
		done <- err
	}()
	first := running(t, s)
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	wantAbort(t, <-done, fallow.ReasonAborted, "killed")
	next, _ := taskOf(t, noop(t))
	mustRun(t, s, next)
	second := children(t, os.Getpid())
	if len(second) != 1 || second[0] == first {
		t.Errorf("children %v after %d was killed", second, first)
	}
	// One that dies between two tasks costs neither of them anything.
	if err := syscall.Kill(second[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for range 500 {
		s.mu.Lock()
		alive := s.idle[0].alive()
		s.mu.Unlock()
		if !alive {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	mustRun(t, s, next)
	if third := children(t, os.Getpid()); len(third) != 1 || third[0] == second[0] {
		t.Errorf("children %v after %v was killed", third, second)
	}
}

// TestTwoAtOnce shows that two slots are two processes at the same time.
func TestTwoAtOnce(t *testing.T) {
	s := open(t, 2)
	if err := s.Warm(); err != nil {
		t.Fatal(err)
	}
	slow, _ := taskOf(t, endless(t))
	slow.Limits.Gas = 1 << 60
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := s.Run(ctx, slow)
		done <- err
	}()
	running(t, s)
	task, _ := taskOf(t, says(t, "beside"))
	if r := mustRun(t, s, task); string(outputOf(t, r, "stdout")) != "beside" {
		t.Error("the second slot fails")
	}
	if all := children(t, os.Getpid()); len(all) != 2 {
		t.Errorf("children %v, want 2", all)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestNothingIsLeft(t *testing.T) {
	threads := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	goroutines, files := runtime.NumGoroutine(), threads()
	for range 3 {
		s := runnerWith(t, Config{}, ChildVerb).Open(2)
		task, _ := taskOf(t, noop(t))
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() { mustRun(t, s, task) })
		}
		all.Wait()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if left := children(t, os.Getpid()); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
	if n := runtime.NumGoroutine(); n > goroutines {
		t.Errorf("%d goroutines, %d before", n, goroutines)
	}
	if n := threads(); n > files {
		t.Errorf("%d files, %d before", n, files)
	}
}

// TestParentKilled kills a program in the middle of two runs.
func TestParentKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "endless.wasm")
	if err := os.WriteFile(path, endless(t), 0o600); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, parentVerb, path)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pids []int
	for range 500 {
		if pids = children(t, cmd.Process.Pid); len(pids) == 2 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the parent ended well")
	}
	if len(pids) != 2 {
		t.Fatalf("the parent had children %v", pids)
	}
	for _, pid := range pids {
		gone(t, pid)
	}
}

// onThreadThatEnds runs f on a thread that ends with it.
func onThreadThatEnds(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if unix.Gettid() == os.Getpid() { // the first thread never ends
			onThreadThatEnds(f)
			runtime.UnlockOSThread()
			return
		}
		f()
	}()
	<-done
}

// TestThreadsThatEnd has many threads of this process end after children were
// asked for on them. Linux ends a child with the thread that started it, so
// none of them may have.
func TestThreadsThatEnd(t *testing.T) {
	s := open(t, 2)
	task, _ := taskOf(t, noop(t))
	var known []int
	for range 10 {
		var all sync.WaitGroup
		for range 2 {
			all.Go(func() { onThreadThatEnds(func() { mustRun(t, s, task) }) })
		}
		all.Wait()
		time.Sleep(10 * time.Millisecond)
		now := children(t, os.Getpid())
		for _, pid := range known {
			if !slices.Contains(now, pid) {
				t.Fatalf("child %d ended; there are %v", pid, now)
			}
		}
		known = now
	}
	if len(known) == 0 {
		t.Error("there is no child")
	}
}

func TestWarm(t *testing.T) {
	s := open(t, 2)
	if err := s.Warm(); err != nil {
		t.Fatal(err)
	}
	before := children(t, os.Getpid())
	task, _ := taskOf(t, noop(t))
	mustRun(t, s, task)
	if after := children(t, os.Getpid()); len(before) != 1 || !slices.Equal(before, after) {
		t.Errorf("children %v before and %v after the first task", before, after)
	}
}

func TestNoChildToStart(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("a runner without a command")
	}
	r, err := New(Config{Child: []string{filepath.Join(t.TempDir(), "nothing")}})
	if err != nil {
		t.Fatal(err)
	}
	s := r.Open(1)
	defer func() { _ = s.Close() }()
	task, _ := taskOf(t, noop(t))
	if _, err := s.Run(t.Context(), task); err == nil || !strings.Contains(err.Error(), "start a sandbox") {
		t.Errorf("got %v", err)
	}
	if err := s.Warm(); err == nil {
		t.Error("it is warm")
	}
}
