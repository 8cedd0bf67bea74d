package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"fallow.network"
	hubv1 "fallow.network/api/hub"
	leasev1 "fallow.network/api/lease"
	marketv1 "fallow.network/api/market"
	"fallow.network/client"
	"fallow.network/hub"
	"fallow.network/keys"
	"fallow.network/ledger"
	"fallow.network/market"
	"fallow.network/p2p"
	"fallow.network/provider"
	"fallow.network/sdk"
	"fallow.network/settle"
	"fallow.network/spec"
	"fallow.network/wire"
)

// bidder is a bonded provider: a host of its own on the hub's board, and the
// daemon's policy behind it. It runs nothing.
type bidder struct {
	*lessor
	host   *p2p.Host
	market *bidding
	stand  provider.Standing

	mu    sync.Mutex // the twin is for one at a time
	twin  *provider.Twin
	asked uint64
}

// bidding is a ledger, a hub and a tenant's home of this program's own.
type bidding struct {
	ledger *bare
	home   sdk.Home
	hub    string // multiaddr

	mu      sync.Mutex
	height  fallow.Height
	seen    time.Time
	escrows map[fallow.Account]settle.Account
}

// What the bidders lend, so that each can answer every question of a run.
var lent = market.Resources{MilliCPU: 8000, Memory: 8 << 30, Disk: 16 << 30}

const lentSlots = 8

// Gate lets everything pass.
func (*bidder) Gate(time.Time) (fallow.Reason, string) { return "", "" }

// Known says yes: whom nobody knows is looked up.
func (*bidder) Known(fallow.Account, time.Time) bool { return true }

// Standing is what the ledger said when the bidder came up.
func (b *bidder) Standing() (provider.Standing, bool) { return b.stand, true }

// Node is the key that the host proves, too.
func (b *bidder) Node() fallow.Key { return wire.PublicKey(b.node) }

// Speed is not measured.
func (*bidder) Speed() uint64 { return 0 }

// Habit is of one who takes what it is offered.
func (b *bidder) Habit(context.Context, fallow.Account) (offers, taken uint64) {
	return b.asked, b.asked
}

// Head is the ledger's when the question was put.
func (b *bidder) Head() (fallow.Height, time.Time) {
	b.market.mu.Lock()
	defer b.market.mu.Unlock()
	return b.market.height, b.market.seen
}

// Escrow is the tenant's account on the ledger, looked up once for all.
func (b *bidder) Escrow(ctx context.Context, tenant fallow.Account, _ time.Time) (settle.Account, error) {
	m := b.market
	m.mu.Lock()
	defer m.mu.Unlock()
	if a, known := m.escrows[tenant]; known {
		return a, nil
	}
	a, err := m.ledger.others.Escrow(ctx, tenant)
	if err != nil {
		return settle.Account{}, err
	}
	free, err := ledger.Pico(a.GetFree())
	if err != nil {
		return settle.Account{}, err
	}
	m.escrows[tenant] = settle.Account{Owner: tenant, Free: free}
	return m.escrows[tenant], nil
}

// answer is a signed offer, sealed to who asked, or why there is none.
func (b *bidder) answer(m *marketv1.Signed) (*hubv1.SealedReply, error) {
	s, err := wire.Signed(m)
	if err != nil {
		return nil, err
	}
	demand, err := wire.OpenDemand(benchChain, s)
	if err != nil {
		return nil, err
	}
	id := s.ID()
	a := market.Answer{Provider: b.owner.Account(), NodeKey: b.Node(), Region: "here", Protocol: fallow.Protocol, Addrs: b.host.Addrs()}
	b.mu.Lock()
	b.asked++
	var nonce market.Nonce
	binary.BigEndian.PutUint64(nonce[:], b.asked)
	offer, _, no := b.twin.Offer(b, id, demand, nonce, time.Now())
	b.mu.Unlock()
	if a.Offer = offer; no != nil {
		a.Reason, a.Detail = no.Reason, no.Detail
	}
	sealed, err := wire.SealAnswer(demand.SealingKey, id, a)
	return &hubv1.SealedReply{Demand: id[:], Answer: sealed}, err
}

// bid keeps to the hub's board and answers demands until ctx ends; up is called
// once the board has it.
func (b *bidder) bid(ctx context.Context, up func()) error {
	c, err := hub.Dial(ctx, b.host, b.market.hub)
	if err != nil {
		return err
	}
	stream := c.Board(ctx)
	defer func() { _ = stream.CloseResponse() }()
	hung := context.AfterFunc(ctx, func() { _ = stream.CloseRequest() })
	defer hung()
	key := b.Node()
	if err := stream.Send(&hubv1.BoardRequest{Announcement: &hubv1.Announcement{
		Provider: string(b.owner.Account()), NodeKey: key[:], Classes: []string{string(fallow.ClassWASM)}, Region: "here",
		LargestSlot: &marketv1.Resources{MilliCpu: lent.MilliCPU, MemoryBytes: lent.Memory, DiskBytes: lent.Disk},
		Addrs:       b.host.Addrs(), Protocol: fallow.Protocol, Profiles: []string{spec.ProfileWASM},
	}}); err != nil {
		_, got := stream.Receive()
		return errors.Join(err, got)
	}
	for {
		r, err := stream.Receive()
		if err != nil {
			return err
		}
		if r.GetReason() != "" {
			return fmt.Errorf("the hub refused: %s", r.GetReason())
		}
		up()
		if r.GetDemand() == nil {
			continue
		}
		reply, err := b.answer(r.GetDemand()) //nolint:contextcheck // the policy without a daemon asks in a context of its own
		if err == nil {
			err = stream.Send(&hubv1.BoardRequest{Reply: reply})
		}
		if err != nil {
			return err
		}
	}
}

// startBidding founds the ledger with so many bonded providers, and writes the
// homes of a hub and of the tenant.
func startBidding(ctx context.Context, providers int) (_ *bidding, _ sdk.Home, err error) {
	m := &bidding{escrows: map[fallow.Account]settle.Account{}}
	if m.ledger, err = startBare(ctx, providers, false); err != nil {
		return nil, "", err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.ledger.end())
		}
	}()
	genesis, err := os.ReadFile(filepath.Join(m.ledger.home, "config", "genesis.json"))
	if err != nil {
		return nil, "", err
	}
	board := sdk.Home(filepath.Join(m.ledger.home, "hub"))
	ports, err := freePorts(1)
	if err != nil {
		return nil, "", err
	}
	port := ports[0][strings.LastIndexByte(ports[0], ':')+1:]
	if m.hub, err = sdk.InitHub(board, sdk.HubSettings{Listen: []string{"/ip4/127.0.0.1/tcp/" + port}}); err != nil {
		return nil, "", err
	}
	m.home = sdk.Home(filepath.Join(m.ledger.home, "tenant"))
	n := sdk.Network{
		Protocol: fallow.Protocol, ChainID: benchChain, Genesis: fallow.Sum(genesis),
		RPC: []string{"http://" + m.ledger.rpc}, GRPC: []string{m.ledger.grpc}, Hubs: []string{m.hub},
	}
	for _, h := range []sdk.Home{board, m.home} {
		if err := n.Save(h.NetworkFile()); err != nil {
			return nil, "", err
		}
	}
	if err := keys.WritePassphrase(m.home.PassphraseFile()); err != nil {
		return nil, "", err
	}
	_, err = m.home.Ring(sdk.Default(), nil, nil).Put(sdk.Default().Account, m.ledger.tenant)
	return m, board, err
}

// join brings one more bidder to the hub; it bids until ctx ends.
func (m *bidding) join(ctx context.Context, l *lessor, all *sync.WaitGroup, failed func(error)) error {
	b := &bidder{lessor: l, market: m}
	exposure, ceiling, err := m.ledger.others.Exposure(ctx, l.owner.Account())
	if err != nil {
		return err
	}
	b.stand = provider.Standing{Epoch: l.epoch, Ceiling: ceiling, Exposure: exposure}
	c := provider.Default()
	c.Provider, c.Region = l.owner.Account(), "here"
	b.twin = provider.NewTwin(c, benchChain, l.node, lent, lentSlots)
	if b.host, err = p2p.New(ctx, p2p.Config{Identity: l.node, Role: p2p.RoleProvider, Listen: []string{"/ip4/127.0.0.1/tcp/0"}}); err != nil {
		return err
	}
	up := make(chan struct{})
	lost := make(chan error, 1)
	all.Go(func() {
		err := b.bid(ctx, sync.OnceFunc(func() { close(up) }))
		lost <- err
		if err := errors.Join(err, b.host.Close()); ctx.Err() == nil {
			failed(fmt.Errorf("a bidder: %w", err))
		}
	})
	select {
	case <-up:
		return nil
	case err := <-lost:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// lived is one lease as the ledger saw it.
type lived struct {
	opening int // bytes
	// txs is what anybody sent from the question on, but for the lease's end.
	txs   int
	kinds []string
	wait  time.Duration
}

// lease has the tenant put a question to all who bid, n of them, and take the
// best offer; then it ends the lease, unused.
func (m *bidding) lease(ctx context.Context, t *sdk.Tenant, n int) (l lived, err error) {
	head, err := m.ledger.others.Head(ctx)
	if err != nil {
		return l, err
	}
	m.mu.Lock()
	m.height, m.seen = head.Height, time.Now()
	m.mu.Unlock()
	var (
		offers   int
		declined string
		asked    time.Time
	)
	list, err := t.OpenLeases(ctx, client.LeaseWish{Reserve: loadReserve}, func(e client.Event) {
		switch e := e.(type) {
		case client.DemandSent:
			asked = time.Now()
		case client.OfferSeen:
			offers++
		case client.Declined:
			declined = fmt.Sprintf("; one said %s: %s", e.Reason, e.Detail)
		case client.LeaseOpened:
			l.wait = time.Since(asked)
		}
	})
	switch {
	case err != nil:
		return l, err
	case offers != n:
		return l, fmt.Errorf("%d of %d bidders made an offer%s", offers, n, declined)
	}
	id := list[0].ID
	i := slices.IndexFunc(m.ledger.lessors, func(l *lessor) bool { return l.owner.Account() == list[0].Provider })
	release, err := m.ledger.lessors[i].release(id, fallow.Pico{})
	if err != nil {
		return l, err
	}
	signer := string(m.ledger.tenant.Account())
	closed, err := t.Purse.Sender.Send(ctx,
		&leasev1.MsgClose{Signer: signer, Reason: string(fallow.ReasonCompleted), Leases: []uint64{uint64(id)}},
		&leasev1.MsgRelease{Signer: signer, Releases: []*leasev1.Signed{{Message: release.Message, Signature: release.Signature}}})
	if err != nil {
		return l, err
	}
	traces, err := t.Purse.Client.Footprint(ctx, []fallow.LeaseID{id}, head.Height, closed.Height)
	if err != nil {
		return l, err
	}
	if l.txs, err = m.ledger.transactions(ctx, head.Height+1, closed.Height); err != nil {
		return l, err
	}
	for _, tr := range traces {
		l.kinds = append(l.kinds, fmt.Sprintf("%s %d", strings.Join(tr.Kinds, "+"), tr.Bytes))
		if slices.Contains(tr.Kinds, "open") {
			l.opening += tr.Bytes
		} else {
			l.txs-- // its end
		}
	}
	return l, nil
}

// biddersRows opens a lease with more and more providers bidding for it.
func (b *bench) biddersRows(ctx context.Context) (err error) {
	m, board, err := startBidding(ctx, b.bidders[len(b.bidders)-1])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.ledger.end()) }()
	running, stop := context.WithCancelCause(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer stop(nil)
	quiet := slog.New(slog.DiscardHandler)
	all.Go(func() { stop(sdk.ServeHub(running, board, quiet)) })
	config, err := m.home.Load()
	if err != nil {
		return err
	}
	// All are to be heard, however busy the machine is.
	t, err := sdk.OpenTenant(ctx, m.home, m.home.Ring(config, nil, nil), quiet, func(c *sdk.Config) { c.AnswerWait = sdk.Duration(4 * time.Second) })
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	if err := reachable(running, m.hub); err != nil {
		return errors.Join(err, context.Cause(running))
	}
	there, first := 0, 0.0
	for _, n := range b.bidders {
		for ; there < n; there++ {
			if err := m.join(running, m.ledger.lessors[there], &all, stop); err != nil {
				return fmt.Errorf("bidder %d: %w", there+1, err)
			}
		}
		l, err := m.lease(running, t, n)
		if err != nil {
			return errors.Join(err, context.Cause(running))
		}
		if first == 0 {
			first = float64(l.opening)
		}
		b.add(
			Row{
				What: fmt.Sprintf("transactions to open a lease, %s", counted(n, "bidder")), Value: float64(l.txs), Unit: "tx", Goal: 1,
				Note: fmt.Sprintf("all that anybody sent, %.3g s from question to lease; registered, bonded, on one hub's board, each a host of its own in one process with the daemon's policy, all answered with an offer", l.wait.Seconds()),
			},
			Row{
				What: fmt.Sprintf("bytes to open a lease, %s", counted(n, "bidder")), Value: float64(l.opening), Unit: "B", Goal: 1200,
				Ratio: float64(l.opening) / first, Baseline: "1 bidder", Note: "its whole life, unused: " + strings.Join(l.kinds, ", ") + " B",
			})
	}
	return nil
}

// reachable waits until the hub answers.
func reachable(ctx context.Context, addr string) error {
	for {
		_, err := sdk.HubStatus(ctx, addr)
		if err == nil {
			return nil
		}
		if stopped := pause(ctx, 50*time.Millisecond); stopped != nil {
			return errors.Join(stopped, err)
		}
	}
}
