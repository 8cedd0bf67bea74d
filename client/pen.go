package client

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
)

// pen is a connection that writes to tenant.db, one transaction at a time, and
// keeps its statements: reading their text again took as long as running them.
type pen struct {
	path, synchronous string

	mu    sync.Mutex
	db    *sql.DB // nil before the first write
	conn  *sql.Conn
	stmts map[string]*sql.Stmt
}

func newPen(path, synchronous string) *pen {
	return &pen{path: path, synchronous: synchronous, stmts: map[string]*sql.Stmt{}}
}

// writer is one transaction.
type writer struct {
	ctx context.Context //nolint:containedctx // lives for one transaction
	pen *pen
}

func (p *pen) open(ctx context.Context) error {
	if p.conn != nil {
		return nil
	}
	db, err := openDB(p.path, p.synchronous)
	if err != nil {
		return err
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return errors.Join(fmt.Errorf("tenant.db: %w", err), db.Close())
	}
	p.db, p.conn = db, conn
	return nil
}

// write runs f in a transaction: all of it stands afterwards, or nothing.
func (p *pen) write(ctx context.Context, f func(*writer) error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("tenant.db: %w", err)
	}
	// A transaction that has begun is not broken off: it takes a moment.
	ctx = context.WithoutCancel(ctx)
	w := &writer{ctx, p}
	if err := p.open(ctx); err != nil {
		return err
	}
	if err := w.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	if err := f(w); err != nil {
		return errors.Join(err, w.exec("ROLLBACK"))
	}
	if err := w.exec("COMMIT"); err != nil {
		return errors.Join(err, w.exec("ROLLBACK"))
	}
	return nil
}

func (p *pen) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conn == nil {
		return nil
	}
	var errs []error
	for _, s := range p.stmts {
		errs = append(errs, s.Close())
	}
	return errors.Join(append(errs, p.conn.Close(), p.db.Close())...)
}

func (w *writer) stmt(query string) (*sql.Stmt, error) {
	s, ok := w.pen.stmts[query]
	if ok {
		return s, nil
	}
	s, err := w.pen.conn.PrepareContext(w.ctx, query)
	if err != nil {
		return nil, fmt.Errorf("tenant.db: %w", err)
	}
	w.pen.stmts[query] = s
	return s, nil
}

func (w *writer) exec(query string, args ...any) error {
	s, err := w.stmt(query)
	if err != nil {
		return err
	}
	if _, err := s.ExecContext(w.ctx, args...); err != nil {
		return fmt.Errorf("tenant.db: %w", err)
	}
	return nil
}

// row reads the one row of a query; sql.ErrNoRows is none.
func (w *writer) row(to []any, query string, args ...any) error {
	s, err := w.stmt(query)
	if err != nil {
		return err
	}
	return s.QueryRowContext(w.ctx, args...).Scan(to...)
}
