package adapter

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"cosmossdk.io/core/address"
	errorsmod "cosmossdk.io/errors"
	"cosmossdk.io/log/v2"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	dbm "github.com/cosmos/cosmos-db"
	sdkaddress "github.com/cosmos/cosmos-sdk/codec/address"
	"github.com/cosmos/cosmos-sdk/runtime"
	"github.com/cosmos/cosmos-sdk/store/v2/rootmulti"
	storetypes "github.com/cosmos/cosmos-sdk/store/v2/types"
	sdk "github.com/cosmos/cosmos-sdk/types"
	"github.com/cosmos/cosmos-sdk/types/query"
	"github.com/cosmos/gogoproto/proto"
	"pgregory.net/rapid"

	"fallow.network"
	api "fallow.network/api/chain/provider"
	"fallow.network/market"
)

func newStore(t *testing.T) fallow.Store {
	t.Helper()
	key := storetypes.NewKVStoreKey("x")
	ms := rootmulti.NewStore(dbm.NewMemDB(), log.NewNopLogger())
	ms.MountStoreWithDB(key, storetypes.StoreTypeIAVL, nil)
	if err := ms.LoadLatestVersion(); err != nil {
		t.Fatal(err)
	}
	ctx := sdk.NewContext(ms.CacheMultiStore(), cmtproto.Header{}, false, log.NewNopLogger())
	return Store(runtime.NewKVStoreService(key).OpenKVStore(ctx))
}

// TestStore holds the adapter against the store in memory: the rules can't tell
// them apart.
func TestStore(t *testing.T) {
	ours := newStore(t)
	var model fallow.Memory
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.SliceOfN(rapid.ByteRange(0, 3), 1, 3)
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			k := key.Draw(t, "key")
			switch rapid.IntRange(0, 2).Draw(t, "what") {
			case 0:
				v := rapid.SliceOfN(rapid.ByteRange(0, 2), 0, 3).Draw(t, "value")
				if err := errors.Join(ours.Set(k, v), model.Set(k, v)); err != nil {
					t.Fatal(err)
				}
			case 1:
				if err := errors.Join(ours.Delete(k), model.Delete(k)); err != nil {
					t.Fatal(err)
				}
			default:
				a, err := ours.Get(k)
				b, _ := model.Get(k)
				if err != nil || (a == nil) != (b == nil) || !bytes.Equal(a, b) {
					t.Fatalf("get %x: %x, want %x: %v", k, a, b, err)
				}
			}
			start, end := rapid.SliceOfN(rapid.ByteRange(0, 3), 0, 2).Draw(t, "start"), key.Draw(t, "end")
			if rapid.Bool().Draw(t, "to the end") {
				end = nil
			}
			if a, b := list(t, ours, start, end), list(t, &model, start, end); !bytes.Equal(a, b) {
				t.Fatalf("scan [%x, %x): %x, want %x", start, end, a, b)
			}
		}
	})
}

func list(t *rapid.T, s fallow.Store, start, end []byte) []byte {
	var all []byte
	left := 5
	err := s.Scan(start, end, func(k, v []byte) bool {
		all = append(append(append(append(all, byte(len(k))), k...), byte(len(v))), v...)
		left--
		return left > 0
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestStored keeps every stored value provable, and the way back exact.
func TestStored(t *testing.T) {
	for _, v := range [][]byte{{}, {0}, {0, 0}, {1}, {1, 0}, {255}} {
		s := Stored(v)
		if len(s) == 0 || !bytes.Equal(Plain(s), v) {
			t.Errorf("%x is stored as %x and read as %x", v, s, Plain(s))
		}
	}
}

// till is a bank that notes what moves.
type till struct {
	moves []string
	err   error
}

func (b *till) SendCoins(_ context.Context, from, to sdk.AccAddress, amount sdk.Coins) error {
	b.moves = append(b.moves, from.String()+" "+to.String()+" "+amount.String())
	return b.err
}

func TestApply(t *testing.T) {
	var codec address.Codec = sdkaddress.Bech32Codec{Bech32Prefix: sdk.GetConfig().GetBech32AccountAddrPrefix()}
	who := sdk.AccAddress(bytes.Repeat([]byte{1}, 20))
	account, err := Account(codec, who.String())
	if err != nil {
		t.Fatal(err)
	}
	ctx := sdk.NewContext(nil, cmtproto.Header{Height: 3}, false, log.NewNopLogger())
	event := func(e market.Effect) proto.Message {
		if r, ok := e.(market.Registered); ok {
			return &api.EventRegistered{Provider: string(r.Provider)}
		}
		return nil
	}
	bank := &till{}
	err = Apply(ctx, bank, codec, []market.Effect{
		market.Move{From: account, To: market.BondPool, Denom: "ufal", Amount: 5},
		market.Move{From: account, To: market.BondPool, Denom: "ufal"},
		market.Registered{Provider: account},
	}, event)
	if err != nil || len(bank.moves) != 1 {
		t.Errorf("%v, moved %q", err, bank.moves)
	}
	if events := ctx.EventManager().Events(); len(events) != 1 || events[0].Type != "fallow.provider.v1.EventRegistered" {
		t.Errorf("events %v", events)
	}
	for name, e := range map[string]market.Effect{
		"an event that nothing tells of": market.Updated{},
		"a party that is none":           market.Move{From: "nobody", To: account, Denom: "ufal", Amount: 1},
	} {
		if err := Apply(ctx, bank, codec, []market.Effect{e}, event); err == nil {
			t.Errorf("%s was applied", name)
		}
	}
	bank.err = errors.New("empty")
	if err := Apply(ctx, bank, codec, []market.Effect{market.Move{From: account, To: account, Denom: "ufal", Amount: 1}}, event); !errors.Is(err, bank.err) {
		t.Errorf("err = %v", err)
	}
}

func TestRefusals(t *testing.T) {
	no := &market.Refusal{Code: 77, Text: "no"}
	r := Register("adaptertest", no)
	space, code, text := errorsmod.ABCIInfo(r.Error(errors.Join(errors.New("open lease 5"), no)), false)
	if space != "adaptertest" || code != 77 || text != "open lease 5\nno" {
		t.Errorf("%s %d %q", space, code, text)
	}
	if space, code, _ := errorsmod.ABCIInfo(r.Error(market.ErrMalformed), false); space != "sdk" || code != 18 {
		t.Errorf("malformed: %s %d", space, code)
	}
	if other := errors.New("other"); !errors.Is(r.Error(other), other) || r.Error(nil) != nil {
		t.Error("other errors do not stay")
	}
}

func TestPage(t *testing.T) {
	turns := func(r *query.PageRequest, items int) (list []Turn) {
		p, err := NewPage(r)
		if err != nil {
			t.Fatal(err)
		}
		for range items {
			list = append(list, p.Next())
		}
		return list
	}
	if got := turns(&query.PageRequest{Offset: 1, Limit: 2}, 4); got[0] != Skip || got[1] != Take || got[2] != Take || got[3] != Full {
		t.Errorf("turns %v", got)
	}
	if got := turns(nil, 101); got[99] != Take || got[100] != Full {
		t.Errorf("a first page of %v", got)
	}
	for _, r := range []*query.PageRequest{{Reverse: true}, {CountTotal: true}, {Key: []byte{1}, Offset: 1}, {Limit: 1001}, {Offset: 1 << 40}, {Key: make([]byte, 300)}} {
		if _, err := NewPage(r); err == nil {
			t.Errorf("%+v was taken", r)
		}
	}
}
