package settle

import (
	"fmt"
	"slices"
	"strings"

	"fallow.network"
	"fallow.network/market"
)

// Deposit brings coins of sender into tenant's escrow. What is paused for want
// of funds resumes when they suffice.
func (b Books) Deposit(at Block, sender, tenant fallow.Account, amount fallow.Credits) ([]Effect, error) {
	if tenant == "" {
		tenant = sender
	}
	if err := market.CheckAccount("tenant", tenant); err != nil {
		return nil, err
	}
	if amount == 0 {
		return nil, fmt.Errorf("deposit: %w", ErrAmount)
	}
	t, err := b.begin(at)
	if err != nil {
		return nil, err
	}
	e, err := t.touch(tenant)
	if err != nil {
		return nil, fmt.Errorf("deposit: %w", err)
	}
	if err := add(&e.Free, amount.Pico()); err != nil {
		return nil, fmt.Errorf("deposit %s: %w", amount, err)
	}
	t.emit(
		market.Move{From: sender, To: EscrowPool, Denom: fallow.CreditDenom, Amount: uint64(amount)},
		Deposited{Tenant: tenant, Amount: amount},
	)
	return t.commit()
}

// Withdraw takes free escrow out, in whole ucredit; zero is all of it.
func (b Books) Withdraw(at Block, tenant fallow.Account, amount fallow.Credits) (fallow.Credits, []Effect, error) {
	t, err := b.begin(at)
	if err != nil {
		return 0, nil, err
	}
	e, err := t.touch(tenant)
	if err != nil {
		return 0, nil, fmt.Errorf("withdraw: %w", err)
	}
	free, err := e.Free.Floor()
	switch {
	case err != nil:
		return 0, nil, err
	case free == 0 || amount > free:
		return 0, nil, fmt.Errorf("withdraw %s credits of %s free: %w", amount, free, ErrFunds)
	case amount == 0:
		amount = free
	}
	if err := take(&e.Free, amount.Pico()); err != nil {
		return 0, nil, err
	}
	t.emit(
		market.Move{From: EscrowPool, To: tenant, Denom: fallow.CreditDenom, Amount: uint64(amount)},
		Withdrawn{Tenant: tenant, Amount: amount},
	)
	effects, err := t.commit()
	return amount, effects, err
}

// SetClientKey lets an account open and close leases for tenant, within a
// limit and until a height; a limit of zero removes it. What the key has spent
// stays counted as long as the key stands; one that is registered anew begins
// at nothing, and what its old leases give back is not its to spend.
func (b Books) SetClientKey(at Block, tenant fallow.Account, k ClientKey) ([]Effect, error) {
	if err := market.CheckAccount("client key", k.Address); err != nil {
		return nil, err
	}
	if k.Limit > 0 && k.Expires < at.Height {
		return nil, fmt.Errorf("client key until height %d at height %d: %w", k.Expires, at.Height, ErrExpired)
	}
	t, err := b.begin(at)
	if err != nil {
		return nil, err
	}
	e, err := t.load(tenant)
	if err != nil {
		return nil, err
	}
	i, there := e.client(k.Address)
	switch {
	case k.Limit == 0 && there:
		e.Keys = slices.Delete(e.Keys, i, i+1)
	case k.Limit == 0:
		return nil, fmt.Errorf("remove %s: %w", k.Address, ErrClientKey)
	case there:
		e.Keys[i].Limit, e.Keys[i].Expires = k.Limit, k.Expires
	case len(e.Keys) >= MaxClientKeys:
		return nil, fmt.Errorf("an account has at most %d client keys: %w", MaxClientKeys, ErrClientKey)
	case k.Address == tenant:
		return nil, fmt.Errorf("the account's own key needs no limit: %w", ErrClientKey)
	default:
		next, err := t.peekID()
		if err != nil {
			return nil, err
		}
		e.Keys = slices.Insert(e.Keys, i, ClientKey{Address: k.Address, Limit: k.Limit, Expires: k.Expires, Since: next})
	}
	return t.commit()
}

// client is where a client key stands in e.Keys, or belongs.
func (e *escrow) client(address fallow.Account) (int, bool) {
	return slices.BinarySearchFunc(e.Keys, address, func(k ClientKey, a fallow.Account) int {
		return strings.Compare(string(k.Address), string(a))
	})
}

// acts says whether signer acts for the account at a height: its owner or one
// of its client keys.
func (e *escrow) acts(at Block, signer fallow.Account) bool {
	if signer == e.Owner {
		return true
	}
	i, ok := e.client(signer)
	return ok && e.Keys[i].Expires >= at.Height
}

// spend counts an amount under a client key's limit; the owner has none.
func (e *escrow) spend(at Block, signer fallow.Account, amount fallow.Credits) error {
	if signer == e.Owner {
		return nil
	}
	i, ok := e.client(signer)
	if !ok || e.Keys[i].Expires < at.Height {
		return fmt.Errorf("client key %s: %w", signer, ErrClientKey)
	}
	k := &e.Keys[i]
	if k.Spent > k.Limit || amount > k.Limit-k.Spent {
		return fmt.Errorf("client key %s has %s of %s credits left: %w", signer, k.Limit-min(k.Spent, k.Limit), k.Limit, ErrClientKey)
	}
	k.Spent += amount
	return nil
}

// giveBack counts what a lease no longer needs off its client key: all that
// was granted above keep.
func (e *escrow) giveBack(l *Lease, keep fallow.Credits) {
	if l.Granted <= keep {
		return
	}
	if i, ok := e.client(l.Client); ok && l.ID >= e.Keys[i].Since {
		e.Keys[i].Spent -= min(e.Keys[i].Spent, l.Granted-keep)
	}
	l.Granted = keep
}
