package wasm

import (
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxFiles is how many descriptors a child may have; it needs few.
const maxFiles = 512

// confine gives up what a guest's process doesn't need: new privileges, core
// dumps, inherited files, many files, memory without end.
func confine(addressSpace uint64) error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no new privileges: %w", err)
	}
	if err := closeInherited(); err != nil {
		return fmt.Errorf("close inherited files: %w", err)
	}
	// Where memory runs out the guest goes first.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0) // not there in every sandbox
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("not dumpable: %w", err)
	}
	limits := []struct {
		what int
		to   uint64
	}{{unix.RLIMIT_CORE, 0}, {unix.RLIMIT_NOFILE, maxFiles}}
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

// closeInherited closes what came through exec beside the three pipes: files
// that somebody above us left open. Our own are marked to be closed on exec,
// so what isn't was inherited.
func closeInherited() error {
	dir, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, entry := range dir {
		fd, err := strconv.Atoi(entry.Name())
		if err != nil || fd <= 2 {
			continue
		}
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC != 0 {
			continue // our own, or the listing's and gone
		}
		if err := unix.Close(fd); err != nil {
			return err
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
