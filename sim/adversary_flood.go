package sim

// floodsDemands asks for capacity that it never takes, to keep others out.
func floodsDemands() Adversary {
	return Adversary{
		Name: "flood", floods: 40,
		Gains: "capacity held by offers it never takes, so that others find none",
		Stops: "rates by tenant; slots held in proportion to habit and escrow; offers end within blocks",
	}
}
