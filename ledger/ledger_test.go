package ledger

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	authzv1 "cosmossdk.io/api/cosmos/authz/v1beta1"
	bankv1 "cosmossdk.io/api/cosmos/bank/v1beta1"
	basev1 "cosmossdk.io/api/cosmos/base/v1beta1"
	txv1 "cosmossdk.io/api/cosmos/tx/v1beta1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"fallow.network"
	leasev1 "fallow.network/api/lease"
	"fallow.network/keys"
	"fallow.network/market"
)

// TestVectors compares our bytes with those that cosmos-sdk v0.55.0 signed:
// account number 3, sequence 6, gas 200000.
func TestVectors(t *testing.T) {
	k := secret(t, 0)
	to, err := keys.AccountFrom(make([]byte, 20))
	if err != nil {
		t.Fatal(err)
	}
	fill := func(n int, v byte) []byte { return bytes.Repeat([]byte{v}, n) }
	me := string(k.Account())
	operator := &Sender{key: k, options: Options{Owner: to}}
	exec, err := operator.wrap([]proto.Message{&leasev1.MsgRedeem{
		Signer: string(to), Vouchers: []*leasev1.Signed{{Message: []byte("v"), Signature: fill(64, 9)}}, Services: []uint64{1, 300},
	}})
	if err != nil {
		t.Fatal(err)
	}
	drafts := map[string]draft{
		"send": {
			messages: []proto.Message{&bankv1.MsgSend{FromAddress: me, ToAddress: string(to), Amount: []*basev1.Coin{coin(12345)}}},
			fee:      150, until: 77,
		},
		"two": {
			messages: []proto.Message{
				&leasev1.MsgDeposit{Sender: me, Amount: 5_000_000},
				&leasev1.MsgOpenLeases{Signer: me, Tenant: me, Entries: []*leasev1.OpenEntry{
					{Offer: signed(market.Signed{Message: []byte("an offer"), Signature: fill(64, 7)}), SessionKey: fill(32, 5), Reserve: 9},
					{Offer: &leasev1.Signed{}},
				}},
			},
			memo: "a memo", fee: 1,
		},
		"exec": {messages: exec, payer: to, until: 1 << 40},
	}
	text, err := os.ReadFile("testdata/transactions.txt")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for line := range strings.Lines(string(text)) {
		name, want, _ := strings.Cut(strings.TrimSpace(line), " ")
		d, ok := drafts[name]
		if !ok {
			t.Fatalf("vector %q has no draft", name)
		}
		d.chainID, d.number, d.sequence, d.gas = testChain, 3, 6, 200_000
		got, err := d.sign(k.Public(), k)
		if err != nil {
			t.Fatal(err)
		}
		if hex.EncodeToString(got) != want {
			t.Errorf("%s:\ngot  %x\nwant %s", name, got, want)
		}
		seen++
	}
	if seen != len(drafts) {
		t.Errorf("%d vectors for %d drafts", seen, len(drafts))
	}
}

func TestDraftBounds(t *testing.T) {
	k := secret(t, 0)
	for name, d := range map[string]draft{
		"empty": {},
		"many":  {messages: make([]proto.Message, maxMessages+1)},
		"gas":   {messages: []proto.Message{&leasev1.MsgClose{}}, gas: maxGas + 1},
		"bytes": {messages: []proto.Message{&leasev1.MsgClose{Reason: strings.Repeat("x", maxTxBytes)}}},
	} {
		if _, err := d.sign(k.Public(), k); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
}

func TestFee(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		gas := rapid.Uint64Range(0, maxGas).Draw(t, "gas")
		price := rapid.Uint64Range(0, 1_000_000_000_000).Draw(t, "price") // below 1 ufal
		fee, err := feeFor(gas, fallow.PicoOf(price))
		if err != nil {
			t.Fatal(err)
		}
		want, _ := fallow.PicoOf(price).Mul(gas)
		paid, _ := fallow.PicoOf(1_000_000_000_000).Mul(uint64(fee))
		if paid.Cmp(want) < 0 {
			t.Fatalf("%d ufal for %d gas at %d is too little", fee, gas, price)
		}
		if fee > 0 {
			less, _ := fallow.PicoOf(1_000_000_000_000).Mul(uint64(fee - 1))
			if less.Cmp(want) >= 0 {
				t.Fatalf("%d ufal for %d gas at %d is too much", fee, gas, price)
			}
		}
	})
	price, err := fallow.ParsePico("0.001")
	if err != nil {
		t.Fatal(err)
	}
	if fee, err := feeFor(200_001, price); err != nil || fee != 201 {
		t.Errorf("fee %d, %v", fee, err)
	}
}

func TestDial(t *testing.T) {
	good := newFake(t)
	other := newFake(t)
	other.network = "elsewhere-1"
	newer := newFake(t)
	newer.protocol = "fallow/2"
	behind := newFake(t)
	behind.syncing = true
	gone := newFake(t)
	gone.stop()
	endpoints := func(all ...*ledgerFake) Config {
		c := good.config()
		c.GRPC, c.RPC = nil, nil
		for _, l := range all {
			c.GRPC, c.RPC = append(c.GRPC, l.grpcAt), append(c.RPC, "http://"+l.rpcAt)
		}
		return c
	}
	for name, c := range map[string]struct {
		config Config
		want   error
	}{
		"the first":     {endpoints(good), nil},
		"the last":      {endpoints(gone, other, newer, behind, good), nil},
		"another chain": {endpoints(other), ErrOtherChain},
		"newer":         {endpoints(newer), ErrProtocol},
		"away":          {endpoints(gone), ErrAway},
		"one may come":  {endpoints(other, gone), ErrAway},
		"behind":        {endpoints(behind), errSyncing},
	} {
		t.Run(name, func(t *testing.T) {
			client, err := Dial(t.Context(), c.config)
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if err != nil {
				return
			}
			if _, err := client.Head(t.Context()); err != nil {
				t.Error(err)
			}
			if err := client.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	for name, c := range map[string]Config{
		"no chain":    {GRPC: []string{"x"}, RPC: []string{"http://x"}},
		"no endpoint": {ChainID: "a"},
		"rpc scheme":  {ChainID: "a", GRPC: []string{"x"}, RPC: []string{"x"}},
		"gas price":   {ChainID: "a", GRPC: []string{"x"}, RPC: []string{"http://x"}, GasPrice: "1ufal"},
	} {
		if _, err := Dial(t.Context(), c); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestGasPriceOfTheNode(t *testing.T) {
	l := newFake(t)
	config := l.config()
	config.GasPrice = ""
	c, err := Dial(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if p, err := c.gasPrice(t.Context()); err != nil || p.String() != "0.0025" {
		t.Errorf("%s, %v", p, err)
	}
}

// once checks that each of these happened exactly once and nothing else did.
func (l *ledgerFake) once(effects ...string) {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range effects {
		if l.done[e] != 1 {
			l.t.Errorf("%q happened %d times", e, l.done[e])
		}
	}
	if len(l.done) != len(effects) {
		l.t.Errorf("%d effects, want %d", len(l.done), len(effects))
	}
}

func transfers(t *testing.T, s *Sender, from, n int) []Tx {
	t.Helper()
	out := make([]Tx, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			tx, err := s.Transfer(t.Context(), s.Account(), Tokens(from+i))
			if err != nil {
				t.Errorf("transfer %d: %v", from+i, err)
			}
			out[i] = tx
		})
	}
	all.Wait()
	return out
}

func names(from, n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprint("send ", from+i))
	}
	return out
}

func TestManyInFlight(t *testing.T) {
	k := secret(t, 0)
	l := newFake(t, k.Account())
	l.tick(150 * time.Millisecond)
	s := l.dial().Sender(k, Options{})
	txs := transfers(t, s, 1000, 100)
	l.once(names(1000, 100)...)
	blocks := map[fallow.Height]int{}
	for _, tx := range txs {
		blocks[tx.Height]++
		if tx.Bytes < 200 || tx.Fee == 0 || tx.GasUsed == 0 || tx.GasWanted < tx.GasUsed || tx.Time == 0 || len(tx.Responses) != 1 {
			t.Fatalf("facts for the bill are missing: %+v", tx)
		}
	}
	if len(blocks) > 20 {
		t.Errorf("100 transactions took %d blocks: they went one by one", len(blocks))
	}
	if l.calls["simulate"] > 10 {
		t.Errorf("%d simulations for transactions of one kind", l.calls["simulate"])
	}
}

func TestSequenceTakenByAnother(t *testing.T) {
	k := secret(t, 0)
	l := newFake(t, k.Account())
	l.tick(50 * time.Millisecond)
	a, b := l.dial().Sender(k, Options{}), l.dial().Sender(k, Options{})
	transfers(t, a, 1, 1)
	transfers(t, b, 2, 1)
	transfers(t, a, 3, 5)
	transfers(t, b, 8, 5)
	l.once(names(1, 12)...)
}

func TestRestartLosesTheQueue(t *testing.T) {
	k := secret(t, 0)
	l := newFake(t, k.Account())
	s := l.dial().Sender(k, Options{})
	var all sync.WaitGroup
	all.Go(func() { transfers(t, s, 1, 20) })
	for queued := 0; queued < 20; time.Sleep(5 * time.Millisecond) {
		l.mu.Lock()
		queued = len(l.queue)
		l.mu.Unlock()
	}
	l.crash()
	time.Sleep(50 * time.Millisecond)
	l.start()
	l.tick(50 * time.Millisecond)
	all.Wait()
	l.once(names(1, 20)...)
	transfers(t, s, 21, 3)
	l.once(names(1, 23)...)
}

func TestAnswerLost(t *testing.T) {
	k := secret(t, 0)
	l := newFake(t, k.Account())
	l.tick(50 * time.Millisecond)
	lose := 3
	l.onSend = func([]byte) error {
		if lose--; lose >= 0 {
			return status.Error(codes.Unavailable, "connection reset")
		}
		return nil
	}
	s := l.dial().Sender(k, Options{})
	transfers(t, s, 1, 5)
	l.once(names(1, 5)...)
}

func TestForgottenAndExpired(t *testing.T) {
	k := secret(t, 0)
	l := newFake(t, k.Account())
	l.tick(20 * time.Millisecond)
	config := l.config()
	config.TimeoutBlocks = 8
	c, err := Dial(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	// The node says yes and forgets, until the first transaction is too late.
	var first []byte
	l.refuse = func(raw []byte) bool {
		if first == nil {
			first = raw
		}
		return bytes.Equal(raw, first)
	}
	transfers(t, c.Sender(k, Options{}), 1, 1)
	l.once(names(1, 1)...)
}

func TestOutOfGas(t *testing.T) {
	k := secret(t, 0)
	l := newFake(t, k.Account())
	l.tick(50 * time.Millisecond)
	l.simNeed = func(n int) uint64 { return l.gasNeed(n) / 3 }
	tx := transfers(t, l.dial().Sender(k, Options{}), 1, 1)[0]
	l.once(names(1, 1)...)
	if len(tx.Failed) != 1 || tx.Failed[0].Fee == 0 || tx.GasWanted <= tx.Failed[0].GasWanted {
		t.Errorf("the failed attempt is not told: %+v", tx)
	}
}

func TestRefusals(t *testing.T) {
	k := secret(t, 0)
	l := newFake(t, k.Account())
	l.tick(50 * time.Millisecond)
	c := l.dial()
	s := c.Sender(k, Options{})
	_, err := s.Transfer(t.Context(), k.Account(), 666)
	var r *RefusalError
	if !errors.As(err, &r) || !strings.Contains(err.Error(), "spendable balance 1ufal is smaller than 666ufal") || strings.Contains(err.Error(), "send.go") {
		t.Errorf("found by simulation: %v", err)
	}
	l.once()
	stranger := c.Sender(secret(t, 9), Options{})
	if _, err := stranger.Transfer(t.Context(), k.Account(), 1); !errors.Is(err, ErrNoAccount) {
		t.Errorf("no account: %v", err)
	}
	transfers(t, s, 1, 2)
	l.stop()
	if _, err := s.Transfer(t.Context(), k.Account(), 7); !Away(err) {
		t.Errorf("away: %v", err)
	}
	l.once(names(1, 2)...)
}

func TestRefusedInABlock(t *testing.T) {
	k := secret(t, 0)
	l := newFake(t, k.Account())
	s := l.dial().Sender(k, Options{})
	l.simNeed = func(int) uint64 { return 10_000 }
	var all sync.WaitGroup
	all.Go(func() {
		tx, err := s.Send(t.Context(), &leasev1.MsgClose{Signer: "a", Leases: []uint64{1}})
		if err != nil || tx.Height == 0 {
			t.Error(err)
		}
	})
	l.waitQueue(1)
	// The estimate of the first serves the second, so no simulation finds it.
	all.Go(func() {
		tx, err := s.Send(t.Context(), &leasev1.MsgClose{Signer: "a", Leases: []uint64{666}})
		var r *RefusalError
		if !errors.As(err, &r) || r.Codespace != "lease" || r.Code != 7 || r.Height == 0 || tx.Fee == 0 || tx.Height != r.Height {
			t.Errorf("got %+v, %v", tx, err)
		}
	})
	l.waitQueue(2)
	l.gasNeed = func(int) uint64 { return 10_000 }
	l.commit()
	all.Wait()
	l.once("close 1")
}

func (l *ledgerFake) waitQueue(n int) {
	l.t.Helper()
	for range 1000 {
		l.mu.Lock()
		queued := len(l.queue)
		l.mu.Unlock()
		if queued >= n {
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
	l.t.Fatalf("%d transactions never came", n)
}

func TestBatch(t *testing.T) {
	k := secret(t, 0)
	l := newFake(t, k.Account())
	l.tick(100 * time.Millisecond)
	s := l.dial().Sender(k, Options{Window: 50 * time.Millisecond, MaxEntries: 30})
	var all sync.WaitGroup
	var mu sync.Mutex
	hashes := map[Hash]int{} // how many calls each carried
	for i := range 40 {
		all.Go(func() {
			id := uint64(10*i + 1)
			opens := []Open{
				{Offer: market.Signed{Message: fmt.Appendf(nil, "offer %d", id)}, Reserve: fallow.Credits(id)},
				{Offer: market.Signed{Message: fmt.Appendf(nil, "bad %d", id)}},
			}
			r, txs, err := s.OpenLeases(t.Context(), k.Account(), opens)
			if err != nil || len(r) != 2 || r[0].Lease != fallow.LeaseID(id) || r[0].Reason != "" || r[1].Reason != fallow.ReasonOfferUsed {
				t.Errorf("call %d: %+v, %v", i, r, err)
				return
			}
			mu.Lock()
			hashes[txs[0].Hash] = txs[0].Shared
			mu.Unlock()
		})
	}
	all.Wait()
	shared := 0
	for _, n := range hashes {
		shared += n
	}
	if len(hashes) > 10 || shared != 40 {
		t.Errorf("40 calls took %d transactions, which count %d", len(hashes), shared)
	}
}

func TestBatchWithABadCall(t *testing.T) {
	k := secret(t, 0)
	l := newFake(t, k.Account())
	l.tick(50 * time.Millisecond)
	s := l.dial().Sender(k, Options{Window: 50 * time.Millisecond})
	var all sync.WaitGroup
	for i := range 6 {
		all.Go(func() {
			id := fallow.LeaseID(i + 1)
			if i == 3 {
				id = 666
			}
			r, _, err := s.CloseLeases(t.Context(), fallow.ReasonCompleted, []fallow.LeaseID{id})
			var refusal *RefusalError
			if bad := i == 3; bad != errors.As(err, &refusal) || !bad && (len(r) != 1 || r[0].Lease != id) {
				t.Errorf("call %d: %+v, %v", i, r, err)
			}
		})
	}
	all.Wait()
	l.once("close 1", "close 2", "close 3", "close 5", "close 6")
}

func TestChunks(t *testing.T) {
	k := secret(t, 0)
	l := newFake(t, k.Account())
	l.tick(30 * time.Millisecond)
	s := l.dial().Sender(k, Options{MaxEntries: 4})
	var leases []fallow.LeaseID
	for i := range 10 {
		leases = append(leases, fallow.LeaseID(i+1))
	}
	r, txs, err := s.CloseLeases(t.Context(), fallow.ReasonCompleted, leases)
	if err != nil || len(r) != 10 || len(txs) != 3 || r[9].Lease != 10 {
		t.Errorf("%d results, %d transactions, %v", len(r), len(txs), err)
	}
}

func TestOperator(t *testing.T) {
	owner, operator := secret(t, 0), secret(t, 1)
	l := newFake(t, owner.Account(), operator.Account())
	l.tick(30 * time.Millisecond)
	c := l.dial()
	if _, err := c.Sender(owner, Options{}).GrantOperator(t.Context(), operator.Account(), Upkeep(), 1000, time.Unix(2_000_000_000, 0)); err != nil {
		t.Fatal(err)
	}
	s := c.Sender(operator, Options{Owner: owner.Account(), Payer: owner.Account()})
	r, txs, err := s.Redeem(t.Context(), []market.Signed{{Message: []byte("a")}, {Message: []byte("b")}})
	if err != nil || len(r) != 2 || r[1].Amount != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var tx txv1.TxRaw
	var body txv1.TxBody
	var auth txv1.AuthInfo
	raw := l.blocks[txs[0].Height-1].txs[0]
	if err := errors.Join(proto.Unmarshal(raw, &tx), proto.Unmarshal(tx.GetBodyBytes(), &body), proto.Unmarshal(tx.GetAuthInfoBytes(), &auth)); err != nil {
		t.Fatal(err)
	}
	var exec authzv1.MsgExec
	if err := body.GetMessages()[0].UnmarshalTo(&exec); err != nil || exec.GetGrantee() != string(operator.Account()) || auth.GetFee().GetGranter() != string(owner.Account()) {
		t.Errorf("not sent for the owner: %v", err)
	}
}

func TestUnsettled(t *testing.T) {
	k := secret(t, 0)
	l := newFake(t, k.Account())
	c := l.dial()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := c.Sender(k, Options{}).Transfer(ctx, k.Account(), 1)
	var u *UnsettledError
	if !errors.As(err, &u) || !errors.Is(err, context.DeadlineExceeded) || u.Until < 10 {
		t.Fatalf("got %v", err)
	}
	if _, err := c.Find(t.Context(), u.Hash, 1, 0); !errors.Is(err, ErrNotFound) {
		t.Errorf("before the block: %v", err)
	}
	h := l.commit()
	if _, err := c.WaitHeight(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	tx, err := c.Find(t.Context(), u.Hash, 1, u.Until)
	if err != nil || tx.Height != h || tx.Bytes == 0 {
		t.Errorf("after it: %+v, %v", tx, err)
	}
}

func TestFollow(t *testing.T) {
	k := secret(t, 0)
	l := newFake(t, k.Account())
	c := l.dial()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	blocks := make(chan Block, 1000)
	var following sync.WaitGroup
	following.Go(func() {
		err := c.Follow(ctx, 1, func(b Block) error { blocks <- b; return nil })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("follow ended: %v", err)
		}
	})
	for range 3 {
		l.commit()
	}
	l.crash()
	for range 3 { // as another node would go on meanwhile
		l.commit()
	}
	time.Sleep(50 * time.Millisecond)
	l.start()
	s := c.Sender(k, Options{})
	var opening sync.WaitGroup
	opening.Go(func() {
		if _, _, err := s.OpenLeases(t.Context(), k.Account(), []Open{{Offer: market.Signed{Message: []byte("o")}, Reserve: 77}}); err != nil {
			t.Error(err)
		}
	})
	l.waitQueue(1)
	l.mu.Lock()
	l.events = []rawEvent{
		typedEvent("fallow.lease.v1.EventPaid", "provider", `"fal1x"`, "amount", `"9"`, "mode", "EndBlock"),
		typedEvent("fallow.lease.v1.EventOfTheFuture", "x", `1`),
		typedEvent("coin_spent", "amount", "1ufal"),
	}
	l.mu.Unlock()
	last := l.commit()
	opening.Wait()
	for h := fallow.Height(1); h <= last; h++ {
		select {
		case b := <-blocks:
			if b.Height != h || b.Time == 0 {
				t.Fatalf("block %d came for %d", b.Height, h)
			}
			if h != last {
				continue
			}
			if len(b.Events) != 2 || b.Events[0].Tx != 0 || b.Events[1].Tx != -1 {
				t.Fatalf("events %+v", b.Events)
			}
			if o, ok := b.Events[0].Message.(*leasev1.EventLeaseOpened); !ok || o.GetLease() != 77 || o.GetOffer() != "o" {
				t.Errorf("opened: %v", b.Events[0].Message)
			}
			if p, ok := b.Events[1].Message.(*leasev1.EventPaid); !ok || p.GetAmount() != 9 || p.GetProvider() != "fal1x" {
				t.Errorf("paid: %v", b.Events[1].Message)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("block %d never came", h)
		}
	}
	cancel()
	following.Wait()
}

func TestPico(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := fallow.Pico{Hi: rapid.Uint64().Draw(t, "hi"), Lo: rapid.Uint64().Draw(t, "lo")}
		// The digits without the point, which String puts before the last twelve.
		text := p.String()
		whole, frac, _ := strings.Cut(text, ".")
		digits := strings.TrimLeft(whole+frac+strings.Repeat("0", 12-len(frac)), "0")
		if digits == "" {
			digits = "0"
		}
		if got, err := Pico(digits); err != nil || got != p {
			t.Fatalf("%s: %v, %v", digits, got, err)
		}
	})
	for _, bad := range []string{"", "-1", "1.5", "340282366920938463463374607431768211456", strings.Repeat("1", 50)} {
		if _, err := Pico(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestTokens(t *testing.T) {
	if v, err := ParseTokens("1.25"); err != nil || v != 1_250_000 || v.String() != "1.25" {
		t.Errorf("%v, %v", v, err)
	}
	if _, err := ParseTokens("1.1234567"); err == nil {
		t.Error("seven decimals")
	}
}

func TestBatchCallerLeaves(t *testing.T) {
	k := secret(t, 0)
	l := newFake(t, k.Account())
	c := l.dial()
	s := c.Sender(k, Options{Window: 30 * time.Millisecond})
	ctx, leave := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() {
		_, _, err := s.CloseLeases(ctx, fallow.ReasonCompleted, []fallow.LeaseID{1})
		var u *UnsettledError
		if !errors.As(err, &u) || u.Hash == (Hash{}) || !errors.Is(err, context.Canceled) {
			t.Errorf("left on the way: %v", err)
		}
	})
	all.Go(func() {
		if _, _, err := s.CloseLeases(t.Context(), fallow.ReasonCompleted, []fallow.LeaseID{2}); err != nil {
			t.Error(err)
		}
	})
	l.waitQueue(1)
	leave()
	time.Sleep(20 * time.Millisecond)
	l.commit()
	all.Wait()
	l.once("close 1", "close 2")

	gone, leave := context.WithCancel(t.Context())
	leave()
	all.Go(func() {
		_, _, err := s.CloseLeases(gone, fallow.ReasonCompleted, []fallow.LeaseID{3})
		var u *UnsettledError
		if err == nil || errors.As(err, &u) {
			t.Errorf("left before: %v", err)
		}
	})
	all.Go(func() {
		if _, _, err := s.CloseLeases(t.Context(), fallow.ReasonCompleted, []fallow.LeaseID{4}); err != nil {
			t.Error(err)
		}
	})
	l.waitQueue(1)
	l.commit()
	all.Wait()
	l.once("close 1", "close 2", "close 4")
}

// TestWords feeds parsers of nodes' answers with what no node says.
func TestWords(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "bytes")
		if h, err := parseWord(b); err == nil && h.Height < 0 {
			t.Fatal("a negative head")
		}
		e := typedEvent(
			rapid.SampledFrom([]string{"fallow.lease.v1.EventPaid", "fallow.lease.v1.Params", "fallow.x", "fallow.lease.v1.State"}).Draw(t, "type"),
			rapid.SampledFrom([]string{"provider", "amount", "mode", "", "check_window_ms"}).Draw(t, "key"),
			rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{`"1"`, `"-1"`, `{}`, `[1]`, `null`, `"x"`})).Draw(t, "value"),
		)
		readEvents([]rawEvent{e, e}, 0)
		if _, ok := expected(rapid.String().Draw(t, "log")); ok {
			t.Fatal("a sequence out of nothing")
		}
	})
	if _, err := parseWord([]byte(`{"error":{"code":1,"message":"max subscriptions"}}`)); err == nil {
		t.Error("a refused subscription was taken")
	}
	if n, ok := expected("account sequence mismatch, expected 12, got 9: incorrect account sequence"); !ok || n != 12 {
		t.Errorf("%d, %v", n, ok)
	}
}
