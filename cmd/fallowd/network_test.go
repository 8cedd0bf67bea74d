//go:build linux

package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"fallow.network"
	"fallow.network/keys"
	"fallow.network/ledger"
	"fallow.network/market"
	"fallow.network/receipt"
	"fallow.network/wire"
)

// many is a network of validators, each a process.
type many struct {
	t             *testing.T
	facts         testnetFacts
	nodes         map[string]*daemon
	tenant, owner *keys.Secret
}

// newMany writes a network whose tenant and provider are funded. Nothing of it
// is started.
func newMany(t *testing.T, validators int, more ...string) *many {
	t.Helper()
	m := &many{t: t, nodes: map[string]*daemon{}, tenant: drawn(t), owner: drawn(t)}
	args := []string{"--validators", fmt.Sprint(validators), "--first-port", "0", "--check-window", "2h", "--unbonding", "3h"}
	for _, s := range []*keys.Secret{m.tenant, m.owner} {
		args = append(args, "--account", string(s.Account())+"=1000000000ufal,500000000ucredit")
	}
	m.facts = validatorsOnly(t, filepath.Join(t.TempDir(), "net"), append(args, more...)...)
	return m
}

func drawn(t *testing.T) *keys.Secret {
	t.Helper()
	s, err := keys.NewSecret()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (m *many) begin(v party, more ...string) *daemon {
	m.t.Helper()
	d := begin(m.t, v.Home, more...)
	m.nodes[v.Name] = d
	return d
}

// dial opens a client of these nodes alone.
func (m *many) dial(nodes ...party) *ledger.Client {
	m.t.Helper()
	c, err := ledger.Dial(m.t.Context(), m.endpoints(nodes...))
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = c.Close() })
	return c
}

func (m *many) endpoints(nodes ...party) ledger.Config {
	cfg := ledger.Config{ChainID: m.facts.ChainID}
	for _, v := range nodes {
		cfg.GRPC, cfg.RPC = append(cfg.GRPC, v.GRPC), append(cfg.RPC, "http://"+v.RPC)
	}
	return cfg
}

// wait polls until ok; what is what is waited for.
func (m *many) wait(what string, ok func() bool) {
	m.t.Helper()
	for end := time.Now().Add(90 * time.Second); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			m.t.Fatalf("%s: not in 90 s", what)
		}
	}
}

// state is how far a node has carried out the ledger, and what it came to.
func (m *many) state(v party) (height int64, hash string) {
	m.t.Helper()
	var info struct {
		Response struct {
			Height int64  `json:"last_block_height,string"`
			Hash   string `json:"last_block_app_hash"`
		} `json:"response"`
	}
	if err := ask(m.t.Context(), v.RPC, "abci_info", &info); err != nil {
		return 0, ""
	}
	return info.Response.Height, info.Response.Hash
}

// agree waits until every node has carried out a block after the tip of now,
// and has come to the same at a block that all have been seen at.
func (m *many) agree(nodes ...party) {
	m.t.Helper()
	seen, first := map[int64]map[string]string{}, int64(0)
	for _, v := range nodes {
		h, _ := m.state(v)
		first = max(first, h)
	}
	m.wait("an application hash that all came to", func() bool {
		for _, v := range nodes {
			h, hash := m.state(v)
			if h <= first {
				continue
			}
			if seen[h] == nil {
				seen[h] = map[string]string{}
			}
			seen[h][v.Name] = hash
			for name, other := range seen[h] {
				if other != hash {
					m.t.Fatalf("block %d: %s came to %s, %s to %s", h, v.Name, hash, name, other)
				}
			}
			if len(seen[h]) == len(nodes) {
				return true
			}
		}
		return false
	})
}

func (m *many) status(v party) (statusFacts, error) { return status(m.t.Context(), v.RPC) }

// caughtUp waits until a node says so, at height or above.
func (m *many) caughtUp(v party, height int64) {
	m.t.Helper()
	m.wait(v.Name+" catches up", func() bool {
		s, err := m.status(v)
		return err == nil && !s.CatchingUp && s.Height >= height
	})
}

func (m *many) height(v party) int64 {
	m.t.Helper()
	s, err := m.status(v)
	if err != nil {
		m.t.Fatal(err)
	}
	return s.Height
}

// audit proves the books with one node, against another.
func (m *many) audit(of, witness party) {
	m.t.Helper()
	report, errs, code := run(m.t, "audit", "-q", "--rpc", of.RPC, "--witness", "http://"+witness.RPC, "--genesis-hash", m.facts.GenesisHash.String())
	if code != 0 || !strings.Contains(report, "the books are sound") || strings.Contains(report, "no witness was asked") {
		m.t.Fatalf("audit of %s: code %d: %s%s", of.Name, code, report, errs)
	}
}

// market registers a provider and opens leases of its offers; redeem brings a
// voucher of one of them to the ledger.
func (m *many) market(c *ledger.Client) (leases []fallow.LeaseID, redeem func(fallow.LeaseID, fallow.Credits)) {
	m.t.Helper()
	t, ctx := m.t, m.t.Context()
	seeded := func(name string) ed25519.PrivateKey {
		sum := fallow.Sum([]byte(name))
		return ed25519.NewKeyFromSeed(sum[:])
	}
	node, session := seeded("node"), seeded("session")
	ps, ts := c.Sender(m.owner, ledger.Options{}), c.Sender(m.tenant, ledger.Options{})
	if _, err := ps.Register(ctx, 400_000_000, ledger.Listing{
		Nodes: []ledger.Node{{Key: wire.PublicKey(node), Addrs: []string{"/ip4/127.0.0.1/tcp/1"}}}, Region: "here",
		Attributes: []market.Attribute{{Key: "tier", Value: "home"}},
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := ts.Deposit(ctx, "", 100_000_000); err != nil {
		t.Fatal(err)
	}
	p, err := c.Provider(ctx, m.owner.Account())
	if err != nil {
		t.Fatal(err)
	}
	head, err := c.Head(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var opens []ledger.Open
	for i := range byte(6) {
		b, err := wire.EncodeOffer(market.Offer{
			Demand: fallow.Sum([]byte("demand")), Tenant: m.tenant.Account(), Provider: m.owner.Account(), NodeKey: wire.PublicKey(node), KeyEpoch: p.GetNodes()[0].GetEpoch(),
			Kind: market.KindBatch, Workload: fallow.Sum([]byte("work")), Nonce: market.Nonce{i}, LastHeight: head.Height + 200, Profile: "wasm/1",
			Terms: market.Terms{
				GasPrice: fallow.PicoOf(1000), Slots: 1, Slot: market.Resources{MilliCPU: 1000, Memory: 1 << 28},
				LeastSpeed: 1, UnpaidCeiling: 1000, MaxReserve: 1_000_000, ClaimWindowMS: 3_600_000, IdleMS: 3_600_000,
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		opens = append(opens, ledger.Open{Offer: wire.Sign(node, market.SignsOffer, m.facts.ChainID, b), Session: wire.PublicKey(session), Reserve: 500_000})
	}
	opened, _, err := ts.OpenLeases(ctx, m.tenant.Account(), opens)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range opened {
		if o.Reason != "" {
			t.Fatalf("open: %+v", opened)
		}
		leases = append(leases, o.Lease)
	}
	return leases, func(id fallow.LeaseID, amount fallow.Credits) {
		t.Helper()
		b, err := wire.EncodeVoucher(receipt.Voucher{Lease: id, Amount: amount.Pico(), ReceiptsRoot: fallow.Sum([]byte("root")), Receipts: 1})
		if err != nil {
			t.Fatal(err)
		}
		got, _, err := ps.Redeem(ctx, []market.Signed{wire.Sign(session, market.SignsVoucher, m.facts.ChainID, b)})
		if err != nil || got[0].Reason != "" || got[0].Amount != amount {
			t.Fatalf("redeem: %+v, %v", got, err)
		}
	}
}

// busy keeps sending until its context ends; sent counts what was carried out.
func (m *many) busy(ctx context.Context, c *ledger.Client, sent *atomic.Int64) (ended chan error) {
	ended = make(chan error, 1)
	go func() {
		ts := c.Sender(m.tenant, ledger.Options{})
		for ctx.Err() == nil {
			if _, err := ts.Deposit(ctx, "", 1); err != nil && ctx.Err() == nil {
				ended <- err
				return
			}
			if _, err := ts.Transfer(ctx, m.owner.Account(), 1); err != nil && ctx.Err() == nil {
				ended <- err
				return
			}
			sent.Add(2)
		}
		ended <- nil
	}()
	return ended
}

// books is all that a node answers of providers, leases, payouts and escrow.
func (m *many) books(c *ledger.Client) []proto.Message {
	m.t.Helper()
	ctx := m.t.Context()
	var all []proto.Message
	add := func(msg proto.Message, err error) {
		m.t.Helper()
		if err != nil {
			m.t.Fatal(err)
		}
		all = append(all, msg)
	}
	lp, err := c.LeaseParams(ctx)
	add(lp, err)
	pp, err := c.ProviderParams(ctx)
	add(pp, err)
	e, err := c.Escrow(ctx, m.tenant.Account())
	add(e, err)
	for p, err := range c.Providers(ctx) {
		add(p, err)
	}
	for l, err := range c.Leases(ctx, ledger.LeaseFilter{}) {
		add(l, err)
	}
	for p, err := range c.Payouts(ctx, m.owner.Account()) {
		add(p, err)
	}
	return all
}

// sameBooks waits until two nodes answer everything alike; they may be a block
// apart when they are asked.
func (m *many) sameBooks(a, b party) {
	m.t.Helper()
	m.wait("the same books at "+a.Name+" and "+b.Name, func() bool {
		x, y := m.books(m.dial(a)), m.books(m.dial(b))
		if len(x) < 10 {
			m.t.Fatalf("%s answers with %d entries", a.Name, len(x))
		}
		return slices.EqualFunc(x, y, func(x, y proto.Message) bool { return proto.Equal(x, y) })
	})
}

// TestManyValidators is part of make test-all. Four validators lose one, go
// on, get it back; lose two, stand still, and go on; a fifth node begins from a
// snapshot, and another prunes.
func TestManyValidators(t *testing.T) {
	if os.Getenv("FALLOW_LONG") == "" {
		return
	}
	m := newMany(t, 4, "--block-time", "500ms", "--snapshot-interval", "12", "--snapshot-keep-recent", "5")
	v := m.facts.Validators
	for _, one := range v {
		m.begin(one)
	}
	for _, one := range v {
		m.nodes[one.Name].ready()
	}
	for _, one := range v {
		m.caughtUp(one, 1)
	}
	c := m.dial(v...)
	leases, redeem := m.market(c)
	run, stop := context.WithCancel(t.Context())
	defer stop()
	var sent atomic.Int64
	ended := m.busy(run, c, &sent)
	goesOn := func(what string) {
		t.Helper()
		from := sent.Load()
		m.wait(what, func() bool {
			select {
			case err := <-ended:
				t.Fatalf("%s: sending ended: %v", what, err)
			default:
			}
			return sent.Load() >= from+6
		})
	}
	goesOn("sending with four")

	// One is lost: the one that the client spoke to.
	m.nodes[v[0].Name].kill()
	goesOn("sending with three")
	redeem(leases[0], 100_000)
	tip := m.height(v[1])
	m.begin(v[0]).ready()
	m.caughtUp(v[0], tip)
	m.agree(v...)
	goesOn("sending with four again")
	m.audit(v[0], v[1])

	// One is killed while it starts, again and again.
	for i := range 4 {
		m.nodes[v[3].Name].kill()
		d := m.begin(v[3])
		time.Sleep(time.Duration(i) * 300 * time.Millisecond) // some moment of its start
		d.kill()
	}
	m.begin(v[3]).ready()
	m.caughtUp(v[3], m.height(v[1]))
	m.agree(v...)

	// Two are lost: nothing is decided by half of the stake.
	m.nodes[v[2].Name].kill()
	m.nodes[v[3].Name].kill()
	before := m.height(v[0])
	time.Sleep(3 * time.Second) // six blocks' time
	if after := m.height(v[0]); after > before+1 {
		t.Errorf("two of four went on from %d to %d", before, after)
	}
	was := sent.Load()
	m.begin(v[2]).ready()
	goesOn("sending when one is back")
	t.Logf("%d transactions when two were lost, %d after one was back", was, sent.Load())
	m.begin(v[3]).ready()
	m.caughtUp(v[3], m.height(v[0]))
	redeem(leases[1], 50_000)
	m.agree(v...)
	m.audit(v[2], v[3])

	fifth := m.snapshot(leases, redeem)
	goesOn("sending beside a fifth node")
	m.pruned()
	stop()
	if err := <-ended; err != nil {
		t.Errorf("sending: %v", err)
	}
	m.sameBooks(v[0], fifth)
	for name, d := range m.nodes {
		if err := errors.Join(d.cmd.Process.Signal(syscall.SIGTERM), d.cmd.Wait()); err != nil {
			t.Errorf("%s after SIGTERM: %v", name, err)
		}
	}
}
