// Package wasm runs WASI preview 1 programs in sandboxes: wazero in a child
// process, under the run profile that makes a result the same on every machine.
//
// Its one invariant: what a run gives (outputs, gas, outcome) depends on the
// task alone. Clock, randomness, directory order and read lengths are fixed by
// the task; running out of the host's own resources is an abort, an error and
// never a result.
//
// A guest sees /in (its inputs, read only), /out (its outputs), /scratch and
// /tmp, and nothing else: no network, no host files, no environment but its
// own. The child inherits neither files nor environment and is killed when its
// time is up; it doesn't decide what may run, or for whom.
package wasm
