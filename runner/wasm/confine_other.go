//go:build !linux

package wasm

import (
	"syscall"
	"time"
)

// confine has only wazero's own bounds where the kernel is not Linux.
func confine(uint64) error { return nil }

// processCPU is not read here.
func processCPU() time.Duration { return 0 }

func childAttributes() *syscall.SysProcAttr { return nil }
