package settle

import (
	"fmt"

	"fallow.network"
	"fallow.network/market"
)

// EscrowPool is the lease module's account.
const EscrowPool fallow.Account = "lease"

// ClosedByLedger stands in Lease.ClosedBy when neither side closed it.
const ClosedByLedger fallow.Account = "ledger"

// Effect is a market.Move or one of this package's events.
type Effect = market.Effect

// Block is where on the ledger a rule runs.
type Block = market.Block

// Params are the lease module's parameters.
type Params struct {
	CheckWindowMS    uint64 // from a redemption to its payout
	GraceMS          uint64 // that a dry or unattended service stays before it closes
	StartWindowMS    uint64 // in which an opened service must start, or lapse free
	MaxOfferBlocks   uint64 // that an offer may look ahead
	MaxClaimWindowMS uint64 // longest claim window in terms
	MaxServices      uint32 // of one account, running or not
	MaxQueuePerBlock uint32 // entries worked off in a block
	MaxEntries       uint32 // of one message
	MaxHorizonMS     uint64 // that a horizon may reach ahead
	DepositSeconds   uint64 // of its price that a service locks
}

// DefaultParams are sane for a public network.
func DefaultParams() Params {
	return Params{
		CheckWindowMS:    24 * 3600 * 1000,
		GraceMS:          24 * 3600 * 1000,
		StartWindowMS:    10 * 60 * 1000,
		MaxOfferBlocks:   600,
		MaxClaimWindowMS: 24 * 3600 * 1000,
		MaxServices:      64,
		MaxQueuePerBlock: 300,
		MaxEntries:       200,
		MaxHorizonMS:     3600 * 1000,
		DepositSeconds:   600,
	}
}

// Check says what is out of bounds in p.
func (p Params) Check() error {
	windows := []struct {
		name string
		ms   uint64
	}{
		{"check_window_ms", p.CheckWindowMS},
		{"grace_ms", p.GraceMS},
		{"start_window_ms", p.StartWindowMS},
		{"max_claim_window_ms", p.MaxClaimWindowMS},
		{"max_horizon_ms", p.MaxHorizonMS},
	}
	for _, w := range windows {
		if w.ms == 0 || w.ms > market.MaxWindowMS {
			return fmt.Errorf("%w: %s %d: want 1 to %d", ErrParams, w.name, w.ms, uint64(market.MaxWindowMS))
		}
	}
	switch {
	case p.MaxOfferBlocks == 0 || p.MaxOfferBlocks > 1_000_000:
		return fmt.Errorf("%w: max_offer_blocks %d: want 1 to 1000000", ErrParams, p.MaxOfferBlocks)
	case p.MaxServices == 0 || p.MaxServices > 1024:
		return fmt.Errorf("%w: max_services %d: want 1 to 1024", ErrParams, p.MaxServices)
	case p.MaxQueuePerBlock < 3 || p.MaxQueuePerBlock > 100_000:
		return fmt.Errorf("%w: max_queue_per_block %d: want 3 to 100000", ErrParams, p.MaxQueuePerBlock)
	case p.MaxEntries == 0 || p.MaxEntries > 10_000:
		return fmt.Errorf("%w: max_entries %d: want 1 to 10000", ErrParams, p.MaxEntries)
	case p.DepositSeconds > market.MaxWindowMS/1000:
		return fmt.Errorf("%w: deposit_seconds %d is above a year", ErrParams, p.DepositSeconds)
	}
	return nil
}

// MaxClientKeys bounds the client keys of one account.
const MaxClientKeys = 64

// ClientKey is an account that may open and close leases for a tenant.
type ClientKey struct {
	Address fallow.Account
	Limit   fallow.Credits // that its leases may hold and spend in all
	Spent   fallow.Credits // that they hold and have spent
	Expires fallow.Height  // last block in which it acts
	// Since is the first lease that can be its own: what an earlier
	// registration of the same key opened gives nothing back to this one.
	Since fallow.LeaseID
}

// Account is a tenant's escrow.
type Account struct {
	Owner    fallow.Account
	Free     fallow.Pico
	Reserved fallow.Pico // what open leases hold: batch reserves less payments, service deposits
	Advanced fallow.Time // that the account was computed to
	Open     uint64      // leases that are not closed
	Keys     []ClientKey // ascending by address
	Queued   fallow.Time // when the queue looks at it next; zero when nothing is due
}

// View is an account as it stands at a moment.
type View struct {
	Account
	Rate fallow.Pico // pico-credits a second that services accrue now
	Dry  fallow.Time // when Free runs out at this rate; zero when nothing accrues
}

// State is where a lease stands.
type State uint32

// States of a lease.
const (
	Open    State = 1 // batch: work may be done; service: awaits its start
	Running State = 2 // service: accrues up to its horizon
	Paused  State = 3 // service: escrow is dry, its disk is kept
	Closing State = 4 // batch: vouchers can be redeemed until the claim window ends
	Closed  State = 5
)

// String is the state in one word.
func (s State) String() string {
	switch s {
	case Open:
		return "open"
	case Running:
		return "running"
	case Paused:
		return "paused"
	case Closing:
		return "closing"
	case Closed:
		return "closed"
	default:
		return "unknown"
	}
}

// Lease is one lease, open or closed.
type Lease struct {
	ID         fallow.LeaseID
	Tenant     fallow.Account
	Provider   fallow.Account
	Client     fallow.Account // who opened it: the tenant or a client key
	NodeKey    fallow.Key
	KeyEpoch   uint64
	SessionKey fallow.Key
	Kind       market.Kind
	State      State
	Offer      fallow.Digest
	Workload   fallow.Digest
	Opened     Block

	// Reserve is what the lease was given in all: a batch's ceiling, what is
	// paid included; a service's deposit.
	Reserve    fallow.Credits
	MaxReserve fallow.Credits
	// Granted is what the lease counts for under its client key's limit.
	Granted fallow.Credits
	// Claimed is the highest voucher redeemed, or what a service accrued.
	Claimed fallow.Pico
	// Paid is what of it went to payouts, rounded down.
	Paid         fallow.Credits
	ReceiptsRoot fallow.Digest
	Receipts     uint32

	ClaimWindowMS uint64
	IdleMS        uint64
	// Deadline is the end of the claim window of a closing batch, of the
	// start window of an open service, of the grace of a service that is
	// paused or whose horizon passed; zero when none runs.
	Deadline fallow.Time
	Reason   fallow.Reason  // why it ends, from Closing on
	ClosedBy fallow.Account // who ended it, from Closing on

	// Services alone.
	Rate     fallow.Pico // a second
	DiskRate fallow.Pico // a second while paused
	DiskUsed fallow.Pico // of the deposit, for the disk while paused
	GraceMS  uint64
	Horizon  fallow.Time
	Sequence uint64 // of the last horizon
}

// Payout matures at a time and then goes to the provider's account.
type Payout struct {
	Provider fallow.Account
	Matures  fallow.Time
	Amount   fallow.Credits
}

// Result is what became of one entry of a message.
type Result struct {
	Lease  fallow.LeaseID
	Reason fallow.Reason  // empty when it was done
	Amount fallow.Credits // that moved, where an amount did
}

// OpenEntry asks for one lease.
type OpenEntry struct {
	Offer      market.Signed
	SessionKey fallow.Key
	// Reserve is what a batch is given, or the largest deposit that a
	// service may lock, where zero is any.
	Reserve fallow.Credits
}

// Filter picks leases: of a tenant, of a provider, or all.
type Filter struct {
	Tenant   fallow.Account
	Provider fallow.Account
	Open     bool // only those that are not closed
}

// Events, as the adapter tells them.
type (
	// Deposited tells of coins that came into an escrow account.
	Deposited struct {
		Tenant fallow.Account
		Amount fallow.Credits
	}
	// Withdrawn tells of coins that left one.
	Withdrawn struct {
		Tenant fallow.Account
		Amount fallow.Credits
	}
	// Opened tells of a lease that was opened.
	Opened struct {
		Lease            fallow.LeaseID
		Tenant, Provider fallow.Account
		Reserve          fallow.Credits
		Offer            fallow.Digest
	}
	// Skipped tells of an offer that opened no lease.
	Skipped struct {
		Tenant, Provider fallow.Account
		Reason           fallow.Reason
		Offer            fallow.Digest
	}
	// Changed tells of a lease's new state.
	Changed struct {
		Lease            fallow.LeaseID
		Tenant, Provider fallow.Account
		State            State
		Reason           fallow.Reason
	}
	// Redeemed tells of an amount that matures for a provider.
	Redeemed struct {
		Lease    fallow.LeaseID
		Provider fallow.Account
		Amount   fallow.Credits
		Matures  fallow.Time
	}
	// Paid tells of matured payouts that went to a provider.
	Paid struct {
		Provider fallow.Account
		Amount   fallow.Credits
	}
)

// Effect marks an effect.
func (Deposited) Effect() {}

// Effect marks an effect.
func (Withdrawn) Effect() {}

// Effect marks an effect.
func (Opened) Effect() {}

// Effect marks an effect.
func (Skipped) Effect() {}

// Effect marks an effect.
func (Changed) Effect() {}

// Effect marks an effect.
func (Redeemed) Effect() {}

// Effect marks an effect.
func (Paid) Effect() {}

// Refusals of the lease module; codes are stable.
var (
	ErrParams       = &market.Refusal{Code: 2, Text: "params are out of bounds"}
	ErrAmount       = &market.Refusal{Code: 3, Text: "the amount is zero or does not fit"}
	ErrFunds        = &market.Refusal{Code: 4, Reason: fallow.ReasonFunds, Text: "free escrow does not cover it"}
	ErrEntries      = &market.Refusal{Code: 5, Text: "no entries, or more than one message may have"}
	ErrClientKey    = &market.Refusal{Code: 6, Reason: fallow.ReasonClientKey, Text: "the client key is unknown, expired or at its limit"}
	ErrUnknownLease = &market.Refusal{Code: 7, Reason: fallow.ReasonUnknownLease, Text: "no lease has that number"}
	ErrNotParty     = &market.Refusal{Code: 8, Reason: fallow.ReasonNotParty, Text: "the signer is no side of the lease"}
	ErrLeaseClosed  = &market.Refusal{Code: 9, Reason: fallow.ReasonLeaseClosed, Text: "the lease has ended, or its claim window has passed"}
	ErrLeaseKind    = &market.Refusal{Code: 10, Reason: fallow.ReasonLeaseKind, Text: "not for this kind of lease"}
	ErrReserve      = &market.Refusal{Code: 11, Reason: fallow.ReasonReserve, Text: "the reserve does not rise, or is above what the offer allows"}
	ErrExposure     = &market.Refusal{Code: 12, Reason: fallow.ReasonExposure, Text: "the provider's open reserves and unmatured payouts would exceed half its bond"}
	ErrUnbonded     = &market.Refusal{Code: 13, Reason: fallow.ReasonUnbonded, Text: "the provider has no bond or is leaving"}
	ErrReason       = &market.Refusal{Code: 14, Reason: fallow.ReasonMalformed, Text: "not one of the known reasons"}
	ErrBusy         = &market.Refusal{Code: 15, Reason: fallow.ReasonBusy, Text: "more is due on the account than one message may work off; try again in a block"}
	ErrMalformed    = &market.Refusal{Code: 16, Reason: fallow.ReasonMalformed, Text: "malformed message"}
	ErrSignature    = &market.Refusal{Code: 17, Reason: fallow.ReasonSignature, Text: "the signature does not verify"}
	ErrExpired      = &market.Refusal{Code: 18, Reason: fallow.ReasonExpired, Text: "its last height or time has passed"}
	ErrFarAhead     = &market.Refusal{Code: 19, Reason: fallow.ReasonFarAhead, Text: "it reaches further ahead than allowed"}
	ErrOfferUsed    = &market.Refusal{Code: 20, Reason: fallow.ReasonOfferUsed, Text: "the offer has already opened a lease"}
	ErrOtherTenant  = &market.Refusal{Code: 21, Reason: fallow.ReasonOtherTenant, Text: "the offer was made to another tenant"}
	ErrKeyEpoch     = &market.Refusal{Code: 22, Reason: fallow.ReasonKeyEpoch, Text: "the node key was rotated after the offer"}
	ErrTerms        = &market.Refusal{Code: 23, Reason: fallow.ReasonTerms, Text: "the terms are outside the ledger's bounds"}
	ErrServices     = &market.Refusal{Code: 24, Reason: fallow.ReasonTooManyLeases, Text: "the account has as many services as one account may"}
	ErrReplayed     = &market.Refusal{Code: 25, Reason: fallow.ReasonVoucherReplayed, Text: "the voucher has been redeemed already"}
	ErrVoucherDown  = &market.Refusal{Code: 26, Reason: fallow.ReasonVoucherDown, Text: "the voucher is below what has been redeemed"}
	ErrBeyond       = &market.Refusal{Code: 27, Reason: fallow.ReasonVoucherBeyond, Text: "the voucher is above the lease's reserve"}
	ErrReleaseBelow = &market.Refusal{Code: 28, Reason: fallow.ReasonReleaseBelow, Text: "the release is below what has been redeemed"}
	ErrHorizonOld   = &market.Refusal{Code: 29, Reason: fallow.ReasonHorizonOld, Text: "a horizon with this sequence or a later one was taken already"}
)
