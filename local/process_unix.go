//go:build unix

package local

import (
	"errors"
	"os"
	"syscall"
)

// Alive says whether a process runs.
func Alive(pid int) bool {
	if pid <= 0 {
		return false
	}
	err := syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}

// ask asks a process to settle and leave.
func ask(p *os.Process) error { return p.Signal(syscall.SIGTERM) }
