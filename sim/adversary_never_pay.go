package sim

// neverPays takes results and signs nothing.
func neverPays() Adversary {
	return Adversary{
		Name: "never-pay", stingy: true,
		Gains: "results up to the unpaid ceiling of each provider",
		Stops: "work waits at the unpaid ceiling; a debtor gets no further offer from the same provider",
	}
}
