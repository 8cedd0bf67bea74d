package sim

import (
	"context"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"fallow.network"
	"fallow.network/market"
	"fallow.network/settle"
)

// payTwice pays every payout a second time out of others' escrow.
type payTwice struct{ ledger }

func (b payTwice) EndBlock(at settle.Block) ([]settle.Effect, error) {
	effects, err := b.ledger.EndBlock(at)
	for _, e := range slices.Clone(effects) {
		if m, ok := e.(market.Move); ok {
			effects = append(effects, m)
		}
	}
	return effects, err
}

// redeemAgain books what a voucher is worth again, as if it were not
// cumulative.
type redeemAgain struct{ ledger }

func (b redeemAgain) Redeem(at settle.Block, signer fallow.Account, v []market.Signed, s []fallow.LeaseID) ([]settle.Result, []settle.Effect, error) {
	results, effects, err := b.ledger.Redeem(at, signer, v, s)
	return results, append(effects, effects...), err
}

// mint pays a stranger out of escrow, of which the books know nothing.
type mint struct{ ledger }

func (b mint) Redeem(at settle.Block, signer fallow.Account, v []market.Signed, s []fallow.LeaseID) ([]settle.Result, []settle.Effect, error) {
	results, effects, err := b.ledger.Redeem(at, signer, v, s)
	return results, append(effects, market.Move{From: settle.EscrowPool, To: "a stranger", Denom: fallow.CreditDenom, Amount: 1}), err
}

// silent ends leases without a reason.
type silent struct{ ledger }

func (b silent) Close(at settle.Block, signer fallow.Account, ids []fallow.LeaseID, why fallow.Reason) ([]settle.Result, []settle.Effect, error) {
	results, effects, err := b.ledger.Close(at, signer, ids, why)
	for i, e := range effects {
		if c, ok := e.(settle.Changed); ok {
			c.Reason = ""
			effects[i] = c
		}
	}
	return results, effects, err
}

// stolen pays a payout out of an account that has nothing.
type stolen struct{ ledger }

func (b stolen) EndBlock(at settle.Block) ([]settle.Effect, error) {
	effects, err := b.ledger.EndBlock(at)
	for i, e := range effects {
		if m, ok := e.(market.Move); ok {
			m.From = "a pauper"
			effects[i] = m
		}
	}
	return effects, err
}

// onCredit books a thousand times what was deposited.
type onCredit struct{ ledger }

func (b onCredit) Deposit(at settle.Block, sender, tenant fallow.Account, amount fallow.Credits) ([]settle.Effect, error) {
	effects, err := b.ledger.Deposit(at, sender, tenant, amount)
	for i, e := range effects {
		switch e := e.(type) {
		case market.Move:
			e.Amount /= 1000
			effects[i] = e
		case settle.Deposited:
			e.Amount /= 1000
			effects[i] = e
		}
	}
	return effects, err
}

// idle opens nothing.
type idle struct{ ledger }

func (b idle) OpenLeases(_ settle.Block, _, _ fallow.Account, entries []settle.OpenEntry) ([]settle.Result, []settle.Effect, error) {
	return slices.Repeat([]settle.Result{{Reason: fallow.ReasonFunds}}, len(entries)), nil, nil
}

// faulty fails where others refuse.
type faulty struct{ ledger }

func (faulty) OpenLeases(settle.Block, fallow.Account, fallow.Account, []settle.OpenEntry) ([]settle.Result, []settle.Effect, error) {
	return nil, nil, errors.New("the store is gone")
}

// jammed fails at each block's end.
type jammed struct{ ledger }

func (jammed) EndBlock(settle.Block) ([]settle.Effect, error) {
	return nil, errors.New("the store is gone")
}

// blank can't tell an account.
type blank struct{ ledger }

func (blank) Account(settle.Block, fallow.Account) (settle.View, bool, error) {
	return settle.View{}, false, errors.New("the store is gone")
}

// generous has every bond stand for a thousand times what it does.
type generous struct{ settle.Bonds }

func (g generous) Standing(p fallow.Account) (fallow.Credits, bool, error) {
	bond, bonded, err := g.Bonds.Standing(p)
	return bond * 1000, bonded, err
}

// forgetful knows of no used offer.
type forgetful struct{ fallow.Store }

func (f forgetful) Get(key []byte) ([]byte, error) {
	const used = 14 // settle's prefix, and a height and a digest after it
	if key[0] == used && len(key) == 1+8+32 {
		return nil, nil
	}
	return f.Store.Get(key)
}

// each has something done with all open leases again and again.
func each(w *world, ms uint64, do func(*lease)) {
	w.clock.after(ms, func() {
		for _, id := range slices.Sorted(maps.Keys(w.leases)) {
			do(w.leases[id])
		}
		each(w, ms, do)
	})
}

// cheapBonds have a bond stand for 0.06 credits: less than two large jobs.
func cheapBonds(w *world) {
	p := market.DefaultRegistryParams()
	p.BondPrice /= 20_000
	if err := w.registry.SetParams(p); err != nil {
		w.broken("test", err.Error())
	}
}

func wrap(with func(ledger) ledger) func(*world) {
	return func(w *world) { w.books = with(w.books) }
}

// breakages are one for each invariant: what breaks it, in which market.
var breakages = []struct {
	invariant string
	bad       []Share
	tamper    func(*world)
}{
	// A program that believes in twice the slots of its machine.
	{"an honest provider lets a slot once", nil, func(w *world) {
		w.clock.after(1, func() {
			for _, p := range w.lenders {
				p.slots /= 2
			}
		})
	}},
	{"no provider is paid twice", nil, wrap(func(l ledger) ledger { return payTwice{l} })},
	{"no provider is paid above its voucher", nil, wrap(func(l ledger) ledger { return redeemAgain{l} })},
	{"the books add up", nil, wrap(func(l ledger) ledger { return mint{l} })},
	{"every lease ends with a reason", nil, wrap(func(l ledger) ledger { return silent{l} })},
	{"coins are conserved", nil, wrap(func(l ledger) ledger { return stolen{l} })},
	{"coins are conserved", nil, func(w *world) { w.clock.after(3600_000, func() { w.bank["a forger"]++ }) }},
	{"no lease without funds", nil, wrap(func(l ledger) ledger { return onCredit{l} })},
	{"honest jobs finish", nil, wrap(func(l ledger) ledger { return idle{l} })},
	{"transaction", nil, wrap(func(l ledger) ledger { return faulty{l} })},
	{"end of block", nil, wrap(func(l ledger) ledger { return jammed{l} })},
	{"an account can be read", nil, wrap(func(l ledger) ledger { return blank{l} })},
	{"exposure stays below half the bond", nil, func(w *world) {
		cheapBonds(w)
		b := w.books.(settle.Books)
		b.Bonds = generous{b.Bonds}
		w.books = b
	}},
	{"an offer opens once", []Share{{"reuse-offer", 50}}, func(w *world) {
		b := w.books.(settle.Books)
		b.Store = forgetful{b.Store}
		w.books = b
	}},
	// A tenant whose program pays for what it has not got.
	{"an honest tenant pays only for outputs that it has", nil, func(w *world) {
		each(w, 10_000, func(l *lease) {
			if !l.over {
				l.payable = append(l.payable, claim{digest: fallow.Sum([]byte("never came")), charge: fallow.PicoOf(1)})
				l.tenant.pay(w, l, true)
			}
		})
	}},
	// A provider whose program works ahead further than the ceiling it signed.
	{"an honest provider loses at most its unpaid ceiling and what ran below it", []Share{{"never-pay", 90}}, func(w *world) {
		signed := map[fallow.LeaseID]bool{}
		each(w, 1000, func(l *lease) {
			if !signed[l.id] {
				signed[l.id] = true
				l.offer.Terms.UnpaidCeiling /= 1000
			}
		})
	}},
}

func TestBrokenRulesAreNoticed(t *testing.T) {
	for _, c := range breakages {
		t.Run(c.invariant, func(t *testing.T) {
			o := small(5, c.bad...)
			o.tamper = c.tamper
			if c.invariant == "honest jobs finish" {
				o.Providers, o.Tenants = 4, 2 // they ask for hours
			}
			_, err := Run(context.Background(), o)
			var b *Breach
			if !errors.As(err, &b) || b.Invariant != c.invariant {
				t.Fatalf("got %v", err)
			}
			if want := o.Command(); b.Command != want || !strings.Contains(b.Error(), want) || b.At <= 0 {
				t.Errorf("%v: want it to say %q", b, want)
			}
		})
	}
}

// TestEveryInvariantCanFail reads the package: whatever it can call broken
// stands above, but for failures that only a wrong program of ours makes.
func TestEveryInvariantCanFail(t *testing.T) {
	ours := []string{"a charge fits", "a debt is kept", "a demand is sound", "a voucher is sound"}
	for _, b := range breakages {
		ours = append(ours, b.invariant)
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if s, ok := call.Fun.(*ast.SelectorExpr); !ok || s.Sel.Name != "broken" {
				return true
			}
			found++
			text, ok := call.Args[0].(*ast.BasicLit)
			if !ok {
				t.Errorf("%s: an invariant without a fixed name", name)
				return true
			}
			if s, err := strconv.Unquote(text.Value); err != nil || !slices.Contains(ours, s) {
				t.Errorf("%s: nothing breaks %s", name, text.Value)
			}
			return true
		})
	}
	if found == 0 {
		t.Error("found no invariant")
	}
}

// TestExposureBinds is the market of cheap bonds with the right rules.
func TestExposureBinds(t *testing.T) {
	o := small(5)
	o.tamper = cheapBonds
	r, err := Run(context.Background(), o)
	if err != nil || r.Declines[fallow.ReasonExposure]+r.Skips[fallow.ReasonExposure] == 0 {
		t.Errorf("%v: no bond was at its end: %+v", err, r)
	}
}
