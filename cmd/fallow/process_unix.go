//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"
)

// ownSession lets a process outlive the terminal that started it.
func ownSession() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// alive says whether a process of ours runs.
func alive(pid int) bool { return pid > 0 && syscall.Kill(pid, 0) == nil }

// notifyReload asks for SIGHUP.
func notifyReload(c chan<- os.Signal) { signal.Notify(c, syscall.SIGHUP) }
