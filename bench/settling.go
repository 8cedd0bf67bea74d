package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"syscall"
	"time"

	"fallow.network"
	"fallow.network/keys"
	"fallow.network/market"
	"fallow.network/receipt"
	"fallow.network/settle"
	"fallow.network/spec"
	"fallow.network/wire"
)

// How a job of many tasks is settled here: receipts come so many at a time,
// every hundred are paid by a voucher, and a voucher goes to the ledger's rules
// once in so many.
const (
	settleAtOnce   = 10_000
	settleVoucher  = 100
	settleGas      = 1000
	settleLease    = fallow.LeaseID(1)
	settleReserve  = fallow.Credits(1_000_000_000)
	settleDuration = 60 // goal for 1,000,000 tasks, in seconds
)

// spent is the processor time that this process has used.
func spent() (time.Duration, error) {
	var u syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), err
}

// bonded says of every provider that it stands for what it is asked for.
type bonded struct{}

// Standing is a bond beyond any lease of this measurement.
func (bonded) Standing(fallow.Account) (fallow.Credits, bool, error) {
	return 1_000_000_000_000, true, nil
}

// NodeEpoch is the first epoch of any key.
func (bonded) NodeEpoch(fallow.Account, fallow.Key) (uint64, bool, error) { return 1, true, nil }

// settlement is both sides of one lease and the ledger's rules between them.
type settlement struct {
	books         settle.Books
	at            settle.Block
	tenant, owner fallow.Account
	node, session ed25519.PrivateKey
	terms         market.Terms
	outputs       []receipt.Output
	// What client and provider have come to.
	paid, owed     fallow.Pico
	theirs, ours   receipt.Tree
	settled, tasks int
}

func newSettlement() (*settlement, error) {
	s := &settlement{
		at:      settle.Block{Height: 10, Time: 1_000_000},
		terms:   market.Terms{GasPrice: fallow.PicoOf(1_000_000), Slots: 1, Slot: market.Resources{MilliCPU: 1000, Memory: 1 << 28}, LeastSpeed: 1, UnpaidCeiling: 1000, MaxReserve: settleReserve, ClaimWindowMS: 1000, IdleMS: 1000},
		outputs: []receipt.Output{{Path: "stdout", Digest: fallow.Sum([]byte("output")), Size: 6}},
	}
	for _, a := range []*fallow.Account{&s.tenant, &s.owner} {
		key, err := keys.NewSecret()
		if err != nil {
			return nil, err
		}
		*a = key.Account()
	}
	var err error
	if _, s.node, err = ed25519.GenerateKey(nil); err != nil {
		return nil, err
	}
	if _, s.session, err = ed25519.GenerateKey(nil); err != nil {
		return nil, err
	}
	s.books = settle.Books{Store: &fallow.Memory{}, Bonds: bonded{}, Decode: wire.Decoder{}, Verify: settle.Verifier(benchChain)}
	if _, err := s.books.Deposit(s.at, s.tenant, s.tenant, settleReserve); err != nil {
		return nil, err
	}
	raw, err := wire.EncodeOffer(market.Offer{
		Demand: fallow.Sum([]byte("demand")), Tenant: s.tenant, Provider: s.owner, NodeKey: wire.PublicKey(s.node), KeyEpoch: 1,
		Kind: market.KindBatch, Workload: fallow.Sum([]byte("work")), LastHeight: s.at.Height + 10, Profile: spec.ProfileWASM, Terms: s.terms,
	})
	if err != nil {
		return nil, err
	}
	results, _, err := s.books.OpenLeases(s.at, s.tenant, s.tenant, []settle.OpenEntry{{
		Offer: wire.Sign(s.node, market.SignsOffer, benchChain, raw), SessionKey: wire.PublicKey(s.session), Reserve: settleReserve,
	}})
	switch {
	case err != nil:
		return nil, err
	case results[0].Reason != "":
		return nil, fmt.Errorf("open a lease: %s", results[0].Reason)
	}
	return s, nil
}

// deliver is what a provider signs for so many tasks; it is no part of settling.
func (s *settlement) deliver(n int) ([]market.Signed, error) {
	charge, err := receipt.Charge(s.terms, settleGas)
	if err != nil {
		return nil, err
	}
	all := make([]market.Signed, n)
	for i := range all {
		raw, err := wire.EncodeReceipt(receipt.Receipt{
			Lease: settleLease, Workload: fallow.Sum([]byte("work")), Task: uint32(s.tasks), Attempt: 1,
			Input: fallow.Sum([]byte("input")), Output: receipt.OutputDigest(s.outputs), Outputs: s.outputs,
			Gas: settleGas, Outcome: receipt.Exited, Profile: spec.ProfileWASM, Started: 1000, Ended: 1001, Charge: charge,
		})
		if err != nil {
			return nil, err
		}
		all[i] = wire.Sign(s.node, market.SignsReceipt, benchChain, raw)
		s.tasks++
	}
	return all, nil
}

// settle takes receipts to the ledger: the client checks each, and pays a
// hundred by a voucher; the provider checks that, and the last is redeemed.
func (s *settlement) settle(all []market.Signed) error {
	var voucher market.Signed
	for i, signed := range all {
		r, err := wire.OpenReceipt(benchChain, wire.PublicKey(s.node), signed)
		if err != nil {
			return err
		}
		if err := r.Accept(receipt.Expected{
			Lease: settleLease, Workload: r.Workload, Task: uint32(s.settled), Attempt: 1, Input: r.Input,
			Profile: spec.ProfileWASM, Gas: settleGas, Output: 64, Terms: s.terms,
		}); err != nil {
			return err
		}
		if s.paid, err = s.paid.Add(r.Charge); err != nil {
			return err
		}
		if s.owed, err = s.owed.Add(r.Charge); err != nil {
			return err
		}
		s.ours.Append(signed.ID())
		s.theirs.Append(signed.ID())
		if s.settled++; s.settled%settleVoucher != 0 && i < len(all)-1 {
			continue
		}
		raw, err := wire.EncodeVoucher(receipt.Voucher{Lease: settleLease, Amount: s.paid, ReceiptsRoot: s.ours.Root(), Receipts: uint32(s.ours.Len())})
		if err != nil {
			return err
		}
		voucher = wire.Sign(s.session, market.SignsVoucher, benchChain, raw)
		v, err := wire.OpenVoucher(benchChain, wire.PublicKey(s.session), voucher)
		switch {
		case err != nil:
			return err
		case v.Amount != s.owed || v.ReceiptsRoot != s.theirs.Root() || uint64(v.Receipts) != s.theirs.Len():
			return errors.New("the voucher pays other receipts than were given")
		}
	}
	results, _, err := s.books.Redeem(s.at, s.owner, []market.Signed{voucher}, nil)
	switch {
	case err != nil:
		return err
	case results[0].Reason != "":
		return fmt.Errorf("redeem: %s", results[0].Reason)
	}
	return nil
}

// settling measures the processor time of settling, against as many bare
// checks of an Ed25519 signature over as many bytes.
func (b *bench) settling(ctx context.Context) error {
	s, err := newSettlement()
	if err != nil {
		return err
	}
	var used, signing, bare time.Duration
	compared := 0
	for s.settled < b.settle {
		if err := ctx.Err(); err != nil {
			return err
		}
		var marks [4]time.Duration
		if marks[0], err = spent(); err != nil {
			return err
		}
		all, err := s.deliver(min(settleAtOnce, b.settle-s.settled))
		if err != nil {
			return err
		}
		if marks[1], err = spent(); err != nil {
			return err
		}
		if err := s.settle(all); err != nil {
			return err
		}
		if marks[2], err = spent(); err != nil {
			return err
		}
		// A tenth of them is enough for the baseline, and runs beside them all.
		for _, signed := range all[:len(all)/10] {
			if !ed25519.Verify(s.node.Public().(ed25519.PublicKey), fallow.SignedBytes(market.SignsReceipt, benchChain, signed.Message), signed.Signature) {
				return errors.New("a receipt's signature does not verify")
			}
			compared++
		}
		if marks[3], err = spent(); err != nil {
			return err
		}
		signing, used, bare = signing+marks[1]-marks[0], used+marks[2]-marks[1], bare+marks[3]-marks[2]
	}
	baseline := bare.Seconds() / float64(compared) * float64(b.settle)
	row := Row{
		What: fmt.Sprintf("CPU to settle %d tasks", b.settle), Value: used.Seconds(), Unit: "s",
		Ratio: used.Seconds() / baseline, Baseline: "bare checks of as many signatures",
		Note: fmt.Sprintf("each receipt checked, both sides' roots, a voucher for %d signed and checked, one for %d redeemed by the ledger's rules in memory; %.3g s more to sign the receipts", settleVoucher, settleAtOnce, signing.Seconds()),
	}
	if b.settle == 1_000_000 {
		row.Goal = settleDuration
	}
	b.add(row)
	return nil
}
