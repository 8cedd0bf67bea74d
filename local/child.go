package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
)

// stopWait is how long a party may take to settle and leave.
const stopWait = 20 * time.Second

// child is a party's process, brought back when it dies unless told not to.
type child struct {
	party
	log     string
	restart bool
	events  func(name, what string)
	backoff time.Duration // before it is brought back for the first time
	ends    atomic.Int32  // how often it ended by itself
	figures *figures      // may be nil
}

// Bringing a party back: at once it may meet what ended it, so wait, longer
// each time, and begin again when it has stood for a while.
const (
	firstBackoff = time.Second
	mostBackoff  = 15 * time.Second
	stands       = time.Minute
)

// run keeps the party up until ctx ends, then lets it leave in peace.
func (c *child) run(ctx context.Context, started func(pid int)) {
	backoff := c.backoff
	for {
		begun := time.Now()
		err := c.once(ctx, started)
		if ctx.Err() != nil {
			return
		}
		c.ends.Add(1)
		c.figures.end(c.name)
		if !c.restart {
			c.events(c.name, fmt.Sprintf("ended (%v) and stays away", err))
			<-ctx.Done()
			return
		}
		if time.Since(begun) > stands {
			backoff = c.backoff
		}
		c.events(c.name, fmt.Sprintf("ended (%v); back in %s", err, backoff))
		select {
		case <-ctx.Done():
			return
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, mostBackoff)
	}
}

// once starts the process and waits for its end. The process is not tied to
// ctx: it gets a SIGTERM when ctx ends, and a SIGKILL only after stopWait.
func (c *child) once(ctx context.Context, started func(pid int)) error {
	f, err := os.OpenFile(c.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // the process writes it
	cmd := exec.CommandContext(ctx, c.argv[0], c.argv[1:]...)
	cmd.Cancel = func() error { return ask(cmd.Process) }
	cmd.WaitDelay = stopWait
	cmd.Stdout, cmd.Stderr = f, f
	cmd.SysProcAttr = childAttributes()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", filepath.Base(c.argv[0]), err)
	}
	c.figures.stands(c.name, 1)
	defer c.figures.stands(c.name, 0)
	started(cmd.Process.Pid)
	err = cmd.Wait()
	if err == nil {
		err = errors.New("exit status 0")
	}
	return err
}

// lastLines is the end of a party's log, for an error that names the cause.
func lastLines(path string, n int64) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	cut := false
	if st, err := f.Stat(); err == nil && st.Size() > n {
		if _, err := f.Seek(-n, io.SeekEnd); err != nil {
			return ""
		}
		cut = true
	}
	b, err := io.ReadAll(io.LimitReader(f, n))
	if err != nil {
		return ""
	}
	if _, whole, ok := strings.Cut(string(b), "\n"); ok && cut {
		return whole
	}
	return string(b)
}
