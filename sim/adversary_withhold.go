package sim

// withholdsOutputs signs receipts and delivers no bytes.
func withholdsOutputs() Adversary {
	return Adversary{
		Name: "withhold", Lends: true,
		withholds: func(*world, *lender) bool { return true },
		Gains:     "pay for outputs that nobody has",
		Stops:     "only what arrived and hashes to its receipt becomes payable",
	}
}
