//go:build !wasmtime || !linux

package wasm

import "errors"

const wasmtimeBuilt = false

func newWasmtime() (compiler, error) {
	return nil, errors.New("this program was built without wasmtime; build it on Linux with -tags wasmtime and a C compiler")
}

// growStack has nothing to do: wazero's stack is the Go heap.
func growStack() error { return nil }
