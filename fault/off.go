//go:build !fault

package fault

// Built says that this program was built to be killed.
const Built = false

// Point does nothing.
func Point(string) {}

// Environment is nothing.
func Environment() []string { return nil }
