package sdk

import (
	"errors"

	"fallow.network/client"
	"fallow.network/keys"
	"fallow.network/ledger"
	"fallow.network/provider"
)

// Errors that a caller acts on, whichever room they rose in.
var (
	// ErrAway is a ledger, or every hub, that does not answer; try again.
	ErrAway = errors.New("does not answer")
	// ErrNoConfig is a daemon whose home was never made ready for it.
	ErrNoConfig = errors.New("not made ready yet")
	// ErrBusy is a home that another process uses.
	ErrBusy = errors.New("another process uses this home")
)

// Failure pairs an error with the name of its exit code.
type Failure struct {
	Err  error
	Name string
}

// Failures lists the errors that programs tell apart, most telling first.
func Failures() []Failure {
	return []Failure{
		{ledger.ErrProtocol, "version"},
		{ledger.ErrOtherChain, "usage"},
		{ErrNotJoined, "usage"},
		{keys.ErrNoKey, "not found"},
		{keys.ErrExists, "usage"},
		{keys.ErrName, "usage"},
		{keys.ErrLength, "usage"},
		{keys.ErrReadable, "usage"},
		{keys.ErrPassphrase, "usage"},
		{keys.ErrNoPassphrase, "usage"},
		{ErrNoConfig, "usage"},
		{ErrBusy, "busy"},
		{provider.ErrBusy, "busy"},
		{client.ErrRunning, "busy"},
		{client.ErrNoJob, "not found"},
		{client.ErrNoLease, "not found"},
		{ledger.ErrNotFound, "not found"},
		{ledger.ErrNoAccount, "funds"},
		{ledger.ErrFunds, "funds"},
		{client.ErrAway, "away"},
		{ledger.ErrAway, "away"},
		{ErrAway, "away"},
	}
}
