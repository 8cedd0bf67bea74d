package client

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"fallow.network"
	"fallow.network/market"
	"fallow.network/receipt"
	"fallow.network/wire"
)

// What becomes of an offer that was chosen.
const (
	leaseOpening = "opening" // sent to the ledger, fate unknown
	leaseOpen    = "open"
	leaseSkipped = "skipped" // the ledger opened none
	leaseEnding  = "ending"  // nothing is to be done on it any more; to be closed
	leaseClosing = "closing" // the ledger was told, and nobody waited for it
	leaseClosed  = "closed"
)

// lease is an offer that was chosen, and the lease that it opened.
type lease struct {
	id      fallow.LeaseID // 0 until known
	job     JobID          // empty for a standing lease
	nonce   []byte
	signed  market.Signed
	offer   market.Offer
	addrs   []string
	region  string
	reserve fallow.Credits
	state   string
	reason  fallow.Reason
	opened  time.Time
	release market.Signed
	ended   time.Time
}

func (l lease) offerID() fallow.Digest { return l.signed.ID() }

// addDemand writes a demand down before it is sent: its nonce is the way back
// to the session key.
func (s *store) addDemand(ctx context.Context, job JobID, nonce, message []byte, now time.Time) error {
	return s.surely(ctx, func(w *writer) error {
		return w.exec(`INSERT INTO demands (nonce, job, message, at_ms) VALUES (?, ?, ?, ?)`, nonce, string(job), message, ms(now))
	})
}

// addLeases writes chosen offers down before they are sent.
func (s *store) addLeases(ctx context.Context, list []lease) error {
	return s.surely(ctx, func(w *writer) error {
		for _, l := range list {
			addrs, err := json.Marshal(l.addrs)
			if err != nil {
				return fmt.Errorf("keep a lease: %w", err)
			}
			id := l.offerID()
			if err := w.exec(`INSERT INTO leases (offer, job, nonce, message, signature, addrs, region, reserve, state) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
				ON CONFLICT DO UPDATE SET reserve = excluded.reserve, state = excluded.state`,
				id[:], string(l.job), l.nonce, l.signed.Message, l.signed.Signature, string(addrs), l.region, int64(l.reserve), leaseOpening); err != nil {
				return err
			}
		}
		return nil
	})
}

// openLease notes that an offer opened a lease.
func (s *store) openLease(ctx context.Context, offer fallow.Digest, id fallow.LeaseID, reserve fallow.Credits, now time.Time) error {
	return s.do(ctx, func(w *writer) error {
		return w.exec(`UPDATE leases SET lease = ?, reserve = ?, state = ?, opened_ms = ? WHERE offer = ? AND lease = 0`,
			int64(id), int64(reserve), leaseOpen, ms(now), offer[:])
	})
}

// skipLease notes that an offer opened none.
func (s *store) skipLease(ctx context.Context, offer fallow.Digest, reason fallow.Reason) error {
	return s.do(ctx, func(w *writer) error {
		return w.exec(`UPDATE leases SET state = ?, reason = ? WHERE offer = ? AND lease = 0`, leaseSkipped, string(reason), offer[:])
	})
}

func (s *store) setReserve(ctx context.Context, id fallow.LeaseID, reserve fallow.Credits) error {
	return s.do(ctx, func(w *writer) error {
		return w.exec(`UPDATE leases SET reserve = ? WHERE lease = ?`, int64(reserve), int64(id))
	})
}

// endLease notes that a lease is to be closed, or is, and why. The first
// reason stays.
func (s *store) endLease(ctx context.Context, id fallow.LeaseID, state string, reason fallow.Reason, now time.Time) error {
	return s.do(ctx, func(w *writer) error {
		return w.exec(`UPDATE leases SET state = ?, reason = CASE reason WHEN '' THEN ? ELSE reason END, ended_ms = ? WHERE lease = ?`,
			state, string(reason), ms(now), int64(id))
	})
}

func (s *store) setRelease(ctx context.Context, id fallow.LeaseID, r market.Signed) error {
	return s.do(ctx, func(w *writer) error {
		return w.exec(`UPDATE leases SET release = ?, release_signature = ? WHERE lease = ?`, r.Message, r.Signature, int64(id))
	})
}

const leaseColumns = `lease, job, nonce, message, signature, addrs, region, reserve, state, reason, opened_ms, ended_ms, release, release_signature`

func scanLease(r row) (l lease, err error) {
	var id, reserve, opened, ended int64
	var job, addrs, reason string
	if err := r.Scan(&id, &job, &l.nonce, &l.signed.Message, &l.signed.Signature, &addrs, &l.region, &reserve, &l.state, &reason, &opened, &ended,
		&l.release.Message, &l.release.Signature); err != nil {
		return l, err
	}
	l.id, l.job, l.reserve, l.reason, l.opened = fallow.LeaseID(id), JobID(job), fallow.Credits(reserve), fallow.Reason(reason), fromMS(opened)
	l.ended = fromMS(ended)
	if err := json.Unmarshal([]byte(addrs), &l.addrs); err != nil {
		return l, err
	}
	l.offer, err = wire.Offer(l.signed.Message)
	return l, err
}

// leasesOf lists a job's leases; an empty job's are the standing ones.
func (s *store) leasesOf(ctx context.Context, job JobID) ([]lease, error) {
	return collect(ctx, s.db, scanLease, `SELECT `+leaseColumns+` FROM leases WHERE job = ? ORDER BY lease, offer`, string(job))
}

// leasesClosing lists those whose closing nobody waited for.
func (s *store) leasesClosing(ctx context.Context) ([]lease, error) {
	return collect(ctx, s.db, scanLease, `SELECT `+leaseColumns+` FROM leases WHERE state = ? ORDER BY lease`, leaseClosing)
}

// leasesUsed lists the leases that a job's attempts ran on.
func (s *store) leasesUsed(ctx context.Context, job JobID) ([]lease, error) {
	return collect(ctx, s.db, scanLease, `SELECT `+leaseColumns+` FROM leases WHERE lease > 0 AND
		(job = ?1 OR lease IN (SELECT DISTINCT lease FROM attempts WHERE job = ?1)) ORDER BY lease`, string(job))
}

func (s *store) lease(ctx context.Context, id fallow.LeaseID) (lease, error) {
	l, err := scanLease(s.db.QueryRowContext(ctx, `SELECT `+leaseColumns+` FROM leases WHERE lease = ?`, int64(id)))
	if errors.Is(err, sql.ErrNoRows) {
		return l, fmt.Errorf("lease %d: %w", id, ErrNoLease)
	}
	return l, err
}

// ErrNoLease is a lease that this home did not open.
var ErrNoLease = errors.New("no such lease on this home; list them with: fallow lease ls")

// addTransaction notes what the ledger took.
func (s *store) addTransaction(ctx context.Context, job JobID, kind string, t Transaction, now time.Time) error {
	if t.Hash == "" {
		return nil // nothing had to be sent
	}
	return s.do(ctx, func(w *writer) error {
		return w.exec(`INSERT INTO transactions (hash, job, kind, bytes, fee, gas, height, at_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
			t.Hash, string(job), kind, int64(t.Bytes), int64(t.Fee), int64(t.GasUsed), int64(t.Height), ms(now))
	})
}

func (s *store) transactions(ctx context.Context, job JobID) ([]BillTransaction, error) {
	return collect(ctx, s.db, func(r row) (t BillTransaction, err error) {
		var bytes, fee, gas, height int64
		err = r.Scan(&t.Hash, &t.Kind, &bytes, &fee, &gas, &height)
		t.Bytes, t.Fee, t.GasUsed, t.Height = uint64(bytes), uint64(fee), uint64(gas), fallow.Height(height)
		return t, err
	}, `SELECT hash, kind, bytes, fee, gas, height FROM transactions WHERE job = ? ORDER BY at_ms, height`, string(job))
}

// voucher is the highest that was signed for a lease.
type voucher struct {
	receipt.Voucher
	signed market.Signed
}

func (s *store) voucher(ctx context.Context, id fallow.LeaseID) (v voucher, err error) {
	err = s.db.QueryRowContext(ctx, `SELECT message, signature FROM vouchers WHERE lease = ?`, int64(id)).Scan(&v.signed.Message, &v.signed.Signature)
	if errors.Is(err, sql.ErrNoRows) {
		return voucher{Voucher: receipt.Voucher{Lease: id}}, nil
	}
	if err != nil {
		return v, fmt.Errorf("tenant.db: voucher of lease %d: %w", id, err)
	}
	v.Voucher, err = wire.Voucher(v.signed.Message)
	return v, err
}

// keepVoucher writes a voucher and its receipts' places down, before it is
// sent. A lower one than what stands is refused: it would be of no use, and a
// sign that the books are wrong.
func (s *store) keepVoucher(ctx context.Context, v voucher, places []place) error {
	return s.surely(ctx, func(w *writer) error {
		var old string
		err := w.row([]any{&old}, `SELECT amount FROM vouchers WHERE lease = ?`, int64(v.Lease))
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		before, err := pico(old)
		if err != nil {
			return err
		}
		if v.Amount.Cmp(before) < 0 {
			return fmt.Errorf("voucher of lease %d: %s after %s: amounts only rise", v.Lease, v.Amount, before)
		}
		if err := w.exec(`INSERT INTO vouchers (lease, amount, receipts, message, signature) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET amount = excluded.amount, receipts = excluded.receipts, message = excluded.message, signature = excluded.signature`,
			int64(v.Lease), v.Amount.String(), v.Receipts, v.signed.Message, v.signed.Signature); err != nil {
			return err
		}
		for _, p := range places {
			if err := w.exec(`UPDATE receipts SET state = ?, seq = ? WHERE lease = ? AND task = ? AND attempt = ?`,
				receiptPaid, p.seq, int64(p.id.lease), p.id.task, p.id.attempt); err != nil {
				return err
			}
		}
		return nil
	})
}

// place is where a receipt stands under a lease's vouchers.
type place struct {
	id  attemptID
	seq uint32
}

// paid is what vouchers of a job's leases say in all. On a standing lease it
// is what this job's receipts cost there.
func (s *store) paid(ctx context.Context, job JobID) (sum fallow.Pico, err error) {
	list, err := collect(ctx, s.db, func(r row) (fallow.Pico, error) {
		var text string
		if err := r.Scan(&text); err != nil {
			return fallow.Pico{}, err
		}
		return pico(text)
	}, `SELECT charge FROM receipts WHERE job = ? AND state = ?`, string(job), receiptPaid)
	if err != nil {
		return sum, err
	}
	for _, p := range list {
		if sum, err = sum.Add(p); err != nil {
			return sum, err
		}
	}
	return sum, nil
}
