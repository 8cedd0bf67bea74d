// Package sdk wires the rooms together for programs: a home and its config,
// the tenant's engine, a provider, a hub and the ledger's client, ready to use.
// cmd/fallow is built on it alone, and so can other people's programs be.
//
// Its one invariant: it holds no rules and no state of its own; what it opens
// it closes.
package sdk
