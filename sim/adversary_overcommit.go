package sim

import (
	"fallow.network"
	"fallow.network/market"
	"fallow.network/provider"
)

// overcommits offers the same machine to everybody: each offer comes from a
// book that holds nothing.
func overcommits() Adversary {
	return Adversary{
		Name: "overcommit", Lends: true,
		answers: func(w *world, p *lender, id fallow.Digest, d market.Demand) (market.Signed, bool) {
			empty := provider.NewTwin(p.config, chainID, p.key, p.total, p.slots)
			s, o, no := empty.Offer(lending{w, p}, id, d, w.nonce(), w.clock.time())
			if no == nil {
				p.offers[s.ID()] = o
			}
			return s, no == nil
		},
		Gains: "more leases than its machine carries",
		Stops: "tasks past their time go elsewhere unpaid, and who broke a lease is not chosen again; half the bond bounds the leases",
	}
}
