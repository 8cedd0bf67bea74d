package provider

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"fallow.network"
	"fallow.network/fault"
	"fallow.network/market"
	"fallow.network/settle"
)

// maxSettle is how many leases go to the ledger in one settlement.
const maxSettle = 100

func (d *Daemon) wakeSettler() { wake(d.settling) }

// orphan marks a lease that can't be served for closing.
func (d *Daemon) orphan(id fallow.LeaseID) {
	d.mu.Lock()
	d.orphans[id] = true
	d.mu.Unlock()
	d.wakeSettler()
}

// settler redeems vouchers, releases reserves and closes leases until ctx
// ends. What fails is tried again: the journal remembers.
func (d *Daemon) settler(ctx context.Context) {
	retry := retryFirst
	for {
		d.endSilent(ctx)
		lot, wait := d.due()
		if !lot.empty() {
			err := d.settle(ctx, lot)
			if err == nil {
				retry = retryFirst
				continue
			}
			if ctx.Err() != nil {
				return
			}
			d.log.WarnContext(ctx, "settling failed and is tried again", slog.Any("error", err))
			if !sleep(ctx, retry) {
				return
			}
			retry = min(2*retry, retryMost)
			continue
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-d.settling:
		case <-t.C:
		}
		t.Stop()
	}
}

// lot is what goes to the ledger next.
type lot struct {
	vouched []*lease // in the order of the vouchers
	amounts []fallow.Pico
	closed  []*lease
	freed   []*lease
	orphans []fallow.LeaseID
	s       Settlement
}

func (l lot) empty() bool {
	return len(l.s.Vouchers) == 0 && len(l.s.Closes) == 0 && len(l.s.Releases) == 0
}

// due gathers what is to be settled now, and says when to look again. Once
// one lease is due, all that have something go along.
func (d *Daemon) due() (lot, time.Duration) {
	c, _ := d.config()
	now, wait := d.now(), time.Minute
	var out lot
	urgent := false
	for _, l := range d.all() {
		if len(out.s.Vouchers)+len(out.s.Closes) >= maxSettle {
			break
		}
		l.mu.Lock()
		if l.halting > 0 {
			l.mu.Unlock()
			continue // it wakes us when it is done
		}
		if worth, now, after := l.claims(c.Redeem, now); !worth.IsZero() {
			out.vouched = append(out.vouched, l)
			out.amounts = append(out.amounts, l.paid)
			out.s.Vouchers = append(out.s.Vouchers, l.voucher)
			if now {
				urgent = true
			} else {
				wait = min(wait, after)
			}
		}
		if len(l.release.Message) > 0 {
			out.freed = append(out.freed, l)
			out.s.Releases = append(out.s.Releases, l.release)
			urgent = true
		}
		switch {
		case l.over != "" && (!l.closing || l.quits()):
			out.closed = append(out.closed, l)
			out.s.Closes = append(out.s.Closes, Closing{l.id, l.over})
			urgent = true
		case l.over == "" && len(l.tasks) == 0:
			wait = min(wait, l.silentAt(l.link != nil).Sub(now))
		}
		l.mu.Unlock()
	}
	d.mu.Lock()
	for id := range d.orphans {
		out.orphans = append(out.orphans, id)
	}
	d.mu.Unlock()
	slices.Sort(out.orphans)
	for _, id := range out.orphans {
		out.s.Closes = append(out.s.Closes, Closing{id, fallow.ReasonProviderLeft})
		urgent = true
	}
	if !urgent {
		return lot{}, max(wait, 10*time.Millisecond)
	}
	return out, 0
}

// lingers is how many times the configured age a voucher may reach that adds
// little to what was redeemed before.
const lingers = 16

// ripe is the age at which a voucher goes to the ledger although it is not worth
// the configured amount. That amount bounds what is at stake; age only brings
// small sums home, and each time costs a transaction: so the first comes by age,
// and a later one sooner than lingers ages only when it is worth lingers times
// what came before.
func ripe(age time.Duration, worth, redeemed fallow.Pico) time.Duration {
	if redeemed.IsZero() {
		return age
	}
	if much, err := redeemed.Mul(lingers); err == nil && worth.Cmp(much) >= 0 {
		return age
	}
	return lingers * age
}

// settle brings a lot to the ledger and notes what became of it.
func (d *Daemon) settle(ctx context.Context, out lot) error {
	results, err := d.deps.Chain.Settle(ctx, out.s)
	if err != nil {
		return err
	}
	if len(results) != len(out.vouched) {
		return fmt.Errorf("the ledger answered %d of %d vouchers", len(results), len(out.vouched))
	}
	fault.Point("provider/settled")
	now := d.now()
	var busy error
	waits := map[*lease]bool{}
	for i, l := range out.vouched {
		if results[i].Reason == fallow.ReasonBusy {
			busy, waits[l] = errBusy, true
			continue
		}
		d.redeemed(ctx, l, out.amounts[i], results[i], now)
	}
	for _, l := range out.freed {
		l.mu.Lock()
		l.release = market.Signed{}
		l.mu.Unlock()
	}
	for _, l := range out.closed {
		if waits[l] {
			continue // closed with its voucher, next time
		}
		l.mu.Lock()
		l.left = true
		l.closed(now)
		l.mu.Unlock()
	}
	d.mu.Lock()
	for _, id := range out.orphans {
		delete(d.orphans, id)
	}
	d.mu.Unlock()
	for _, l := range d.all() {
		l.mu.Lock()
		reason, over := l.settled(now)
		l.mu.Unlock()
		if over {
			d.forget(ctx, l, reason)
		}
	}
	d.changed()
	return busy
}

// errBusy is an account on which more was due than one message may work off.
var errBusy = errors.New("the ledger asks to come again in a block")

// redeemed notes what the ledger did with one voucher.
func (d *Daemon) redeemed(ctx context.Context, l *lease, amount fallow.Pico, r settle.Result, now time.Time) {
	l.mu.Lock()
	l.redeem(amount, r.Reason, now)
	l.mu.Unlock()
	switch r.Reason {
	case "", fallow.ReasonVoucherReplayed, fallow.ReasonVoucherDown:
		d.metrics.redeemed.Add(float64(r.Amount) / 1e6)
		d.log.InfoContext(ctx, "voucher redeemed", slog.Uint64("lease", uint64(l.id)), slog.String("up_to", amount.String()), slog.String("paid", r.Amount.String()))
	case fallow.ReasonLeaseClosed, fallow.ReasonUnknownLease:
		d.log.ErrorContext(ctx, "a voucher came too late to be redeemed", slog.Uint64("lease", uint64(l.id)), slog.String("reason", string(r.Reason)))
	default:
		// As a voucher beyond the reserve: it is tried again at its next age.
		d.log.WarnContext(ctx, "a voucher was not redeemed", slog.Uint64("lease", uint64(l.id)), slog.String("reason", string(r.Reason)))
	}
	if err := d.journal.addRedemption(ctx, l.id, amount, r.Amount, r.Reason, now); err != nil {
		d.log.ErrorContext(ctx, "a redemption could not be written down", slog.Uint64("lease", uint64(l.id)), slog.Any("error", err))
	}
}

// endSilent ends leases whose tenant has fallen silent, and forgets those
// whose claim window is over.
func (d *Daemon) endSilent(ctx context.Context) {
	now := d.now()
	for _, l := range d.all() {
		l.mu.Lock()
		silent := l.over == "" && len(l.tasks) == 0 && now.After(l.silentAt(l.link != nil))
		l.mu.Unlock()
		if silent {
			d.log.InfoContext(ctx, "the tenant fell silent", slog.Uint64("lease", uint64(l.id)))
			d.stop(l, fallow.ReasonTenantGone, nil)
		}
		l.mu.Lock()
		reason, over := l.settled(now)
		l.mu.Unlock()
		if over {
			d.forget(ctx, l, reason)
		}
	}
}
