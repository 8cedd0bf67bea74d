package client

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"fallow.network"
	"fallow.network/spec"
)

// ErrNoJob is a job that this home does not know.
var ErrNoJob = errors.New("no such job; list them with: fallow jobs")

func (s *store) addJob(ctx context.Context, r record) error {
	options, err := json.Marshal(r.Options)
	if err != nil {
		return fmt.Errorf("keep job %s: %w", r.ID, err)
	}
	return s.do(ctx, func(w *writer) error {
		return w.exec(`INSERT INTO jobs (id, name, state, workload, hash, salt, options, tasks, created_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			string(r.ID), r.Name, string(r.State), spec.Canonical(r.workload), r.Workload[:], r.salt[:], string(options), r.Tasks, ms(r.Created))
	})
}

const jobColumns = `id, name, state, reason, hash, options, tasks, created_ms, started_ms, ended_ms, first_ms,
	(SELECT COUNT(*) FROM results WHERE results.job = jobs.id)`

func scanJob(r row) (j Job, err error) {
	var id, state, options string
	var hash []byte
	var created, started, ended, first int64
	if err := r.Scan(&id, &j.Name, &state, &j.Reason, &hash, &options, &j.Tasks, &created, &started, &ended, &first, &j.Done); err != nil {
		return j, err
	}
	j.ID, j.State = JobID(id), State(state)
	j.Created, j.Started, j.Ended, j.FirstOutput = fromMS(created), fromMS(started), fromMS(ended), fromMS(first)
	if j.Workload, err = fallow.DigestFrom(hash); err != nil {
		return j, err
	}
	return j, json.Unmarshal([]byte(options), &j.Options)
}

func (s *store) jobs(ctx context.Context) ([]Job, error) {
	list, err := collect(ctx, s.db, scanJob, `SELECT `+jobColumns+` FROM jobs ORDER BY created_ms, id`)
	if err != nil {
		return nil, err
	}
	for i := range list {
		if list[i].Paid, err = s.paid(ctx, list[i].ID); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func (s *store) job(ctx context.Context, id JobID) (Job, error) {
	j, err := scanJob(s.db.QueryRowContext(ctx, `SELECT `+jobColumns+` FROM jobs WHERE id = ?`, string(id)))
	if errors.Is(err, sql.ErrNoRows) {
		return j, fmt.Errorf("%.80q: %w", string(id), ErrNoJob)
	}
	if err != nil {
		return j, fmt.Errorf("tenant.db: job %s: %w", id, err)
	}
	j.Paid, err = s.paid(ctx, id)
	return j, err
}

// record reads a job with its workload.
func (s *store) record(ctx context.Context, id JobID) (record, error) {
	j, err := s.job(ctx, id)
	if err != nil {
		return record{}, err
	}
	r := record{Job: j}
	var canonical, salt []byte
	if err := s.db.QueryRowContext(ctx, `SELECT workload, salt FROM jobs WHERE id = ?`, string(id)).Scan(&canonical, &salt); err != nil {
		return r, fmt.Errorf("tenant.db: job %s: %w", id, err)
	}
	if r.workload, err = spec.Decode(canonical); err != nil {
		return r, fmt.Errorf("tenant.db: job %s: %w", id, err)
	}
	copy(r.salt[:], salt)
	return r, nil
}

// setState moves a job on; started and ended keep their first value.
func (s *store) setState(ctx context.Context, id JobID, state State, reason string, now time.Time) error {
	return s.do(ctx, func(w *writer) error {
		started, ended := int64(0), int64(0)
		if state == StateRunning {
			started = ms(now)
		}
		if state.Ended() {
			ended = ms(now)
		}
		return w.exec(`UPDATE jobs SET state = ?, reason = ?, started_ms = CASE started_ms WHEN 0 THEN ? ELSE started_ms END,
			ended_ms = ? WHERE id = ?`, string(state), reason, started, ended, string(id))
	})
}

// askCancel leaves word for the process that runs a job.
func (s *store) askCancel(ctx context.Context, id JobID) error {
	return s.do(ctx, func(w *writer) error {
		return w.exec(`UPDATE jobs SET cancel = 1 WHERE id = ?`, string(id))
	})
}

func (s *store) cancelAsked(ctx context.Context, id JobID) (bool, error) {
	var n int
	err := s.db.QueryRowContext(ctx, `SELECT cancel FROM jobs WHERE id = ?`, string(id)).Scan(&n)
	return n != 0, err
}

// setBare keeps the measurement of this machine's bare speed.
func (s *store) setBare(ctx context.Context, id JobID, b *Bare) error {
	text, err := json.Marshal(b)
	if err != nil {
		return fmt.Errorf("keep job %s: %w", id, err)
	}
	return s.do(ctx, func(w *writer) error {
		return w.exec(`UPDATE jobs SET bare = ? WHERE id = ?`, string(text), string(id))
	})
}

func (s *store) bare(ctx context.Context, id JobID) (*Bare, error) {
	var text string
	if err := s.db.QueryRowContext(ctx, `SELECT bare FROM jobs WHERE id = ?`, string(id)).Scan(&text); err != nil || text == "" {
		return nil, err
	}
	b := new(Bare)
	return b, json.Unmarshal([]byte(text), b)
}

// result is the attempt whose outputs are a task's.
type result struct {
	task    uint32
	lease   fallow.LeaseID
	attempt uint32
	exit    string
	took    time.Duration
	opens   bool // the job's first
}

func (s *store) results(ctx context.Context, id JobID) ([]result, error) {
	return collect(ctx, s.db, func(r row) (v result, err error) {
		var lease, took int64
		err = r.Scan(&v.task, &lease, &v.attempt, &v.exit, &took)
		v.lease, v.took = fallow.LeaseID(lease), time.Duration(took)*time.Millisecond
		return v, err
	}, `SELECT task, lease, attempt, exit, took_ms FROM results WHERE job = ? ORDER BY task`, string(id))
}

func (s *store) outputs(ctx context.Context, j Job) ([]Output, error) {
	return collect(ctx, s.db, func(r row) (o Output, err error) {
		var digest []byte
		var size int64
		if err := r.Scan(&o.Task, &o.Path, &digest, &size, &o.File); err != nil {
			return o, err
		}
		o.Size, o.Label = uint64(size), j.Options.label(o.Task)
		o.Digest, err = fallow.DigestFrom(digest)
		return o, err
	}, `SELECT task, path, digest, size, file FROM outputs WHERE job = ? ORDER BY task, path`, string(j.ID))
}

// gasOf is what tasks of this very workload took on average in earlier jobs,
// 0 when there was none.
func (s *store) gasOf(ctx context.Context, hash fallow.Digest) (fallow.Gas, error) {
	var mean int64
	err := s.db.QueryRowContext(ctx, `SELECT mean FROM gas WHERE hash = ?`, hash[:]).Scan(&mean)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return fallow.Gas(mean), err
}

// learnGas keeps what a finished job's tasks took.
func (s *store) learnGas(ctx context.Context, id JobID, hash fallow.Digest) error {
	return s.do(ctx, func(w *writer) error {
		return w.exec(`INSERT INTO gas (hash, mean)
			SELECT ?1, CAST(AVG(r.gas) AS INTEGER) FROM results JOIN receipts r USING (lease, task, attempt) WHERE results.job = ?2 HAVING COUNT(*) > 0
			ON CONFLICT DO UPDATE SET mean = excluded.mean`, hash[:], string(id))
	})
}
