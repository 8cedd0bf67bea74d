package provider

import (
	"context"

	"github.com/cosmos/cosmos-sdk/types/query"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"fallow.network"
	api "fallow.network/api/chain/provider"
	"fallow.network/chain/adapter"
	"fallow.network/market"
)

// queries serves fallow.provider.v1.Query.
type queries struct{ *Keeper }

var _ api.QueryServer = queries{}

// Params are the parameters in force.
func (s queries) Params(ctx context.Context, _ *api.QueryParamsRequest) (*api.QueryParamsResponse, error) {
	p, err := s.Registry(ctx).Params()
	if err != nil {
		return nil, err
	}
	return &api.QueryParamsResponse{Params: ToParams(p)}, nil
}

// Provider is one provider.
func (s queries) Provider(ctx context.Context, req *api.QueryProviderRequest) (*api.QueryProviderResponse, error) {
	owner, err := adapter.Account(s.accounts.AddressCodec(), req.Owner)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	p, ok, err := s.Registry(ctx).Provider(owner)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, status.Errorf(codes.NotFound, "%s is no provider", owner)
	}
	return &api.QueryProviderResponse{Provider: toProvider(p)}, nil
}

// Providers are all providers, a page at a time.
func (s queries) Providers(ctx context.Context, req *api.QueryProvidersRequest) (*api.QueryProvidersResponse, error) {
	page, err := adapter.NewPage(req.Pagination)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	resp := &api.QueryProvidersResponse{Pagination: &query.PageResponse{}}
	var last fallow.Account
	err = s.Registry(ctx).Providers(fallow.Account(page.After), func(p market.Provider) bool {
		switch page.Next() {
		case adapter.Skip:
		case adapter.Take:
			resp.Providers = append(resp.Providers, toProvider(p))
			last = p.Owner
		case adapter.Full:
			resp.Pagination.NextKey = []byte(last)
			return false
		}
		return true
	})
	return resp, err
}
