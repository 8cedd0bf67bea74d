package sim

// colludes lies as liesInResults does, and has friends among those who check:
// a checker from the market confirms its lie with the chance that tenants
// reckon with. No friend stands on a tenant's own machine.
func colludes() Adversary {
	return Adversary{
		Name: "collude", Lends: true, friends: true,
		lies:  func(w *world, _ *lender) bool { return w.rng.IntN(3) == 0 },
		Gains: "pay for made-up results that a befriended checker confirms",
		Stops: "checkers are drawn by chance and aren't told the claim; who checks on the market checks more by 1/(1-r); checks on the own machine find every lie that they meet",
	}
}
