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
	// strangers bounds how often the ledger is asked about accounts of which it
	// did not say yes before, and asking how many of these questions run.
	strangers *rate.Limiter
	asking    chan struct{}
	flight    singleflight.Group

	mu sync.Mutex
	// yes and no are kept apart: accounts without funds cost nothing, and must
	// not push out those with.
	yes, no map[string]known
}

// known is a yes or no that was learnt a while ago.
type known struct {
	yes bool
	at  time.Time
}

func newFunds(l Limits, d Deps) *funds {
	return &funds{
		limits: l, escrow: d.Escrow, keys: d.ClientKeys, yes: map[string]known{}, no: map[string]known{},
		strangers: rate.NewLimiter(rate.Limit(l.LookupRate), l.LookupBurst), asking: make(chan struct{}, lookups),
		tenants:  p2p.NewRate[fallow.Account](l.TenantRate, l.TenantBurst, l.Remember),
		unfunded: rate.NewLimiter(rate.Limit(l.UnfundedRate), l.UnfundedBurst),
	}
}

// word is what is known of an account or a node.
type word uint8

const (
	wordNo   word = iota
	wordYes       // the ledger said so, or did a while ago and is away now
	wordAway      // the ledger does not answer, and did not say yes before
	wordBusy      // too many strangers are asked about
)

var errBusy = errors.New("too many tenants that are not known here ask at once; ask again in a moment, or another hub")

// allow takes one demand of d's tenant, or says why not.
func (f *funds) allow(ctx context.Context, d market.Demand, now time.Time) error {
	w := f.acts(ctx, d, now)
	if w == wordYes {
		w = f.funded(ctx, d.Tenant, now)
	}
	switch {
	case w == wordYes && f.tenants.Allow(d.Tenant, now):
		return nil
	case w == wordYes:
		return errors.New("too many demands from this tenant; wait a moment")
	case f.unfunded.AllowN(now, 1):
		return nil
	case w == wordBusy:
		return errBusy
	default:
		return f.poor()
	}
}

// hopeless says why a demand would be refused whether its signature holds or
// not. A check of it costs more than all else that a flood makes a hub do.
func (f *funds) hopeless(tenant fallow.Account, now time.Time) error {
	k, ok := f.recall("escrow " + string(tenant))
	fresh := ok && now.Sub(k.at) < time.Duration(f.limits.FundsAgeMS)*time.Millisecond
	switch {
	case k.yes || f.unfunded.TokensAt(now) >= 1:
		return nil
	case fresh:
		return f.poor()
	case f.escrow != nil && f.strangers.TokensAt(now) < 1:
		return errBusy
	default:
		return nil
	}
}

func (f *funds) poor() error {
	return fmt.Errorf("demands of tenants with less than %s credits free in escrow come too fast; deposit with: fallow deposit AMOUNT", f.limits.Funded)
}

// acts says whether the key that signed may spend the tenant's rate.
func (f *funds) acts(ctx context.Context, d market.Demand, now time.Time) word {
	if wire.Address(d.ClientKey) == d.Tenant {
		return wordYes
	}
	if f.keys == nil {
		return wordNo
	}
	return f.learn(ctx, "key "+string(d.ClientKey[:])+string(d.Tenant), now, func(ctx context.Context) (bool, error) {
		return f.keys.Acts(ctx, d.Tenant, d.ClientKey)
	})
}

func (f *funds) funded(ctx context.Context, tenant fallow.Account, now time.Time) word {
	if f.escrow == nil {
		return wordNo
	}
	return f.learn(ctx, "escrow "+string(tenant), now, func(ctx context.Context) (bool, error) {
		free, err := f.escrow.Free(ctx, tenant)
		return free >= f.limits.Funded, err
	})
}

// learn asks the ledger, once for all who want to know, and believes the
// answer for a while. While the ledger is away a last yes stands.
func (f *funds) learn(ctx context.Context, what string, now time.Time, ask func(context.Context) (bool, error)) word {
	k, ok := f.recall(what)
	if ok && now.Sub(k.at) < time.Duration(f.limits.FundsAgeMS)*time.Millisecond {
		return wordOf(k.yes)
	}
	if !k.yes && !f.strangers.AllowN(now, 1) {
		return wordBusy
	}
	// The answer serves others too: the first one's going away must not end it.
	ch := f.flight.DoChan(what, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fundsTimeout)
		defer cancel()
		if !k.yes {
			select {
			case f.asking <- struct{}{}:
				defer func() { <-f.asking }()
			case <-ctx.Done():
				return wordBusy, nil
			}
		}
		yes, err := ask(ctx)
		if err != nil {
			return wordAway, nil
		}
		f.keep(what, known{yes, now})
		return wordOf(yes), nil
	})
	w := wordAway
	select {
	case r := <-ch:
		w, _ = r.Val.(word)
	case <-ctx.Done():
	}
	if w == wordAway && k.yes && now.Sub(k.at) < staleFunds {
		return wordYes
	}
	return w
}

func wordOf(yes bool) word {
	if yes {
		return wordYes
	}
	return wordNo
}

func (f *funds) keep(what string, k known) {
	f.mu.Lock()
	defer f.mu.Unlock()
	in, other := f.yes, f.no
	if !k.yes {
		in, other = other, in
	}
	delete(other, what)
	if _, ok := in[what]; !ok && len(in) >= f.limits.Remember {
		for old := range in { // any one: the ledger knows it better
			delete(in, old)
			break
		}
	}
	in[what] = k
}

func (f *funds) recall(what string) (known, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if k, ok := f.yes[what]; ok {
		return k, true
	}
	k, ok := f.no[what]
	return k, ok
}
