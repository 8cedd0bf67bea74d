package main

import (
	"os"
	"syscall"
)

// ownSession lets a process outlive the console that started it.
func ownSession() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}

// interrupt ends a process: Windows has no signal to ask another console's with.
func interrupt(p *os.Process) error { return p.Kill() }

// keepPrivate has nothing to add: folders pass their owner's rights on here.
func keepPrivate() {}

// notifyReload has no signal to ask for here.
func notifyReload(chan<- os.Signal) {}
