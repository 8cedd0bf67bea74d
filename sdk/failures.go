package sdk

import "errors"

// Errors that a caller acts on, whichever room they rose in.
var (
	// ErrAway is a ledger, or every hub, that does not answer; try again.
	ErrAway = errors.New("does not answer")
	// ErrBusy is a home that another process uses.
	ErrBusy = errors.New("another process uses this home")
)

// Failure pairs an error with the name of its exit code.
type Failure struct {
	Err  error
	Name string
}
