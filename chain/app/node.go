package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"cosmossdk.io/log/v2"
	abci "github.com/cometbft/cometbft/abci/types"
	cmtcfg "github.com/cometbft/cometbft/config"
	"github.com/cometbft/cometbft/node"
	"github.com/cometbft/cometbft/p2p"
	"github.com/cometbft/cometbft/privval"
	"github.com/cometbft/cometbft/proxy"
	"github.com/cometbft/cometbft/rpc/client/local"
	cmttypes "github.com/cometbft/cometbft/types"
	dbm "github.com/cosmos/cosmos-db"
	"github.com/cosmos/cosmos-sdk/baseapp"
	"github.com/cosmos/cosmos-sdk/codec"
	"github.com/cosmos/cosmos-sdk/server"
	"github.com/cosmos/cosmos-sdk/server/api"
	srvconfig "github.com/cosmos/cosmos-sdk/server/config"
	servergrpc "github.com/cosmos/cosmos-sdk/server/grpc"
	servercmtlog "github.com/cosmos/cosmos-sdk/server/log"
	genutiltypes "github.com/cosmos/cosmos-sdk/x/genutil/types"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"fallow.network/trace"
)

// Node is the ledger running inside the calling process: the state machine,
// consensus, and the servers over both.
type Node struct {
	App *App
	// RPC calls the node without a socket.
	RPC *local.Local
	// ID is what peers call this node.
	ID string
	// Addresses that the servers listen on, as host:port; empty when off.
	RPCAddress, P2PAddress, GRPCAddress, APIAddress, MetricsAddress string

	figures  *figures
	follower *follower // nil without tracing

	log   log.Logger
	comet *node.Node
	db    dbm.DB
	run   context.Context //nolint:containedctx // ends with the node; its cause says why
	end   context.CancelCauseFunc
	group *errgroup.Group
	done  context.Context //nolint:containedctx // ends when a server fails, or with run
}

// Start builds the ledger over the home that cfg names and runs it until Stop.
// options are passed to the modules.
func Start(ctx context.Context, logger log.Logger, cfg *cmtcfg.Config, srv srvconfig.Config, options Options, more ...func(*baseapp.BaseApp)) (*Node, error) {
	genesis := func() (*cmttypes.GenesisDoc, error) {
		g, err := genutiltypes.AppGenesisFromFile(cfg.GenesisFile())
		if err != nil {
			return nil, err
		}
		return g.ToGenesisDoc()
	}
	doc, err := genesis()
	if err != nil {
		return nil, fmt.Errorf("read genesis: %w", err)
	}
	n := &Node{figures: newFigures(), follower: newFollower(trace.From(ctx)), log: logger}
	if err := n.listen(cfg, &srv); err != nil {
		return nil, err
	}
	// The one server of figures is ours: it has our modules' beside them.
	metrics := cfg.Instrumentation.PrometheusListenAddr
	if !cfg.Instrumentation.Prometheus {
		metrics = ""
	}
	cfg.Instrumentation.PrometheusListenAddr = ""
	if err := beginAgain(cfg); err != nil {
		return nil, err
	}
	if n.db, err = OpenState(cfg.RootDir, server.GetAppDBBackend(options)); err != nil {
		return nil, err
	}
	more = append([]func(*baseapp.BaseApp){baseapp.SetChainID(doc.ChainID)}, more...)
	if n.App, err = New(logger, n.db, options, more...); err != nil {
		return nil, errors.Join(err, n.db.Close())
	}
	key, err := p2p.LoadOrGenNodeKey(cfg.NodeKeyFile())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read the node key: %w", err), n.App.Close())
	}
	n.ID = string(key.ID())
	run, end := context.WithCancelCause(ctx)
	n.run, n.end = run, end
	n.comet, err = node.NewNodeWithContext(run, cfg, privval.LoadOrGenFilePV(cfg.PrivValidatorKeyFile(), cfg.PrivValidatorStateFile()), key,
		proxy.NewLocalClientCreator(watched{server.NewCometABCIWrapper(n.App), n.end, n.figures, n.follower}), genesis, consensusDB,
		node.DefaultMetricsProvider(cometFigures(cfg.Instrumentation)), servercmtlog.CometLoggerWrapper{Logger: logger})
	if err == nil {
		err = n.comet.Start()
	}
	if err != nil {
		n.end(nil)
		return nil, errors.Join(fmt.Errorf("start the node in %s: %w", cfg.RootDir, err), n.App.Close())
	}
	n.RPC = local.New(n.comet)
	n.group, n.done = errgroup.WithContext(run)
	if err := n.serve(logger, doc.ChainID, cfg.RootDir, srv); err != nil {
		return nil, errors.Join(err, n.Stop())
	}
	if metrics != "" {
		// Blocks matter more than figures: it goes on without.
		if err := n.serveFigures(n.done, metrics, cfg.Instrumentation.MaxOpenConnections); err != nil { //nolint:contextcheck // it ends with the servers
			logger.Error("no metrics; name another address as prometheus_listen_addr in config.toml", "error", err)
		}
	}
	return n, nil
}

// listen notes the addresses of the servers, and picks a free port for 0.
func (n *Node) listen(cfg *cmtcfg.Config, srv *srvconfig.Config) error {
	for _, a := range []struct {
		where  *string
		note   *string
		prefix string
		on     bool
	}{
		{&cfg.RPC.ListenAddress, &n.RPCAddress, "tcp://", cfg.RPC.ListenAddress != ""},
		{&cfg.P2P.ListenAddress, &n.P2PAddress, "tcp://", true},
		{&srv.GRPC.Address, &n.GRPCAddress, "", srv.GRPC.Enable},
		{&srv.API.Address, &n.APIAddress, "tcp://", srv.API.Enable},
	} {
		if !a.on {
			continue
		}
		address := strings.TrimPrefix(*a.where, "tcp://")
		if strings.HasSuffix(address, ":0") {
			l, err := net.Listen("tcp", address) //nolint:noctx // a local socket, closed at once
			if err != nil {
				return fmt.Errorf("find a free port: %w", err)
			}
			address = l.Addr().String()
			if err := l.Close(); err != nil {
				return fmt.Errorf("find a free port: %w", err)
			}
		}
		*a.where, *a.note = a.prefix+address, address
	}
	return nil
}

// serve starts gRPC and, over it, REST.
func (n *Node) serve(logger log.Logger, chainID, home string, srv srvconfig.Config) error {
	if !srv.GRPC.Enable {
		return nil
	}
	c := n.App.ClientContext().WithChainID(chainID).WithClient(n.RPC).WithHomeDir(home)
	conn, err := grpc.NewClient(srv.GRPC.Address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(codec.NewProtoCodec(n.App.registry).GRPCCodec()),
			grpc.MaxCallRecvMsgSize(srv.GRPC.MaxRecvMsgSize), grpc.MaxCallSendMsgSize(srv.GRPC.MaxSendMsgSize)))
	if err != nil {
		return fmt.Errorf("reach our own gRPC at %s: %w", srv.GRPC.Address, err)
	}
	c = c.WithGRPCClient(conn)
	n.App.follower = n.follower
	n.App.RegisterTxService(c)
	n.App.RegisterTendermintService(c)
	n.App.RegisterNodeService(c, srv)
	g, c, err := servergrpc.NewGRPCServerAndContext(c, n.App, srv.GRPC, logger)
	if err != nil {
		return errors.Join(fmt.Errorf("make the gRPC server: %w", err), conn.Close())
	}
	n.group.Go(func() error {
		defer conn.Close() //nolint:errcheck // nothing is left to do about it
		return servergrpc.StartGRPCServer(n.done, logger, srv.GRPC, g)
	})
	if srv.API.Enable {
		s := api.New(c, logger, g)
		n.App.RegisterAPIRoutes(s, srv.API)
		n.group.Go(func() error { return s.Start(n.done, srv) })
	}
	return nil
}

// sayWaiting is how often a node that has no block says that it waits for one.
const sayWaiting = 10 * time.Second

// Ready waits for a committed block and for the servers, and returns the height.
func (n *Node) Ready(ctx context.Context) (int64, error) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	said := time.Now()
	for {
		// The state's height, not the last block's: a block is stored before
		// it is carried out, and until then no account is known.
		info, err := n.RPC.ABCIInfo(ctx)
		if err == nil && info.Response.LastBlockHeight > 0 && n.answers(ctx) {
			return info.Response.LastBlockHeight, nil
		}
		if time.Since(said) > sayWaiting {
			said = time.Now()
			peers := 0
			if net, err := n.RPC.NetInfo(ctx); err == nil {
				peers = net.NPeers
			}
			n.log.Warn("waiting for a first block", "peers", peers)
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-n.done.Done():
			return 0, errors.New("the node stopped before it was ready")
		case <-tick.C:
		}
	}
}

func (n *Node) answers(ctx context.Context) bool {
	for _, address := range []string{n.RPCAddress, n.GRPCAddress, n.APIAddress} {
		if address == "" {
			continue
		}
		d := net.Dialer{Timeout: time.Second}
		c, err := d.DialContext(ctx, "tcp", address)
		if err != nil {
			return false
		}
		_ = c.Close()
	}
	return true
}

// Failed is closed when a server of the node, or a block, has failed; Stop says
// why.
func (n *Node) Failed() <-chan struct{} { return n.done.Done() }

// Stop ends the servers, then consensus, then closes the state. It returns why
// the node had failed before, if it had.
func (n *Node) Stop() error {
	n.end(nil)
	err := n.group.Wait()
	if cause := context.Cause(n.run); !errors.Is(cause, context.Canceled) {
		err = errors.Join(cause, err)
	}
	if stopped := n.comet.Stop(); stopped != nil {
		err = errors.Join(err, fmt.Errorf("stop consensus: %w", stopped))
	}
	n.comet.Wait()
	return errors.Join(err, n.App.Close())
}

// watched is the state machine as consensus calls it. CometBFT stops consensus
// when a block can't be carried out, and leaves a process that does nothing;
// we end the node and say why.
type watched struct {
	abci.Application
	end      context.CancelCauseFunc
	figures  *figures
	follower *follower
}

// FinalizeBlock carries out a block.
func (w watched) FinalizeBlock(ctx context.Context, req *abci.RequestFinalizeBlock) (resp *abci.ResponseFinalizeBlock, err error) {
	defer func() {
		switch p := recover(); {
		case p != nil:
			w.end(fmt.Errorf("block %d: %v", req.Height, p))
			panic(p)
		case err != nil:
			w.end(fmt.Errorf("block %d: %w", req.Height, err))
		}
	}()
	begun := time.Now()
	if resp, err = w.Application.FinalizeBlock(ctx, req); err == nil {
		w.figures.block(req.Height, time.Since(begun), resp)
		if w.follower != nil {
			w.follower.block(req, begun, resp)
		}
	}
	return resp, err
}
