package local

import "syscall"

// childAttributes puts a party into a process group of its own, so that a
// Ctrl-C at the terminal reaches it through us alone, and ends it when we are
// killed: nothing is left running.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
