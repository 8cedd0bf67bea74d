package client

import (
	"context"
	"time"

	"fallow.network"
	marketv1 "fallow.network/api/market"
	nodev1 "fallow.network/api/node"
	"fallow.network/fault"
	"fallow.network/market"
	"fallow.network/receipt"
	"fallow.network/wire"
)

// payable lets the next voucher take a receipt.
func (r *run) payable(st *station, h *held, now time.Time) {
	if len(st.payable) == 0 {
		st.oldest = now
	}
	st.payable = append(st.payable, h)
	st.unpaid = plus(st.unpaid, h.charge)
}

// release makes a receipt payable that was held for a check.
func (r *run) release(id attemptID, now time.Time) {
	h := r.receipts[id]
	if h == nil || h.state != receiptHeld {
		return
	}
	h.state = receiptPayable
	// Not written down: what is held and under no open check is payable to
	// whoever takes the job up again.
	r.payable(r.stations[id.lease], h, now)
}

// pay signs vouchers where it is time, or wherever something is owed.
func (r *run) pay(ctx context.Context, now time.Time, all bool) {
	for _, id := range r.stationIDs() {
		st := r.stations[id]
		if !st.waiting.IsZero() && len(st.payable) == 0 {
			r.unhold(st, now)
		}
		if len(st.payable) == 0 {
			if !st.waiting.IsZero() && now.Sub(st.waiting) >= r.c.config.VoucherEvery && !r.owes(id) {
				// It has all that is owed: what it counts otherwise, it will
				// learn from the voucher.
				r.sendVoucher(st)
			}
			continue
		}
		half := (st.lease.offer.Terms.UnpaidCeiling / 2).Pico()
		due := all || !st.waiting.IsZero() || len(st.payable) >= r.c.config.VoucherReceipts ||
			now.Sub(st.oldest) >= r.c.config.VoucherEvery || st.unpaid.Cmp(half) >= 0
		if due {
			if err := r.sign(ctx, st); err != nil {
				r.stop(err)
				return
			}
		}
	}
}

// owes says whether receipts of a lease are held, or on their way here.
func (r *run) owes(lease fallow.LeaseID) bool {
	for id := range r.fetching {
		if id.lease == lease {
			return true
		}
	}
	for id, h := range r.receipts {
		if id.lease == lease && h.state == receiptHeld {
			return true
		}
	}
	return false
}

// unhold pays for tasks under a check when their provider has waited long
// enough: a voucher waives nothing. Those that two runs differ about stay.
func (r *run) unhold(st *station, now time.Time) {
	if now.Sub(st.waiting) < r.c.config.HoldPay {
		return
	}
	for _, id := range r.receiptIDs() {
		if id.lease != st.lease.id || r.receipts[id].state != receiptHeld {
			continue
		}
		if c := r.active[id.task]; c != nil && c.state == checkDisputed {
			continue
		}
		r.release(id, now)
	}
}

// sign makes the next voucher of a lease: what was paid and every payable
// receipt that its reserve covers. It is on disk before it is sent.
func (r *run) sign(ctx context.Context, st *station) error {
	tree := st.tree.Clone()
	amount := st.voucher.Amount
	var places []place
	var taken []*held
	reserve := r.purse.accounts[st.lease.id].reserve
	for _, h := range st.payable {
		sum := plus(amount, h.charge)
		if sum.Cmp(reserve) > 0 {
			break // Raise comes first
		}
		amount = sum
		tree.Append(h.digest())
		places = append(places, place{h.attemptID, uint32(tree.Len())})
		taken = append(taken, h)
	}
	if len(taken) == 0 {
		return nil
	}
	session, err := r.c.identity.Session(st.lease.nonce)
	if err != nil {
		return err
	}
	v := voucher{Voucher: receipt.Voucher{Lease: st.lease.id, Amount: amount, ReceiptsRoot: tree.Root(), Receipts: uint32(tree.Len())}}
	message, err := wire.EncodeVoucher(v.Voucher)
	if err != nil {
		return err
	}
	v.signed = wire.Sign(session, market.SignsVoucher, r.c.config.ChainID, message)
	if err := r.store.keepVoucher(ctx, v, places); err != nil {
		return err
	}
	fault.Point("client/voucher-written")
	st.voucher, st.tree, st.payable = v, tree, st.payable[len(taken):]
	st.unpaid = fallow.Pico{}
	for _, h := range st.payable {
		st.unpaid = plus(st.unpaid, h.charge)
	}
	st.oldest = time.Now()
	for i, h := range taken {
		h.state, h.seq = receiptPaid, places[i].seq
		r.paidAll = plus(r.paidAll, h.charge)
	}
	r.sendVoucher(st)
	r.emit(Paid{Lease: st.lease.id, Provider: st.lease.offer.Provider, Amount: amount, Receipts: v.Receipts, Total: r.paidAll})
	return nil
}

// sendVoucher sends the highest voucher of a lease.
func (r *run) sendVoucher(st *station) {
	st.waiting = time.Time{}
	if st.link == nil || len(st.voucher.signed.Message) == 0 {
		return
	}
	st.link.send(&nodev1.WorkRequest{Voucher: &marketv1.Signed{Message: st.voucher.signed.Message, Signature: st.voucher.signed.Signature}})
}
