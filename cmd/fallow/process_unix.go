//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"
)

// ownSession lets a process outlive the terminal that started it.
func ownSession() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// interrupt asks a process to settle and leave.
func interrupt(p *os.Process) error { return p.Signal(os.Interrupt) }

// keepPrivate makes what a daemon writes its owner's alone.
func keepPrivate() { syscall.Umask(0o077) }

// notifyReload asks for SIGHUP.
func notifyReload(c chan<- os.Signal) { signal.Notify(c, syscall.SIGHUP) }
