package formats

import (
	"fmt"
	"strings"
)

// Error is one thing wrong with a file.
type Error struct {
	File         string
	Line, Column int
	// Field is a path such as limits.memory; empty for the file as a whole.
	Field   string
	Problem string
	// Fix says what to do.
	Fix string
}

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%d:%d: ", e.File, e.Line, e.Column)
	if e.Field != "" {
		b.WriteString(e.Field + ": ")
	}
	b.WriteString(e.Problem)
	if e.Fix != "" {
		b.WriteString("; " + e.Fix)
	}
	return b.String()
}

// Errors is all that is wrong with a file, in the order of the file, at most
// MaxErrors.
type Errors []*Error

// MaxErrors is how many errors are collected before reading stops.
const MaxErrors = 20

func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives the single errors to errors.As.
func (e Errors) Unwrap() []error {
	out := make([]error, len(e))
	for i, one := range e {
		out[i] = one
	}
	return out
}
