// Package verify says how often work is checked, which work, and what a check
// means.
//
// Its one invariant: with these rates a provider that fakes loses more than it
// gains, whatever it knows about past draws. A provider that fakes a task
// gains g when nobody looks, and when somebody does, with chance p(1-r) where r
// is the chance that the checker colludes, it loses s. Faking does not pay when
//
//	g·(1 - p(1-r)) ≤ s·p(1-r), that is p ≥ g / ((1-r)(g+s))
//
// and Rate asks for half as much again. This is the inequality of design.md,
// "Sampling"; Belenkiy, Chase, Erway, Jannotti, Küpçü and Lysyanskaya derive
// the same bound from reward and fine in "Incentivizing Outsourced
// Computation" (NetEcon 2008).
//
// It runs no work (runner does), keeps no evidence (the client's database
// does) and takes no one's bond.
package verify
