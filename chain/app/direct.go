package app

import (
	"context"
	"fmt"

	txtypes "github.com/cosmos/cosmos-sdk/types/tx"
	gogogrpc "github.com/cosmos/gogoproto/grpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// RegisterGRPCServerWithSkipCheckHeader lays the services over gRPC as the SDK
// does, but that a transaction goes to the queue directly: for queries the SDK
// opens the state of a height first, of every module, which the queue doesn't
// look at and which costs a quarter of taking a transaction in.
func (app *App) RegisterGRPCServerWithSkipCheckHeader(s gogogrpc.Server, skip bool) {
	app.BaseApp.RegisterGRPCServerWithSkipCheckHeader(direct{s}, skip)
}

// direct is a server whose BroadcastTx has no state of any height around it.
type direct struct{ gogogrpc.Server }

const (
	txService   = "cosmos.tx.v1beta1.Service"
	broadcastTx = "BroadcastTx"
)

// RegisterService passes a service on.
func (d direct) RegisterService(desc *grpc.ServiceDesc, impl any) {
	server, ok := impl.(txtypes.ServiceServer)
	if desc.ServiceName != txService || !ok {
		d.Server.RegisterService(desc, impl)
		return
	}
	changed := *desc
	changed.Methods = append([]grpc.MethodDesc{}, desc.Methods...)
	for i, m := range changed.Methods {
		if m.MethodName == broadcastTx {
			changed.Methods[i].Handler = func(_ any, ctx context.Context, read func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
				return broadcast(ctx, server, read)
			}
		}
	}
	d.Server.RegisterService(&changed, impl)
}

// broadcast answers one call, and a panic by an error as the SDK does.
func broadcast(ctx context.Context, server txtypes.ServiceServer, read func(any) error) (resp any, err error) {
	defer func() {
		if p := recover(); p != nil {
			resp, err = nil, status.Error(codes.Internal, fmt.Sprint(p))
		}
	}()
	req := &txtypes.BroadcastTxRequest{}
	if err := read(req); err != nil {
		return nil, err
	}
	return server.BroadcastTx(ctx, req)
}
