// Package client is the tenant's engine: it asks the market for a job,
// opens leases within a budget, hands out tasks, checks results by running
// samples again, and pays for what arrived.
//
// Its one invariant: what was signed or spent is in tenant.db before anybody
// sees it, so a client that was killed at any moment goes on where it stood
// and pays nothing twice.
//
// It holds no rules of the market (market, receipt, verify and settle do), no
// network library, no engine and no chain: ports.go declares what it needs of
// them, and sdk brings them.
package client
