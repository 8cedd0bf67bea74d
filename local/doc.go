// Package local runs a whole market on one machine: a validator, hubs,
// providers and a funded tenant, every party a process of its own with its own
// key and home, real connections between them and real transactions.
//
// Its one invariant: it starts the same programs with the same commands that a
// machine of its own would run; nothing is simulated. Everything listens on
// loopback.
//
// It makes no decision of the market, and keeps no state but the homes, the
// ports it once chose and who runs.
package local
