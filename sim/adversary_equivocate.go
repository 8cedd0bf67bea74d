package sim

import "fallow.network/receipt"

// equivocates signs a second receipt for each attempt, over another result and
// more gas.
func equivocates() Adversary {
	return Adversary{
		Name: "equivocate", Lends: true,
		again: func(l *lease, r receipt.Receipt) (receipt.Receipt, bool) {
			r.Outputs = []receipt.Output{{Path: "stdout", Digest: r.Output, Size: 64}}
			r.Output = receipt.OutputDigest(r.Outputs)
			r.Gas += r.Gas / 4
			charge, err := receipt.Charge(l.offer.Terms, r.Gas)
			r.Charge = charge
			return r, err == nil
		},
		Gains: "to be paid for one attempt twice, or for the dearer of two claims",
		Stops: "an attempt is paid once; the two receipts are a proof: the lease ends, what is unpaid stays so, unchecked work is done again elsewhere and evidence starts anew",
	}
}
