package ledger

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"fallow.network"
	leasev1 "fallow.network/api/lease"
	providerv1 "fallow.network/api/provider"
	"fallow.network/keys"
	"fallow.network/market"
	"fallow.network/receipt"
	"fallow.network/wire"
)

func seeded(name string) ed25519.PrivateKey {
	sum := fallow.Sum([]byte(name))
	return ed25519.NewKeyFromSeed(sum[:])
}

// offer is a firm price for one batch lease, signed by the node key.
func offer(t *testing.T, tenant, provider fallow.Account, node ed25519.PrivateKey, epoch uint64, last fallow.Height, nonce byte) market.Signed {
	t.Helper()
	o := market.Offer{
		Demand: fallow.Sum([]byte("demand")), Tenant: tenant, Provider: provider, NodeKey: wire.PublicKey(node), KeyEpoch: epoch,
		Kind: market.KindBatch, Workload: fallow.Sum([]byte("work")), Nonce: market.Nonce{nonce}, LastHeight: last, Profile: "wasm/1",
		Terms: market.Terms{
			GasPrice: fallow.PicoOf(1000), Slots: 1, Slot: market.Resources{MilliCPU: 1000, Memory: 1 << 28},
			LeastSpeed: 1, UnpaidCeiling: 1000, MaxReserve: 1_000_000, ClaimWindowMS: 1000, IdleMS: 60_000,
		},
	}
	b, err := wire.EncodeOffer(o)
	if err != nil {
		t.Fatal(err)
	}
	return wire.Sign(node, market.SignsOffer, realChain, b)
}

// TestRealMarket takes our messages through a real ledger: a provider
// registers, a tenant deposits, leases open, are paid, released and closed.
func TestRealMarket(t *testing.T) {
	tenant, owner, operator, client := secret(t, 0), secret(t, 1), secret(t, 2), secret(t, 3)
	coins := "=1000000000ufal,500000000ucredit"
	n := startNode(t, string(tenant.Account())+coins, string(owner.Account())+coins, string(client.Account())+"=1000000ufal")
	c := n.dial()
	ctx := t.Context()
	ts := c.Sender(tenant, Options{Window: 3 * time.Millisecond})
	ps := c.Sender(owner, Options{Window: 3 * time.Millisecond})
	node, session := seeded("node"), seeded("session")

	listing := Listing{
		Nodes: []Node{{Key: wire.PublicKey(node), Addrs: []string{"/ip4/127.0.0.1/tcp/1"}}}, Region: "here",
		Attributes: []market.Attribute{{Key: "tier", Value: "home"}},
	}
	report := func(what string, tx Tx, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		t.Logf("%-14s %6d of %6d gas, %4d bytes, %3d ufal", what, tx.GasUsed, tx.GasWanted, tx.Bytes, tx.Fee)
	}
	var setup sync.WaitGroup
	setup.Go(func() {
		tx, err := ps.Register(ctx, 400_000_000, listing)
		report("register", tx, err)
		tx, err = ps.GrantOperator(ctx, operator.Account(), Upkeep(), 10_000_000, time.Now().Add(time.Hour))
		report("grant", tx, err)
	})
	setup.Go(func() {
		tx, err := ts.Deposit(ctx, "", 100_000_000)
		report("deposit", tx, err)
		tx, err = ts.SetClientKey(ctx, client.Account(), 5_000_000, 10_000)
		report("client key", tx, err)
	})
	setup.Wait()
	if t.Failed() {
		return
	}
	_, err := ps.Bond(ctx, 1<<62)
	var r *RefusalError
	if !errors.As(err, &r) {
		t.Errorf("a bond of more than there is: %v", err)
	}
	t.Log(err)

	p, err := c.Provider(ctx, owner.Account())
	if err != nil || p.GetBond() != 400_000_000 || len(p.GetNodes()) != 1 {
		t.Fatalf("provider %v, %v", p, err)
	}
	if all, err := Collect(c.Providers(ctx)); err != nil || len(all) != 1 {
		t.Errorf("providers: %d, %v", len(all), err)
	}
	if _, err := c.Provider(ctx, tenant.Account()); !errors.Is(err, ErrNotFound) {
		t.Errorf("no provider: %v", err)
	}
	if _, err := c.Lease(ctx, 999); !errors.Is(err, ErrNotFound) {
		t.Errorf("no lease: %v", err)
	}
	e, err := c.Escrow(ctx, tenant.Account())
	if err != nil || len(e.GetClientKeys()) != 1 {
		t.Fatalf("escrow %v, %v", e, err)
	}
	if free, err := Pico(e.GetFree()); err != nil || free != fallow.Credits(100_000_000).Pico() {
		t.Errorf("free %s, %v", free, err)
	}

	// Two at once by the tenant, and one by its client key; one is a replay.
	head, err := c.Head(ctx)
	if err != nil {
		t.Fatal(err)
	}
	from := head.Height + 1
	epoch := p.GetNodes()[0].GetEpoch()
	open := func(nonce byte, reserve fallow.Credits) Open {
		return Open{Offer: offer(t, tenant.Account(), owner.Account(), node, epoch, head.Height+100, nonce), Session: wire.PublicKey(session), Reserve: reserve}
	}
	opened, txs, err := ts.OpenLeases(ctx, tenant.Account(), []Open{open(1, 700_000), open(2, 100_000), open(1, 1)})
	if err != nil || len(opened) != 3 || opened[0].Reason != "" || opened[1].Reason != "" || opened[2].Reason != fallow.ReasonOfferUsed {
		t.Fatalf("open: %+v, %v", opened, err)
	}
	report("open 3", txs[0], err)
	byKey, txs, err := c.Sender(client, Options{}).OpenLeases(ctx, tenant.Account(), []Open{open(3, 50_000)})
	if err != nil || byKey[0].Reason != "" {
		t.Fatalf("open by the client key: %+v, %v", byKey, err)
	}
	report("open 1", txs[0], err)
	tx, err := ts.Raise(ctx, opened[1].Lease, 200_000)
	report("raise", tx, err)
	leases, err := Collect(c.Leases(ctx, LeaseFilter{Tenant: tenant.Account(), Open: true}))
	if err != nil || len(leases) != 3 {
		t.Fatalf("%d leases, %v", len(leases), err)
	}

	// The operator redeems for the owner, who pays the fee.
	op := c.Sender(operator, Options{Owner: owner.Account(), Payer: owner.Account()})
	voucher := voucherFor(t, session, opened[0].Lease, 300_000)
	redeemed, txs, err := op.Redeem(ctx, []market.Signed{voucher, voucher})
	if err != nil || len(redeemed) != 2 || redeemed[0].Reason != "" || redeemed[0].Amount != 300_000 {
		t.Fatalf("redeem: %+v, %v", redeemed, err)
	}
	report("redeem 2", txs[0], err)
	if all, err := Collect(c.Payouts(ctx, owner.Account())); err != nil || len(all) != 1 || all[0].GetAmount() != 300_000 {
		t.Errorf("payouts %v, %v", all, err)
	}
	_, err = op.Send(ctx, &leasev1.MsgWithdraw{Tenant: string(owner.Account())})
	if !errors.As(err, &r) {
		t.Errorf("beyond the grant: %v", err)
	}
	t.Log(err)

	release := receipt.Release{Lease: opened[0].Lease, Amount: fallow.Credits(300_000).Pico()}
	b, err := wire.EncodeRelease(release)
	if err != nil {
		t.Fatal(err)
	}
	released, txs, err := ps.Release(ctx, []market.Signed{wire.Sign(node, market.SignsRelease, realChain, b)})
	if err != nil || released[0].Reason != "" {
		t.Fatalf("release: %+v, %v", released, err)
	}
	report("release", txs[0], err)
	closed, txs, err := ts.CloseLeases(ctx, fallow.ReasonCompleted, []fallow.LeaseID{opened[0].Lease, opened[1].Lease, byKey[0].Lease})
	if err != nil || len(closed) != 3 {
		t.Fatalf("close: %+v, %v", closed, err)
	}
	report("close 3", txs[0], err)
	got, tx, err := ts.Withdraw(ctx, 1000)
	if err != nil || got != 1000 {
		t.Errorf("withdraw: %s, %v", got, err)
	}
	report("withdraw", tx, err)
	tx, err = ps.Pause(ctx, true)
	report("pause", tx, err)
	tx, err = ps.Update(ctx, listing)
	report("update", tx, err)
	at, tx, err := ps.Unbond(ctx, 1000)
	if err != nil || at == 0 {
		t.Errorf("unbond: %d, %v", at, err)
	}
	report("unbond", tx, err)
	events(t, c, from, tx.Height)
}

func voucherFor(t *testing.T, session ed25519.PrivateKey, lease fallow.LeaseID, amount fallow.Credits) market.Signed {
	t.Helper()
	b, err := wire.EncodeVoucher(receipt.Voucher{Lease: lease, Amount: amount.Pico(), ReceiptsRoot: fallow.Sum([]byte("root")), Receipts: 1})
	if err != nil {
		t.Fatal(err)
	}
	return wire.Sign(session, market.SignsVoucher, realChain, b)
}

// events checks that a follower is told what the market test did.
func events(t *testing.T, c *Client, from, to fallow.Height) {
	t.Helper()
	seen := map[string]int{}
	enough := errors.New("enough")
	err := c.Follow(t.Context(), from, func(b Block) error {
		for _, e := range b.Events {
			seen[fmt.Sprintf("%T", e.Message)]++
			switch e := e.Message.(type) {
			case *leasev1.EventLeaseOpened:
				if e.GetLease() == 0 || e.GetReserve() == 0 || e.GetTenant() == "" {
					t.Errorf("opened: %v", e)
				}
			case *leasev1.EventRedeemed:
				if e.GetAmount() != 300_000 {
					t.Errorf("redeemed: %v", e)
				}
			}
		}
		if b.Height >= to {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		t.Fatal(err)
	}
	want := map[string]int{
		fmt.Sprintf("%T", &leasev1.EventLeaseOpened{}): 3, fmt.Sprintf("%T", &leasev1.EventLeaseSkipped{}): 1,
		fmt.Sprintf("%T", &leasev1.EventRedeemed{}): 1, fmt.Sprintf("%T", &providerv1.EventUnbonding{}): 1,
	}
	for name, n := range want {
		if seen[name] != n {
			t.Errorf("%d %s, want %d; seen %v", seen[name], name, n, seen)
		}
	}
}

var _ Signer = (*keys.Secret)(nil)
