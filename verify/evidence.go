package verify

import (
	"math/big"

	"fallow.network"
)

// HalfLifeMS is how long it takes for evidence to count half: 30 days.
const HalfLifeMS = 30 * 24 * 3600 * 1000

// Evidence is what a tenant knows of one node's work of one class. The zero
// value is a newcomer.
type Evidence struct {
	// Value of tasks that were checked and right, as it counted at At.
	Value fallow.Pico
	At    fallow.Time
	// Right and Wrong count checked tasks, ever; Right begins anew after a
	// wrong one.
	Right uint32
	Wrong uint32
}

// Worth is the value of the evidence at a moment: half after each half life,
// and in a straight line in between.
func (e Evidence) Worth(now fallow.Time, halfLifeMS uint64) fallow.Pico {
	if now <= e.At || e.Value.IsZero() || halfLifeMS == 0 {
		return e.Value
	}
	age := uint64(now - e.At)
	halvings := age / halfLifeMS
	if halvings >= 128 {
		return fallow.Pico{}
	}
	v := new(big.Int).Rsh(toBig(e.Value), uint(halvings))
	whole := new(big.Int).SetUint64(halfLifeMS)
	whole.Lsh(whole, 1)
	left := new(big.Int).Sub(whole, new(big.Int).SetUint64(age%halfLifeMS))
	return fromBig(v.Mul(v, left).Quo(v, whole))
}

// Update is the evidence after a check of a task of that price. A wrong one
// takes everything away.
func (e Evidence) Update(now fallow.Time, halfLifeMS uint64, price fallow.Pico, right bool) Evidence {
	if !right {
		return Evidence{At: now, Wrong: e.Wrong + 1}
	}
	worth, err := e.Worth(now, halfLifeMS).Add(price)
	if err != nil {
		worth = fallow.Pico{Hi: 1<<64 - 1, Lo: 1<<64 - 1}
	}
	return Evidence{Value: worth, At: now, Right: e.Right + 1, Wrong: e.Wrong}
}

// Policy is how a tenant samples. Zero fields mean nothing by themselves: begin
// with DefaultPolicy.
type Policy struct {
	Newcomers  uint32 // first tasks of a class that are all checked
	Multiple   uint64 // of a task's price that a wrong one costs
	Collusion  PPM    // chance that a checker colludes; zero on the own machine
	HalfLifeMS uint64
}

// DefaultPolicy is the design's, with checks on the own machine.
func DefaultPolicy() Policy {
	return Policy{Newcomers: Newcomers, Multiple: Multiple, HalfLifeMS: HalfLifeMS}
}

// RateFor is the share of a node's tasks of that price to check. Its first
// tasks are all checked; then evidence worth as many tasks of this price
// brings the rate down, in a straight line, to the bound of Rate and never
// under it, so that cheap work buys no trust for dear work.
func (p Policy) RateFor(e Evidence, now fallow.Time, price fallow.Pico, bond fallow.Credits) PPM {
	if e.Right < p.Newcomers {
		return All
	}
	bound := Rate(price, Slash(price, p.Multiple, bond), p.Collusion)
	enough := new(big.Int).Mul(toBig(price), big.NewInt(int64(max(p.Newcomers, 1))))
	lacks := new(big.Int).Sub(enough, toBig(e.Worth(now, p.HalfLifeMS)))
	if lacks.Sign() <= 0 || enough.Sign() == 0 {
		return bound
	}
	// bound + (1 - bound)·lacks/enough, rounded up
	lacks.Mul(lacks, big.NewInt(int64(All-bound)))
	lacks.Add(lacks, enough).Sub(lacks, big.NewInt(1)).Quo(lacks, enough)
	return bound + PPM(lacks.Uint64())
}
