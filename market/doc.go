// Package market holds the messages that make a market, as pure types, and
// the rules between demand and lease: what a sound demand or offer is, what a
// provider's policy asks, how a client ranks offers, and who is a provider at
// all (the Registry, which is the ledger's provider module).
//
// Its one invariant: a value that passed Check is within every bound that the
// rooms behind it count on, so their sums fit 128 bits.
//
// It reads no bytes from a network (wire does), moves no coins (the ledger's
// adapter applies the effects that Registry returns) and signs nothing.
package market
