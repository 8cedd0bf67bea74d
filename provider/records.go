package provider

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"fallow.network"
	nodev1 "fallow.network/api/node"
	"fallow.network/market"
	"fallow.network/receipt"
	"fallow.network/wire"
)

// What becomes of an offer.
const (
	offerHeld    = 0
	offerTaken   = 1
	offerExpired = 2
)

// offered is an offer as the journal keeps it: what a lease's terms come from.
type offered struct {
	id      fallow.Digest
	demand  fallow.Digest
	offer   market.Offer
	session fallow.Key
	signed  market.Signed
	until   time.Time
}

// errKnown is a demand that has been answered before.
var errKnown = errors.New("this demand has an offer already")

// addOffer writes an offer down, before it is sent.
func (j *journal) addOffer(ctx context.Context, o offered) error {
	return j.do(ctx, func(w *writer) error {
		n, err := w.count(`INSERT INTO offers (offer, demand, tenant, session, message, signature, last_height, until_ms, state)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0) ON CONFLICT DO NOTHING`,
			o.id[:], o.demand[:], string(o.offer.Tenant), o.session[:], o.signed.Message, o.signed.Signature,
			int64(o.offer.LastHeight), unixMS(o.until))
		if err == nil && n == 0 {
			return errKnown
		}
		return err
	})
}

// endOffers notes offers that expired untaken, and so their tenants' rate.
func (j *journal) endOffers(ctx context.Context, ids []fallow.Digest) error {
	return j.do(ctx, func(w *writer) error {
		for _, id := range ids {
			n, err := w.count(`UPDATE offers SET state = ? WHERE offer = ? AND state = 0`, offerExpired, id[:])
			if err != nil {
				return err
			}
			if n == 0 {
				continue
			}
			if err := w.tenant(`SELECT tenant FROM offers WHERE offer = ?`, id[:], 0); err != nil {
				return err
			}
		}
		return nil
	})
}

// maxRate is when a tenant's counts are halved, so that old habits fade.
const maxRate = 64

func (w *writer) tenant(which string, arg any, taken int) error {
	if err := w.exec(`INSERT INTO tenants (tenant, offered, taken) VALUES ((`+which+`), 1, ?2)
		ON CONFLICT DO UPDATE SET offered = offered + 1, taken = taken + excluded.taken`, arg, taken); err != nil {
		return err
	}
	return w.exec(`UPDATE tenants SET offered = offered / 2, taken = taken / 2 WHERE offered >= ?`, maxRate)
}

// rate is how many offers a tenant got lately, and took.
func (j *journal) rate(ctx context.Context, tenant fallow.Account) (offers, taken uint64, err error) {
	err = j.ro.QueryRowContext(ctx, `SELECT offered, taken FROM tenants WHERE tenant = ?`, string(tenant)).Scan(&offers, &taken)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, 0, nil
	}
	return offers, taken, err
}

const offerColumns = `offer, demand, session, message, signature, until_ms`

func scanOffer(row interface{ Scan(...any) error }) (offered, error) {
	var (
		o                   offered
		id, demand, session []byte
		until               int64
	)
	if err := row.Scan(&id, &demand, &session, &o.signed.Message, &o.signed.Signature, &until); err != nil {
		return o, err
	}
	o.until = time.UnixMilli(until)
	var errs [4]error
	o.id, errs[0] = fallow.DigestFrom(id)
	o.demand, errs[1] = fallow.DigestFrom(demand)
	o.session, errs[2] = fallow.KeyFrom(session)
	o.offer, errs[3] = wire.Offer(o.signed.Message)
	return o, errors.Join(errs[:]...)
}

// offerOf finds an offer by its digest; false when this journal has none.
func (j *journal) offerOf(ctx context.Context, id fallow.Digest) (offered, bool, error) {
	o, err := scanOffer(j.ro.QueryRowContext(ctx, `SELECT `+offerColumns+` FROM offers WHERE offer = ?`, id[:]))
	if errors.Is(err, sql.ErrNoRows) {
		return o, false, nil
	}
	return o, err == nil, err
}

// offerFor finds the offer that was made for a demand.
func (j *journal) offerFor(ctx context.Context, demand fallow.Digest) (offered, bool, error) {
	o, err := scanOffer(j.ro.QueryRowContext(ctx, `SELECT `+offerColumns+` FROM offers WHERE demand = ?`, demand[:]))
	if errors.Is(err, sql.ErrNoRows) {
		return o, false, nil
	}
	return o, err == nil, err
}

// offersHeld are the offers that may still open a lease.
func (j *journal) offersHeld(ctx context.Context) ([]offered, error) {
	return collect(ctx, j.ro, scanOffer, `SELECT `+offerColumns+` FROM offers WHERE state = 0`)
}

// record is a lease as the journal keeps it.
type record struct {
	id       fallow.LeaseID
	offer    fallow.Digest
	tenant   fallow.Account
	session  fallow.Key
	opened   time.Time
	voucher  market.Signed // highest so far; empty before the first
	amount   fallow.Pico   // of the voucher
	receipts uint32        // under the voucher
	redeemed fallow.Pico
	over     fallow.Reason // the tenant is done with it; empty before
}

// addLease writes down that an offer was taken. A second time changes nothing.
func (j *journal) addLease(ctx context.Context, r record) error {
	return j.do(ctx, func(w *writer) error {
		n, err := w.count(`INSERT INTO leases (lease, offer, tenant, session, opened_ms) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
			int64(r.id), r.offer[:], string(r.tenant), r.session[:], unixMS(r.opened))
		if err != nil || n == 0 {
			return err
		}
		if err := w.exec(`UPDATE offers SET state = ? WHERE offer = ?`, offerTaken, r.offer[:]); err != nil {
			return err
		}
		return w.tenant(`SELECT ?1`, string(r.tenant), 1)
	})
}

// finishLease notes that a lease takes no more work.
func (j *journal) finishLease(ctx context.Context, id fallow.LeaseID, reason fallow.Reason) error {
	return j.do(ctx, func(w *writer) error {
		return w.exec(`UPDATE leases SET reason = ? WHERE lease = ? AND ended_ms = 0`, string(reason), int64(id))
	})
}

// endLease notes how a lease ended. Its receipts stay: they are evidence.
func (j *journal) endLease(ctx context.Context, id fallow.LeaseID, reason fallow.Reason, at time.Time) error {
	return j.do(ctx, func(w *writer) error {
		if err := w.exec(`DELETE FROM tasks WHERE lease = ?`, int64(id)); err != nil {
			return err
		}
		return w.exec(`UPDATE leases SET ended_ms = ?, reason = ? WHERE lease = ? AND ended_ms = 0`, unixMS(at), string(reason), int64(id))
	})
}

func scanLease(row interface{ Scan(...any) error }) (record, error) {
	var (
		r                                record
		id, opened                       int64
		offer, session, amount, redeemed []byte
		tenant, over                     string
	)
	if err := row.Scan(&id, &offer, &tenant, &session, &opened, &r.voucher.Message, &r.voucher.Signature, &amount, &r.receipts, &redeemed, &over); err != nil {
		return r, err
	}
	r.id, r.tenant, r.opened = fallow.LeaseID(id), fallow.Account(tenant), time.UnixMilli(opened)
	r.over = fallow.Reason(over)
	var errs [4]error
	r.offer, errs[0] = fallow.DigestFrom(offer)
	r.session, errs[1] = fallow.KeyFrom(session)
	r.amount, errs[2] = amountFrom(amount)
	r.redeemed, errs[3] = amountFrom(redeemed)
	return r, errors.Join(errs[:]...)
}

// leasesOpen are the leases that have not ended.
func (j *journal) leasesOpen(ctx context.Context) ([]record, error) {
	return collect(ctx, j.ro, scanLease, `SELECT lease, offer, tenant, session, opened_ms, voucher, voucher_signature,
		voucher_amount, voucher_receipts, redeemed, reason FROM leases WHERE ended_ms = 0 ORDER BY lease`)
}

// addVoucher keeps the highest voucher of a lease.
func (j *journal) addVoucher(ctx context.Context, v receipt.Voucher, s market.Signed, at time.Time) error {
	return j.do(ctx, func(w *writer) error {
		return w.exec(`UPDATE leases SET voucher = ?, voucher_signature = ?, voucher_amount = ?, voucher_receipts = ?, voucher_ms = ?
			WHERE lease = ? AND (voucher_amount IS NULL OR voucher_amount < ?3)`,
			s.Message, s.Signature, amountBytes(v.Amount), v.Receipts, unixMS(at), int64(v.Lease))
	})
}

// addRedemption notes what the ledger did with a voucher.
func (j *journal) addRedemption(ctx context.Context, id fallow.LeaseID, upTo fallow.Pico, paid fallow.Credits, reason fallow.Reason, at time.Time) error {
	return j.do(ctx, func(w *writer) error {
		if err := w.exec(`INSERT INTO redemptions (lease, amount, at_ms, reason) VALUES (?, ?, ?, ?)`,
			int64(id), int64(min(paid, 1<<62)), unixMS(at), string(reason)); err != nil || reason != "" {
			return err
		}
		return w.exec(`UPDATE leases SET redeemed = ?2 WHERE lease = ?1 AND (redeemed IS NULL OR redeemed < ?2)`, int64(id), amountBytes(upTo))
	})
}

// earned is all that was redeemed so far.
func (j *journal) earned(ctx context.Context) (fallow.Credits, error) {
	var sum int64
	err := j.ro.QueryRowContext(ctx, `SELECT COALESCE(SUM(amount), 0) FROM redemptions WHERE reason = ''`).Scan(&sum)
	return fallow.Credits(sum), err
}

// attempt names one attempt at one task of a lease.
type attempt struct{ task, attempt uint32 }

// addTask notes a task that was accepted, so that a restart runs it. Nobody
// waits for the disk: what is lost with a crash, the tenant asks again.
func (j *journal) addTask(ctx context.Context, lease fallow.LeaseID, at attempt, input fallow.Digest, m *nodev1.Task) error {
	b, err := proto.Marshal(m)
	if err != nil {
		return fmt.Errorf("keep task %d: %w", at.task, err)
	}
	return j.later(ctx, func(w *writer) error {
		return w.exec(`INSERT INTO tasks (lease, task, attempt, input, message) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
			int64(lease), at.task, at.attempt, input[:], b)
	})
}

// dropTask forgets a task that failed or was cancelled.
func (j *journal) dropTask(ctx context.Context, lease fallow.LeaseID, at attempt) error {
	return j.later(ctx, func(w *writer) error {
		return w.exec(`DELETE FROM tasks WHERE lease = ? AND task = ? AND attempt = ?`, int64(lease), at.task, at.attempt)
	})
}

// tasksOf are the tasks of a lease that have no receipt yet.
func (j *journal) tasksOf(ctx context.Context, lease fallow.LeaseID) ([]*nodev1.Task, error) {
	return collect(ctx, j.ro, func(row interface{ Scan(...any) error }) (*nodev1.Task, error) {
		var b []byte
		if err := row.Scan(&b); err != nil {
			return nil, err
		}
		m := new(nodev1.Task)
		return m, proto.Unmarshal(b, m)
	}, `SELECT message FROM tasks WHERE lease = ? ORDER BY task, attempt`, int64(lease))
}

// signed is a receipt as the journal keeps it.
type signed struct {
	at      attempt
	seq     uint32
	input   fallow.Digest
	charge  fallow.Pico
	gas     fallow.Gas
	ended   int64
	receipt market.Signed
}

// inline is a small output, kept beside its receipt and not in the store: so
// it shares the receipt's sync of the disk.
type inline struct {
	digest fallow.Digest
	bytes  []byte
}

// addReceipt writes a receipt down for good, before anyone sees it. It fails
// when there is one for this attempt already.
func (j *journal) addReceipt(ctx context.Context, lease fallow.LeaseID, s signed, files []inline) error {
	return j.file(ctx, func(w *writer) error {
		if err := w.exec(`INSERT INTO receipts (lease, task, attempt, seq, input, charge, gas, ended_ms, message, signature)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, int64(lease), s.at.task, s.at.attempt, s.seq, s.input[:], amountBytes(s.charge),
			int64(s.gas), s.ended, s.receipt.Message, s.receipt.Signature); err != nil {
			return fmt.Errorf("receipt of task %d attempt %d: %w", s.at.task, s.at.attempt, err)
		}
		for _, f := range files {
			if err := w.exec(`INSERT INTO inlines (lease, digest, bytes) VALUES (?, ?, ?) ON CONFLICT DO NOTHING`, int64(lease), f.digest[:], f.bytes); err != nil {
				return err
			}
		}
		return w.exec(`DELETE FROM tasks WHERE lease = ? AND task = ? AND attempt = ?`, int64(lease), s.at.task, s.at.attempt)
	})
}

const receiptColumns = `task, attempt, seq, input, charge, gas, ended_ms, message, signature`

func scanReceipt(row interface{ Scan(...any) error }) (signed, error) {
	var (
		s             signed
		gas           int64
		input, charge []byte
	)
	err := row.Scan(&s.at.task, &s.at.attempt, &s.seq, &input, &charge, &gas, &s.ended, &s.receipt.Message, &s.receipt.Signature)
	if err != nil {
		return s, err
	}
	s.gas = fallow.Gas(gas)
	var errs [2]error
	s.input, errs[0] = fallow.DigestFrom(input)
	s.charge, errs[1] = amountFrom(charge)
	return s, errors.Join(errs[:]...)
}

// receiptOf finds the receipt of an attempt.
func (j *journal) receiptOf(ctx context.Context, lease fallow.LeaseID, at attempt) (signed, error) {
	return scanReceipt(j.ro.QueryRowContext(ctx, `SELECT `+receiptColumns+` FROM receipts WHERE lease = ? AND task = ? AND attempt = ?`,
		int64(lease), at.task, at.attempt))
}

// receiptsOf are a lease's receipts in the order in which they were signed,
// from seq on, at most limit.
func (j *journal) receiptsOf(ctx context.Context, lease fallow.LeaseID, from uint32, limit int) ([]signed, error) {
	return collect(ctx, j.ro, scanReceipt, `SELECT `+receiptColumns+` FROM receipts WHERE lease = ? AND seq >= ? ORDER BY seq LIMIT ?`,
		int64(lease), from, limit)
}

// inlineOf is a small output of a lease; nil when the journal has none by
// that digest.
func (j *journal) inlineOf(ctx context.Context, lease fallow.LeaseID, d fallow.Digest) ([]byte, error) {
	var b []byte
	err := j.ro.QueryRowContext(ctx, `SELECT bytes FROM inlines WHERE lease = ? AND digest = ?`, int64(lease), d[:]).Scan(&b)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return b, err
}

// setMeta keeps one named value.
func (j *journal) setMeta(ctx context.Context, key string, value []byte) error {
	return j.do(ctx, func(w *writer) error {
		return w.exec(`INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value`, key, value)
	})
}

func (j *journal) meta(ctx context.Context, key string) ([]byte, error) {
	var b []byte
	err := j.ro.QueryRowContext(ctx, `SELECT value FROM meta WHERE key = ?`, key).Scan(&b)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return b, err
}

// prune forgets leases and offers that ended before a time.
func (j *journal) prune(ctx context.Context, before time.Time) error {
	return j.do(ctx, func(w *writer) error {
		ms := unixMS(before)
		for _, q := range []string{
			`DELETE FROM inlines WHERE lease IN (SELECT lease FROM leases WHERE ended_ms > 0 AND ended_ms < ?)`,
			`DELETE FROM receipts WHERE lease IN (SELECT lease FROM leases WHERE ended_ms > 0 AND ended_ms < ?)`,
			`DELETE FROM leases WHERE ended_ms > 0 AND ended_ms < ?`,
			`DELETE FROM offers WHERE until_ms < ? AND (state = 2 OR state = 1 AND offer NOT IN (SELECT offer FROM leases))`,
		} {
			if err := w.exec(q, ms); err != nil {
				return err
			}
		}
		return nil
	})
}

// collect reads all rows of a query.
func collect[T any](ctx context.Context, db *sql.DB, scan func(interface{ Scan(...any) error }) (T, error), query string, args ...any) ([]T, error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var list []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, rows.Err()
}
