package lease

import (
	"context"
	"encoding/binary"

	sdk "github.com/cosmos/cosmos-sdk/types"
	"github.com/cosmos/cosmos-sdk/types/query"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"fallow.network"
	api "fallow.network/api/chain/lease"
	"fallow.network/chain/adapter"
	"fallow.network/settle"
)

// queries serves fallow.lease.v1.Query. Amounts are computed to the time of
// the block that is asked for.
type queries struct{ *Keeper }

var _ api.QueryServer = queries{}

func (s queries) at(ctx context.Context) settle.Block {
	return adapter.Block(sdk.UnwrapSDKContext(ctx))
}

func (s queries) who(what, address string) (fallow.Account, error) {
	a, err := s.account(address)
	if err != nil {
		return "", status.Errorf(codes.InvalidArgument, "%s: %s", what, err)
	}
	return a, nil
}

// Params are the parameters in force.
func (s queries) Params(ctx context.Context, _ *api.QueryParamsRequest) (*api.QueryParamsResponse, error) {
	p, err := s.Books(ctx).Params()
	if err != nil {
		return nil, err
	}
	return &api.QueryParamsResponse{Params: ToParams(p)}, nil
}

// Account is a tenant's escrow.
func (s queries) Account(ctx context.Context, req *api.QueryAccountRequest) (*api.QueryAccountResponse, error) {
	owner, err := s.who("owner", req.Owner)
	if err != nil {
		return nil, err
	}
	v, ok, err := s.Books(ctx).Account(s.at(ctx), owner)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, status.Errorf(codes.NotFound, "%s has no escrow; deposit to begin", owner)
	}
	return &api.QueryAccountResponse{Account: toAccount(v)}, nil
}

// Lease is one lease.
func (s queries) Lease(ctx context.Context, req *api.QueryLeaseRequest) (*api.QueryLeaseResponse, error) {
	l, ok, err := s.Books(ctx).Lease(s.at(ctx), fallow.LeaseID(req.Id))
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, status.Errorf(codes.NotFound, "no lease %d", req.Id)
	}
	return &api.QueryLeaseResponse{Lease: toLease(l)}, nil
}

// Leases are those of a tenant, of a provider, or all, oldest first. The key
// of a page is the last lease of the page before, in 8 bytes big-endian.
func (s queries) Leases(ctx context.Context, req *api.QueryLeasesRequest) (*api.QueryLeasesResponse, error) {
	filter := settle.Filter{Open: req.Open}
	var err error
	if req.Tenant != "" {
		if filter.Tenant, err = s.who("tenant", req.Tenant); err != nil {
			return nil, err
		}
	}
	if req.Provider != "" {
		if filter.Provider, err = s.who("provider", req.Provider); err != nil {
			return nil, err
		}
	}
	resp := &api.QueryLeasesResponse{}
	resp.Pagination, err = pages(req.Pagination, func(after uint64, limit int) ([]settle.Lease, error) {
		return s.Books(ctx).Leases(s.at(ctx), filter, fallow.LeaseID(after), limit)
	}, func(l settle.Lease) uint64 { return uint64(l.ID) }, func(l settle.Lease) { resp.Leases = append(resp.Leases, toLease(l)) })
	return resp, err
}

// Payouts are what matures for a provider, the earliest first. The key of a
// page is the last time of the page before, in 8 bytes big-endian.
func (s queries) Payouts(ctx context.Context, req *api.QueryPayoutsRequest) (*api.QueryPayoutsResponse, error) {
	provider, err := s.who("provider", req.Provider)
	if err != nil {
		return nil, err
	}
	resp := &api.QueryPayoutsResponse{}
	resp.Pagination, err = pages(req.Pagination, func(after uint64, limit int) ([]settle.Payout, error) {
		return s.Books(ctx).Payouts(provider, fallow.Time(after), limit)
	}, func(p settle.Payout) uint64 { return uint64(p.Matures) }, func(p settle.Payout) {
		resp.Payouts = append(resp.Payouts, api.Payout{Provider: string(p.Provider), MaturesUnixMs: int64(p.Matures), Amount: uint64(p.Amount)})
	})
	return resp, err
}

// Exposure is what a provider's bond has to cover, and what it may.
func (s queries) Exposure(ctx context.Context, req *api.QueryExposureRequest) (*api.QueryExposureResponse, error) {
	provider, err := s.who("provider", req.Provider)
	if err != nil {
		return nil, err
	}
	b := s.Books(ctx)
	exposed, err := b.Exposure(s.at(ctx), provider)
	if err != nil {
		return nil, err
	}
	ceiling, err := b.Ceiling(provider)
	if err != nil {
		return nil, err
	}
	return &api.QueryExposureResponse{Exposure: uint64(exposed), Ceiling: uint64(ceiling)}, nil
}

// pages lists one page of what is numbered in ascending order.
func pages[T any](req *query.PageRequest, list func(after uint64, limit int) ([]T, error), number func(T) uint64, take func(T)) (*query.PageResponse, error) {
	page, err := adapter.NewPage(req)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	var after, last uint64
	switch len(page.After) {
	case 0:
	case 8:
		after = binary.BigEndian.Uint64(page.After)
	default:
		return nil, status.Error(codes.InvalidArgument, "pagination: a key has 8 bytes")
	}
	for {
		want := min(page.Want(), settle.MaxPage)
		some, err := list(after, want)
		if err != nil {
			return nil, err
		}
		for _, item := range some {
			after = number(item)
			switch page.Next() {
			case adapter.Skip:
			case adapter.Take:
				take(item)
				last = after
			case adapter.Full:
				return &query.PageResponse{NextKey: binary.BigEndian.AppendUint64(nil, last)}, nil
			}
		}
		if len(some) < want {
			return &query.PageResponse{}, nil
		}
	}
}
