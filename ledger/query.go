package ledger

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"

	bankv1 "cosmossdk.io/api/cosmos/bank/v1beta1"
	queryv1 "cosmossdk.io/api/cosmos/base/query/v1beta1"

	"fallow.network"
	leasev1 "fallow.network/api/lease"
	providerv1 "fallow.network/api/provider"
)

// pageSize is how many records one answer of a node holds.
const pageSize = 100

// Balance is what an account holds outside of escrow.
type Balance struct {
	Credits fallow.Credits
	Tokens  Tokens
}

// Balance asks what an account holds outside of escrow.
func (c *Client) Balance(ctx context.Context, a fallow.Account) (Balance, error) {
	bank := bankv1.NewQueryClient(c)
	amount := func(denom string) (uint64, error) {
		r, err := bank.Balance(ctx, &bankv1.QueryBalanceRequest{Address: string(a), Denom: denom})
		if err != nil {
			return 0, refused(fmt.Sprintf("balance of %s", a), err)
		}
		n, err := strconv.ParseUint(r.GetBalance().GetAmount(), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("balance of %s in %s: %w", a, denom, err)
		}
		return n, nil
	}
	credits, err := amount(fallow.CreditDenom)
	if err != nil {
		return Balance{}, err
	}
	tokens, err := amount(fallow.TokenDenom)
	return Balance{Credits: fallow.Credits(credits), Tokens: Tokens(tokens)}, err
}

// Sequence is how many transactions an account has had; ErrNoAccount when the
// ledger has never seen it.
func (c *Client) Sequence(ctx context.Context, a fallow.Account) (uint64, error) {
	got, _, err := c.sequence(ctx, a)
	return got.sequence, err
}

// LeaseParams are the lease module's parameters.
func (c *Client) LeaseParams(ctx context.Context) (*leasev1.Params, error) {
	r, err := leasev1.NewQueryClient(c).Params(ctx, &leasev1.QueryParamsRequest{})
	return r.GetParams(), refused("lease parameters", err)
}

// ProviderParams are the provider module's parameters.
func (c *Client) ProviderParams(ctx context.Context) (*providerv1.Params, error) {
	r, err := providerv1.NewQueryClient(c).Params(ctx, &providerv1.QueryParamsRequest{})
	return r.GetParams(), refused("provider parameters", err)
}

// Escrow is a tenant's account, computed to the latest block's time. Its
// amounts are decimal pico-credits: see Pico.
func (c *Client) Escrow(ctx context.Context, tenant fallow.Account) (*leasev1.Account, error) {
	r, err := leasev1.NewQueryClient(c).Account(ctx, &leasev1.QueryAccountRequest{Owner: string(tenant)})
	return r.GetAccount(), refused(fmt.Sprintf("escrow of %s", tenant), err)
}

// Lease is a lease by its number; ErrNotFound when there is none.
func (c *Client) Lease(ctx context.Context, id fallow.LeaseID) (*leasev1.Lease, error) {
	r, err := leasev1.NewQueryClient(c).Lease(ctx, &leasev1.QueryLeaseRequest{Id: uint64(id)})
	return r.GetLease(), refused(fmt.Sprintf("lease %d", id), err)
}

// LeaseFilter chooses leases; empty fields take all.
type LeaseFilter struct {
	Tenant, Provider fallow.Account
	// Open leaves out what is closed.
	Open bool
}

// Leases yields the leases that f chooses, newest last, page by page. After
// an error it ends.
func (c *Client) Leases(ctx context.Context, f LeaseFilter) iter.Seq2[*leasev1.Lease, error] {
	q := leasev1.NewQueryClient(c)
	return pages(func(page *queryv1.PageRequest) ([]*leasev1.Lease, *queryv1.PageResponse, error) {
		r, err := q.Leases(ctx, &leasev1.QueryLeasesRequest{
			Tenant: string(f.Tenant), Provider: string(f.Provider), Open: f.Open, Pagination: page,
		})
		return r.GetLeases(), r.GetPagination(), refused("leases", err)
	})
}

// Payouts yields a provider's payouts that have not matured.
func (c *Client) Payouts(ctx context.Context, provider fallow.Account) iter.Seq2[*leasev1.Payout, error] {
	q := leasev1.NewQueryClient(c)
	return pages(func(page *queryv1.PageRequest) ([]*leasev1.Payout, *queryv1.PageResponse, error) {
		r, err := q.Payouts(ctx, &leasev1.QueryPayoutsRequest{Provider: string(provider), Pagination: page})
		return r.GetPayouts(), r.GetPagination(), refused(fmt.Sprintf("payouts of %s", provider), err)
	})
}

// Exposure is a provider's open reserves and unmatured payouts, and the most
// that its bond allows.
func (c *Client) Exposure(ctx context.Context, provider fallow.Account) (exposure, ceiling fallow.Credits, err error) {
	r, err := leasev1.NewQueryClient(c).Exposure(ctx, &leasev1.QueryExposureRequest{Provider: string(provider)})
	return fallow.Credits(r.GetExposure()), fallow.Credits(r.GetCeiling()), refused(fmt.Sprintf("exposure of %s", provider), err)
}

// Provider is a provider's registration; ErrNotFound when it has none.
func (c *Client) Provider(ctx context.Context, owner fallow.Account) (*providerv1.Provider, error) {
	r, err := providerv1.NewQueryClient(c).Provider(ctx, &providerv1.QueryProviderRequest{Owner: string(owner)})
	return r.GetProvider(), refused(fmt.Sprintf("provider %s", owner), err)
}

// Providers yields every registered provider.
func (c *Client) Providers(ctx context.Context) iter.Seq2[*providerv1.Provider, error] {
	q := providerv1.NewQueryClient(c)
	return pages(func(page *queryv1.PageRequest) ([]*providerv1.Provider, *queryv1.PageResponse, error) {
		r, err := q.Providers(ctx, &providerv1.QueryProvidersRequest{Pagination: page})
		return r.GetProviders(), r.GetPagination(), refused("providers", err)
	})
}

// pages yields what a paginated query finds.
func pages[T any](ask func(*queryv1.PageRequest) ([]T, *queryv1.PageResponse, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		page := &queryv1.PageRequest{Limit: pageSize}
		for {
			all, next, err := ask(page)
			if err != nil {
				yield(none, err)
				return
			}
			for _, v := range all {
				if !yield(v, nil) {
					return
				}
			}
			if len(next.GetNextKey()) == 0 {
				return
			}
			page = &queryv1.PageRequest{Limit: pageSize, Key: next.GetNextKey()}
		}
	}
}

// Pico reads an amount of the lease module's answers: a whole number of
// pico-credits, in decimal.
func Pico(s string) (fallow.Pico, error) {
	var p fallow.Pico
	if s == "" || len(s) > 39 { // 2^128 has 39 digits
		return p, fmt.Errorf("amount %.50q: want a whole number of pico-credits", s)
	}
	for _, d := range []byte(s) {
		if d < '0' || d > '9' {
			return fallow.Pico{}, fmt.Errorf("amount %.50q: want a whole number of pico-credits", s)
		}
		ten, err := p.Mul(10)
		if err == nil {
			p, err = ten.Add(fallow.PicoOf(uint64(d - '0')))
		}
		if err != nil {
			return fallow.Pico{}, fmt.Errorf("amount %.50q: %w", s, err)
		}
	}
	return p, nil
}

// Collect gathers what Leases, Payouts or Providers yields.
func Collect[T any](all iter.Seq2[T, error]) ([]T, error) {
	var out []T
	for v, err := range all {
		if err != nil {
			return out, err
		}
		out = append(out, v)
	}
	return out, nil
}

// Exists says whether the ledger has seen the account.
func (c *Client) Exists(ctx context.Context, a fallow.Account) (bool, error) {
	_, _, err := c.sequence(ctx, a)
	if errors.Is(err, ErrNoAccount) {
		return false, nil
	}
	return err == nil, err
}
