package fallow

// Reason says in one stable word why an offer was refused, a lease not opened,
// a task failed or a lease ended. It goes over the wire and onto the ledger as
// it stands; Text is for people.
type Reason string

// Reasons of a provider that makes no offer for a demand.
const (
	ReasonPaused      Reason = "paused"           // the owner or the schedule has paused lending
	ReasonDraining    Reason = "draining"         // the daemon finishes what it has and takes no more
	ReasonNoCapacity  Reason = "no_capacity"      // cores, memory or disk are taken
	ReasonTooLarge    Reason = "too_large"        // the demand exceeds this machine
	ReasonUnsupported Reason = "unsupported"      // the class or run profile is not offered here
	ReasonPlacement   Reason = "placement"        // region or attributes do not match
	ReasonUnfunded    Reason = "unfunded"         // the tenant's escrow cannot carry the work
	ReasonRateLimited Reason = "rate_limited"     // too many demands from this tenant or peer
	ReasonExposure    Reason = "exposure"         // open reserves and unmatured payouts reach half the bond
	ReasonExpired     Reason = "expired"          // the message's last height or time has passed
	ReasonMalformed   Reason = "malformed"        // bytes that are not the message they claim to be
	ReasonSignature   Reason = "signature"        // forged, or by a key that is not registered
	ReasonChainAway   Reason = "chain_away"       // the ledger does not answer
	ReasonDiskFull    Reason = "disk_full"        // no room for inputs or outputs
	ReasonVersion     Reason = "version_mismatch" // programs of unequal protocol versions
	ReasonUnreachable Reason = "unreachable"      // no hub's dial reached the provider, directly or relayed
)

// Reasons for which the ledger skips an entry of OpenLeases.
const (
	ReasonOfferUsed     Reason = "offer_used"      // an offer opens once
	ReasonOtherTenant   Reason = "other_tenant"    // the offer is bound to another tenant
	ReasonOtherDemand   Reason = "other_demand"    // the offer answers another demand or workload
	ReasonUnbonded      Reason = "unbonded"        // the provider has no bond, or is leaving
	ReasonKeyEpoch      Reason = "key_epoch"       // the node key's epoch has ended
	ReasonFunds         Reason = "funds"           // free escrow does not cover the reserve
	ReasonClientKey     Reason = "client_key"      // the client key is unknown, expired or at its limit
	ReasonReserve       Reason = "reserve"         // the reserve is zero or above what the offer allows
	ReasonTooManyLeases Reason = "too_many_leases" // the account's bound on running services
	ReasonFarAhead      Reason = "far_ahead"       // a last height or horizon further ahead than allowed
	ReasonTerms         Reason = "terms"           // terms outside the ledger's bounds
)

// Reasons for which the ledger skips an entry of Redeem, Release, Start or Close.
const (
	ReasonUnknownLease    Reason = "unknown_lease"    // no lease has that number
	ReasonNotParty        Reason = "not_party"        // the signer is no side of the lease
	ReasonLeaseClosed     Reason = "lease_closed"     // the lease has ended, or its claim window
	ReasonLeaseKind       Reason = "lease_kind"       // a batch's message for a service, or the reverse
	ReasonVoucherReplayed Reason = "voucher_replayed" // redeemed already
	ReasonVoucherDown     Reason = "voucher_down"     // below what was redeemed already
	ReasonVoucherBeyond   Reason = "voucher_beyond"   // above the lease's reserve
	ReasonReleaseBelow    Reason = "release_below"    // below what was redeemed already
	ReasonHorizonOld      Reason = "horizon_old"      // its sequence is not above the last one
	ReasonBusy            Reason = "busy"             // more is due on the account than one message may do
)

// Reasons for which a task fails or is tried elsewhere.
const (
	ReasonProviderGone  Reason = "provider_gone"  // the connection broke and did not come back
	ReasonAborted       Reason = "aborted"        // the host ran out of a resource; no result
	ReasonTimeout       Reason = "timeout"        // slower than the terms' least speed
	ReasonStraggler     Reason = "straggler"      // re-issued because others were faster
	ReasonMismatch      Reason = "mismatch"       // a check gave another output, gas or exit
	ReasonBadOutput     Reason = "bad_output"     // output bytes do not hash to the receipt
	ReasonModuleRefused Reason = "module_refused" // the module cannot be metered
	ReasonUnpaid        Reason = "unpaid"         // unpaid work reached the ceiling
)

// Reasons for which a lease ends.
const (
	ReasonCompleted     Reason = "completed"      // the work is done
	ReasonCancelled     Reason = "cancelled"      // the tenant stopped it
	ReasonTenantGone    Reason = "tenant_gone"    // no work and no word for the terms' idle time
	ReasonProviderLeft  Reason = "provider_left"  // the provider gave notice
	ReasonDry           Reason = "dry"            // escrow ran dry and the grace period passed
	ReasonNeverStarted  Reason = "never_started"  // a service that never became healthy
	ReasonHorizonPassed Reason = "horizon_passed" // nobody signed a further horizon
	ReasonTooSlow       Reason = "too_slow"       // below the least speed of the terms
)

// Text explains r to a person, with what to do where there is something.
func (r Reason) Text() string {
	if t, ok := reasonText[r]; ok {
		return t
	}
	return string(r)
}

// Known says whether r is one of this version's reasons.
func (r Reason) Known() bool { _, ok := reasonText[r]; return ok }

var reasonText = map[Reason]string{
	ReasonPaused:        "the provider has paused lending",
	ReasonDraining:      "the provider is draining and takes no new work",
	ReasonNoCapacity:    "cores, memory or disk are taken right now",
	ReasonTooLarge:      "the demand is larger than this machine",
	ReasonUnsupported:   "this class or run profile is not offered here",
	ReasonPlacement:     "region or attributes do not match the placement",
	ReasonUnfunded:      "the tenant's escrow is too small for capacity to be held; deposit with: fallow deposit AMOUNT",
	ReasonRateLimited:   "too many demands from this tenant; wait a moment",
	ReasonExposure:      "the provider's bond does not cover more open work",
	ReasonExpired:       "its last height or time has passed",
	ReasonMalformed:     "the bytes are not a valid message",
	ReasonSignature:     "the signature does not verify with a registered key",
	ReasonChainAway:     "the ledger does not answer",
	ReasonDiskFull:      "the provider's disk has no room for the inputs or outputs",
	ReasonVersion:       "the programs speak unequal protocol versions; upgrade the older one",
	ReasonUnreachable:   "no new connection reaches the provider, directly or through a relay",
	ReasonOfferUsed:     "the offer has already opened a lease",
	ReasonOtherTenant:   "the offer was made to another tenant",
	ReasonOtherDemand:   "the offer answers another demand or workload",
	ReasonUnbonded:      "the provider has no bond or is leaving",
	ReasonKeyEpoch:      "the node key was rotated after the offer",
	ReasonFunds:         "free escrow does not cover the reserve; deposit with: fallow deposit AMOUNT",
	ReasonClientKey:     "the client key is unknown, expired or at its limit",
	ReasonReserve:       "the reserve is zero or above what the offer allows",
	ReasonTooManyLeases: "the account has as many running services as one account may",
	ReasonFarAhead:      "it reaches further ahead than the ledger allows",
	ReasonTerms:         "the terms are outside the ledger's bounds",

	ReasonUnknownLease:    "no lease has that number",
	ReasonNotParty:        "the signer is neither the lease's tenant, a client key of it, nor its provider",
	ReasonLeaseClosed:     "the lease has ended, or its claim window has passed",
	ReasonLeaseKind:       "vouchers and releases are for batches, horizons for services",
	ReasonVoucherReplayed: "the voucher has been redeemed already",
	ReasonVoucherDown:     "the voucher is below what has been redeemed already",
	ReasonVoucherBeyond:   "the voucher is above the lease's reserve",
	ReasonReleaseBelow:    "the release is below what has been redeemed already",
	ReasonHorizonOld:      "a horizon with this sequence or a later one was taken already",
	ReasonBusy:            "more is due on the account than one message may work off; try again in a block",

	ReasonProviderGone:  "the provider went away",
	ReasonAborted:       "the provider ran out of a resource before there was a result",
	ReasonTimeout:       "the task ran slower than the terms allow",
	ReasonStraggler:     "re-issued elsewhere because it lagged behind",
	ReasonMismatch:      "a check disagreed with the receipt",
	ReasonBadOutput:     "output bytes do not hash to the receipt",
	ReasonModuleRefused: "the module cannot be metered",
	ReasonUnpaid:        "unpaid work reached the provider's ceiling",
	ReasonCompleted:     "the work is done",
	ReasonCancelled:     "the tenant stopped it",
	ReasonTenantGone:    "the tenant fell silent",
	ReasonProviderLeft:  "the provider gave notice",
	ReasonDry:           "escrow ran dry and the grace period passed",
	ReasonNeverStarted:  "the service never became healthy",
	ReasonHorizonPassed: "no further horizon was signed",
	ReasonTooSlow:       "slower than the least speed of the terms",
}
