//go:build !linux

package footprint

// dropProgram does nothing where the kernel has no such advice.
func dropProgram() {}
