// Package settle keeps the books: escrow accounts, leases, vouchers, streams
// and payouts. It is the ledger's lease module as a pure state machine over a
// fallow.Store; the chain, the audit and the simulator run the same one.
//
// Its one invariant: the coins of EscrowPool are, to the pico-credit, the sum
// of what accounts hold free and reserved, what services have accrued and not
// been paid, and what matures for providers. Every method happens as a whole
// or, when it returns an error, not at all; what it needs the adapter to do
// comes back as effects.
//
// Time passes lazily. Whatever touches an account first advances it, event by
// event at the moment of each, to the block's time; EndBlock only announces
// what is due, so that nothing depends on it. One big step and many small ones
// leave the same bytes.
//
// It does not know coins, protobuf or blocks, and believes no signature that
// its verifier has not seen.
//
// # Keys
//
// Accounts stand in keys behind one byte of length, numbers as 8 bytes
// big-endian.
//
//	00                        params
//	01                        next lease id
//	02 account                Account
//	03 id                     Lease
//	04 tenant id              every lease of a tenant
//	05 provider id            every lease of a provider
//	06 tenant id              leases of a tenant that are not closed
//	07 provider id            leases of a provider that are not closed
//	08 tenant id              services of a tenant that are not closed
//	09 tenant time id         claim windows of a tenant's leases, by their end
//	0a provider time id       ends of a provider's leases that are known ahead
//	0b time tenant            the next event of an account
//	0c provider time          a payout, by when it matures
//	0d time provider          the same, for the queue
//	0e height digest          offers that opened a lease, by their last height
//	0f provider               what a provider's leases hold in all
package settle
