package app

import (
	"crypto/ed25519"
	"testing"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"
	sdk "github.com/cosmos/cosmos-sdk/types"
	"github.com/cosmos/cosmos-sdk/types/tx/signing"
	"github.com/cosmos/gogoproto/proto"

	"fallow.network"
	leaseapi "fallow.network/api/chain/lease"
	providerapi "fallow.network/api/chain/provider"
	"fallow.network/market"
	"fallow.network/receipt"
	"fallow.network/wire"
)

// machine is a provider's node with its key.
type machine struct {
	key   ed25519.PrivateKey
	epoch uint64
}

func newKey(name string) ed25519.PrivateKey {
	seed := fallow.Sum([]byte(name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func newMachine(name string) machine { return machine{newKey(name), 1} }

func (m machine) id() fallow.Key { return wire.PublicKey(m.key) }

// session is the tenant's side of one lease.
type session struct{ key ed25519.PrivateKey }

func (s session) id() []byte { k := wire.PublicKey(s.key); return k[:] }

func credits(n uint64) fallow.Pico { return fallow.Credits(n).Pico() }

// offerOf makes an offer of a provider's machine to a tenant, changed by change.
func (l *ledger) offerOf(p person, m machine, tenant person, change func(*market.Offer)) market.Offer {
	l.t.Helper()
	o := market.Offer{
		Demand: fallow.Sum([]byte("demand")), Tenant: tenant.account(), Provider: p.account(), NodeKey: m.id(), KeyEpoch: m.epoch,
		Kind: market.KindBatch, Workload: fallow.Sum([]byte("work")), LastHeight: fallow.Height(l.height + 20), Profile: "fallow-1",
		Terms: market.Terms{
			GasPrice: fallow.PicoOf(1_000_000), Slots: 1, UnpaidCeiling: 1000, MaxReserve: 10_000_000, ClaimWindowMS: 10_000, IdleMS: 60_000,
		},
	}
	l.nonce++
	o.Nonce[0], o.Nonce[1] = byte(l.nonce), byte(l.nonce>>8)
	if change != nil {
		change(&o)
	}
	return o
}

func (l *ledger) signOffer(m machine, o market.Offer) leaseapi.Signed {
	l.t.Helper()
	raw, err := wire.EncodeOffer(o)
	if err != nil {
		l.t.Fatal(err)
	}
	return signed(wire.Sign(m.key, market.SignsOffer, testChain, raw))
}

func signed(s market.Signed) leaseapi.Signed {
	return leaseapi.Signed{Message: s.Message, Signature: s.Signature}
}

func (l *ledger) voucher(s session, lease uint64, amount fallow.Pico, receipts uint32) leaseapi.Signed {
	l.t.Helper()
	raw, err := wire.EncodeVoucher(receipt.Voucher{Lease: fallow.LeaseID(lease), Amount: amount, ReceiptsRoot: fallow.Sum([]byte("root")), Receipts: receipts})
	if err != nil {
		l.t.Fatal(err)
	}
	return signed(wire.Sign(s.key, market.SignsVoucher, testChain, raw))
}

func (l *ledger) horizon(s session, lease, sequence uint64, until time.Time) leaseapi.Signed {
	l.t.Helper()
	raw, err := wire.EncodeHorizon(receipt.Horizon{Lease: fallow.LeaseID(lease), Sequence: sequence, Until: fallow.Time(until.UnixMilli())})
	if err != nil {
		l.t.Fatal(err)
	}
	return signed(wire.Sign(s.key, market.SignsHorizon, testChain, raw))
}

func (l *ledger) release(m machine, lease uint64, amount fallow.Pico) leaseapi.Signed {
	l.t.Helper()
	raw, err := wire.EncodeRelease(receipt.Release{Lease: fallow.LeaseID(lease), Amount: amount})
	if err != nil {
		l.t.Fatal(err)
	}
	return signed(wire.Sign(m.key, market.SignsRelease, testChain, raw))
}

// answer reads the response to the first message of a transaction.
func answer[T proto.Message](l *ledger, r *abci.ExecTxResult, into T) T {
	l.t.Helper()
	l.must(r)
	var data sdk.TxMsgData
	if err := proto.Unmarshal(r.Data, &data); err != nil {
		l.t.Fatal(err)
	}
	if err := proto.Unmarshal(data.MsgResponses[0].Value, into); err != nil {
		l.t.Fatal(err)
	}
	return into
}

// wantReasons compares the reasons of results with what is wanted; "" is done.
func wantReasons(t *testing.T, results []leaseapi.Result, want ...fallow.Reason) {
	t.Helper()
	if len(results) != len(want) {
		t.Fatalf("%d results, want %d", len(results), len(want))
	}
	for i, r := range results {
		if fallow.Reason(r.Reason) != want[i] {
			t.Errorf("entry %d: reason %q, want %q", i, r.Reason, want[i])
		}
	}
}

// books checks that the coins of both modules are what their states sum up to.
func (l *ledger) books() {
	l.t.Helper()
	ctx := l.ctx()
	bonded, err := l.app.Provider.Registry(ctx).Bonded()
	if err != nil {
		l.t.Fatal(err)
	}
	if got := l.balance(moduleAddress("provider"), fallow.TokenDenom); uint64(got) != uint64(bonded) {
		l.t.Errorf("block %d: the provider module holds %d ufal, its state says %d", l.height, got, bonded)
	}
	if err := l.app.Lease.Books(ctx).Invariants(fallow.Credits(l.balance(escrow, fallow.CreditDenom))); err != nil {
		l.t.Errorf("block %d: %v", l.height, err)
	}
}

// fixture is a ledger with a provider of one machine and a funded tenant.
type fixture struct {
	*ledger
	pia, tom person
	node     machine
	work     session
}

func newFixture(t *testing.T, mode signing.SignMode, change func(*Genesis)) fixture {
	t.Helper()
	f := fixture{pia: newPerson("pia"), tom: newPerson("tom"), node: newMachine("node"), work: session{newKey("session")}}
	f.ledger = newLedger(t, func(g *Genesis) {
		g.Lease.CheckWindowMS, g.Provider.UnbondingMS = 20_000, 60_000
		if change != nil {
			change(g)
		}
	}, f.pia, f.tom, newPerson("eve"), newPerson("cleo"))
	f.mode = mode
	key := f.node.id()
	f.must(f.send(f.pia, &providerapi.MsgRegister{
		Owner: f.pia.String(), Bond: 200_000_000, Region: "eu", Hubs: []string{"/dns/hub/tcp/1"},
		Nodes:      []providerapi.NodeKey{{Key: key[:], Addrs: []string{"/ip4/127.0.0.1/tcp/1"}}},
		Attributes: []providerapi.Attribute{{Key: "power", Value: "solar"}},
	}))
	f.must(f.send(f.tom, &leaseapi.MsgDeposit{Sender: f.tom.String(), Amount: 50_000_000}))
	return f
}

func (f fixture) open(entries ...leaseapi.OpenEntry) []leaseapi.Result {
	f.t.Helper()
	r := f.send(f.tom, &leaseapi.MsgOpenLeases{Signer: f.tom.String(), Tenant: f.tom.String(), Entries: entries})
	return answer(f.ledger, r, &leaseapi.MsgOpenLeasesResponse{}).Results
}

func (f fixture) entry(change func(*market.Offer)) leaseapi.OpenEntry {
	return leaseapi.OpenEntry{Offer: f.signOffer(f.node, f.offerOf(f.pia, f.node, f.tom, change)), SessionKey: f.work.id(), Reserve: 1_000_000}
}

func (f fixture) redeem(vouchers ...leaseapi.Signed) []leaseapi.Result {
	f.t.Helper()
	r := f.send(f.pia, &leaseapi.MsgRedeem{Signer: f.pia.String(), Vouchers: vouchers})
	return answer(f.ledger, r, &leaseapi.MsgRedeemResponse{}).Results
}

var signModes = map[string]signing.SignMode{
	"direct": signing.SignMode_SIGN_MODE_DIRECT,
	"amino":  signing.SignMode_SIGN_MODE_LEGACY_AMINO_JSON,
}

// TestBatch takes a batch through every message of its life, signed both ways.
func TestBatch(t *testing.T) {
	for name, mode := range signModes {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, mode, nil)
			wantReasons(t, f.open(f.entry(nil), f.entry(nil)), "", "")
			f.must(f.send(f.tom, &leaseapi.MsgRaise{Signer: f.tom.String(), Lease: 1, Reserve: 2_000_000}))
			f.books()

			half := fallow.Pico{Lo: 500_000_500_000} // half a micro-credit is rounded down, once
			wantReasons(t, f.redeem(f.voucher(f.work, 1, half, 3)), "")
			wantReasons(t, f.redeem(
				f.voucher(f.work, 1, half, 3),                                // replayed
				f.voucher(f.work, 1, credits(400_000), 2),                    // down
				f.voucher(f.work, 1, credits(2_000_001), 9),                  // beyond the reserve
				f.voucher(f.work, 99, credits(1), 1),                         // for no lease
				f.voucher(session{newKey("other")}, 1, credits(600_000), 4),  // by another key
				leaseapi.Signed{Message: []byte{0xff}, Signature: []byte{1}}, // no voucher
			), fallow.ReasonVoucherReplayed, fallow.ReasonVoucherDown, fallow.ReasonVoucherBeyond, fallow.ReasonUnknownLease, fallow.ReasonSignature, fallow.ReasonMalformed)
			r := f.send(f.tom, &leaseapi.MsgRedeem{Signer: f.tom.String(), Vouchers: []leaseapi.Signed{f.voucher(f.work, 1, credits(700_000), 5)}})
			wantReasons(t, answer(f.ledger, r, &leaseapi.MsgRedeemResponse{}).Results, fallow.ReasonNotParty)
			f.books()

			r = f.send(f.tom, &leaseapi.MsgClose{Signer: f.tom.String(), Leases: []uint64{1, 2, 77}, Reason: string(fallow.ReasonCompleted)})
			wantReasons(t, answer(f.ledger, r, &leaseapi.MsgCloseResponse{}).Results, "", "", fallow.ReasonUnknownLease)
			r = f.send(f.pia, &leaseapi.MsgRelease{Signer: f.pia.String(), Releases: []leaseapi.Signed{f.release(f.node, 2, fallow.Pico{})}})
			if got := answer(f.ledger, r, &leaseapi.MsgReleaseResponse{}).Results[0]; got.Reason != "" || got.Amount != 1_000_000 {
				t.Errorf("release of lease 2: %+v", got)
			}
			wantReasons(t, f.redeem(f.voucher(f.work, 1, credits(800_000), 6)), "")
			f.block(15 * time.Second) // the claim window of lease 1 ends
			r = f.send(f.tom, &leaseapi.MsgClose{Signer: f.tom.String(), Leases: []uint64{1, 2}})
			wantReasons(t, answer(f.ledger, r, &leaseapi.MsgCloseResponse{}).Results, "", "")
			wantReasons(t, f.redeem(f.voucher(f.work, 1, credits(900_000), 7)), fallow.ReasonLeaseClosed)
			f.books()

			f.block(25 * time.Second) // payouts mature
			if got := f.balance(f.pia.addr, fallow.CreditDenom) - 1_000_000_000; got != 800_000 {
				t.Errorf("the provider was paid %d ucredit, want 800000", got)
			}
			r = f.send(f.tom, &leaseapi.MsgWithdraw{Tenant: f.tom.String()})
			if got := answer(f.ledger, r, &leaseapi.MsgWithdrawResponse{}).Amount; got != 50_000_000-800_000 {
				t.Errorf("the tenant withdrew %d ucredit", got)
			}
			if got := f.balance(escrow, fallow.CreditDenom); got != 0 {
				t.Errorf("escrow still holds %d ucredit", got)
			}
			f.books()
		})
	}
}

// TestBadOffers opens what must not open.
func TestBadOffers(t *testing.T) {
	f := newFixture(t, signing.SignMode_SIGN_MODE_DIRECT, nil)
	eve := newPerson("eve")
	good := f.entry(nil)
	forged := f.entry(nil)
	forged.Offer.Signature = append([]byte{}, forged.Offer.Signature...)
	forged.Offer.Signature[0] ^= 1
	changed := f.entry(nil)
	changed.Offer.Message = append(append([]byte{}, changed.Offer.Message...), 0x78, 0x01) // an unknown field
	otherNode := newMachine("another node")
	byOther := f.entry(nil)
	byOther.Offer = f.signOffer(otherNode, f.offerOf(f.pia, f.node, f.tom, nil))
	stranger := f.entry(nil)
	stranger.Offer = f.signOffer(otherNode, f.offerOf(f.pia, otherNode, f.tom, nil))
	poor := f.entry(func(o *market.Offer) { o.Terms.MaxReserve = 90_000_000 })
	poor.Reserve = 60_000_000
	none := f.entry(nil)
	none.Reserve = 0
	results := f.open(good, good, forged, changed, byOther, stranger,
		f.entry(func(o *market.Offer) { o.LastHeight = 1 }),
		f.entry(func(o *market.Offer) { o.LastHeight = 100_000 }),
		f.entry(func(o *market.Offer) { o.Tenant = eve.account() }),
		f.entry(func(o *market.Offer) { o.Provider = eve.account() }),
		f.entry(func(o *market.Offer) { o.KeyEpoch = 7 }),
		f.entry(func(o *market.Offer) { o.Terms.MaxReserve = 10 }),
		poor, none, f.entry(nil))
	wantReasons(t, results, "", fallow.ReasonOfferUsed, fallow.ReasonSignature, fallow.ReasonMalformed, fallow.ReasonSignature, fallow.ReasonSignature,
		fallow.ReasonExpired, fallow.ReasonFarAhead, fallow.ReasonOtherTenant, fallow.ReasonSignature, fallow.ReasonKeyEpoch,
		fallow.ReasonReserve, fallow.ReasonFunds, fallow.ReasonReserve, "")
	f.books()
	// Used offers stay used until they have expired, and are pruned then.
	wantReasons(t, f.open(good), fallow.ReasonOfferUsed)
	for range 25 {
		f.block(time.Second)
	}
	wantReasons(t, f.open(good), fallow.ReasonExpired)

	t.Run("exposure", func(t *testing.T) {
		big := f.entry(func(o *market.Offer) { o.Terms.MaxReserve = 200_000_000 })
		big.Reserve = 49_000_000 // half of 200 FAL of bond is 100 credits, 2 are taken
		f.must(f.send(f.tom, &leaseapi.MsgDeposit{Sender: f.tom.String(), Amount: 200_000_000}))
		again := f.entry(func(o *market.Offer) { o.Terms.MaxReserve = 200_000_000 })
		again.Reserve = 49_000_001
		wantReasons(t, f.open(big, again), "", fallow.ReasonExposure)
	})
	t.Run("a pause voids nothing", func(t *testing.T) {
		f.must(f.send(f.pia, &providerapi.MsgPause{Owner: f.pia.String(), Paused: true}))
		wantReasons(t, f.open(f.entry(nil)), "")
	})
	t.Run("unbonded", func(t *testing.T) {
		f.must(f.send(f.pia, &providerapi.MsgUnbond{Owner: f.pia.String()}))
		wantReasons(t, f.open(f.entry(nil)), fallow.ReasonUnbonded)
	})
	f.books()
}
