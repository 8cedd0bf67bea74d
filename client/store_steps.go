package client

import (
	"context"
	"time"

	"fallow.network"
)

// Kinds of steps.
const (
	stepRun      = "run"      // a program took the job up
	stepAsk      = "ask"      // a demand; count is offers, bytes declines
	stepDecline  = "decline"  // a provider without an offer
	stepLease    = "lease"    // from what was sent to the ledger to the block; count is leases opened
	stepSkip     = "skip"     // an offer that opened none
	stepUp       = "up"       // a provider's stream stood
	stepLost     = "lost"     // a connection broke
	stepGone     = "gone"     // its tasks went elsewhere
	stepBack     = "back"     // it came back
	stepInput    = "input"    // a blob went to a provider
	stepOutputs  = "outputs"  // what came from a provider beside receipts; at to until is time spent, added up
	stepVouchers = "vouchers" // from the first to the last; count is how many
	stepAway     = "away"     // the ledger or the market did not answer
	stepVerdict  = "verdict"  // a third run decided
	stepSettle   = "settle"   // the last vouchers and releases
	stepClose    = "close"    // from what was sent to the block
)

// maxSteps bounds what is kept of one job: a provider that comes and goes must
// not fill the disk.
const maxSteps = 2000

const stepSchema = `
-- What a job went through and when, for people who ask where its time went.
-- Nothing is decided by it.
CREATE TABLE steps (
	job TEXT NOT NULL, n INTEGER NOT NULL, kind TEXT NOT NULL, lease INTEGER NOT NULL DEFAULT 0, provider TEXT NOT NULL DEFAULT '',
	at_ms INTEGER NOT NULL, until_ms INTEGER NOT NULL, count INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0,
	reason TEXT NOT NULL DEFAULT '', detail TEXT NOT NULL DEFAULT '', PRIMARY KEY (job, n)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX steps_of_vouchers ON steps (job, lease) WHERE kind = 'vouchers';
`

// step is one of them.
type step struct {
	kind     string
	lease    fallow.LeaseID
	provider fallow.Account
	at       time.Time
	until    time.Time // the same as at for a moment
	count    int
	bytes    uint64
	reason   fallow.Reason
	detail   string
}

func (s *store) addStep(ctx context.Context, job JobID, t step) error {
	if t.until.IsZero() {
		t.until = t.at
	}
	return s.do(ctx, func(w *writer) error { return w.addStep(job, t) })
}

func (w *writer) addStep(job JobID, t step) error {
	return w.exec(`INSERT INTO steps (job, n, kind, lease, provider, at_ms, until_ms, count, bytes, reason, detail)
		SELECT ?1, COALESCE(MAX(n), 0) + 1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10 FROM steps WHERE job = ?1 HAVING COALESCE(MAX(n), 0) < ?11
		ON CONFLICT (job, lease) WHERE kind = 'vouchers' DO UPDATE SET until_ms = excluded.until_ms, count = count + excluded.count`,
		string(job), t.kind, int64(t.lease), string(t.provider), ms(t.at), ms(t.until), t.count, int64(t.bytes), string(t.reason), t.detail, maxSteps)
}

func (s *store) steps(ctx context.Context, job JobID) ([]step, error) {
	return collect(ctx, s.db, func(r row) (t step, err error) {
		var lease, at, until, bytes int64
		var provider, reason string
		err = r.Scan(&t.kind, &lease, &provider, &at, &until, &t.count, &bytes, &reason, &t.detail)
		t.lease, t.provider, t.at, t.until, t.bytes, t.reason = fallow.LeaseID(lease), fallow.Account(provider), fromMS(at), fromMS(until), uint64(bytes), fallow.Reason(reason)
		return t, err
	}, `SELECT kind, lease, provider, at_ms, until_ms, count, bytes, reason, detail FROM steps WHERE job = ? ORDER BY at_ms, n`, string(job))
}

// span is from when to when an attempt was out.
type span struct{ issued, ended time.Time }

// spans are the times of a job's attempts.
func (s *store) spans(ctx context.Context, job JobID) (map[attemptID]span, error) {
	type timed struct {
		attemptID
		span
	}
	list, err := collect(ctx, s.db, func(r row) (t timed, err error) {
		var lease, issued, ended int64
		err = r.Scan(&lease, &t.task, &t.attempt, &issued, &ended)
		t.lease, t.span = fallow.LeaseID(lease), span{fromMS(issued), fromMS(ended)}
		return t, err
	}, `SELECT lease, task, attempt, issued_ms, ended_ms FROM attempts WHERE job = ?`, string(job))
	all := make(map[attemptID]span, len(list))
	for _, t := range list {
		all[t.attemptID] = t.span
	}
	return all, err
}

// leaseTimes are when a job's leases opened and ended.
func (s *store) leaseTimes(ctx context.Context, job JobID) (map[fallow.LeaseID]span, error) {
	type timed struct {
		id fallow.LeaseID
		span
	}
	list, err := collect(ctx, s.db, func(r row) (t timed, err error) {
		var lease, opened, ended int64
		err = r.Scan(&lease, &opened, &ended)
		t.id, t.span = fallow.LeaseID(lease), span{fromMS(opened), fromMS(ended)}
		return t, err
	}, `SELECT lease, opened_ms, ended_ms FROM leases WHERE lease > 0 AND job = ?`, string(job))
	all := make(map[fallow.LeaseID]span, len(list))
	for _, t := range list {
		all[t.id] = t.span
	}
	return all, err
}
