package hub

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"

	"fallow.network"
	"fallow.network/market"
	"fallow.network/p2p"
	"fallow.network/wire"
)

// funds holds tenants to their rates: each funded one has its own, all others
// share a small one, since accounts cost nothing.
type funds struct {
	limits   Limits
	escrow   Escrow
	keys     ClientKeys
	tenants  *p2p.Rate[fallow.Account]
	unfunded *rate.Limiter
	flight   singleflight.Group

	mu    sync.Mutex
	known map[string]known
}

// known is a yes or no that was learnt a while ago.
type known struct {
	yes bool
	at  time.Time
}

func newFunds(l Limits, d Deps) *funds {
	return &funds{
		limits: l, escrow: d.Escrow, keys: d.ClientKeys, known: map[string]known{},
		tenants:  p2p.NewRate[fallow.Account](l.TenantRate, l.TenantBurst, l.Remember),
		unfunded: rate.NewLimiter(rate.Limit(l.UnfundedRate), l.UnfundedBurst),
	}
}

// allow takes one demand of d's tenant, or says why not.
func (f *funds) allow(ctx context.Context, d market.Demand, now time.Time) error {
	if f.acts(ctx, d, now) && f.funded(ctx, d.Tenant, now) {
		if !f.tenants.Allow(d.Tenant, now) {
			return errors.New("too many demands from this tenant; wait a moment")
		}
		return nil
	}
	if !f.unfunded.AllowN(now, 1) {
		return fmt.Errorf("demands of tenants with less than %s credits free in escrow come too fast; deposit with: fallow deposit AMOUNT", f.limits.Funded)
	}
	return nil
}

// acts says whether the key that signed may spend the tenant's rate.
func (f *funds) acts(ctx context.Context, d market.Demand, now time.Time) bool {
	if wire.Address(d.ClientKey) == d.Tenant {
		return true
	}
	return f.keys != nil && f.learn(ctx, "key "+string(d.ClientKey[:])+string(d.Tenant), now, func(ctx context.Context) (bool, error) {
		return f.keys.Acts(ctx, d.Tenant, d.ClientKey)
	})
}

func (f *funds) funded(ctx context.Context, tenant fallow.Account, now time.Time) bool {
	return f.escrow != nil && f.learn(ctx, "escrow "+string(tenant), now, func(ctx context.Context) (bool, error) {
		free, err := f.escrow.Free(ctx, tenant)
		return free >= f.limits.Funded, err
	})
}

// learn asks the ledger, once for all who want to know, and believes the
// answer for a while. While the ledger is away the last answer stands.
func (f *funds) learn(ctx context.Context, what string, now time.Time, ask func(context.Context) (bool, error)) bool {
	f.mu.Lock()
	k, ok := f.known[what]
	f.mu.Unlock()
	if ok && now.Sub(k.at) < time.Duration(f.limits.FundsAgeMS)*time.Millisecond {
		return k.yes
	}
	// The answer serves others too: the first one's going away must not end it.
	ch := f.flight.DoChan(what, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fundsTimeout)
		defer cancel()
		yes, err := ask(ctx)
		if err == nil {
			f.keep(what, known{yes, now})
		}
		return yes, err
	})
	select {
	case r := <-ch:
		if yes, is := r.Val.(bool); is && r.Err == nil {
			return yes
		}
	case <-ctx.Done():
	}
	return ok && k.yes && now.Sub(k.at) < staleFunds
}

func (f *funds) keep(what string, k known) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.known) >= f.limits.Remember {
		for old := range f.known { // any one: the ledger knows it better
			delete(f.known, old)
			break
		}
	}
	f.known[what] = k
}
