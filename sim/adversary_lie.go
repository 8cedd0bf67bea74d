package sim

// liesInResults signs receipts for results that it made up.
func liesInResults() Adversary {
	return Adversary{
		Name: "lie", Lends: true,
		lies:  func(w *world, _ *lender) bool { return w.rng.IntN(3) == 0 },
		Gains: "pay for a third of its tasks without running them",
		Stops: "samples that it can't foresee, a third run, and evidence that starts anew",
	}
}
