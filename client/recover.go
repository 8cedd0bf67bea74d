package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"fallow.network"
)

// recover brings a job back to where it stood: a new one starts from nothing.
func (r *run) recover(ctx context.Context) error {
	s, id := r.c.store, r.rec.ID
	guess, err := s.gasOf(ctx, r.rec.Workload)
	if err != nil {
		return err
	}
	budget := r.rec.Options.Budget
	if budget == 0 {
		budget = 1<<63 - 1 // free escrow is the bound, and the ledger keeps it
	}
	r.purse = newPurse(budget, r.rec.workload.Limits.Gas, guess)
	r.purse.shared = len(r.rec.Options.Leases) > 0
	results, err := s.results(ctx, id)
	if err != nil {
		return err
	}
	for _, res := range results {
		r.results[res.task] = res
		r.board.finish(res.task)
	}
	list, err := r.leases(ctx)
	if err != nil {
		return err
	}
	receipts, err := s.receipts(ctx, id)
	if err != nil {
		return err
	}
	for _, h := range receipts {
		r.receipts[h.attemptID] = &h
		if h.state != receiptRefused {
			r.purse.learn(h.gas, h.charge)
		}
		if h.state == receiptPaid {
			r.paidAll = plus(r.paidAll, h.charge)
		}
	}
	attempts, err := s.attempts(ctx, id)
	if err != nil {
		return err
	}
	for _, p := range attempts {
		r.past[p.attemptID] = &p
	}
	for _, l := range list {
		if err := r.resume(ctx, l); err != nil {
			return err
		}
	}
	return r.resumeChecks(ctx)
}

// leases are the job's that may still be worked on, or standing ones.
func (r *run) leases(ctx context.Context) ([]lease, error) {
	if ids := r.rec.Options.Leases; len(ids) > 0 {
		var out []lease
		for _, id := range ids {
			l, err := r.c.store.lease(ctx, id)
			if err != nil {
				return nil, err
			}
			if l.job != "" {
				return nil, fmt.Errorf("lease %d belongs to job %s", id, l.job)
			}
			if l.state != leaseOpen {
				return nil, fmt.Errorf("lease %d is %s", id, l.state)
			}
			out = append(out, l)
		}
		return out, nil
	}
	list, err := r.c.store.leasesOf(ctx, r.rec.ID)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	if list, err = r.c.settleFates(ctx, list, r.emit); err != nil {
		return nil, err
	}
	return list, nil
}

// lateBlocks is for how many blocks an opening that may be on its way to the
// ledger is waited for, and lateWait for how long while no block is seen.
const (
	lateBlocks = 3
	lateWait   = 15 * time.Second
	latePoll   = 100 * time.Millisecond
)

// late gives leases that a process before this one opened and never heard of.
// Its transaction may still be on its way: what it will lease is not to be had
// otherwise, and asking for more beside it would pay for both. It runs beside
// the loop, once at a time.
func (r *run) late(ctx context.Context) ([]lease, error) {
	list, err := r.c.store.leasesOf(ctx, r.rec.ID)
	if err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(list, func(l lease) bool { return l.state != leaseOpening })
	if len(list) == 0 {
		return nil, nil
	}
	ticker := time.NewTicker(latePoll)
	defer ticker.Stop()
	for began := time.Now(); ; {
		if _, err := r.c.adopt(ctx, list); err != nil {
			return nil, err
		}
		if opened(list) {
			return slices.DeleteFunc(list, func(l lease) bool { return l.id == 0 }), nil
		}
		e, err := r.c.books.Escrow(ctx, r.c.config.Tenant)
		if err != nil {
			return nil, err
		}
		if r.lateUntil == 0 {
			r.lateUntil = e.Height + lateBlocks
		}
		valid := slices.ContainsFunc(list, func(l lease) bool { return l.offer.LastHeight > e.Height })
		if !valid || e.Height >= r.lateUntil || time.Since(began) > lateWait {
			return nil, nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// resume takes a lease up again.
func (r *run) resume(ctx context.Context, l lease) error {
	if l.id == 0 || l.state == leaseSkipped {
		return nil
	}
	now := time.Now()
	stands, err := r.c.books.Standing(ctx, l.offer.Provider)
	if err != nil && !errors.Is(err, ErrAway) {
		return err
	}
	l.opened = now
	evidence, err := r.c.store.evidence(ctx, l.offer.NodeKey, r.rec.workload.Class)
	if err != nil {
		return err
	}
	v, err := r.c.store.voucher(ctx, l.id)
	if err != nil {
		return err
	}
	st := &station{lease: l, bond: stands.Bond, evidence: evidence, voucher: v, shared: l.job == ""}
	on, err := r.c.store.receiptsOn(ctx, l.id)
	if err != nil {
		return err
	}
	var owed fallow.Pico
	for _, h := range on {
		if h.state != receiptRefused {
			owed = plus(owed, h.charge)
		}
		if h.state == receiptPaid {
			st.tree.Append(h.digest())
		}
	}
	r.stations[l.id] = st
	r.purse.open(l.id, l.offer.Terms, l.reserve, owed)
	over := l.state == leaseClosing || l.state == leaseClosed
	if l.state == leaseEnding || over {
		st.shut, st.reason = true, l.reason
		r.purse.accounts[l.id].shut = true
		if l.reason == fallow.ReasonMismatch {
			r.wrong[l.offer.Provider] = true
		}
	}
	all, err := r.c.store.attemptsOn(ctx, l.id)
	if err != nil {
		return err
	}
	for _, p := range all {
		r.board.number(p.lease, p.task, p.attempt)
	}
	if over {
		return nil
	}
	r.emit(LeaseOpened{Lease: l.id, Provider: l.offer.Provider, NodeKey: l.offer.NodeKey, Reserve: l.reserve, Slots: l.offer.Terms.Slots, Resumed: true})
	if !st.shut {
		r.board.seat(l.id, l.offer.Provider, int(l.offer.Terms.Slots))
		for _, id := range r.pastIDs(l.id) {
			if p := r.past[id]; p.state == attemptOut {
				r.board.restore(id, p.kind, now)
				r.purse.accounts[l.id].out++
			}
		}
	}
	return r.join(ctx, st)
}

// resumeChecks takes up the checks that were open, and the receipts that wait
// for pay.
func (r *run) resumeChecks(ctx context.Context) error {
	list, err := r.c.store.checks(ctx, r.rec.ID)
	if err != nil {
		return err
	}
	now := time.Now()
	for _, c := range list {
		r.checks[c.subject] = &c
		if !c.ended() {
			r.active[c.subject.task] = &c
		}
	}
	for _, id := range r.receiptIDs() {
		h := r.receipts[id]
		if h.job != r.rec.ID || r.stations[id.lease] == nil {
			continue
		}
		c := r.active[id.task]
		underCheck := c != nil && (c.subject == id || c.with == id)
		switch {
		case h.state == receiptPayable, h.state == receiptHeld && !underCheck && !r.unchecked(h):
			h.state = receiptPayable
			r.payable(r.stations[id.lease], h, now)
		case h.state == receiptHeld && r.unchecked(h):
			// It was drawn, and the client stopped before a check began.
			r.startCheck(ctx, h, now)
		}
	}
	for _, id := range r.receiptIDs() {
		c := r.checks[id]
		if c == nil || c.ended() || c.with.lease != 0 && r.stillOut(c.with) {
			continue
		}
		if h := r.receipts[c.with]; c.state == checkChosen && h != nil {
			rc, err := h.open()
			if err != nil {
				return err
			}
			r.onChecked(ctx, h, rc, now)
			continue
		}
		if !r.errandOut(id.task) {
			r.findChecker(ctx, id.task, now)
		}
	}
	return r.fatal
}

// unchecked says that a held receipt is a task's own and has no check yet.
func (r *run) unchecked(h *held) bool {
	own, ok := r.results[h.task]
	return ok && own.lease == h.lease && own.attempt == h.attempt && r.checks[h.attemptID] == nil && r.active[h.task] == nil
}

func (r *run) stillOut(id attemptID) bool {
	p := r.past[id]
	return p != nil && p.state == attemptOut
}

// errandOut says whether an attempt that checks a task is out.
func (r *run) errandOut(task uint32) bool {
	for _, p := range r.past {
		if p.task == task && !p.kind.counts() && p.state == attemptOut {
			return true
		}
	}
	return false
}
