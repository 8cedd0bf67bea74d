// Package sim is a market of thousands of parties in virtual time: the real
// policy of providers (provider.Twin), the real rules (spec, market, receipt,
// verify, settle and the registry over a store in memory) and real signatures
// of offers and vouchers, with adversaries among them.
//
// Its one invariant: a seed and its options fix every event, so whatever breaks
// comes again by the command that a Breach prints.
//
// It opens no connection and runs no guest. Latency, run time, the demand's
// and the receipt's signature, disks, gas fees and restarts are modelled or
// left out: docs/decisions.md lists them.
package sim
