// Package e2e tells the stories of testdata: what people type, and what they
// see, against the real binaries on networks of real processes.
//
// Its one invariant: a story leaves no process behind, and no story needs a
// network beyond loopback. The network of the first story stays in
// build/e2e-home, stopped, for packaging/audit-check.sh.
//
// It tests no rule by itself; those have tables and properties in their rooms.
package e2e
