package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	authzv1 "cosmossdk.io/api/cosmos/authz/v1beta1"
	txv1 "cosmossdk.io/api/cosmos/tx/v1beta1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"fallow.network"
	leasev1 "fallow.network/api/lease"
	"fallow.network/market"
)

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
