package market

import "fallow.network"

// Block is where on the ledger a rule runs.
type Block struct {
	Height fallow.Height
	Time   fallow.Time
}

// Effect is what the ledger's adapter does once a rule has passed: a Move of
// coins, or an event to tell. Effects come in the order in which they apply.
type Effect interface{ Effect() }

// Move moves coins between accounts. BondPool and settle.EscrowPool stand for
// the modules' own accounts.
type Move struct {
	From, To fallow.Account
	Denom    string
	Amount   uint64
}

// BondPool is the provider module's account.
const BondPool fallow.Account = "provider"

// Registered tells of a new provider.
type Registered struct{ Provider fallow.Account }

// Updated tells that a provider's listing, bond or pause has changed.
type Updated struct{ Provider fallow.Account }

// Unbonding tells of bond on its way out.
type Unbonding struct {
	Provider fallow.Account
	Amount   Tokens
	Unbonds  fallow.Time
}

// Unbonded tells of bond that was paid back.
type Unbonded struct {
	Provider fallow.Account
	Amount   Tokens
}

// Effect marks an effect.
func (Move) Effect() {}

// Effect marks an effect.
func (Registered) Effect() {}

// Effect marks an effect.
func (Updated) Effect() {}

// Effect marks an effect.
func (Unbonding) Effect() {}

// Effect marks an effect.
func (Unbonded) Effect() {}

// Refusal is a rule's no. Its code is stable within its module; the reason is
// what an entry of a message with several entries is skipped with.
//
//nolint:errname // a refusal is what it is called at the market
type Refusal struct {
	Code   uint32
	Reason fallow.Reason // may be empty
	Text   string
}

// Error is the text.
func (r *Refusal) Error() string { return r.Text }

// Refusals of the provider module; codes are stable.
var (
	ErrUnknownProvider = &Refusal{Code: 2, Reason: fallow.ReasonUnbonded, Text: "no such provider"}
	ErrRegistered      = &Refusal{Code: 3, Text: "already registered; change it by an update"}
	ErrBond            = &Refusal{Code: 4, Text: "the bond is below the least bond"}
	ErrNotAllowed      = &Refusal{Code: 5, Text: "the network admits providers by list, and this account is not on it"}
	ErrNodeTaken       = &Refusal{Code: 6, Text: "the node key belongs to another provider"}
	ErrListing         = &Refusal{Code: 7, Reason: fallow.ReasonMalformed, Text: "the listing is out of bounds"}
	ErrExposed         = &Refusal{Code: 8, Reason: fallow.ReasonExposure, Text: "half of what would stay does not cover open reserves and unmatured payouts"}
	ErrParams          = &Refusal{Code: 9, Text: "params are out of bounds"}
	ErrAmount          = &Refusal{Code: 10, Text: "the amount is zero or out of bounds"}
)
