package main

import (
	"os"

	"fallow.network/runner/wasm"
)

// childMain is the process of a sandbox, which must start before anything else
// is made ready.
func childMain(args []string) (code int, is bool) {
	if len(args) != 1 || args[0] != wasm.ChildVerb {
		return 0, false
	}
	return wasm.ChildMain(os.Stdin, os.Stdout, os.Stderr), true
}
