package wasm

import (
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// confine gives up what a guest's process needs least: new privileges, core
// dumps, many files, memory without end.
func confine(addressSpace uint64) error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no new privileges: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("not dumpable: %w", err)
	}
	limits := []struct {
		what int
		to   uint64
	}{{unix.RLIMIT_CORE, 0}, {unix.RLIMIT_NOFILE, 1024}}
	if addressSpace > 0 {
		limits = append(limits, struct {
			what int
			to   uint64
		}{unix.RLIMIT_AS, addressSpace})
	}
	for _, l := range limits {
		if err := unix.Setrlimit(l.what, &unix.Rlimit{Cur: l.to, Max: l.to}); err != nil {
			return fmt.Errorf("limit %d to %d: %w", l.what, l.to, err)
		}
	}
	return nil
}

// processCPU is what this process has used.
func processCPU() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// childAttributes ends a child with its parent, and keeps the terminal's
// signals from it.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
