// Package meter rewrites WebAssembly modules so that they count their own
// work: gas, by a written and versioned schedule (docs/gas-schedule.md).
//
// Its one invariant: what a metered module computes, the gas that it counts
// and where it traps depend on the module, its input and the schedule alone,
// never on the engine or the machine. So an endless loop ends by itself, depth
// of calls is bounded by a count, memory ends where the grant ends, and a
// NaN's bits are canonical wherever a program could see them.
//
// It parses outside bytes with bounds of its own and refuses, with the
// reason, whatever it can't meter. It doesn't run anything, and it isn't a
// full validator: an engine still validates what comes out.
package meter
