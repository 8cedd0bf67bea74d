package verify

import (
	"fmt"
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"fallow.network"
	"fallow.network/receipt"
)

// formula is the bound as design.md writes it, in rationals:
// 1.5·g / ((1-r)(g+s)), at most 1, in parts per million rounded up.
func formula(g, s *big.Int, r PPM) PPM {
	rat := func(a, b *big.Int) *big.Rat { return new(big.Rat).SetFrac(a, b) }
	honest := rat(big.NewInt(int64(All-r)), big.NewInt(int64(All)))
	p := rat(new(big.Int).Mul(g, big.NewInt(3)), big.NewInt(2))
	p.Quo(p, honest.Mul(honest, new(big.Rat).SetInt(new(big.Int).Add(g, s))))
	p.Mul(p, rat(big.NewInt(int64(All)), big.NewInt(1)))
	up := new(big.Int).Add(p.Num(), new(big.Int).Sub(p.Denom(), big.NewInt(1)))
	up.Quo(up, p.Denom())
	if up.Cmp(big.NewInt(int64(All))) > 0 {
		return All
	}
	return PPM(up.Uint64())
}

func TestRateTable(t *testing.T) {
	price := fallow.PicoOf(1_000_000)
	tests := []struct {
		name string
		g, s fallow.Pico
		r    PPM
		want PPM
	}{
		{"a hundred times the price, own machine", price, fallow.PicoOf(100_000_000), 0, 14_852},
		{"and every fifth checker colludes", price, fallow.PicoOf(100_000_000), 200_000, 18_565},
		{"as much as the gain", price, price, 0, 750_000},
		{"half the gain", price, fallow.PicoOf(500_000), 0, All},
		{"nothing can be taken", price, fallow.PicoOf(0), 0, All},
		{"nothing to gain", fallow.PicoOf(0), fallow.PicoOf(0), 0, 0},
		{"every checker colludes", price, fallow.PicoOf(100_000_000), All, All},
		{"amounts beyond 64 bits", fallow.Pico{Hi: 1}, fallow.Pico{Hi: 99}, 0, 15_000},
	}
	for _, tt := range tests {
		if got := Rate(tt.g, tt.s, tt.r); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

func TestRateIsTheFormula(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := fallow.Pico{Hi: rapid.Uint64Range(0, 3).Draw(t, "g high"), Lo: rapid.Uint64Min(1).Draw(t, "g")}
		s := fallow.Pico{Hi: rapid.Uint64Range(0, 300).Draw(t, "s high"), Lo: rapid.Uint64().Draw(t, "s")}
		r := PPM(rapid.Uint32Range(0, uint32(All)-1).Draw(t, "r"))
		got := Rate(g, s, r)
		if want := formula(toBig(g), toBig(s), r); got != want {
			t.Fatalf("%d, want %d", got, want)
		}
		// What it is for: faking does not pay. g(1-q) ≤ s·q with q = p(1-r).
		if got < All {
			q := new(big.Rat).SetFrac64(int64(got)*int64(All-r), int64(All)*int64(All))
			gain := new(big.Rat).Mul(new(big.Rat).SetInt(toBig(g)), new(big.Rat).Sub(big.NewRat(1, 1), q))
			if gain.Cmp(new(big.Rat).Mul(new(big.Rat).SetInt(toBig(s)), q)) > 0 {
				t.Fatal("faking pays")
			}
		}
	})
}

func TestSlashAndUnsecured(t *testing.T) {
	price := fallow.Credits(10).Pico()
	tests := []struct {
		bond      fallow.Credits
		slash     fallow.Pico
		unsecured fallow.Pico
	}{
		{0, fallow.Pico{}, price},
		{4, fallow.Credits(2).Pico(), fallow.Credits(8).Pico()},
		{5, fallow.Credits(2).Pico(), fallow.Credits(8).Pico()},
		{1000, fallow.Credits(500).Pico(), fallow.Pico{}},
		{4000, fallow.Credits(1000).Pico(), fallow.Pico{}},
	}
	for _, tt := range tests {
		s := Slash(price, Multiple, tt.bond)
		if s != tt.slash || Unsecured(price, s) != tt.unsecured {
			t.Errorf("bond %d: %s, unsecured %s", tt.bond, s, Unsecured(price, s))
		}
	}
	if got := Slash(fallow.Pico{Hi: 1 << 63}, Multiple, 8); got != fallow.Credits(4).Pico() {
		t.Errorf("a price that overflows: %s", got)
	}
}

func TestEvidenceDecays(t *testing.T) {
	e := Evidence{}.Update(1000, 100, fallow.PicoOf(800), true)
	for age, want := range map[fallow.Time]uint64{-5: 800, 0: 800, 50: 600, 100: 400, 150: 300, 200: 200, 1000: 0, 20_000: 0} {
		if got := e.Worth(1000+age, 100); got != fallow.PicoOf(want) {
			t.Errorf("after %d: %s, want %d", age, got, want)
		}
	}
}

func TestNewcomersAreAllChecked(t *testing.T) {
	p := DefaultPolicy()
	price, bond := fallow.Credits(10).Pico(), fallow.Credits(1_000_000)
	bound := Rate(price, Slash(price, Multiple, bond), 0)
	e := Evidence{}
	for i := range Newcomers {
		if got := p.RateFor(e, 5, price, bond); got != All {
			t.Errorf("task %d is checked at %d", i+1, got)
		}
		e = e.Update(5, p.HalfLifeMS, price, true)
	}
	if got := p.RateFor(e, 5, price, bond); got != bound {
		t.Errorf("then at %d, want %d", got, bound)
	}
	// Cheap work buys no trust for dear work.
	dear, err := price.Mul(10)
	if err != nil {
		t.Fatal(err)
	}
	// Evidence is a tenth of what is needed: the bound and nine tenths of the rest.
	low := Rate(dear, Slash(dear, Multiple, bond), 0)
	if got, want := p.RateFor(e, 5, dear, bond), low+(All-low)*9/10; got < want || got > want+1 {
		t.Errorf("dear work at %d, want %d", got, want)
	}
	e = e.Update(6, p.HalfLifeMS, price, false)
	if got := p.RateFor(e, 6, price, bond); got != All || e.Wrong != 1 || e.Right != 0 {
		t.Errorf("after a wrong one at %d: %+v", got, e)
	}
}

func TestRateForIsNeverBelowTheBound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := DefaultPolicy()
		p.Collusion = PPM(rapid.Uint32Range(0, 500_000).Draw(t, "r"))
		price := fallow.PicoOf(rapid.Uint64().Draw(t, "price"))
		bond := fallow.Credits(rapid.Uint64().Draw(t, "bond"))
		e := Evidence{Value: fallow.PicoOf(rapid.Uint64().Draw(t, "value")), Right: rapid.Uint32().Draw(t, "right")}
		now := fallow.Time(rapid.Int64Range(0, 1<<40).Draw(t, "now"))
		got := p.RateFor(e, now, price, bond)
		if bound := Rate(price, Slash(price, p.Multiple, bond), p.Collusion); got < bound || got > All {
			t.Fatalf("%d, bound %d", got, bound)
		}
		more := e
		more.Value = fallow.PicoOf(e.Value.Lo | 1<<63)
		if p.RateFor(more, now, price, bond) > got {
			t.Fatal("more evidence raises the rate")
		}
	})
}

func TestDrawsKeepTheirRate(t *testing.T) {
	var s Secret
	s[0] = 7
	n := 0
	checkers := make([]int, 3)
	for i := range 20_000 {
		d := fallow.Sum(fmt.Appendf(nil, "receipt %d", i))
		if s.Chosen(d, 50_000) {
			n++
			if !s.Chosen(d, 60_000) {
				t.Fatal("chosen at a rate and not at a higher one")
			}
		}
		if s.Chosen(d, 0) || !s.Chosen(d, All) {
			t.Fatal("none and all")
		}
		checkers[s.Checker(d, 3)]++
	}
	if n < 900 || n > 1100 {
		t.Errorf("%d of 20000 at 5%%", n)
	}
	for i, c := range checkers {
		if c < 6_300 || c > 7_000 {
			t.Errorf("checker %d was drawn %d times of 20000", i, c)
		}
	}
	other := Secret{8}
	same := 0
	for i := range 1000 {
		d := fallow.Sum(fmt.Appendf(nil, "receipt %d", i))
		if s.Chosen(d, All/2) == other.Chosen(d, All/2) {
			same++
		}
	}
	if same < 400 || same > 600 {
		t.Errorf("two secrets agree on %d of 1000", same)
	}
}

func TestJudge(t *testing.T) {
	a := ResultOf(receipt.Receipt{Output: fallow.Sum([]byte("a")), Gas: 1, Outcome: receipt.Exited})
	b, c := a, a
	b.Gas++
	c.ExitCode++
	tests := []struct {
		claim, check Result
		third        *Result
		want         Verdict
		claimIsPaid  bool
		checkIsPaid  bool
	}{
		{a, a, nil, Agreed, true, true},
		{a, b, nil, Suspended, false, false},
		{a, b, &b, ClaimWrong, false, true},
		{a, b, &a, CheckWrong, true, false},
		{a, b, &c, Unresolved, false, false},
	}
	for _, tt := range tests {
		got := Judge(tt.claim, tt.check, tt.third)
		if got != tt.want || got.PaysClaim() != tt.claimIsPaid || got.PaysCheck() != tt.checkIsPaid {
			t.Errorf("%s, want %s", got, tt.want)
		}
	}
}
