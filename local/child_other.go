//go:build !linux

package local

import "syscall"

// childAttributes has nothing to add where the kernel can't tie lives together.
func childAttributes() *syscall.SysProcAttr { return nil }
