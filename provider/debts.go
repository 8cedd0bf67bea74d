package provider

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"fallow.network"
)

const (
	// maxDebts is how many tenants' debts are remembered; the oldest goes first.
	maxDebts = 1024
	// debtKept is for how long.
	debtKept = 30 * 24 * time.Hour
)

// debt is what a tenant left unpaid at leases that have ended.
type debt struct {
	Owed fallow.Pico    `json:"owed"` // credits
	Last fallow.LeaseID `json:"last"`
	AtMS int64          `json:"at_unix_ms"`
}

// debts remembers who left work unpaid, over restarts. It knows accounts, and
// accounts cost nothing; what a new one may owe is bounded by the unpaid
// ceiling, and what it needs in escrow to be held capacity at all is not
// nothing.
type debts struct {
	mu sync.Mutex
	of map[fallow.Account]debt
}

// add notes a debt and gives all as they are to be kept.
func (b *debts) add(tenant fallow.Account, owed fallow.Pico, lease fallow.LeaseID, now time.Time) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.of == nil {
		b.of = map[fallow.Account]debt{}
	}
	before := b.of[tenant]
	if _, known := b.of[tenant]; !known && len(b.of) >= maxDebts {
		var oldest fallow.Account
		for t, d := range b.of {
			if o, ok := b.of[oldest]; !ok || d.AtMS < o.AtMS || d.AtMS == o.AtMS && t < oldest {
				oldest = t
			}
		}
		delete(b.of, oldest)
	}
	b.of[tenant] = debt{Owed: sum(before.Owed, owed), Last: lease, AtMS: unixMS(now)}
	return json.Marshal(b.of)
}

// read takes what add gave.
func (b *debts) read(raw []byte) error {
	if len(raw) == 0 {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return json.Unmarshal(raw, &b.of)
}

// owed is what a tenant left unpaid lately.
func (b *debts) owed(tenant fallow.Account, now time.Time) debt {
	b.mu.Lock()
	defer b.mu.Unlock()
	d, ok := b.of[tenant]
	if ok && now.Sub(time.UnixMilli(d.AtMS)) > debtKept {
		delete(b.of, tenant)
		return debt{}
	}
	return d
}

// owes notes what a lease that has ended leaves unpaid.
func (d *Daemon) owes(ctx context.Context, l *lease) {
	l.mu.Lock()
	owed := l.unpaid()
	l.mu.Unlock()
	if owed.IsZero() {
		return
	}
	raw, err := d.debts.add(l.tenant, owed, l.id, d.now())
	if err == nil {
		err = d.journal.setMeta(ctx, metaDebts, raw)
	}
	if err != nil {
		d.log.WarnContext(ctx, "a debt could not be written down", slog.Uint64("lease", uint64(l.id)), slog.Any("error", err))
	}
	d.log.InfoContext(ctx, "a lease ended with work unpaid", slog.Uint64("lease", uint64(l.id)), slog.String("tenant", string(l.tenant)), slog.String("owed", owed.String()))
}
