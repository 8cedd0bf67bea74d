package sdk

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"fallow.network"
	leasev1 "fallow.network/api/lease"
	"fallow.network/client"
	"fallow.network/keys"
	"fallow.network/ledger"
	"fallow.network/market"
	"fallow.network/settle"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func account(t *testing.T) fallow.Account {
	t.Helper()
	words, err := keys.NewMnemonic()
	if err != nil {
		t.Fatal(err)
	}
	s, err := keys.ParseSecret(words, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s.Account()
}

func bytesOf(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

func goodLease() *leasev1.Lease {
	return &leasev1.Lease{
		Id: 7, Tenant: "fal1t", Provider: "fal1p", Client: "fal1c", NodeKey: bytesOf(1), KeyEpoch: 3, SessionKey: bytesOf(2),
		Kind: uint32(market.KindBatch), State: leasev1.State(settle.Closing), Offer: bytesOf(3), Workload: bytesOf(4),
		OpenedHeight: 11, OpenedUnixMs: 12, Reserve: 13, MaxReserve: 14, Claimed: "15000000", Paid: 16, ReceiptsRoot: bytesOf(5), Receipts: 17,
		ClaimWindowMs: 18, IdleMs: 19, DeadlineUnixMs: 20, Reason: string(fallow.ReasonCompleted), ClosedBy: "fal1x",
		Rate: "21", DiskRate: "22", HorizonUnixMs: 23, HorizonSequence: 24,
	}
}

func TestLeaseOf(t *testing.T) {
	l, err := leaseOf(goodLease())
	if err != nil {
		t.Fatal(err)
	}
	want := settle.Lease{
		ID: 7, Tenant: "fal1t", Provider: "fal1p", Client: "fal1c", NodeKey: fallow.Key(bytesOf(1)), KeyEpoch: 3, SessionKey: fallow.Key(bytesOf(2)),
		Kind: market.KindBatch, State: settle.Closing, Offer: fallow.Digest(bytesOf(3)), Workload: fallow.Digest(bytesOf(4)),
		Opened: settle.Block{Height: 11, Time: 12}, Reserve: 13, MaxReserve: 14, Claimed: fallow.PicoOf(15_000_000), Paid: 16,
		ReceiptsRoot: fallow.Digest(bytesOf(5)), Receipts: 17, ClaimWindowMS: 18, IdleMS: 19, Deadline: 20, Reason: fallow.ReasonCompleted,
		ClosedBy: "fal1x", Rate: fallow.PicoOf(21), DiskRate: fallow.PicoOf(22), Horizon: 23, Sequence: 24,
	}
	if l != want {
		t.Errorf("got  %+v\nwant %+v", l, want)
	}

	// A batch has no rates and a fresh lease no root: empty is zero.
	bare := goodLease()
	bare.Rate, bare.DiskRate, bare.Claimed, bare.ReceiptsRoot = "", "", "", nil
	if l, err := leaseOf(bare); err != nil || !l.Rate.IsZero() || !l.Claimed.IsZero() || !l.ReceiptsRoot.IsZero() {
		t.Errorf("%+v, %v", l, err)
	}
	for name, change := range map[string]func(*leasev1.Lease){
		"a node key that is short":    func(l *leasev1.Lease) { l.NodeKey = l.NodeKey[:31] },
		"no session key":              func(l *leasev1.Lease) { l.SessionKey = nil },
		"a digest that is long":       func(l *leasev1.Lease) { l.Offer = append(l.Offer, 0) },
		"an amount below zero":        func(l *leasev1.Lease) { l.Claimed = "-1" },
		"an amount above 128 bits":    func(l *leasev1.Lease) { l.Rate = strings.Repeat("9", 39) },
		"an amount that is no number": func(l *leasev1.Lease) { l.DiskRate = "0x1" },
	} {
		l := goodLease()
		change(l)
		if _, err := leaseOf(l); err == nil || !strings.Contains(err.Error(), "lease 7 as the node tells it") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAccountOf(t *testing.T) {
	a, err := accountOf(&leasev1.Account{Owner: "fal1t", Free: "1000000", Reserved: "5", AdvancedUnixMs: 9, OpenLeases: 2})
	want := settle.Account{Owner: "fal1t", Free: fallow.PicoOf(1_000_000), Reserved: fallow.PicoOf(5), Advanced: 9, Open: 2}
	if err != nil || !reflect.DeepEqual(a, want) {
		t.Errorf("%+v, %v", a, err)
	}
	for _, bad := range []*leasev1.Account{{Free: "", Reserved: "0"}, {Free: "0", Reserved: "x"}, {Free: strings.Repeat("9", 40), Reserved: "0"}} {
		if _, err := accountOf(bad); err == nil {
			t.Errorf("took %+v", bad)
		}
	}
}

// Each failure is told apart, most telling first.
func TestFailures(t *testing.T) {
	names := map[error]string{}
	for _, f := range Failures() {
		if names[f.Err] != "" {
			t.Errorf("%v is listed twice", f.Err)
		}
		names[f.Err] = f.Name
	}
	first := func(err error) string {
		for _, f := range Failures() {
			if errors.Is(err, f.Err) {
				return f.Name
			}
		}
		return ""
	}
	for want, errs := range map[string][]error{
		"version":   {fmt.Errorf("dial: %w: %w", ledger.ErrAway, ledger.ErrProtocol)},
		"usage":     {fmt.Errorf("dial: %w: %w", ledger.ErrAway, ledger.ErrOtherChain), ErrNotJoined, keys.ErrNoPassphrase, ErrNoConfig},
		"busy":      {fmt.Errorf("x: %w", ErrBusy), client.ErrRunning},
		"not found": {client.ErrNoJob, fmt.Errorf("key: %w", keys.ErrNoKey)},
		"funds":     {ledger.ErrNoAccount, ledger.ErrFunds},
		"away":      {away(fmt.Errorf("x: %w", ledger.ErrAway)), ErrAway, away(&ledger.UnsettledError{Err: errors.New("x")})},
		"":          {errors.New("x"), away(errors.New("x"))},
	} {
		for _, err := range errs {
			if got := first(err); got != want {
				t.Errorf("%v ends with %q, want %q", err, got, want)
			}
		}
	}
	if away(nil) != nil {
		t.Error("nothing is away")
	}
}

// Calls that shared a transaction count it once; attempts that failed paid too.
func TestTransactions(t *testing.T) {
	tx := func(b byte) ledger.Tx {
		return ledger.Tx{Hash: ledger.Hash(bytesOf(b)), Height: fallow.Height(b), Bytes: 10 * int(b), Fee: ledger.Tokens(b), GasUsed: uint64(b)}
	}
	one, two := tx(1), tx(2)
	two.Failed = []ledger.Tx{tx(3)}
	got := transactions(one, two, one, ledger.Tx{})
	if len(got) != 3 {
		t.Fatalf("%d transactions: %+v", len(got), got)
	}
	for i, b := range []byte{1, 3, 2} {
		if g := got[i]; g.Hash != ledger.Hash(bytesOf(b)).String() || g.Height != fallow.Height(b) || g.Bytes != 10*uint64(b) || g.Fee != uint64(b) || g.GasUsed != uint64(b) {
			t.Errorf("%d: %+v", i, g)
		}
	}
}

func TestOnce(t *testing.T) {
	var o once[int]
	if _, have := o.have(); have {
		t.Error("has what was never made")
	}
	calls := 0
	build := func() (int, error) {
		if calls++; calls < 3 {
			return 0, errors.New("not yet")
		}
		return 42, nil
	}
	for want := range 5 {
		v, err := o.get(build)
		if made := want >= 2; made != (err == nil) || made && v != 42 {
			t.Errorf("call %d: %d, %v", want, v, err)
		}
	}
	if v, have := o.have(); !have || v != 42 || calls != 3 {
		t.Errorf("%d, %t after %d calls", v, have, calls)
	}
}

// What every provider would refuse is refused before anybody is asked.
func TestCheckModule(t *testing.T) {
	dir := t.TempDir()
	command := "\x00asm\x01\x00\x00\x00" + // one function, exported as _start, that does nothing
		"\x01\x04\x01\x60\x00\x00" + "\x03\x02\x01\x00" + "\x07\x0a\x01\x06_start\x00\x00" + "\x0a\x04\x01\x02\x00\x0b"
	for _, c := range []struct{ name, module, says string }{
		{"command", command, ""},
		{"no module", "GIF89a", ""}, // the client explains what it is
		{"library", strings.Replace(command, "_start", "_begin", 1), "_start"},
		{"truncated", command[:len(command)-3], "module"},
		{"header alone", command[:8], "_start"},
		{"nonsense", command[:8] + "\x7f\x7f\x7f", "module"},
	} {
		at := filepath.Join(dir, "m.wasm")
		put(t, at, c.module)
		err := checkModule(at, 1)
		if c.says == "" {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if err == nil {
			t.Errorf("%s passes", c.name)
		}
	}
	if err := checkModule(filepath.Join(dir, "none"), 1); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("none: %v", err)
	}
}
