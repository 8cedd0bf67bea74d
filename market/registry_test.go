package market

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"fallow.network"
)

func testRegistry(t rapid.TB) (Registry, *fallow.Memory) {
	t.Helper()
	s := &fallow.Memory{}
	r := Registry{Store: s}
	p := DefaultRegistryParams()
	p.MinBond, p.UnbondingMS, p.MaxNodes, p.MaxAttributes = 100, 1000, 3, 2
	if err := r.SetParams(p); err != nil {
		t.Fatal(err)
	}
	return r, s
}

func key(b byte) fallow.Key { return fallow.Key{b} }

func listing(keys ...byte) Listing {
	var l Listing
	for _, k := range keys {
		l.Nodes = append(l.Nodes, NodeListing{Key: key(k)})
	}
	return l
}

func TestRegisterRefuses(t *testing.T) {
	tests := []struct {
		name string
		do   func(r Registry) error
		want error
	}{
		{"small bond", func(r Registry) error { _, err := r.Register(Block{}, "p2", 99, listing(2)); return err }, ErrBond},
		{"twice", func(r Registry) error { _, err := r.Register(Block{}, "p1", 100, listing(2)); return err }, ErrRegistered},
		{"taken key", func(r Registry) error { _, err := r.Register(Block{}, "p2", 100, listing(1)); return err }, ErrNodeTaken},
		{"key twice", func(r Registry) error { _, err := r.Register(Block{}, "p2", 100, listing(2, 2)); return err }, ErrListing},
		{"zero key", func(r Registry) error { _, err := r.Register(Block{}, "p2", 100, listing(0)); return err }, ErrListing},
		{"many nodes", func(r Registry) error { _, err := r.Register(Block{}, "p2", 100, listing(2, 3, 4, 5)); return err }, ErrListing},
		{"attributes", func(r Registry) error {
			_, err := r.Register(Block{}, "p2", 100, Listing{Attributes: []Attribute{{"a", "1"}, {"a", "2"}}})
			return err
		}, ErrListing},
		{"address", func(r Registry) error {
			_, err := r.Register(Block{}, "p2", 100, Listing{Hubs: []string{"a b"}})
			return err
		}, ErrListing},
		{"not allowed", func(r Registry) error {
			p, _ := r.Params()
			p.Allowed = []fallow.Account{"p9"}
			if err := r.SetParams(p); err != nil {
				return err
			}
			_, err := r.Register(Block{}, "p2", 100, listing(2))
			return err
		}, ErrNotAllowed},
		{"unknown updates", func(r Registry) error { _, err := r.Update(Block{}, "p2", listing(2)); return err }, ErrUnknownProvider},
		{"nothing bonded", func(r Registry) error { _, err := r.Bond(Block{}, "p1", 0); return err }, ErrAmount},
		{"too much unbonded", func(r Registry) error { _, _, err := r.Unbond(Block{}, "p1", 151); return err }, ErrAmount},
		{"below the least", func(r Registry) error { _, _, err := r.Unbond(Block{}, "p1", 51); return err }, ErrBond},
		{"params", func(r Registry) error { return r.SetParams(RegistryParams{}) }, ErrParams},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, s := testRegistry(t)
			if _, err := r.Register(Block{}, "p1", 150, listing(1)); err != nil {
				t.Fatal(err)
			}
			before := s.Clone()
			if err := tt.do(r); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if !errors.Is(tt.want, ErrNotAllowed) && !reflect.DeepEqual(before, s) {
				t.Error("a refusal has written")
			}
		})
	}
}

func TestRotationEndsEpochs(t *testing.T) {
	r, _ := testRegistry(t)
	epoch := func(k byte) uint64 {
		e, ok, err := r.NodeEpoch("p1", key(k))
		if err != nil || !ok {
			return 0
		}
		return e
	}
	if _, err := r.Register(Block{}, "p1", 150, listing(1, 2)); err != nil {
		t.Fatal(err)
	}
	if epoch(1) != 1 || epoch(2) != 2 {
		t.Fatalf("epochs %d %d", epoch(1), epoch(2))
	}
	l := listing(1, 2)
	l.Nodes[1].Rotate = true
	if _, err := r.Update(Block{}, "p1", l); err != nil {
		t.Fatal(err)
	}
	if epoch(1) != 1 || epoch(2) != 3 {
		t.Errorf("after a rotation %d %d", epoch(1), epoch(2))
	}
	if _, err := r.Update(Block{}, "p1", listing(2)); err != nil {
		t.Fatal(err)
	}
	if epoch(1) != 0 {
		t.Error("a key that is gone has an epoch")
	}
	if _, err := r.Register(Block{}, "p2", 150, listing(1)); err != nil {
		t.Errorf("a key that was given up: %v", err)
	}
	if _, err := r.Update(Block{}, "p1", listing(1)); !errors.Is(err, ErrNodeTaken) {
		t.Errorf("a key of another: %v", err)
	}
	if owner, ok, _ := r.Owner(key(1)); !ok || owner != "p2" {
		t.Errorf("key 1 belongs to %q", owner)
	}
}

func TestUnbonding(t *testing.T) {
	r, _ := testRegistry(t)
	var exposed fallow.Credits
	r.Exposure = func(Block, fallow.Account) (fallow.Credits, error) { return exposed, nil }
	if _, err := r.Register(Block{}, "p1", 300, listing(1)); err != nil {
		t.Fatal(err)
	}
	exposed = 120
	if _, _, err := r.Unbond(Block{Time: 10}, "p1", 61); !errors.Is(err, ErrExposed) {
		t.Errorf("half of 239 covers 120: %v", err)
	}
	when, _, err := r.Unbond(Block{Time: 10}, "p1", 60)
	if err != nil || when != 1010 {
		t.Fatalf("%d %v", when, err)
	}
	if when, _, err = r.Unbond(Block{Time: 20}, "p1", 0); err != nil || when != 1020 {
		t.Fatalf("everything: %d %v", when, err)
	}
	if _, bonded, _ := r.Standing("p1"); bonded {
		t.Error("on its way out and bonded")
	}
	if effects, err := r.EndBlock(Block{Time: 1019}, 10); err != nil || len(effects) > 0 {
		t.Errorf("early: %v %v", effects, err)
	}
	if effects, err := r.EndBlock(Block{Time: 1020}, 10); err != nil || len(effects) > 0 {
		t.Errorf("exposed: %v %v", effects, err)
	}
	exposed = 0
	effects, err := r.EndBlock(Block{Time: 1020 + unbondRetryMS}, 10)
	if err != nil || len(effects) != 2 || effects[0] != (Move{From: BondPool, To: "p1", Denom: fallow.TokenDenom, Amount: 300}) {
		t.Errorf("due: %v %v", effects, err)
	}
	if _, err := r.Bond(Block{}, "p1", 100); err != nil {
		t.Error(err)
	}
	if v, bonded, _ := r.Standing("p1"); !bonded || v != 100 {
		t.Errorf("back with %d: %v", v, bonded)
	}
}

// TestBondAboveAllCredits holds that a bond price which makes a bond stand for
// more than credits can count fails no rule, block ends least of all.
func TestBondAboveAllCredits(t *testing.T) {
	r, _ := testRegistry(t)
	r.Exposure = func(Block, fallow.Account) (fallow.Credits, error) { return math.MaxUint64 / 2, nil }
	if _, err := r.Register(Block{}, "p1", 1<<62, listing(1)); err != nil {
		t.Fatal(err)
	}
	params, err := r.Params()
	if err != nil {
		t.Fatal(err)
	}
	params.BondPrice = fallow.PicoPerMicro * 1000
	if err := r.SetParams(params); err != nil {
		t.Fatal(err)
	}
	if v, bonded, err := r.Standing("p1"); err != nil || !bonded || v != math.MaxUint64 {
		t.Errorf("stands for %d: %v %v", v, bonded, err)
	}
	if _, _, err := r.Unbond(Block{Time: 10}, "p1", 1); err != nil {
		t.Error(err)
	}
	if effects, err := r.EndBlock(Block{Time: 10 + fallow.Time(params.UnbondingMS)}, 10); err != nil || len(effects) == 0 {
		t.Errorf("due: %v %v", effects, err)
	}
}

// TestRegistryConservesBonds runs random messages and block ends: what BondPool
// holds is what providers have bonded and unbonding, always.
func TestRegistryConservesBonds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, _ := testRegistry(t)
		now := Block{Height: 1, Time: 1}
		var pool int64
		apply := func(effects []Effect, err error) {
			for _, e := range effects {
				switch m := e.(type) {
				case Move:
					if m.From == BondPool {
						pool -= int64(m.Amount)
					} else {
						pool += int64(m.Amount)
					}
				default:
					if err != nil {
						t.Fatalf("%T with %v", e, err)
					}
				}
			}
		}
		owner := func(t *rapid.T) fallow.Account {
			return fallow.Account(fmt.Sprintf("p%d", rapid.IntRange(1, 3).Draw(t, "owner")))
		}
		keys := rapid.SliceOfNDistinct(rapid.ByteRange(1, 5), 0, 3, rapid.ID[byte])
		amount := rapid.Uint64Range(0, 400)
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) {
				sum, err := r.Bonded()
				if err != nil || int64(sum) != pool {
					t.Fatalf("bonded %d, pool %d, %v", sum, pool, err)
				}
				owners := map[fallow.Key]fallow.Account{}
				err = r.Providers("", func(p Provider) bool {
					if (p.Unbonding > 0) != (p.Unbonds > 0) {
						t.Fatalf("unbonding %d at %d", p.Unbonding, p.Unbonds)
					}
					for _, n := range p.Nodes {
						if other, ok := owners[n.Key]; ok {
							t.Fatalf("%s of %s and %s", n.Key.Short(), other, p.Owner)
						}
						owners[n.Key] = p.Owner
						if got, ok, _ := r.Owner(n.Key); !ok || got != p.Owner || n.Epoch == 0 || n.Epoch > p.LastEpoch {
							t.Fatalf("%+v belongs to %s", n, got)
						}
					}
					return true
				})
				if err != nil {
					t.Fatal(err)
				}
			},
			"register": func(t *rapid.T) {
				apply(r.Register(now, owner(t), Tokens(amount.Draw(t, "bond")), listing(keys.Draw(t, "keys")...)))
			},
			"update": func(t *rapid.T) {
				l := listing(keys.Draw(t, "keys")...)
				for i := range l.Nodes {
					l.Nodes[i].Rotate = rapid.Bool().Draw(t, "rotate")
				}
				apply(r.Update(now, owner(t), l))
			},
			"bond":  func(t *rapid.T) { apply(r.Bond(now, owner(t), Tokens(amount.Draw(t, "more")))) },
			"pause": func(t *rapid.T) { apply(r.Pause(now, owner(t), rapid.Bool().Draw(t, "paused"))) },
			"unbond": func(t *rapid.T) {
				_, effects, err := r.Unbond(now, owner(t), Tokens(amount.Draw(t, "less")))
				apply(effects, err)
			},
			"block": func(t *rapid.T) {
				now.Height++
				now.Time += fallow.Time(rapid.IntRange(1, 2000).Draw(t, "ms"))
				apply(r.EndBlock(now, 1))
			},
		})
	})
}

func TestProvidersPage(t *testing.T) {
	r, _ := testRegistry(t)
	for i := range 5 {
		if _, err := r.Register(Block{}, fallow.Account(fmt.Sprintf("p%d", i)), 100, Listing{}); err != nil {
			t.Fatal(err)
		}
	}
	var got []fallow.Account
	err := r.Providers("p1", func(p Provider) bool {
		got = append(got, p.Owner)
		return len(got) < 2
	})
	if err != nil || !reflect.DeepEqual(got, []fallow.Account{"p2", "p3"}) {
		t.Errorf("%v %v", got, err)
	}
}

func FuzzDecodeProvider(f *testing.F) {
	f.Add(encodeProvider(Provider{
		Owner: "p1", Bond: 5, Nodes: []Node{{Key: key(1), Epoch: 1, Addrs: []string{"/x"}}},
		Attributes: []Attribute{{"a", "b"}}, Hubs: []string{"h"}, Paused: true, Unbonding: 1, Unbonds: 2, Registered: 3, LastEpoch: 1,
	}))
	f.Add(encodeRegistryParams(RegistryParams{MinBond: 5, Allowed: []fallow.Account{"a"}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := decodeRegistryParams(b); err == nil && string(encodeRegistryParams(p)) != string(b) {
			t.Fatalf("%x comes back as %x", b, encodeRegistryParams(p))
		}
		p, err := decodeProvider(b)
		if err != nil {
			return
		}
		if got := encodeProvider(p); string(got) != string(b) {
			t.Fatalf("%x comes back as %x", b, got)
		}
	})
}
