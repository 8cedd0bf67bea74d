package main

import (
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"fallow.network"
	leasev1 "fallow.network/api/lease"
	"fallow.network/ledger"
	"fallow.network/market"
	"fallow.network/wire"
)

// maxEntries is how many leases a message of a batch opens.
const maxEntries = 100

// What a lease of the load reserves and is paid, in ucredit.
const (
	loadReserve fallow.Credits = 1000
	loadPaid    fallow.Credits = 300
)

// each calls do for 0 to n-1 side by side and joins what went wrong.
func each(n int, do func(int) error) error {
	errs := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { errs[i] = do(i) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// life takes leases of one provider from offers to their end: opened by one
// transaction of the tenant, a voucher of each redeemed by one of the provider,
// then closed and released by one of the tenant.
func (b *bare) life(ctx context.Context, l *lessor, first uint64, n int) (bytes int, err error) {
	head, err := b.tenants.Head(ctx)
	if err != nil {
		return 0, err
	}
	_, session, err := ed25519.GenerateKey(nil)
	if err != nil {
		return 0, err
	}
	opens := make([]ledger.Open, n)
	for i := range opens {
		demand := fallow.Sum(binary.BigEndian.AppendUint64(nil, first+uint64(i)))
		o, err := b.offer(l, demand, head.Height+100)
		if err != nil {
			return 0, err
		}
		opens[i] = ledger.Open{Offer: o, Session: wire.PublicKey(session), Reserve: loadReserve}
	}
	opened, txs, err := b.sender.OpenLeases(ctx, b.tenant.Account(), opens)
	if err != nil {
		return 0, fmt.Errorf("open: %w", err)
	}
	vouchers, releases := make([]market.Signed, n), make([]*leasev1.Signed, n)
	ids := make([]uint64, n)
	for i, o := range opened {
		if o.Reason != "" {
			return 0, fmt.Errorf("open: %s", o.Reason)
		}
		ids[i] = uint64(o.Lease)
		if vouchers[i], err = voucherOf(session, o.Lease, loadPaid.Pico(), fallow.Sum([]byte("root")), 1); err != nil {
			return 0, err
		}
		r, err := l.release(o.Lease, loadPaid.Pico())
		if err != nil {
			return 0, err
		}
		releases[i] = &leasev1.Signed{Message: r.Message, Signature: r.Signature}
	}
	redeemed, more, err := l.sender.Redeem(ctx, vouchers)
	if err != nil {
		return 0, fmt.Errorf("redeem: %w", err)
	}
	for _, r := range redeemed {
		if r.Reason != "" {
			return 0, fmt.Errorf("redeem: %s", r.Reason)
		}
	}
	signer := string(b.tenant.Account())
	tx, err := b.sender.Send(ctx,
		&leasev1.MsgClose{Signer: signer, Reason: string(fallow.ReasonCompleted), Leases: ids},
		&leasev1.MsgRelease{Signer: signer, Releases: releases})
	if err != nil {
		return 0, fmt.Errorf("close: %w", err)
	}
	for _, r := range tx.Responses {
		if err := allDone(r); err != nil {
			return 0, fmt.Errorf("close: %w", err)
		}
	}
	for _, t := range append(append(txs, more...), tx) {
		bytes += t.Bytes
	}
	return bytes, nil
}

func allDone(response proto.Message) error {
	r, ok := response.(interface{ GetResults() []*leasev1.Result })
	if !ok {
		return fmt.Errorf("unexpected response %T", response)
	}
	for _, one := range r.GetResults() {
		if one.GetReason() != "" {
			return errors.New(one.GetReason())
		}
	}
	return nil
}

// pace is what a load did.
type pace struct {
	leases int
	bytes  int
	took   time.Duration
	used   time.Duration // of processor time, all of it
}

// drive keeps so many lives of n leases each going until d has passed and all
// that began have ended.
func (b *bare) drive(ctx context.Context, wide, n int, d time.Duration) (pace, error) {
	var (
		next, bytes, done atomic.Int64
		p                 pace
	)
	before, err := processorTime(b.process.Process.Pid)
	if err != nil {
		return p, err
	}
	began := time.Now()
	next.Store(began.UnixNano()) // offers of one drive are not those of another
	err = each(wide, func(i int) error {
		// They begin spread over a block, as tenants who don't know each other do.
		if err := pause(ctx, time.Duration(i)*time.Second/time.Duration(wide)); err != nil {
			return err
		}
		for time.Since(began) < d {
			size, err := b.life(ctx, b.lessors[i%len(b.lessors)], uint64(next.Add(int64(n))), n)
			if err != nil {
				return err
			}
			bytes.Add(int64(size))
			done.Add(int64(n))
		}
		return nil
	})
	p.took = time.Since(began)
	after, timeErr := processorTime(b.process.Process.Pid)
	p.used, p.leases, p.bytes = after-before, int(done.Load()), int(bytes.Load())
	return p, errors.Join(err, timeErr)
}

// ledgerLoad measures what a lease costs the ledger's only validator under
// load, beyond what it uses when idle, and how many it carries.
func (b *bench) ledgerLoad(ctx context.Context) (err error) {
	l, err := startBare(ctx, 10, b.profiles != "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.end()) }()
	pid := l.process.Process.Pid
	if err := pause(ctx, 3*time.Second); err != nil {
		return err
	}
	before, err := processorTime(pid)
	if err != nil {
		return err
	}
	if err := pause(ctx, b.idle/2); err != nil {
		return err
	}
	after, err := processorTime(pid)
	if err != nil {
		return err
	}
	idle := (after - before).Seconds() / (b.idle / 2).Seconds()
	for _, load := range []struct {
		name       string
		wide, n    int
		cpu, least float64 // goals: ms a lease, leases/s
	}{
		{"one in a message", b.wide, 1, 5, 150},
		{"a hundred in a message", b.wide / 50, maxEntries, 1, 800},
	} {
		var (
			watching sync.WaitGroup
			lost     error
		)
		if b.profiles != "" {
			file := filepath.Join(b.profiles, fmt.Sprintf("ledger-%d.pprof", load.n))
			watching.Go(func() { lost = l.profile(ctx, b.load, file) })
		}
		p, err := l.drive(ctx, load.wide, load.n, b.load)
		watching.Wait()
		err = errors.Join(err, lost)
		if err != nil {
			return err
		}
		asIdle := time.Duration(idle * float64(p.took))
		mb, err := memoryOf(pid, "VmRSS")
		if err != nil {
			return err
		}
		b.add(Row{
			What: "node's CPU a lease, " + load.name, Value: millis(p.used-asIdle) / float64(p.leases), Unit: "ms", Goal: load.cpu,
			Ratio: float64(p.used) / float64(max(asIdle, 1)), Baseline: "idle node",
			Note: fmt.Sprintf("opened, a voucher redeemed, closed and released, %d leases in %.3g s; %.0f ms in all, %.0f ms of them as when idle; %.0f B a lease; %.0f MB at the end",
				p.leases, p.took.Seconds(), millis(p.used), millis(asIdle), float64(p.bytes)/float64(p.leases), mb),
		}, Row{
			What: "leases a second, " + load.name, Value: float64(p.leases) / p.took.Seconds(), Unit: "leases/s", Goal: load.least, Over: true,
			Note: fmt.Sprintf("one validator, one tenant, %d providers; begin and end of the load included", len(l.lessors)),
		})
	}
	return nil
}
