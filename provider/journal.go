package provider

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"sync"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"fallow.network"
)

// schema is version 1 of the journal. Amounts are 16 bytes big-endian, times
// Unix milliseconds. A receipt's key is what makes a second one impossible.
const schema = `
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE offers (
	offer BLOB PRIMARY KEY, demand BLOB NOT NULL UNIQUE, tenant TEXT NOT NULL, session BLOB NOT NULL,
	message BLOB NOT NULL, signature BLOB NOT NULL, last_height INTEGER NOT NULL, until_ms INTEGER NOT NULL,
	state INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX offers_open ON offers (until_ms) WHERE state = 0;
CREATE TABLE tenants (tenant TEXT PRIMARY KEY, offered INTEGER NOT NULL, taken INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE leases (
	lease INTEGER PRIMARY KEY, offer BLOB NOT NULL, tenant TEXT NOT NULL, session BLOB NOT NULL,
	opened_ms INTEGER NOT NULL, ended_ms INTEGER NOT NULL DEFAULT 0, reason TEXT NOT NULL DEFAULT '',
	voucher BLOB, voucher_signature BLOB, voucher_amount BLOB, voucher_receipts INTEGER NOT NULL DEFAULT 0,
	voucher_ms INTEGER NOT NULL DEFAULT 0, redeemed BLOB
);
CREATE INDEX leases_open ON leases (lease) WHERE ended_ms = 0;
CREATE TABLE tasks (
	lease INTEGER NOT NULL, task INTEGER NOT NULL, attempt INTEGER NOT NULL, input BLOB NOT NULL,
	message BLOB NOT NULL, PRIMARY KEY (lease, task, attempt)
) WITHOUT ROWID;
CREATE TABLE receipts (
	lease INTEGER NOT NULL, task INTEGER NOT NULL, attempt INTEGER NOT NULL, seq INTEGER NOT NULL,
	input BLOB NOT NULL, charge BLOB NOT NULL, gas INTEGER NOT NULL, ended_ms INTEGER NOT NULL,
	message BLOB NOT NULL, signature BLOB NOT NULL, PRIMARY KEY (lease, task, attempt)
) WITHOUT ROWID;
CREATE TABLE inlines (
	lease INTEGER NOT NULL, digest BLOB NOT NULL, bytes BLOB NOT NULL, PRIMARY KEY (lease, digest)
) WITHOUT ROWID;
CREATE UNIQUE INDEX receipts_seq ON receipts (lease, seq);
CREATE TABLE redemptions (
	id INTEGER PRIMARY KEY, lease INTEGER NOT NULL, amount INTEGER NOT NULL, at_ms INTEGER NOT NULL, reason TEXT NOT NULL
);
PRAGMA user_version = 1;
`

const schemaVersion = 1

// maxGroup is how many operations one commit carries at most.
const maxGroup = 512

// journal is what this provider has promised, signed and been paid, on disk.
// Writes from everywhere meet in one goroutine that commits them in groups, so
// that many receipts share one sync of the disk.
type journal struct {
	db  *sql.DB
	ro  *sql.DB
	ops chan operation
	w   *writer

	// soon says whether more paper is on its way.
	soon func() bool

	stop   chan struct{}
	closed chan struct{}
	once   sync.Once
}

// operation is one write; done may be nil when nobody waits.
type operation struct {
	do   func(w *writer) error
	done chan error
	// paper can wait a moment for more of its kind.
	paper bool
}

const (
	// patient is how long paper waits for other paper to share its sync of the
	// disk, while more of it is on its way.
	patient = 4 * time.Millisecond
	// enough paper goes without waiting for more.
	enough = 32
)

// diskFull says whether err is the journal's disk without room.
func diskFull(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && e.Code()&0xff == sqlite3.SQLITE_FULL
}

var errJournalClosed = errors.New("journal is closed")

// openJournal opens the file at path; soon says whether more receipts are on
// their way.
func openJournal(ctx context.Context, path string, soon func() bool) (*journal, error) {
	db, err := openDB(path, "journal_mode(WAL)", "synchronous(FULL)", "busy_timeout(5000)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	if err := migrate(ctx, db); err != nil {
		return nil, errors.Join(fmt.Errorf("journal %s: %w", path, err), db.Close())
	}
	ro, err := openDB(path, "query_only(1)", "busy_timeout(5000)")
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	ro.SetMaxOpenConns(4)
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, errors.Join(err, ro.Close(), db.Close())
	}
	j := &journal{
		soon: soon, db: db, ro: ro, ops: make(chan operation, maxGroup), w: &writer{ctx: context.WithoutCancel(ctx), conn: conn, stmts: map[string]*sql.Stmt{}},
		stop: make(chan struct{}), closed: make(chan struct{}),
	}
	go j.write()
	return j, nil
}

func openDB(path string, pragmas ...string) (*sql.DB, error) {
	q := url.Values{}
	for _, p := range pragmas {
		q.Add("_pragma", p)
	}
	q.Set("_txlock", "immediate")
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+q.Encode())
	if err != nil {
		return nil, fmt.Errorf("open journal %s: %w", path, err)
	}
	return db, nil
}

func migrate(ctx context.Context, db *sql.DB) error {
	var version int
	if err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	switch {
	case version == schemaVersion:
		return nil
	case version > schemaVersion:
		return fmt.Errorf("written by a newer version of this program (schema %d, here %d): upgrade it", version, schemaVersion)
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, schema); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// close commits what was handed in and closes the files.
func (j *journal) close() error {
	j.once.Do(func() { close(j.stop) })
	<-j.closed
	return errors.Join(j.w.close(), j.db.Close(), j.ro.Close())
}

// write commits operations in groups until the journal closes.
func (j *journal) write() {
	defer close(j.closed)
	for {
		var group []operation
		select {
		case op := <-j.ops:
			group = append(group, op)
		case <-j.stop:
			for {
				select {
				case op := <-j.ops:
					j.commit(append(group, op))
				default:
					return
				}
			}
		}
		for len(group) < maxGroup {
			select {
			case op := <-j.ops:
				group = append(group, op)
				continue
			default:
			}
			break
		}
		j.commit(j.wait(group))
	}
}

// wait gathers paper for a moment, while all that came is paper and more of it
// is on its way.
func (j *journal) wait(group []operation) []operation {
	if slices.ContainsFunc(group, func(op operation) bool { return !op.paper }) {
		return group
	}
	t := time.NewTimer(patient)
	defer t.Stop()
	for len(group) < enough && j.soon() {
		select {
		case op := <-j.ops:
			group = append(group, op)
			if !op.paper {
				return group
			}
		case <-t.C:
			return group
		case <-j.stop:
			return group
		}
	}
	return group
}

// commit writes a group in one transaction. An operation that fails leaves no
// trace and does not hinder the others.
func (j *journal) commit(group []operation) {
	errs, err := j.w.group(group)
	for i, op := range group {
		switch {
		case op.done == nil:
		case err != nil:
			op.done <- fmt.Errorf("journal: %w", err)
		default:
			op.done <- errs[i]
		}
	}
}

// writer is the one connection that writes, used by one goroutine. What was
// handed in is written even while the daemon ends.
type writer struct {
	ctx   context.Context //nolint:containedctx // never ends; see above
	conn  *sql.Conn
	stmts map[string]*sql.Stmt
}

// group writes a group in one transaction. Operations hardly ever fail, so they
// are first run as they are; when one does, all is undone and they run again,
// each within a bound of its own.
func (w *writer) group(group []operation) ([]error, error) {
	failed := false
	errs, err := w.attempt(group, func(do func(*writer) error) (error, error) {
		err := do(w)
		failed = err != nil
		return nil, err
	})
	if !failed {
		return errs, err
	}
	return w.attempt(group, w.apart)
}

func (w *writer) attempt(group []operation, run func(do func(*writer) error) (failed, fatal error)) ([]error, error) {
	if err := w.exec("BEGIN IMMEDIATE"); err != nil {
		return nil, err
	}
	errs := make([]error, len(group))
	for i, op := range group {
		var fatal error
		if errs[i], fatal = run(op.do); fatal != nil {
			return nil, errors.Join(fatal, w.exec("ROLLBACK"))
		}
	}
	if err := w.exec("COMMIT"); err != nil {
		return nil, errors.Join(err, w.exec("ROLLBACK"))
	}
	return errs, nil
}

// apart runs one operation so that its failure undoes it alone; fatal is a
// transaction that can't go on.
func (w *writer) apart(do func(*writer) error) (failed, fatal error) {
	if err := w.exec("SAVEPOINT op"); err != nil {
		return nil, err
	}
	if failed = do(w); failed != nil {
		if err := w.exec("ROLLBACK TO op"); err != nil {
			return failed, errors.Join(failed, err)
		}
	}
	return failed, w.exec("RELEASE op")
}

func (w *writer) exec(query string, args ...any) error {
	_, err := w.count(query, args...)
	return err
}

// count is exec with how many rows it touched.
func (w *writer) count(query string, args ...any) (int64, error) {
	s, ok := w.stmts[query]
	if !ok {
		var err error
		if s, err = w.conn.PrepareContext(w.ctx, query); err != nil {
			return 0, err
		}
		w.stmts[query] = s
	}
	r, err := s.ExecContext(w.ctx, args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

func (w *writer) close() error {
	var errs []error
	for _, s := range w.stmts {
		errs = append(errs, s.Close())
	}
	return errors.Join(append(errs, w.conn.Close())...)
}

// do hands an operation in and waits until it is on disk.
func (j *journal) do(ctx context.Context, do func(*writer) error) error {
	return j.await(ctx, operation{do: do, done: make(chan error, 1)})
}

// file is do for a receipt, of which many come at once: they may wait for each
// other.
func (j *journal) file(ctx context.Context, do func(*writer) error) error {
	return j.await(ctx, operation{do: do, done: make(chan error, 1), paper: true})
}

func (j *journal) await(ctx context.Context, op operation) error {
	if err := j.hand(ctx, op); err != nil {
		return err
	}
	select {
	case err := <-op.done:
		return err
	case <-j.closed:
		// It may have been in the last group.
		select {
		case err := <-op.done:
			return err
		default:
			return errJournalClosed
		}
	}
}

// later hands an operation in and does not wait for the disk.
func (j *journal) later(ctx context.Context, do func(*writer) error) error {
	return j.hand(ctx, operation{do: do, paper: true})
}

func (j *journal) hand(ctx context.Context, op operation) error {
	select {
	case <-j.stop:
		return errJournalClosed
	default:
	}
	select {
	case j.ops <- op:
		return nil
	case <-j.stop:
		return errJournalClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

func amountBytes(p fallow.Pico) []byte {
	b := binary.BigEndian.AppendUint64(nil, p.Hi)
	return binary.BigEndian.AppendUint64(b, p.Lo)
}

func amountFrom(b []byte) (fallow.Pico, error) {
	switch len(b) {
	case 0:
		return fallow.Pico{}, nil
	case 16:
		return fallow.Pico{Hi: binary.BigEndian.Uint64(b), Lo: binary.BigEndian.Uint64(b[8:])}, nil
	default:
		return fallow.Pico{}, fmt.Errorf("journal: amount of %d bytes", len(b))
	}
}

func unixMS(t time.Time) int64 { return t.UnixMilli() }
