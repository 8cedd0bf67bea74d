// Package receipt holds what a provider and a tenant sign about work done:
// the receipt of one task, the voucher that pays receipts cumulatively, the
// horizon that lets a service accrue and the release that frees a reserve;
// with the rules that both sides must agree on: what a task costs, what digest
// stands for its inputs and outputs, which root stands for a list of receipts,
// and when two receipts prove fraud.
//
// Its one invariant: one task has one charge, one input digest and one output
// digest, whoever computes them.
//
// It judges no results (verify does) and moves no credits (settle does).
package receipt
