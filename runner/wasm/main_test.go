package wasm

import (
	"os"
	"testing"
)

// TestMain lets the test's binary be the child that it starts.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == ChildVerb {
		os.Exit(ChildMain(os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}
