//go:build !cgo || !linux

package hardware

func nvmlLibrary() GPULibrary { return nil }
