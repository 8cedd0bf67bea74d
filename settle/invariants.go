package settle

import (
	"errors"
	"fmt"
	"slices"

	"fallow.network"
	"fallow.network/market"
)

// ErrBreach is a state that the rules can't have made.
var ErrBreach = errors.New("the books don't add up")

func breach(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrBreach}, args...)...)
}

// audit sums up the books.
type audit struct {
	total    fallow.Pico // that EscrowPool must hold
	accounts map[fallow.Account]Account
	reserved map[fallow.Account]fallow.Pico
	open     map[fallow.Account]uint64
	held     map[fallow.Account]fallow.Credits // by provider
	keys     map[string]bool                   // index keys that must stand
}

// Invariants proves the books against the coins of EscrowPool: coins are
// conserved to the pico-credit, no lease stands without the funds that it
// holds, no provider was paid more than was claimed nor claimed more than was
// reserved, every end has a reason, and every index says what the leases say.
// It reads everything and names the first breach.
func (b Books) Invariants(escrow fallow.Credits) error {
	a := &audit{
		accounts: map[fallow.Account]Account{},
		reserved: map[fallow.Account]fallow.Pico{},
		open:     map[fallow.Account]uint64{},
		held:     map[fallow.Account]fallow.Credits{},
		keys:     map[string]bool{},
	}
	entries := map[byte][]func() error{}
	var bad error
	err := b.Store.Scan(nil, nil, func(k, v []byte) bool {
		k, v = slices.Clone(k), slices.Clone(v)
		if len(k) == 0 || k[0] > atHeld {
			bad = breach("unknown key %x", k)
			return false
		}
		entries[k[0]] = append(entries[k[0]], func() error { return a.entry(k, v) })
		return true
	})
	if err != nil || bad != nil {
		return errors.Join(err, bad)
	}
	for prefix := range atHeld + 1 {
		for _, check := range entries[prefix] {
			if err := check(); err != nil {
				return err
			}
		}
	}
	return a.close(escrow)
}

func (a *audit) entry(k, v []byte) error {
	switch k[0] {
	case atAccount:
		acc, err := decodeAccount(v)
		if err != nil {
			return breach("%w", err)
		}
		return a.account(acc)
	case atLease:
		l, err := decodeLease(v)
		if err != nil {
			return breach("%w", err)
		}
		if err := a.lease(l); err != nil {
			return breach("lease %d: %w", l.ID, err)
		}
	case atPayout:
		amount, err := decodeCredits(v)
		if err != nil || amount == 0 {
			return breach("payout %x of %d ucredit", k, amount)
		}
		owner := accountAt(k, 1)
		a.keys[string(queueKey(atDue, fallow.Time(lastNumber(k)), owner))] = true
		return add(&a.total, amount.Pico())
	case atHeld:
		amount, err := decodeCredits(v)
		owner := accountAt(k, 1)
		if err != nil || a.held[owner] != amount {
			return breach("provider %s holds %d ucredit, its leases %d", owner, amount, a.held[owner])
		}
		delete(a.held, owner)
	case atTenant, atProvider, atTenantOpen, atProviderOpen, atService, atClaim, atEnd, atQueue, atDue:
		if !a.keys[string(k)] {
			return breach("index %x stands for nothing", k)
		}
		delete(a.keys, string(k))
	}
	return nil
}

func (a *audit) account(acc Account) error {
	a.accounts[acc.Owner] = acc
	if acc.Queued > 0 {
		a.keys[string(queueKey(atQueue, acc.Queued, acc.Owner))] = true
	}
	for _, k := range acc.Keys {
		if k.Limit == 0 {
			return breach("account %s has a client key without a limit", acc.Owner)
		}
	}
	if err := add(&a.total, acc.Free); err != nil {
		return breach("account %s: %w", acc.Owner, err)
	}
	if err := add(&a.total, acc.Reserved); err != nil {
		return breach("account %s: %w", acc.Owner, err)
	}
	return nil
}

func (a *audit) lease(l Lease) error {
	floor, err := l.Claimed.Floor()
	switch {
	case err != nil:
		return err
	case l.Kind != market.KindBatch && l.Kind != market.KindService:
		return fmt.Errorf("of kind %d", l.Kind)
	case l.Paid > floor:
		return fmt.Errorf("paid %d ucredit of %d claimed", l.Paid, floor)
	case !l.Service() && (l.Paid != floor || l.Claimed.Cmp(l.Reserve.Pico()) > 0 || l.Reserve > l.MaxReserve):
		return fmt.Errorf("paid %d ucredit, claimed %s credits, of a reserve of %d and at most %d", l.Paid, l.Claimed, l.Reserve, l.MaxReserve)
	case (l.State == Closing || l.State == Closed) != (l.Reason != "") || (l.Reason != "") != (l.ClosedBy != ""):
		return fmt.Errorf("is %s with reason %q by %q", l.State, l.Reason, l.ClosedBy)
	case l.State < Open || l.State > Closed:
		return fmt.Errorf("in state %d", l.State)
	}
	a.keys[string(indexKey(atTenant, l.Tenant, l.ID))] = true
	a.keys[string(indexKey(atProvider, l.Provider, l.ID))] = true
	if l.State == Closed {
		return nil
	}
	a.open[l.Tenant]++
	a.held[l.Provider] += l.holds()
	a.keys[string(indexKey(atTenantOpen, l.Tenant, l.ID))] = true
	a.keys[string(indexKey(atProviderOpen, l.Provider, l.ID))] = true
	holds := l.holds().Pico()
	if l.Service() {
		a.keys[string(indexKey(atService, l.Tenant, l.ID))] = true
		if holds, err = holds.Sub(l.DiskUsed); err != nil {
			return fmt.Errorf("used %s credits of a deposit of %d ucredit", l.DiskUsed, l.holds())
		}
		unpaid, err := l.Claimed.Sub(l.Paid.Pico())
		if err != nil {
			return err
		}
		if err := add(&a.total, unpaid); err != nil {
			return err
		}
	}
	if l.State == Closing {
		a.keys[string(timedKey(atClaim, l.Tenant, l.Deadline, l.ID))] = true
	}
	if l.State == Closing || l.State == Open && l.Service() {
		a.keys[string(timedKey(atEnd, l.Provider, l.Deadline, l.ID))] = true
	}
	sum := a.reserved[l.Tenant]
	if err := add(&sum, holds); err != nil {
		return err
	}
	a.reserved[l.Tenant] = sum
	return nil
}

// close compares the sums with what the records say.
func (a *audit) close(escrow fallow.Credits) error {
	for _, owner := range sorted(a.accounts) {
		acc := a.accounts[owner]
		if acc.Reserved != a.reserved[owner] || acc.Open != a.open[owner] {
			return breach("account %s reserves %s credits for %d leases, its leases hold %s and are %d",
				owner, acc.Reserved, acc.Open, a.reserved[owner], a.open[owner])
		}
		delete(a.reserved, owner)
	}
	if left := sorted(a.reserved); len(left) > 0 {
		return breach("leases of %s stand without an account", left[0])
	}
	for _, owner := range sorted(a.held) {
		if a.held[owner] > 0 {
			return breach("leases of provider %s hold %d ucredit and its record nothing", owner, a.held[owner])
		}
	}
	if left := sorted(a.keys); len(left) > 0 {
		return breach("index %x is missing", left[0])
	}
	if a.total != escrow.Pico() {
		return breach("escrow holds %s credits, accounts and payouts %s", escrow, a.total)
	}
	return nil
}

func sorted[K ~string, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// accountAt reads the account that stands at i in a key behind its length.
func accountAt(k []byte, i int) fallow.Account {
	if len(k) <= i || len(k) < i+1+int(k[i]) {
		return ""
	}
	return fallow.Account(k[i+1 : i+1+int(k[i])])
}
