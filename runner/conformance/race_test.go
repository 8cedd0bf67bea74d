//go:build race

package conformance_test

// raced says that the race detector watches, under which the interpreter takes
// minutes to find what the compiled engine's run finds.
const raced = true
