package ledger

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	nodev1 "cosmossdk.io/api/cosmos/base/node/v1beta1"
	cmtv1 "cosmossdk.io/api/cosmos/base/tendermint/v1beta1"
	txv1 "cosmossdk.io/api/cosmos/tx/v1beta1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"fallow.network"
)

// maxAnswer bounds an answer of a node, in bytes.
const maxAnswer = 64 << 20

// Client speaks to the nodes of one ledger. It is safe for concurrent use.
type Client struct {
	config Config
	nodes  []*node
	rpc    *rpc
	head   *watch
	track  *tracker
	tx     txv1.ServiceClient

	mu     sync.Mutex
	turn   int         // the node that answered last
	price  fallow.Pico // ufal for a unit of gas, once known
	priced bool

	stop context.CancelFunc
	work sync.WaitGroup
}

// node is one gRPC endpoint.
type node struct {
	address string
	conn    *grpc.ClientConn

	mu    sync.Mutex
	known bool // its ledger and version have been checked since it last failed
}

// Dial checks that a node of the ledger answers and speaks our protocol, and
// returns a client. It fails with ErrAway when none answers, and with
// ErrOtherChain or ErrProtocol when those that do are not ours.
func Dial(ctx context.Context, config Config) (*Client, error) {
	config = config.withDefaults()
	if err := config.Validate(); err != nil {
		return nil, err
	}
	c := &Client{config: config, rpc: newRPC(config)}
	c.tx = txv1.NewServiceClient(c)
	if config.GasPrice != "" {
		price, err := fallow.ParsePico(config.GasPrice)
		if err != nil {
			return nil, fmt.Errorf("gas price: %w", err)
		}
		c.price, c.priced = price, true
	}
	for _, address := range config.GRPC {
		conn, err := dialNode(address)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("ledger endpoint %s: %w", address, err), c.closeNodes())
		}
		c.nodes = append(c.nodes, &node{address: address, conn: conn})
	}
	// The call checks the endpoint that answers it.
	if _, err := c.nodeConfig(ctx); err != nil {
		return nil, errors.Join(err, c.closeNodes())
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	c.stop = stop
	c.head = newWatch(c.rpc, config.Logger)
	c.track = newTracker(c)
	c.work.Go(func() { c.head.run(run) })
	c.work.Go(func() { c.track.run(run) })
	return c, nil
}

func dialNode(address string) (*grpc.ClientConn, error) {
	target, secure := strings.CutPrefix(address, "https://")
	target = strings.TrimPrefix(target, "http://")
	cred := insecure.NewCredentials()
	if secure {
		cred = credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12})
	}
	wait := backoff.DefaultConfig
	wait.BaseDelay, wait.MaxDelay = 50*time.Millisecond, time.Second // a restarted node is soon found again
	return grpc.NewClient("passthrough:///"+target,
		grpc.WithTransportCredentials(cred),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: wait, MinConnectTimeout: 3 * time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)))
}

// ChainID names the ledger.
func (c *Client) ChainID() string { return c.config.ChainID }

// Close ends what Dial began. Transactions still waited for are UnsettledError.
func (c *Client) Close() error {
	c.stop()
	c.work.Wait()
	c.rpc.close()
	return c.closeNodes()
}

func (c *Client) closeNodes() error {
	var errs []error
	for _, n := range c.nodes {
		errs = append(errs, n.conn.Close())
	}
	return errors.Join(errs...)
}

// Invoke makes one gRPC call at the first endpoint that answers, beginning
// with the one that answered last. It makes Client a grpc.ClientConnInterface,
// so that every generated query client works on it.
func (c *Client) Invoke(ctx context.Context, method string, in, out any, opts ...grpc.CallOption) error {
	return c.each(ctx, func(ctx context.Context, n *node) error {
		return n.conn.Invoke(ctx, method, in, out, opts...)
	})
}

// each tries call at one endpoint after the other until one answers.
func (c *Client) each(ctx context.Context, call func(context.Context, *node) error) error {
	c.mu.Lock()
	first := c.turn
	c.mu.Unlock()
	var errs []error
	for i := range c.nodes {
		at := (first + i) % len(c.nodes)
		n := c.nodes[at]
		err := c.one(ctx, n, call)
		if err == nil || !passing(ctx, err) {
			c.mu.Lock()
			c.turn = at
			c.mu.Unlock()
			return err
		}
		errs = append(errs, fmt.Errorf("%s: %w", n.address, err))
		if ctx.Err() != nil {
			break
		}
	}
	return away(ctx, errs)
}

func (c *Client) one(ctx context.Context, n *node, call func(context.Context, *node) error) error {
	ctx, cancel := context.WithTimeout(ctx, c.config.CallTimeout)
	defer cancel()
	if err := c.check(ctx, n); err != nil {
		return err
	}
	err := call(ctx, n)
	if err != nil && passing(ctx, err) {
		n.mu.Lock()
		n.known = false // what comes back may be another node
		n.mu.Unlock()
	}
	return err
}

// NewStream is refused: the nodes' services have none.
func (c *Client) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, status.Error(codes.Unimplemented, "the ledger's client has no streams")
}

// check asks a node once who it is.
func (c *Client) check(ctx context.Context, n *node) error {
	n.mu.Lock()
	known := n.known
	n.mu.Unlock()
	if known {
		return nil
	}
	info, err := cmtv1.NewServiceClient(n.conn).GetNodeInfo(ctx, &cmtv1.GetNodeInfoRequest{})
	if err != nil && early(err) {
		return errSyncing
	}
	if err != nil {
		return err
	}
	if err := checkNode(c.config.ChainID, info.GetDefaultNodeInfo().GetNetwork(), info.GetApplicationVersion().GetBuildTags()); err != nil {
		return err
	}
	sync, err := cmtv1.NewServiceClient(n.conn).GetSyncing(ctx, &cmtv1.GetSyncingRequest{})
	if err != nil {
		return err
	}
	if sync.GetSyncing() {
		return errSyncing
	}
	n.mu.Lock()
	n.known = true
	n.mu.Unlock()
	return nil
}

// errSyncing is a node that would answer from the past.
var errSyncing = errors.New("the node is still catching up with the ledger")

// checkNode compares a node's ledger and protocol with ours. fallowd tells its
// protocol, as fallow/1, among its build tags.
func checkNode(chainID, network, protocol string) error {
	if network != chainID {
		return fmt.Errorf("%w: its chain id is %q, want %q; check the network file", ErrOtherChain, network, chainID)
	}
	if strings.HasPrefix(protocol, "fallow/") && protocol != fallow.Protocol {
		return fmt.Errorf("%w: it speaks %s, this program %s: upgrade the older of the two", ErrProtocol, protocol, fallow.Protocol)
	}
	return nil
}

// passing says whether another endpoint, or the same one later, may do better.
func passing(ctx context.Context, err error) bool {
	if errors.Is(err, ErrOtherChain) || errors.Is(err, ErrProtocol) || errors.Is(err, errSyncing) {
		return true
	}
	switch status.Code(err) {
	case codes.Unavailable:
		return true
	case codes.DeadlineExceeded, codes.Canceled:
		return true
	case codes.Unimplemented:
		// The node's servers come up one by one.
		return ctx.Err() == nil && strings.Contains(err.Error(), "unknown service")
	case codes.Unknown, codes.Internal:
		return early(err)
	default:
		return false
	}
}

// early says whether a node answers as it does before it has carried out its
// first block, or between its start and the next one.
func early(err error) bool {
	return strings.Contains(err.Error(), "context did not contain latest block height") || strings.Contains(err.Error(), "please wait for first block")
}

// away joins what every endpoint said. When each that answered was not ours,
// that is the error; else the ledger is away, unless it was the caller who left.
func away(ctx context.Context, errs []error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	all := errors.Join(errs...)
	for _, sentinel := range []error{ErrProtocol, ErrOtherChain} {
		foreign := len(errs) > 0
		for _, err := range errs {
			foreign = foreign && (errors.Is(err, ErrOtherChain) || errors.Is(err, ErrProtocol))
		}
		if foreign && errors.Is(all, sentinel) {
			return all
		}
	}
	return fmt.Errorf("%w: %w", ErrAway, plainError{all})
}

// plainError says what gRPC says without the words for its programmers.
type plainError struct{ error }

var grpcWords = regexp.MustCompile(`rpc error: code = \w+ desc = |connection error: desc = "|transport: |Error while dialing: |"$`)

func (e plainError) Error() string { return grpcWords.ReplaceAllString(e.error.Error(), "") }
func (e plainError) Unwrap() error { return e.error }

func (c *Client) nodeConfig(ctx context.Context) (*nodev1.ConfigResponse, error) {
	r, err := nodev1.NewServiceClient(c).Config(ctx, &nodev1.ConfigRequest{})
	if err != nil {
		return nil, fmt.Errorf("reach the ledger %s: %w", c.config.ChainID, err)
	}
	return r, nil
}

// gasPrice is what a unit of gas is paid with, in ufal.
func (c *Client) gasPrice(ctx context.Context) (fallow.Pico, error) {
	c.mu.Lock()
	price, known := c.price, c.priced
	c.mu.Unlock()
	if known {
		return price, nil
	}
	r, err := c.nodeConfig(ctx)
	if err != nil {
		return fallow.Pico{}, err
	}
	for _, p := range strings.Split(r.GetMinimumGasPrice(), ",") {
		amount, ok := strings.CutSuffix(strings.TrimSpace(p), fallow.TokenDenom)
		if !ok {
			continue
		}
		if whole, frac, cut := strings.Cut(amount, "."); cut && len(frac) > 12 {
			amount = whole + "." + frac[:12]
		}
		if price, err = fallow.ParsePico(amount); err != nil {
			return fallow.Pico{}, fmt.Errorf("the node's least gas price %.40q: %w", amount, err)
		}
	}
	c.mu.Lock()
	c.price, c.priced = price, true
	c.mu.Unlock()
	return price, nil
}
