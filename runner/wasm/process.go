package wasm

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"

	faults "fallow.network/fault"
)

const (
	// overhead is the address space that a child has beside its guest's
	// memory, for the Go runtime, which reserves much and uses little, and for
	// compiling.
	overhead = 4 << 30
	// stackVariable tells a child how large its threads' stacks shall be, in bytes.
	stackVariable = "FALLOW_STACK"
	// wasmtimeStack holds the deepest calls that a task may be granted, and
	// wasmtimeSpace is address space for such stacks, few of them used, and for
	// the 4 GiB that wasmtime reserves around a memory.
	wasmtimeStack = 1 << 30
	wasmtimeSpace = 32 << 30
	// maxChatter bounds what is kept of a child's standard error.
	maxChatter = 4 << 10
)

// process is one child.
type process struct {
	cmd     *exec.Cmd
	in, out *os.File
	reader  *bufio.Reader
	chatter *tail
	ended   chan struct{} // closed when nothing of it is left
	state   error         // how it ended
}

// nursery starts children from a thread that is its own while they live. Linux
// ends a child when the thread that started it ends, not the process, and Go's
// threads may: one that a goroutine locked and left ends with it.
type nursery struct {
	ask  chan func()
	gone chan struct{}
}

func newNursery() *nursery {
	n := &nursery{ask: make(chan func()), gone: make(chan struct{})}
	go func() {
		defer close(n.gone)
		runtime.LockOSThread()
		// Given back alive: others may have started processes from it before.
		defer runtime.UnlockOSThread()
		for f := range n.ask {
			f()
		}
	}()
	return n
}

// close gives the thread back. Its children have ended.
func (n *nursery) close() {
	close(n.ask)
	<-n.gone
}

// start starts a child with no file of ours but three pipes, and no
// environment but what its Go runtime is to do.
func (n *nursery) start(c Config) (p *process, err error) {
	done := make(chan struct{})
	n.ask <- func() {
		p, err = start(c)
		close(done)
	}
	<-done
	return p, err
}

func start(c Config) (*process, error) {
	childIn, in, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start a sandbox: %w", err)
	}
	out, childOut, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start a sandbox: %w", err), childIn.Close(), in.Close())
	}
	cmd := exec.Command(c.Child[0], c.Child[1:]...) //nolint:noctx // it outlives the call; Close kills it
	cmd.Env = append([]string{"GOTRACEBACK=none", "GOMAXPROCS=2"}, faults.Environment()...)
	space := c.MaxMemory + overhead
	if c.Engine == Wasmtime {
		cmd.Env = append(cmd.Env, fmt.Sprintf("%s=%d", stackVariable, wasmtimeStack))
		space += wasmtimeSpace
	}
	cmd.Dir = "/"
	cmd.SysProcAttr = childAttributes()
	p := &process{cmd: cmd, in: in, out: out, reader: bufio.NewReaderSize(out, 1<<16), chatter: &tail{}, ended: make(chan struct{})}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = childIn, childOut, p.chatter
	err = cmd.Start()
	err = errors.Join(err, childIn.Close(), childOut.Close())
	if cmd.Process == nil {
		return nil, errors.Join(fmt.Errorf("start a sandbox: %w", err), in.Close(), out.Close())
	}
	go func() {
		p.state = cmd.Wait()
		close(p.ended)
	}()
	if err == nil {
		err = putFrame(in, setup{Cache: c.Cache, Engine: c.Engine, AddressSpace: space, Prepare: c.Prepare})
	}
	if err != nil {
		p.end()
		return nil, fmt.Errorf("start a sandbox: %w: %s", err, p.chatter.String())
	}
	return p, nil
}

// kill ends a child. What reads its answer sees it end.
func (p *process) kill() { _ = p.cmd.Process.Kill() } // it may have ended by itself

// end kills a child and waits until nothing of it is left.
func (p *process) end() {
	p.kill()
	<-p.ended
	_ = p.in.Close()  // nobody reads it any more
	_ = p.out.Close() // nobody writes it any more
}

// alive says whether a child has not ended yet.
func (p *process) alive() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// tail keeps the first bytes that a child complains with.
type tail struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write keeps what there is room for and takes all.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b.Write(p[:min(len(p), maxChatter-min(maxChatter, t.b.Len()))])
	return len(p), nil
}

// String is what was kept.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(t.b.String())
}
