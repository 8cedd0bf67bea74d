// Package provider is the daemon of a machine that lends what is idle: it
// answers demands with firm offers, holds the capacity that it offered, runs
// the tasks of leases in sandboxes, signs receipts and is paid by vouchers.
//
// Its one invariant: what was promised is kept and what was signed is
// remembered. Capacity is never sold twice, a receipt stands in the journal
// before anyone sees it, and one (lease, task, attempt) never has two.
//
// It holds no rules of the market (market, receipt and settle do), knows no
// network library, no engine and no chain: it declares the few methods that it
// needs of them, and sdk brings them.
package provider
