package client

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	_ "modernc.org/sqlite" // the driver named sqlite

	"fallow.network"
)

// schemaVersion is the version of tenant.db; it is kept in user_version.
const schemaVersion = 2

const schema = `
CREATE TABLE jobs (
	id TEXT PRIMARY KEY, name TEXT NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '',
	workload BLOB NOT NULL, hash BLOB NOT NULL, salt BLOB NOT NULL, options TEXT NOT NULL, tasks INTEGER NOT NULL,
	created_ms INTEGER NOT NULL, started_ms INTEGER NOT NULL DEFAULT 0, ended_ms INTEGER NOT NULL DEFAULT 0,
	first_ms INTEGER NOT NULL DEFAULT 0, bare TEXT NOT NULL DEFAULT '', cancel INTEGER NOT NULL DEFAULT 0
) STRICT;
-- A demand's nonce leads to the session key of its leases. An empty job is a
-- standing lease's.
CREATE TABLE demands (
	nonce BLOB PRIMARY KEY, job TEXT NOT NULL, message BLOB NOT NULL, at_ms INTEGER NOT NULL
) STRICT;
-- An offer stands here before it is sent to the ledger, so that a lease that
-- was opened in the dark is found again. lease is 0 until it is known.
CREATE TABLE leases (
	offer BLOB PRIMARY KEY, job TEXT NOT NULL, nonce BLOB NOT NULL, message BLOB NOT NULL, signature BLOB NOT NULL,
	addrs TEXT NOT NULL, region TEXT NOT NULL, reserve INTEGER NOT NULL, lease INTEGER NOT NULL DEFAULT 0,
	state TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '', opened_ms INTEGER NOT NULL DEFAULT 0, ended_ms INTEGER NOT NULL DEFAULT 0,
	release BLOB, release_signature BLOB
) STRICT;
CREATE UNIQUE INDEX leases_by_id ON leases (lease) WHERE lease > 0;
CREATE INDEX leases_by_job ON leases (job);
CREATE TABLE attempts (
	lease INTEGER NOT NULL, task INTEGER NOT NULL, attempt INTEGER NOT NULL, job TEXT NOT NULL, kind TEXT NOT NULL,
	state TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '', issued_ms INTEGER NOT NULL, ended_ms INTEGER NOT NULL DEFAULT 0,
	PRIMARY KEY (lease, task, attempt)
) STRICT, WITHOUT ROWID;
CREATE INDEX attempts_by_job ON attempts (job);
-- seq is the receipt's place under the lease's vouchers, from 1; 0 is not yet.
CREATE TABLE receipts (
	lease INTEGER NOT NULL, task INTEGER NOT NULL, attempt INTEGER NOT NULL, job TEXT NOT NULL, kind TEXT NOT NULL,
	message BLOB NOT NULL, signature BLOB NOT NULL, digest BLOB NOT NULL, charge TEXT NOT NULL, gas INTEGER NOT NULL,
	state TEXT NOT NULL, seq INTEGER NOT NULL DEFAULT 0, at_ms INTEGER NOT NULL,
	PRIMARY KEY (lease, task, attempt)
) STRICT, WITHOUT ROWID;
CREATE INDEX receipts_by_job ON receipts (job);
-- The highest voucher of each lease, written before it is sent.
CREATE TABLE vouchers (
	lease INTEGER PRIMARY KEY, amount TEXT NOT NULL, receipts INTEGER NOT NULL, message BLOB NOT NULL, signature BLOB NOT NULL
) STRICT;
-- The receipt whose outputs are the task's.
CREATE TABLE results (
	job TEXT NOT NULL, task INTEGER NOT NULL, lease INTEGER NOT NULL, attempt INTEGER NOT NULL, exit TEXT NOT NULL, took_ms INTEGER NOT NULL,
	PRIMARY KEY (job, task)
) STRICT, WITHOUT ROWID;
CREATE TABLE outputs (
	job TEXT NOT NULL, task INTEGER NOT NULL, path TEXT NOT NULL, digest BLOB NOT NULL, size INTEGER NOT NULL, file TEXT NOT NULL,
	PRIMARY KEY (job, task, path)
) STRICT, WITHOUT ROWID;
-- A receipt that was drawn to be checked, and all that is known of it since.
CREATE TABLE checks (
	lease INTEGER NOT NULL, task INTEGER NOT NULL, attempt INTEGER NOT NULL, job TEXT NOT NULL, state TEXT NOT NULL,
	by TEXT NOT NULL, by_lease INTEGER NOT NULL DEFAULT 0, by_attempt INTEGER NOT NULL DEFAULT 0, own TEXT NOT NULL DEFAULT '',
	detail TEXT NOT NULL DEFAULT '', at_ms INTEGER NOT NULL,
	PRIMARY KEY (lease, task, attempt)
) STRICT, WITHOUT ROWID;
CREATE INDEX checks_by_job ON checks (job);
CREATE TABLE evidence (
	node BLOB NOT NULL, class TEXT NOT NULL, record BLOB NOT NULL, PRIMARY KEY (node, class)
) STRICT, WITHOUT ROWID;
CREATE TABLE transactions (
	hash TEXT PRIMARY KEY, job TEXT NOT NULL, kind TEXT NOT NULL, bytes INTEGER NOT NULL, fee INTEGER NOT NULL,
	gas INTEGER NOT NULL, height INTEGER NOT NULL, at_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE gas (
	hash BLOB PRIMARY KEY, mean INTEGER NOT NULL
) STRICT;
CREATE TABLE secrets (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
`

// store is tenant.db.
type store struct {
	db    *sql.DB // for reading
	quick *pen
	sure  *pen // each commit waits for the disk, and for what went before
	// fault stands before and after each transaction in tests.
	fault func(after bool) error
	// later, where it is not nil, takes writes until they are committed
	// together.
	later *[]func(*writer) error
}

func openStore(ctx context.Context, path string) (*store, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("tenant's home: %w", err)
	}
	// The file holds what was signed: for this user alone.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("tenant.db: %w", err)
	}
	if err := errors.Join(f.Chmod(0o600), f.Close()); err != nil {
		return nil, fmt.Errorf("tenant.db: %w", err)
	}
	db, err := openDB(path, "NORMAL")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(4)
	s := &store{db: db, quick: newPen(path, "NORMAL"), sure: newPen(path, "FULL")}
	if err := s.migrate(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("tenant.db: %w", err), s.close())
	}
	return s, nil
}

func openDB(path, synchronous string) (*sql.DB, error) {
	name := "file:" + (&url.URL{Path: path}).EscapedPath()
	db, err := sql.Open("sqlite", name+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous("+synchronous+")")
	if err != nil {
		return nil, fmt.Errorf("tenant.db: %w", err)
	}
	return db, nil
}

func (s *store) migrate(ctx context.Context) error {
	var version int
	if err := s.db.QueryRowContext(ctx, `PRAGMA user_version`).Scan(&version); err != nil {
		return err
	}
	if version == schemaVersion {
		return nil
	}
	return s.do(ctx, func(w *writer) error {
		if err := w.row([]any{&version}, `PRAGMA user_version`); err != nil {
			return err
		}
		switch {
		case version == schemaVersion:
			return nil
		case version > schemaVersion:
			return fmt.Errorf("it is of a later version (%d): upgrade fallow", version)
		}
		if version == 0 {
			if err := w.exec(schema); err != nil {
				return err
			}
		}
		if err := w.exec(stepSchema); err != nil {
			return err
		}
		return w.exec(fmt.Sprintf(`PRAGMA user_version = %d`, schemaVersion))
	})
}

func (s *store) close() error { return errors.Join(s.sure.close(), s.quick.close(), s.db.Close()) }

// do outlives the process, and surely the machine's power as well: what a
// signature goes out on must stand before it does.
func (s *store) do(ctx context.Context, f func(*writer) error) error {
	if s.later != nil {
		*s.later = append(*s.later, f)
		return nil
	}
	return s.in(ctx, s.quick, f)
}

func (s *store) surely(ctx context.Context, f func(*writer) error) error {
	return s.together(ctx, s.sure, f)
}

// gathered is the same store for one goroutine, where do is put off: what it
// writes stands together after commit, or with the next that is written
// surely. Who reads meanwhile sees what stood before.
func (s *store) gathered() *store {
	g := *s
	g.later = new([]func(*writer) error)
	return &g
}

// commit writes what was put off. What can't be written stays put off.
func (s *store) commit(ctx context.Context) error {
	if s.later == nil || len(*s.later) == 0 {
		return nil
	}
	return s.together(ctx, s.quick, func(*writer) error { return nil })
}

// together writes f and, before it, what was put off, in this order: all of it
// or nothing.
func (s *store) together(ctx context.Context, p *pen, f func(*writer) error) error {
	err := s.in(ctx, p, func(w *writer) error {
		if s.later != nil {
			for _, g := range *s.later {
				if err := g(w); err != nil {
					return err
				}
			}
		}
		return f(w)
	})
	if err == nil && s.later != nil {
		*s.later = nil
	}
	return err
}

func (s *store) in(ctx context.Context, p *pen, f func(*writer) error) error {
	if s.fault != nil {
		if err := s.fault(false); err != nil {
			return err
		}
	}
	if err := p.write(ctx, f); err != nil {
		return err
	}
	if s.fault != nil {
		return s.fault(true)
	}
	return nil
}

// row is what both *sql.Row and *sql.Rows are.
type row interface{ Scan(...any) error }

// collect reads all rows of a query.
func collect[T any](ctx context.Context, db *sql.DB, scan func(row) (T, error), query string, args ...any) ([]T, error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("tenant.db: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var list []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, fmt.Errorf("tenant.db: %w", err)
		}
		list = append(list, v)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("tenant.db: %w", err)
	}
	return list, nil
}

func ms(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMS(v int64) time.Time {
	if v == 0 {
		return time.Time{}
	}
	return time.UnixMilli(v)
}

func pico(s string) (fallow.Pico, error) {
	if s == "" {
		return fallow.Pico{}, nil
	}
	return fallow.ParsePico(s)
}

// secret is a named random value of this home, drawn once.
func (s *store) secret(ctx context.Context, name string, draw func() []byte) ([]byte, error) {
	var b []byte
	err := s.surely(ctx, func(w *writer) error {
		if err := w.exec(`INSERT INTO secrets (name, value) VALUES (?, ?) ON CONFLICT DO NOTHING`, name, draw()); err != nil {
			return err
		}
		return w.row([]any{&b}, `SELECT value FROM secrets WHERE name = ?`, name)
	})
	return b, err
}
