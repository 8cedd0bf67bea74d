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
	"fallow.network/verify"
	"fallow.network/wire"
)

// What becomes of an attempt.
const (
	attemptOut       = "out"
	attemptReceipt   = "receipt"
	attemptFailed    = "failed"
	attemptCancelled = "cancelled"
)

// What becomes of a receipt.
const (
	receiptHeld    = "held"    // under a check; not to be paid yet
	receiptPayable = "payable" // the next voucher takes it
	receiptPaid    = "paid"    // under a voucher
	receiptRefused = "refused" // found wrong, or by a provider that was
)

// held is a receipt with its standing.
type held struct {
	attemptID
	kind   AttemptKind
	job    JobID
	signed market.Signed
	state  string
	seq    uint32
	charge fallow.Pico
	gas    fallow.Gas
}

func (h held) digest() fallow.Digest { return h.signed.ID() }

func (h held) open() (receipt.Receipt, error) { return wire.Receipt(h.signed.Message) }

// addAttempts writes attempts down before they are sent.
func (s *store) addAttempts(ctx context.Context, job JobID, list []*attempt) error {
	return s.do(ctx, func(w *writer) error {
		for _, a := range list {
			if err := w.exec(`INSERT INTO attempts (lease, task, attempt, job, kind, state, issued_ms) VALUES (?, ?, ?, ?, ?, ?, ?)`,
				int64(a.lease), a.task, a.attempt, string(job), string(a.kind), attemptOut, ms(a.issued)); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *store) endAttempt(ctx context.Context, id attemptID, state string, reason fallow.Reason, now time.Time) error {
	return s.do(ctx, func(w *writer) error { return w.endAttempt(id, state, reason, now) })
}

func (w *writer) endAttempt(id attemptID, state string, reason fallow.Reason, now time.Time) error {
	return w.exec(`UPDATE attempts SET state = ?, reason = ?, ended_ms = ? WHERE lease = ? AND task = ? AND attempt = ?`,
		state, string(reason), ms(now), int64(id.lease), id.task, id.attempt)
}

// past is an attempt as it is kept.
type past struct {
	attemptID
	job    JobID
	kind   AttemptKind
	state  string
	reason fallow.Reason
}

func scanAttempt(r row) (p past, err error) {
	var lease int64
	var job, kind, reason string
	err = r.Scan(&lease, &p.task, &p.attempt, &job, &kind, &p.state, &reason)
	p.lease, p.job, p.kind, p.reason = fallow.LeaseID(lease), JobID(job), AttemptKind(kind), fallow.Reason(reason)
	return p, err
}

func (s *store) attempts(ctx context.Context, job JobID) ([]past, error) {
	return collect(ctx, s.db, scanAttempt, `SELECT lease, task, attempt, job, kind, state, reason FROM attempts WHERE job = ?
		ORDER BY issued_ms, lease, task, attempt`, string(job))
}

// attemptsOn lists a lease's attempts of all jobs.
func (s *store) attemptsOn(ctx context.Context, id fallow.LeaseID) ([]past, error) {
	return collect(ctx, s.db, scanAttempt, `SELECT lease, task, attempt, job, kind, state, reason FROM attempts WHERE lease = ?`, int64(id))
}

// addReceipt writes down a receipt whose outputs lie in their place; own makes
// it the task's result.
func (s *store) addReceipt(ctx context.Context, h held, outputs []Output, own *result, now time.Time) error {
	digest := h.digest()
	return s.do(ctx, func(w *writer) error {
		if err := w.exec(`INSERT INTO receipts (lease, task, attempt, job, kind, message, signature, digest, charge, gas, state, at_ms)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, int64(h.lease), h.task, h.attempt, string(h.job), string(h.kind), h.signed.Message, h.signed.Signature,
			digest[:], h.charge.String(), int64(h.gas), h.state, ms(now)); err != nil {
			return err
		}
		if err := w.endAttempt(h.attemptID, attemptReceipt, "", now); err != nil || own == nil {
			return err
		}
		return w.setResult(h.job, *own, outputs, now)
	})
}

func (w *writer) setResult(job JobID, r result, outputs []Output, now time.Time) error {
	if err := w.exec(`INSERT INTO results (job, task, lease, attempt, exit, took_ms) VALUES (?, ?, ?, ?, ?, ?)`,
		string(job), r.task, int64(r.lease), r.attempt, r.exit, r.took.Milliseconds()); err != nil {
		return err
	}
	for _, o := range outputs {
		if err := w.exec(`INSERT INTO outputs (job, task, path, digest, size, file) VALUES (?, ?, ?, ?, ?, ?)`,
			string(job), o.Task, o.Path, o.Digest[:], int64(o.Size), o.File); err != nil {
			return err
		}
	}
	if !r.opens {
		return nil // a job's row can be many megabytes long
	}
	return w.exec(`UPDATE jobs SET first_ms = ? WHERE id = ? AND first_ms = 0`, ms(now), string(job))
}

// reopen forgets the results of tasks that are not believed any more.
func (s *store) reopen(ctx context.Context, job JobID, tasks []uint32) error {
	return s.do(ctx, func(w *writer) error {
		for _, t := range tasks {
			if err := w.exec(`DELETE FROM results WHERE job = ? AND task = ?`, string(job), t); err != nil {
				return err
			}
			if err := w.exec(`DELETE FROM outputs WHERE job = ? AND task = ?`, string(job), t); err != nil {
				return err
			}
		}
		return nil
	})
}

// setReceipt moves a receipt on, unless it is under a voucher already.
func (s *store) setReceipt(ctx context.Context, id attemptID, state string) error {
	return s.do(ctx, func(w *writer) error {
		return w.exec(`UPDATE receipts SET state = ? WHERE lease = ? AND task = ? AND attempt = ? AND state <> ?`,
			state, int64(id.lease), id.task, id.attempt, receiptPaid)
	})
}

func scanReceipt(r row) (h held, err error) {
	var lease, gas int64
	var kind, job, charge string
	if err := r.Scan(&lease, &h.task, &h.attempt, &job, &kind, &h.signed.Message, &h.signed.Signature, &h.state, &h.seq, &charge, &gas); err != nil {
		return h, err
	}
	h.lease, h.kind, h.job, h.gas = fallow.LeaseID(lease), AttemptKind(kind), JobID(job), fallow.Gas(gas)
	h.charge, err = pico(charge)
	return h, err
}

const receiptColumns = `lease, task, attempt, job, kind, message, signature, state, seq, charge, gas`

func (s *store) receipts(ctx context.Context, job JobID) ([]held, error) {
	return collect(ctx, s.db, scanReceipt, `SELECT `+receiptColumns+` FROM receipts WHERE job = ? ORDER BY at_ms, lease, task, attempt`, string(job))
}

// receiptsOn lists a lease's receipts of all jobs, paid ones first and in
// their order.
func (s *store) receiptsOn(ctx context.Context, id fallow.LeaseID) ([]held, error) {
	return collect(ctx, s.db, scanReceipt, `SELECT `+receiptColumns+` FROM receipts WHERE lease = ? ORDER BY seq = 0, seq, at_ms, task, attempt`, int64(id))
}

// States of a check.
const (
	checkChosen   = "chosen"   // drawn; a second run is awaited
	checkDisputed = "disputed" // two runs differ; a third is awaited
	checkAgreed   = "agreed"
	checkWrong    = "wrong"     // the receipt was found wrong
	checkCleared  = "cleared"   // the second run was found wrong
	checkOpen     = "undecided" // three runs differ, or no third could be had
	checkSkipped  = "skipped"   // no second run could be had
)

// check is a receipt that was drawn, and what became of it. It is the
// evidence, with the receipts that it names.
type check struct {
	subject attemptID
	state   string
	// by is "own" or the account of the provider that ran it again.
	by   string
	with attemptID // the checking attempt; zero for own
	// own is what this machine found, once it ran the task.
	own    *Result
	detail string
}

func (c check) ended() bool { return c.state != checkChosen && c.state != checkDisputed }

func (s *store) keepCheck(ctx context.Context, job JobID, c check, now time.Time) error {
	own := ""
	if c.own != nil {
		b, err := json.Marshal(c.own)
		if err != nil {
			return fmt.Errorf("keep a check: %w", err)
		}
		own = string(b)
	}
	return s.do(ctx, func(w *writer) error {
		return w.exec(`INSERT INTO checks (lease, task, attempt, job, state, by, by_lease, by_attempt, own, detail, at_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET state = excluded.state, by = excluded.by, by_lease = excluded.by_lease, by_attempt = excluded.by_attempt,
			own = excluded.own, detail = excluded.detail`,
			int64(c.subject.lease), c.subject.task, c.subject.attempt, string(job), c.state, c.by, int64(c.with.lease), c.with.attempt, own, c.detail, ms(now))
	})
}

func (s *store) checks(ctx context.Context, job JobID) ([]check, error) {
	return collect(ctx, s.db, func(r row) (c check, err error) {
		var lease, byLease int64
		var own string
		if err := r.Scan(&lease, &c.subject.task, &c.subject.attempt, &c.state, &c.by, &byLease, &c.with.attempt, &own, &c.detail); err != nil {
			return c, err
		}
		c.subject.lease = fallow.LeaseID(lease)
		c.with.lease = fallow.LeaseID(byLease)
		if c.with.lease != 0 {
			c.with.task = c.subject.task
		}
		if own != "" {
			c.own = new(Result)
			err = json.Unmarshal([]byte(own), c.own)
		}
		return c, err
	}, `SELECT lease, task, attempt, state, by, by_lease, by_attempt, own, detail FROM checks WHERE job = ? ORDER BY at_ms, lease, task`, string(job))
}

// tasksHad lists tasks of a lease whose receipts are here, and of which no
// attempt is out: a provider need not send those again.
func (s *store) tasksHad(ctx context.Context, id fallow.LeaseID) ([]uint32, error) {
	return collect(ctx, s.db, func(r row) (t uint32, err error) { return t, r.Scan(&t) },
		`SELECT DISTINCT task FROM receipts WHERE lease = ?1 AND task NOT IN (SELECT task FROM attempts WHERE lease = ?1 AND state <> ?2) ORDER BY task`,
		int64(id), attemptReceipt)
}

// evidence is what this home knows of a node's work of a class.
func (s *store) evidence(ctx context.Context, node fallow.Key, class fallow.Class) (e verify.Evidence, err error) {
	var b []byte
	err = s.db.QueryRowContext(ctx, `SELECT record FROM evidence WHERE node = ? AND class = ?`, node[:], string(class)).Scan(&b)
	if errors.Is(err, sql.ErrNoRows) {
		return e, nil
	}
	if err != nil {
		return e, fmt.Errorf("tenant.db: evidence: %w", err)
	}
	return e, json.Unmarshal(b, &e)
}

func (s *store) keepEvidence(ctx context.Context, node fallow.Key, class fallow.Class, e verify.Evidence) error {
	b, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("keep evidence: %w", err)
	}
	return s.do(ctx, func(w *writer) error {
		return w.exec(`INSERT INTO evidence (node, class, record) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET record = excluded.record`, node[:], string(class), b)
	})
}
