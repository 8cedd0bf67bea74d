//go:build !linux

package main

// dropProgram does nothing where the kernel has no such advice.
func dropProgram() {}
