//go:build linux

package e2e

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// wire joins two namespaces in place of a cable: packets are carried by this
// process, after a delay, and some are lost. Kernels without netem have no
// other latency.
type wire struct {
	ends [2]*os.File
	wg   sync.WaitGroup
}

// newWire lays a wire between two named devices; it ends with the test.
func newWire(t *testing.T, from, fromDevice, to, toDevice string, delay time.Duration, percent int) {
	t.Helper()
	w := &wire{}
	for i, at := range [][2]string{{from, fromDevice}, {to, toDevice}} {
		f, err := tap(at[0], at[1])
		if err != nil {
			t.Fatalf("a device in %s: %v", at[0], err)
		}
		w.ends[i] = f
	}
	t.Cleanup(func() {
		for _, f := range w.ends {
			_ = f.Close()
		}
		w.wg.Wait()
	})
	for i := range w.ends {
		w.carry(w.ends[i], w.ends[1-i], delay, percent, rand.New(rand.NewPCG(1, uint64(i))))
	}
}

// late is a packet and when it is due.
type late struct {
	packet []byte
	due    time.Time
}

func (w *wire) carry(from, to *os.File, delay time.Duration, percent int, chance *rand.Rand) {
	queue := make(chan late, 4096) // what does not fit is lost, as in any router
	w.wg.Go(func() {
		defer close(queue)
		buffer := make([]byte, 1<<16)
		for {
			n, err := from.Read(buffer)
			if err != nil {
				return
			}
			if chance.IntN(100) < percent {
				continue
			}
			select {
			case queue <- late{append([]byte(nil), buffer[:n]...), time.Now().Add(delay)}:
			default:
			}
		}
	})
	w.wg.Go(func() {
		for l := range queue {
			time.Sleep(time.Until(l.due))
			_, _ = to.Write(l.packet) // a device that is gone ends the reader too
		}
	})
}

// tap makes a device in a namespace.
func tap(ns, name string) (*os.File, error) {
	type made struct {
		f   *os.File
		err error
	}
	done := make(chan made)
	go func() {
		// The thread stays in the namespace, so it ends with its goroutine.
		runtime.LockOSThread()
		f, err := func() (*os.File, error) {
			at, err := os.Open(filepath.Join("/run/netns", ns))
			if err != nil {
				return nil, err
			}
			defer func() { _ = at.Close() }()
			if err := unix.Setns(int(at.Fd()), unix.CLONE_NEWNET); err != nil {
				return nil, err
			}
			fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
			if err != nil {
				return nil, err
			}
			req, err := unix.NewIfreq(name)
			if err == nil {
				req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
				err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
			}
			if err != nil {
				_ = unix.Close(fd)
				return nil, err
			}
			return os.NewFile(uintptr(fd), name), nil
		}()
		done <- made{f, err}
	}()
	m := <-done
	return m.f, m.err
}
