package sim

import (
	"slices"

	"fallow.network/market"
)

// replaysVouchers redeems each voucher twice, with those of other leases and
// with altered ones.
func replaysVouchers() Adversary {
	return Adversary{
		Name: "replay", Lends: true,
		claims: func(_ *world, p *lender, _ *lease, s market.Signed) []market.Signed {
			altered := market.Signed{Message: slices.Clone(s.Message), Signature: s.Signature}
			altered.Message[len(altered.Message)-1] ^= 1
			out := []market.Signed{s, altered}
			if len(p.old.Message) > 0 {
				out = append(out, p.old)
			}
			p.old = s
			return out
		},
		Gains: "to be paid twice, for another lease or above the voucher",
		Stops: "vouchers are cumulative, name their lease and are signed by its session key",
	}
}
