package audit

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"cosmossdk.io/log/v2"
	cmttypes "github.com/cometbft/cometbft/types"
	dbm "github.com/cosmos/cosmos-db"
	"github.com/cosmos/cosmos-sdk/baseapp"
	clienttx "github.com/cosmos/cosmos-sdk/client/tx"
	codectypes "github.com/cosmos/cosmos-sdk/codec/types"
	"github.com/cosmos/cosmos-sdk/crypto/keys/secp256k1"
	sdk "github.com/cosmos/cosmos-sdk/types"
	"github.com/cosmos/cosmos-sdk/types/tx/signing"
	authsigning "github.com/cosmos/cosmos-sdk/x/auth/signing"
	"github.com/cosmos/cosmos-sdk/x/authz"
	banktypes "github.com/cosmos/cosmos-sdk/x/bank/types"
	govv1 "github.com/cosmos/cosmos-sdk/x/gov/types/v1"
	stakingtypes "github.com/cosmos/cosmos-sdk/x/staking/types"

	"fallow.network"
	leaseapi "fallow.network/api/chain/lease"
	providerapi "fallow.network/api/chain/provider"
	"fallow.network/chain/app"
	"fallow.network/chain/lease"
	"fallow.network/market"
	"fallow.network/receipt"
	"fallow.network/settle"
	"fallow.network/wire"
)

const testChain = "fallow-audit-1"

// person is an account with its key and next sequence.
type person struct {
	key    *secp256k1.PrivKey
	number uint64
	next   uint64
}

func (p *person) addr() sdk.AccAddress { return sdk.AccAddress(p.key.PubKey().Address()) }

func (p *person) String() string { return p.addr().String() }

// network is a real node, a tenant, a provider and an operator of it.
type network struct {
	t             *testing.T
	node          *app.Node
	pia, tom, oli *person
	machine       ed25519.PrivateKey
	work          ed25519.PrivateKey
	raw           []byte // genesis
	genesis       fallow.Digest
}

func newNetwork(t *testing.T) *network {
	t.Helper()
	app.SetPrefixes()
	key := func(name string) ed25519.PrivateKey {
		seed := fallow.Sum([]byte(name))
		return ed25519.NewKeyFromSeed(seed[:])
	}
	who := func(name string, number uint64) *person {
		return &person{key: secp256k1.GenPrivKeyFromSecret([]byte(name)), number: number}
	}
	// The validator's operator is account 0; its genesis transaction is the first.
	w := &network{t: t, pia: who("pia", 1), tom: who("tom", 2), oli: who("oli", 3), machine: key("machine"), work: key("work")}
	h := app.DefaultHome()
	h.Dir = t.TempDir()
	h.RPC, h.P2P, h.GRPC, h.API = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	g := app.DefaultGenesis(testChain, time.Now())
	g.Stake, g.VotingPeriod = 1_000_000, time.Second
	g.Lease.CheckWindowMS, g.Provider.UnbondingMS = 320, 640
	for _, p := range []*person{w.pia, w.tom, w.oli} {
		g.Accounts = append(g.Accounts, app.Funding{Address: p.String(), Coins: sdk.NewCoins(
			sdk.NewInt64Coin(fallow.TokenDenom, 1_000_000_000), sdk.NewInt64Coin(fallow.CreditDenom, 1_000_000_000))})
	}
	template, err := app.New(log.NewNopLogger(), dbm.NewMemDB(), app.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := h.Found(t.Context(), template, g)
	if err != nil {
		t.Fatal(err)
	}
	w.raw, w.genesis = raw, fallow.Sum(raw)
	w.node = start(t, h.Dir)
	if _, err := w.node.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w
}

// start runs the node of a home in memory until the test ends.
func start(t *testing.T, dir string) *app.Node {
	t.Helper()
	cfg, srv, settings, err := app.ReadHome(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Consensus.TimeoutCommit, cfg.DBBackend = 20*time.Millisecond, "memdb"
	cfg.P2P.PexReactor = false // its address book is written behind the node's back
	settings.Set("app-db-backend", "memdb")
	srv.API.Enable, srv.GRPC.Enable = false, false
	// The node outlives the test's context, which ends before clean-ups run.
	node, err := app.Start(context.WithoutCancel(t.Context()), log.NewNopLogger(), cfg, srv, settings, baseapp.SetMinGasPrices("0.001ufal"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := node.Stop(); err != nil {
			t.Errorf("stop the node: %v", err)
		}
	})
	return node
}

// follower joins the network with a node of its own.
func (w *network) follower() *app.Node {
	w.t.Helper()
	h := app.DefaultHome()
	h.Dir = w.t.TempDir()
	h.RPC, h.P2P, h.GRPC, h.API = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	h.Peers = w.node.ID + "@" + w.node.P2PAddress
	if err := h.Join(w.raw); err != nil {
		w.t.Fatal(err)
	}
	n := start(w.t, h.Dir)
	for height := w.height(); ; time.Sleep(10 * time.Millisecond) {
		s, err := n.RPC.Status(w.t.Context())
		if err != nil {
			w.t.Fatal(err)
		}
		if s.SyncInfo.LatestBlockHeight > height && !s.SyncInfo.CatchingUp {
			return n
		}
	}
}

// send puts messages of p into a block, and returns the block's height.
func (w *network) send(p *person, msgs ...sdk.Msg) (height int64, code uint32) {
	w.t.Helper()
	config := w.node.App.Encoding().Tx
	b := config.NewTxBuilder()
	if err := b.SetMsgs(msgs...); err != nil {
		w.t.Fatal(err)
	}
	b.SetGasLimit(5_000_000)
	b.SetFeeAmount(sdk.NewCoins(sdk.NewInt64Coin(fallow.TokenDenom, 5_000)))
	mode := signing.SignMode_SIGN_MODE_DIRECT
	if err := b.SetSignatures(signing.SignatureV2{PubKey: p.key.PubKey(), Data: &signing.SingleSignatureData{SignMode: mode}, Sequence: p.next}); err != nil {
		w.t.Fatal(err)
	}
	who := authsigning.SignerData{ChainID: testChain, AccountNumber: p.number, Sequence: p.next, PubKey: p.key.PubKey(), Address: p.String()}
	sig, err := clienttx.SignWithPrivKey(w.t.Context(), mode, who, b, p.key, config, p.next)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := b.SetSignatures(sig); err != nil {
		w.t.Fatal(err)
	}
	raw, err := config.TxEncoder()(b.GetTx())
	if err != nil {
		w.t.Fatal(err)
	}
	r, err := w.node.RPC.BroadcastTxCommit(w.t.Context(), cmttypes.Tx(raw))
	if err != nil {
		w.t.Fatal(err)
	}
	if r.CheckTx.Code != 0 {
		w.t.Fatalf("refused: %s", r.CheckTx.Log)
	}
	p.next++
	return r.Height, r.TxResult.Code
}

// do is send that must succeed.
func (w *network) do(p *person, msgs ...sdk.Msg) int64 {
	w.t.Helper()
	height, code := w.send(p, msgs...)
	if code != 0 {
		w.t.Fatalf("%s failed with code %d", sdk.MsgTypeURL(msgs[0]), code)
	}
	return height
}

func (w *network) height() int64 {
	w.t.Helper()
	s, err := w.node.RPC.Status(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return s.SyncInfo.LatestBlockHeight
}

func (w *network) wait(blocks int64) {
	w.t.Helper()
	for end := w.height() + blocks; w.height() < end; {
		time.Sleep(10 * time.Millisecond)
	}
}

func (w *network) signed(key ed25519.PrivateKey, kind string, raw []byte, err error) leaseapi.Signed {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
	s := wire.Sign(key, kind, testChain, raw)
	return leaseapi.Signed{Message: s.Message, Signature: s.Signature}
}

func (w *network) offer(nonce byte) leaseapi.OpenEntry {
	raw, err := wire.EncodeOffer(market.Offer{
		Demand: fallow.Sum([]byte("demand")), Tenant: fallow.Account(w.tom.String()), Provider: fallow.Account(w.pia.String()),
		NodeKey: wire.PublicKey(w.machine), KeyEpoch: 1, Kind: market.KindBatch, Workload: fallow.Sum([]byte("work")),
		LastHeight: fallow.Height(w.height() + 500), Nonce: market.Nonce{nonce},
		Terms: market.Terms{GasPrice: fallow.PicoOf(1), Slots: 1, MaxReserve: 80_000_000, ClaimWindowMS: 200},
	})
	session := wire.PublicKey(w.work)
	return leaseapi.OpenEntry{Offer: w.signed(w.machine, market.SignsOffer, raw, err), SessionKey: session[:], Reserve: 1_000_000}
}

func (w *network) voucher(id uint64, amount fallow.Credits, n uint32) leaseapi.Signed {
	raw, err := wire.EncodeVoucher(receipt.Voucher{Lease: fallow.LeaseID(id), Amount: amount.Pico(), ReceiptsRoot: fallow.Sum([]byte("r")), Receipts: n})
	return w.signed(w.work, market.SignsVoucher, raw, err)
}

// begin registers the provider and funds the tenant.
func (w *network) begin(deposit uint64) {
	w.t.Helper()
	key := wire.PublicKey(w.machine)
	w.do(w.pia, &providerapi.MsgRegister{Owner: w.pia.String(), Bond: 200_000_000, Nodes: []providerapi.NodeKey{{Key: key[:]}}})
	w.do(w.tom, &leaseapi.MsgDeposit{Sender: w.tom.String(), Amount: deposit})
}

// live lets the market do a little of everything: some of it refused, some
// within an operator's grant.
func (w *network) live() {
	w.t.Helper()
	key := wire.PublicKey(w.machine)
	w.begin(20_000_000)
	w.do(w.tom, &leaseapi.MsgOpenLeases{Signer: w.tom.String(), Tenant: w.tom.String(), Entries: []leaseapi.OpenEntry{w.offer(1), w.offer(2), {SessionKey: key[:]}}})
	w.do(w.tom, banktypes.NewMsgSend(w.tom.addr(), w.pia.addr(), sdk.NewCoins(sdk.NewInt64Coin(fallow.TokenDenom, 5))))
	if _, code := w.send(w.tom, &leaseapi.MsgWithdraw{Tenant: w.tom.String(), Amount: 900_000_000}); code != settle.ErrFunds.Code {
		w.t.Fatalf("withdrew what is not there: code %d", code)
	}
	redeem := &leaseapi.MsgRedeem{Signer: w.pia.String(), Vouchers: []leaseapi.Signed{w.voucher(1, 300_000, 1), w.voucher(2, 400_000, 2)}}
	far := time.Now().Add(time.Hour)
	grant, err := authz.NewMsgGrant(w.pia.addr(), w.oli.addr(), authz.NewGenericAuthorization(sdk.MsgTypeURL(redeem)), &far)
	if err != nil {
		w.t.Fatal(err)
	}
	w.do(w.pia, grant)
	exec := authz.NewMsgExec(w.oli.addr(), []sdk.Msg{redeem})
	w.do(w.oli, &exec)
	w.do(w.tom, &leaseapi.MsgClose{Signer: w.tom.String(), Leases: []uint64{1, 2}, Reason: string(fallow.ReasonCompleted)},
		&leaseapi.MsgWithdraw{Tenant: w.tom.String(), Amount: 1_000})
	w.wait(16) // claim windows end, payouts mature
}

func (w *network) audit(cfg Config) (Report, error) {
	w.t.Helper()
	if cfg.Node == "" {
		cfg.Node = w.node.RPCAddress
	}
	cfg.GenesisHash = w.genesis
	return Run(w.t.Context(), cfg)
}

// breach fails the test unless err is one.
func breach(t *testing.T, err error) *Breach {
	t.Helper()
	b, ok := errors.AsType[*Breach](err)
	if !ok {
		t.Fatalf("no breach was named: %v", err)
	}
	return b
}

// TestSound audits a sound ledger from its genesis, from trusted blocks, and
// after a vote has changed the params.
func TestSound(t *testing.T) {
	w := newNetwork(t)
	w.live()
	report, err := w.audit(Config{})
	if err != nil {
		t.Fatal(err)
	}
	if report.Opened != 2 || report.Skipped != 1 || report.Failed != 1 || report.Deposited != 20_000_000 || report.Withdrawn != 1_000 ||
		report.Paid != 700_000 || report.Escrow != 20_000_000-700_000-1_000 || report.Bonded != 200_000_000 || report.Proven != report.Height {
		t.Errorf("report: %+v", report)
	}
	if len(report.Told) != 1 || !strings.Contains(report.Told[0], "fork") {
		t.Errorf("as told by the node: %q", report.Told)
	}
	var text bytes.Buffer
	if err := report.Write(&text); err != nil || !strings.HasSuffix(text.String(), "the books are sound\n") {
		t.Errorf("%v, printed:\n%s", err, text.String())
	}

	c, err := w.node.RPC.Commit(t.Context(), ptr(int64(10)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.audit(Config{TrustHeight: 10, TrustHash: c.Hash()}); err != nil {
		t.Errorf("from block 10: %v", err)
	}
	_, err = w.audit(Config{TrustHeight: 10, TrustHash: bytes.Repeat([]byte{7}, 32)})
	if b := breach(t, err); !b.Node {
		t.Errorf("from a block that is not there: %v", err)
	}
	_, err = w.audit(Config{Now: func() time.Time { return time.Now().Add(30 * 24 * time.Hour) }})
	if err == nil || !strings.Contains(err.Error(), "--trust") {
		t.Errorf("a month later: %v", err)
	}
	if _, err = w.audit(Config{Node: "127.0.0.1:1"}); err == nil {
		t.Error("a node that is away was audited")
	}

	t.Run("a second node", func(t *testing.T) {
		second := w.follower()
		report, err := w.audit(Config{Node: second.RPCAddress, Witnesses: []string{w.node.RPCAddress}})
		if err != nil || len(report.Told) != 0 {
			t.Errorf("as told by the node: %q, %v", report.Told, err)
		}
		l := &liar{to: second.RPCAddress, method: "commit", change: func(r map[string]any) bool {
			return set(dig(r, "signed_header", "header"), "app_hash", strings.Repeat("AB", 32))
		}}
		server := httptest.NewServer(l)
		defer server.Close()
		if _, err := w.audit(Config{Witnesses: []string{server.URL}}); err == nil || l.lies.Load() == 0 {
			t.Errorf("a witness that disagrees was not heard: %v", err)
		}
	})
	t.Run("governance", func(t *testing.T) {
		validators, err := w.node.RPC.Validators(t.Context(), nil, nil, nil)
		if err != nil || len(validators.Validators) != 1 {
			t.Fatal(err)
		}
		operator := w.operator()
		w.do(w.tom, stakingtypes.NewMsgDelegate(w.tom.String(), operator, sdk.NewInt64Coin(fallow.TokenDenom, 900_000_000)))
		params := settle.DefaultParams()
		params.CheckWindowMS = 480
		content, err := codectypes.NewAnyWithValue(&leaseapi.MsgUpdateParams{Authority: app.Authority(), Params: lease.ToParams(params)})
		if err != nil {
			t.Fatal(err)
		}
		w.do(w.tom, &govv1.MsgSubmitProposal{
			Messages: []*codectypes.Any{content}, InitialDeposit: sdk.NewCoins(sdk.NewInt64Coin(fallow.TokenDenom, 10_000_000)),
			Proposer: w.tom.String(), Title: "t", Summary: "s",
		})
		w.do(w.tom, govv1.NewMsgVote(w.tom.addr(), 1, govv1.OptionYes, ""))
		w.wait(40)
		w.do(w.tom, &leaseapi.MsgDeposit{Sender: w.tom.String(), Amount: 5})
		w.wait(2)
		report, err := w.audit(Config{})
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(strings.Join(report.Told, "\n"), "proposal 1 passed") {
			t.Errorf("as told by the node: %q", report.Told)
		}
	})
}

func ptr[T any](v T) *T { return &v }

// operator is the validator's address.
func (w *network) operator() string {
	w.t.Helper()
	req, err := (&stakingtypes.QueryValidatorsRequest{}).Marshal()
	if err != nil {
		w.t.Fatal(err)
	}
	got, err := w.node.RPC.ABCIQuery(w.t.Context(), "/cosmos.staking.v1beta1.Query/Validators", req)
	if err != nil {
		w.t.Fatal(err)
	}
	var resp stakingtypes.QueryValidatorsResponse
	if err := resp.Unmarshal(got.Response.Value); err != nil {
		w.t.Fatal(err)
	}
	return resp.Validators[0].OperatorAddress
}

// TestBrokenBooks runs ledgers whose code breaks a rule, and finds what they
// did. The provider module asks for a provider's exposure when part of a bond
// leaves; that is where each of them does it.
func TestBrokenBooks(t *testing.T) {
	tests := []struct {
		name string
		evil func(w *network, ctx context.Context) (fallow.Credits, error)
		want string // in the breach's key
		what string // in its text
	}{
		{"an account grows", func(w *network, ctx context.Context) (fallow.Credits, error) {
			return 0, grow(w.node.App.Lease.Books(ctx), fallow.Account(w.tom.String()))
		}, "lease/02", "the rules leave"},
		{"an entry too many", func(w *network, ctx context.Context) (fallow.Credits, error) {
			return 0, w.node.App.Lease.Books(ctx).Store.Set([]byte{0x0f, 1, 'x'}, []byte{1, 5})
		}, "lease/0f0178", "which the rules did not make"},
		{"a machine becomes another's", func(w *network, ctx context.Context) (fallow.Credits, error) {
			key := wire.PublicKey(w.machine)
			return 0, w.node.App.Provider.Registry(ctx).Store.Set(append([]byte{2}, key[:]...), []byte(w.oli.String()))
		}, "provider/02", "the rules leave"},
		{"escrow is stolen", func(w *network, ctx context.Context) (fallow.Credits, error) {
			coins := sdk.NewCoins(sdk.NewInt64Coin(fallow.CreditDenom, 777))
			return 0, w.node.App.Bank.SendCoins(ctx, escrowAddress, w.oli.addr(), coins)
		}, "bank/02", "the replay leaves"},
		{"credits are made", func(w *network, ctx context.Context) (fallow.Credits, error) {
			coins := sdk.NewCoins(sdk.NewInt64Coin(fallow.CreditDenom, 777))
			return 0, w.node.App.Bank.MintCoins(ctx, "mint", coins)
		}, "bank/", "the supply of ucredit"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newNetwork(t)
			w.begin(20_000_000)
			w.node.App.Provider.SetExposure(func(ctx context.Context, _ market.Block, _ fallow.Account) (fallow.Credits, error) {
				return test.evil(w, ctx)
			})
			height := w.do(w.pia, &providerapi.MsgUnbond{Owner: w.pia.String(), Amount: 1_000_000})
			w.wait(3)
			report, err := w.audit(Config{})
			b := breach(t, err)
			if b.Node || !strings.HasPrefix(b.Key, test.want) || !strings.Contains(b.What, test.what) {
				t.Errorf("breach: %v", b)
			}
			if !strings.HasPrefix(b.Key, "bank/") && b.Height != height {
				t.Errorf("named block %d, it was %d: %v", b.Height, height, b)
			}
			if report.Sound || report.Breach != b || report.Proven != 0 {
				t.Errorf("report: %+v", report)
			}
		})
	}
	t.Run("a rule is left out", func(t *testing.T) {
		t.Parallel()
		w := newNetwork(t)
		w.begin(70_000_000)
		entry := w.offer(9)
		entry.Reserve = 60_000_000
		w.do(w.tom, &leaseapi.MsgOpenLeases{Signer: w.tom.String(), Tenant: w.tom.String(), Entries: []leaseapi.OpenEntry{entry}})
		// Half of the 100 FAL that stay does not cover 60 credits.
		unbond := &providerapi.MsgUnbond{Owner: w.pia.String(), Amount: 100_000_000}
		if _, code := w.send(w.pia, unbond); code != market.ErrExposed.Code {
			t.Fatalf("the bond left: code %d", code)
		}
		w.node.App.Provider.SetExposure(func(context.Context, market.Block, fallow.Account) (fallow.Credits, error) { return 0, nil })
		height := w.do(w.pia, unbond)
		w.wait(3)
		_, err := w.audit(Config{})
		if b := breach(t, err); b.Node || b.Height != height || len(b.Tx) != 64 || !strings.Contains(b.What, "accepted what the rules refuse") {
			t.Errorf("breach in block %d: %v", height, b)
		}
	})
}

// grow changes an account's record by hand.
func grow(b settle.Books, owner fallow.Account) error {
	key := append([]byte{2, byte(len(owner))}, owner...)
	v, err := b.Store.Get(key)
	if err != nil || v == nil {
		return fmt.Errorf("no account at %x: %w", key, err)
	}
	v = bytes.Clone(v)
	v[len(owner)+4]++ // in the free amount
	return b.Store.Set(key, v)
}
