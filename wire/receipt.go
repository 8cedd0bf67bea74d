package wire

import (
	"fmt"

	"fallow.network"
	marketv1 "fallow.network/api/market"
	"fallow.network/receipt"
)

// Receipt decodes a receipt's bytes.
func Receipt(b []byte) (receipt.Receipt, error) {
	var m marketv1.Receipt
	if err := unmarshal("receipt", b, MaxReceipt, &m); err != nil {
		return receipt.Receipt{}, err
	}
	var r reader
	v := receipt.Receipt{
		Lease:    fallow.LeaseID(m.GetLease()),
		Workload: r.digest("workload", m.GetWorkload()),
		Task:     m.GetTask(),
		Attempt:  m.GetAttempt(),
		Input:    r.digest("input", m.GetInput()),
		Output:   r.digest("output", m.GetOutput()),
		Gas:      fallow.Gas(m.GetGas()),
		Outcome:  receipt.Outcome(m.GetOutcome()),
		ExitCode: m.GetExitCode(),
		Trap:     m.GetTrap(),
		Profile:  m.GetProfile(),
		Started:  fallow.Time(m.GetStartedUnixMs()),
		Ended:    fallow.Time(m.GetEndedUnixMs()),
		Charge:   pico(m.GetCharge()),
	}
	if n := len(m.GetOutputs()); n > 0 {
		v.Outputs = make([]receipt.Output, n)
	}
	for i, o := range m.GetOutputs() {
		d, err := fallow.DigestFrom(o.GetDigest())
		if err != nil {
			r.fail(fmt.Sprintf("outputs[%d]", i), err)
		}
		v.Outputs[i] = receipt.Output{Path: o.GetPath(), Digest: d, Size: o.GetSize()}
	}
	r.fail("receipt", v.Check())
	if r.err != nil {
		return receipt.Receipt{}, malformed("receipt", r.err)
	}
	return v, nil
}

// EncodeReceipt writes v; it fails when v is out of bounds.
func EncodeReceipt(v receipt.Receipt) ([]byte, error) {
	if err := v.Check(); err != nil {
		return nil, malformed("receipt", err)
	}
	m := &marketv1.Receipt{
		Lease:         uint64(v.Lease),
		Workload:      v.Workload[:],
		Task:          v.Task,
		Attempt:       v.Attempt,
		Input:         v.Input[:],
		Output:        v.Output[:],
		Gas:           uint64(v.Gas),
		Outcome:       marketv1.Outcome(v.Outcome),
		ExitCode:      v.ExitCode,
		Trap:          v.Trap,
		Profile:       v.Profile,
		StartedUnixMs: int64(v.Started),
		EndedUnixMs:   int64(v.Ended),
		Charge:        toPico(v.Charge),
	}
	for _, o := range v.Outputs {
		m.Outputs = append(m.Outputs, &marketv1.Output{Path: o.Path, Digest: o.Digest[:], Size: o.Size})
	}
	return marshal("receipt", m)
}

// Voucher decodes a voucher's bytes.
func Voucher(b []byte) (receipt.Voucher, error) {
	var m marketv1.Voucher
	if err := unmarshal("voucher", b, MaxVoucher, &m); err != nil {
		return receipt.Voucher{}, err
	}
	var r reader
	v := receipt.Voucher{
		Lease:        fallow.LeaseID(m.GetLease()),
		Amount:       pico(m.GetAmount()),
		ReceiptsRoot: r.digestOrZero("receipts_root", m.GetReceiptsRoot()),
		Receipts:     m.GetReceipts(),
	}
	r.fail("voucher", v.Check())
	if r.err != nil {
		return receipt.Voucher{}, malformed("voucher", r.err)
	}
	return v, nil
}

// EncodeVoucher writes v; it fails when v is out of bounds.
func EncodeVoucher(v receipt.Voucher) ([]byte, error) {
	if err := v.Check(); err != nil {
		return nil, malformed("voucher", err)
	}
	m := &marketv1.Voucher{Lease: uint64(v.Lease), Amount: toPico(v.Amount), Receipts: v.Receipts}
	if !v.ReceiptsRoot.IsZero() {
		m.ReceiptsRoot = v.ReceiptsRoot[:]
	}
	return marshal("voucher", m)
}

// Horizon decodes a horizon's bytes.
func Horizon(b []byte) (receipt.Horizon, error) {
	var m marketv1.Horizon
	if err := unmarshal("horizon", b, MaxVoucher, &m); err != nil {
		return receipt.Horizon{}, err
	}
	h := receipt.Horizon{
		Lease:    fallow.LeaseID(m.GetLease()),
		Sequence: m.GetSequence(),
		Until:    fallow.Time(m.GetUntilUnixMs()),
	}
	if err := h.Check(); err != nil {
		return receipt.Horizon{}, malformed("horizon", err)
	}
	return h, nil
}

// EncodeHorizon writes h; it fails when h is out of bounds.
func EncodeHorizon(h receipt.Horizon) ([]byte, error) {
	if err := h.Check(); err != nil {
		return nil, malformed("horizon", err)
	}
	return marshal("horizon", &marketv1.Horizon{
		Lease:       uint64(h.Lease),
		Sequence:    h.Sequence,
		UntilUnixMs: int64(h.Until),
	})
}

// Release decodes a release's bytes.
func Release(b []byte) (receipt.Release, error) {
	var m marketv1.Release
	if err := unmarshal("release", b, MaxVoucher, &m); err != nil {
		return receipt.Release{}, err
	}
	v := receipt.Release{Lease: fallow.LeaseID(m.GetLease()), Amount: pico(m.GetAmount())}
	if err := v.Check(); err != nil {
		return receipt.Release{}, malformed("release", err)
	}
	return v, nil
}

// EncodeRelease writes v; it fails when v is out of bounds.
func EncodeRelease(v receipt.Release) ([]byte, error) {
	if err := v.Check(); err != nil {
		return nil, malformed("release", err)
	}
	return marshal("release", &marketv1.Release{Lease: uint64(v.Lease), Amount: toPico(v.Amount)})
}
