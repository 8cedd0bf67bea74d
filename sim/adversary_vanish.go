package sim

// vanishes takes leases and is never heard of again.
func vanishes() Adversary {
	return Adversary{
		Name: "vanish", Lends: true,
		works: func(*world, *lender) bool { return false },
		Gains: "nothing of its own; it blocks reserves and time",
		Stops: "a deadline for each task, another provider for it, and no further lease for who vanished",
	}
}
