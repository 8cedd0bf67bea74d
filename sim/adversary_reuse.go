package sim

// reusesOffers opens leases again by offers that were used or have ended.
func reusesOffers() Adversary {
	return Adversary{
		Name: "reuse-offer", reopens: true,
		Gains: "capacity at a price of the past, or twice for one hold",
		Stops: "an offer opens once, up to its last height",
	}
}
