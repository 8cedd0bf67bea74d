//go:build linux

package e2e

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	_ "modernc.org/sqlite" // the driver named sqlite

	"fallow.network"
	"fallow.network/ledger"
	"fallow.network/local"
	"fallow.network/settle"
)

// account is what three books say of one lease: the tenant's, the provider's
// and the ledger's.
type account struct {
	lease    fallow.LeaseID
	accepted fallow.Pico // receipts that the tenant took
	vouched  fallow.Pico // the tenant's highest voucher
	signed   fallow.Pico // receipts that the provider signed
	claimed  fallow.Pico // what the ledger took of it
	open     bool        // on the ledger
}

// check says who was wronged: nobody may be paid twice or above a voucher, nor be
// left without what the tenant took. open leases may still be claimed.
func (a account) check() error {
	switch {
	case a.claimed.Cmp(a.vouched) > 0:
		return fmt.Errorf("lease %d: %s claimed, and the highest voucher is %s", a.lease, a.claimed, a.vouched)
	case a.vouched.Cmp(a.signed) > 0:
		return fmt.Errorf("lease %d: a voucher of %s for work of %s", a.lease, a.vouched, a.signed)
	case a.vouched.Cmp(a.accepted) > 0:
		return fmt.Errorf("lease %d: a voucher of %s for receipts of %s", a.lease, a.vouched, a.accepted)
	case a.open:
		return fmt.Errorf("lease %d is open still, %s of %s claimed", a.lease, a.claimed, a.vouched)
	case a.vouched.Cmp(a.accepted) < 0:
		return fmt.Errorf("lease %d: receipts of %s were taken and %s vouched for", a.lease, a.accepted, a.vouched)
	case a.claimed.Cmp(a.vouched) < 0:
		return fmt.Errorf("lease %d: a voucher of %s, and %s claimed", a.lease, a.vouched, a.claimed)
	}
	return nil
}

// lost is signed work that nobody pays.
func (a account) lost() fallow.Pico {
	p, err := a.signed.Sub(a.claimed)
	if err != nil {
		return fallow.Pico{}
	}
	return p
}

// readOnly opens a daemon's or the tenant's database beside it. A home without
// one has no entries.
func readOnly(path string) (*sql.DB, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		db, err := sql.Open("sqlite", ":memory:")
		if err != nil {
			return nil, err
		}
		db.SetMaxOpenConns(1)
		_, err = db.Exec(`CREATE TABLE vouchers (lease, amount); CREATE TABLE receipts (lease, charge, state)`)
		return db, err
	}
	return sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?mode=ro&_pragma=busy_timeout(10000)")
}

// each reads rows of two values.
func each[A, B any](ctx context.Context, db *sql.DB, use func(A, B) error, query string, args ...any) (err error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var a A
		var b B
		if err := rows.Scan(&a, &b); err != nil {
			return err
		}
		if err := use(a, b); err != nil {
			return err
		}
	}
	return rows.Err()
}

// accounts reads the three books for every lease that the tenant opened on the
// ledger, those that it knows nothing of included.
func (m *market) accounts(ctx context.Context) ([]account, error) {
	k, err := m.tenantAccount()
	if err != nil {
		return nil, err
	}
	by := map[fallow.LeaseID]*account{}
	var order []*account
	for l, err := range m.ledger.Leases(ctx, ledger.LeaseFilter{Tenant: k}) {
		if err != nil {
			return nil, err
		}
		a := &account{lease: fallow.LeaseID(l.GetId()), open: settle.State(l.GetState()) != settle.Closed}
		if a.claimed, err = ledger.Pico(l.GetClaimed()); err != nil {
			return nil, err
		}
		by[a.lease] = a
		order = append(order, a)
	}
	amount := func(to func(*account) *fallow.Pico, from func(string) (fallow.Pico, error)) func(int64, string) error {
		return func(lease int64, text string) error {
			a := by[fallow.LeaseID(lease)]
			if a == nil {
				return fmt.Errorf("the ledger has no lease %d", lease)
			}
			p, err := from(text)
			if err == nil {
				*to(a), err = to(a).Add(p)
			}
			return err
		}
	}
	tenant, err := readOnly(m.tenant().TenantDB())
	if err != nil {
		return nil, err
	}
	err = errors.Join(
		each(ctx, tenant, amount(func(a *account) *fallow.Pico { return &a.vouched }, fallow.ParsePico), `SELECT lease, amount FROM vouchers`),
		each(ctx, tenant, amount(func(a *account) *fallow.Pico { return &a.accepted }, fallow.ParsePico), `SELECT lease, charge FROM receipts WHERE state <> 'refused'`),
		tenant.Close(),
	)
	if err != nil {
		return nil, err
	}
	for _, p := range local.Default(m.dir()).Providers {
		journal, err := readOnly(filepath.Join(m.party(p.Name).ProviderDir(), "journal.db"))
		if err != nil {
			return nil, err
		}
		err = each(ctx, journal, amount(func(a *account) *fallow.Pico { return &a.signed }, bigEndian), `SELECT lease, charge FROM receipts`)
		if err = errors.Join(err, journal.Close()); err != nil {
			return nil, fmt.Errorf("%s: %w", p.Name, err)
		}
	}
	all := make([]account, len(order))
	for i, a := range order {
		all[i] = *a
	}
	return all, nil
}

// bigEndian reads the journal's form of an amount.
func bigEndian(s string) (fallow.Pico, error) {
	if len(s) != 16 {
		return fallow.Pico{}, fmt.Errorf("an amount of %d bytes", len(s))
	}
	return fallow.Pico{Hi: binary.BigEndian.Uint64([]byte(s)), Lo: binary.BigEndian.Uint64([]byte(s[8:]))}, nil
}

// tenantAccount is who rents.
func (m *market) tenantAccount() (fallow.Account, error) {
	config, err := m.tenant().Load()
	if err != nil {
		return "", err
	}
	k, err := m.tenant().Ring(config, nil, nil).Show(config.Account)
	return k.Account, err
}
