package ledger

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"fallow.network"
	"fallow.network/settle"
)

// Errors that a caller acts on.
var (
	// ErrAway is a ledger of which no endpoint answers: try again later.
	ErrAway = errors.New("the ledger does not answer")
	// ErrOtherChain is an endpoint that belongs to another ledger.
	ErrOtherChain = errors.New("the node belongs to another ledger")
	// ErrProtocol is a node that speaks another version of the protocol.
	ErrProtocol = errors.New("the node speaks another protocol version")
	// ErrNoAccount is an account that the ledger has never seen.
	ErrNoAccount = errors.New("the account does not exist on the ledger yet")
	// ErrFunds is a refusal because coins or free escrow are too few.
	ErrFunds = errors.New("too few coins")
	// ErrNotFound is a record that the ledger does not have.
	ErrNotFound = errors.New("not on the ledger")
	// ErrExpired is a transaction that found no place in time and never will.
	ErrExpired = errors.New("the transaction found no place in a block in time")
	// ErrPruned is a block that the nodes no longer keep.
	ErrPruned = errors.New("the node no longer keeps this block")
	// ErrClosed is a client that was closed.
	ErrClosed = errors.New("the ledger's client is closed")
)

// Away says whether err may pass when the ledger comes back.
func Away(err error) bool { return errors.Is(err, ErrAway) }

// RefusalError is the ledger's no to a transaction: by the node before it had a
// place (Height 0), or by the rules in a block, where it still paid its fee.
type RefusalError struct {
	Codespace string
	Code      uint32
	// Log is what the node said.
	Log    string
	Hash   Hash
	Height fallow.Height
}

// Error says it so that a person can act.
func (r *RefusalError) Error() string {
	if t, ok := refusalText[code{r.Codespace, r.Code}]; ok {
		return fmt.Sprintf("the ledger refused: %s (%s)", t, r.detail())
	}
	if r.Codespace == "grpc" {
		return "the ledger refused: " + r.detail()
	}
	return fmt.Sprintf("the ledger refused: %s (%s %d)", r.detail(), r.Codespace, r.Code)
}

// Is says that a refusal for too few coins is ErrFunds.
func (r *RefusalError) Is(target error) bool {
	return target == ErrFunds && (r.Codespace == sdkSpace && r.Code == codeFunds || r.Codespace == leaseSpace && r.Code == settle.ErrFunds.Code)
}

// detail is the innermost sentence of the log.
func (r *RefusalError) detail() string {
	s := noise.ReplaceAllString(strings.TrimSpace(r.Log), "")
	if len(s) > 400 {
		s = s[:400] + "…"
	}
	if s == "" {
		s = fmt.Sprintf("%s %d", r.Codespace, r.Code)
	}
	return s
}

// noise is what the node's log says for its programmers.
var noise = regexp.MustCompile(`^(failed to simulate tx: )?(failed to execute message; )?(message index: \d+: )?| ?\[[^\[\]]*\.go:\d+\]| with gas used: '\d+'$`)

type code struct {
	space string
	code  uint32
}

// Codes of the SDK's own space that are acted on here.
const (
	sdkSpace          = "sdk"
	leaseSpace        = "lease"
	codeFunds         = 5
	codeOutOfGas      = 11
	codeInCache       = 19
	codeMempoolFull   = 20
	codeTimeoutHeight = 30
	codeWrongSequence = 32
)

var refusalText = map[code]string{
	{sdkSpace, 4}:                 "the key may not do this",
	{sdkSpace, codeFunds}:         "too few coins in the account",
	{sdkSpace, 6}:                 "the node does not know this message; its version differs from this program's",
	{sdkSpace, 7}:                 "an address is malformed",
	{sdkSpace, codeOutOfGas}:      "it needed more gas than it was given",
	{sdkSpace, codeInCache}:       "the node has it already",
	{sdkSpace, 13}:                "the fee is below what the node takes; raise gas_price",
	{sdkSpace, codeMempoolFull}:   "the node's queue is full; try again",
	{sdkSpace, 21}:                "it is too large for a block",
	{sdkSpace, codeTimeoutHeight}: "it came too late",
	{sdkSpace, codeWrongSequence}: "another transaction of this account came between",
	{"authz", 2}:                  "the owner has given this key no such grant, or it has ended",
}

// is says whether err is the SDK's refusal with this code.
func is(err error, number uint32) bool {
	var r *RefusalError
	return errors.As(err, &r) && r.Codespace == sdkSpace && r.Code == number
}

var sequences = regexp.MustCompile(`account sequence mismatch, expected (\d+), got (\d+)`)

// expected reads which sequence the node wants next.
func expected(log string) (uint64, bool) {
	m := sequences.FindStringSubmatch(log)
	if m == nil {
		return 0, false
	}
	n, err := strconv.ParseUint(m[1], 10, 64)
	return n, err == nil
}

// UnsettledError is a transaction whose fate was unknown when the caller stopped
// waiting. Ask Client.Find with its hash before anything is sent again.
type UnsettledError struct {
	Hash Hash
	// Until is the last block that it can still enter.
	Until fallow.Height
	Err   error
}

// Error names the hash and how long its fate is open.
func (u *UnsettledError) Error() string {
	return fmt.Sprintf("transaction %s may still enter a block up to %d: %v", u.Hash, u.Until, u.Err)
}

// Unwrap is why the caller stopped waiting.
func (u *UnsettledError) Unwrap() error { return u.Err }

// refused turns a simulation's or query's gRPC error into this room's errors.
func refused(what string, err error) error {
	s, ok := status.FromError(err)
	if !ok || errors.Is(err, ErrAway) {
		return fmt.Errorf("%s: %w", what, err)
	}
	switch s.Code() {
	case codes.NotFound:
		return fmt.Errorf("%s: %w", what, ErrNotFound)
	case codes.OK:
		return nil
	default:
		return fmt.Errorf("%s: %w", what, &RefusalError{Codespace: "grpc", Code: uint32(s.Code()), Log: s.Message()})
	}
}
