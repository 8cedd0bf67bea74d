package sim

import (
	"fallow.network"
	"fallow.network/market"
	"fallow.network/receipt"
)

// Adversary is one way to cheat. Its hooks stand over what an honest party
// does; a nil hook does the honest thing.
type Adversary struct {
	Name  string
	Lends bool   // a provider; otherwise a tenant
	Gains string // what it hopes for
	Stops string // what stops it

	// answers stands over the policy's offer.
	answers func(*world, *lender, fallow.Digest, market.Demand) (market.Signed, bool)
	// works says whether a lease is worked on at all.
	works func(*world, *lender) bool
	// lies says whether a result is another than the task's.
	lies func(*world, *lender) bool
	// friends may check for it: see world.collusion.
	friends bool
	// again is a second receipt for the same attempt.
	again func(*lease, receipt.Receipt) (receipt.Receipt, bool)
	// withholds says whether the outputs behind a receipt stay away.
	withholds func(*world, *lender) bool
	// claims are further vouchers brought to the ledger beside the right one.
	claims func(*world, *lender, *lease, market.Signed) []market.Signed
	// stingy tenants sign no voucher.
	stingy bool
	// floods is how many idle demands a tenant sends with each job.
	floods int
	// reopens brings used and expired offers to the ledger again.
	reopens bool
}

// Adversaries are all kinds, in the order of their names.
func Adversaries() []Adversary {
	return []Adversary{colludes(), equivocates(), floodsDemands(), liesInResults(), neverPays(), overcommits(), replaysVouchers(), reusesOffers(), vanishes(), withholdsOutputs()}
}

func adversary(name string) (Adversary, bool) {
	for _, a := range Adversaries() {
		if a.Name == name {
			return a, true
		}
	}
	return Adversary{}, false
}
