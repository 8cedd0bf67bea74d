package sim

import (
	"fallow.network"
	"fallow.network/market"
	"fallow.network/provider"
)

// overcommits offers the same machine to everybody: each offer comes from a
// book that holds nothing. Where slots are short it does earn more than when it
// is honest, out of its neighbours' share and at the cost of its tenants' time.
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
		Gains: "leases beyond its slots, so that work waits with it rather than goes to others",
		Stops: "it is paid for what its slots ran and no more; tasks past their time go elsewhere, who broke a lease is not chosen for an hour, half the bond bounds the leases",
	}
}
