package fallow_test

import (
	"errors"
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"fallow.network"
)

func big128(p fallow.Pico) *big.Int {
	v := new(big.Int).Lsh(new(big.Int).SetUint64(p.Hi), 64)
	return v.Or(v, new(big.Int).SetUint64(p.Lo))
}

// TestPicoIsExact compares every operation with big integers: the same, or
// ErrOverflow where it does not fit.
func TestPicoIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) fallow.Pico {
			p := fallow.Pico{Lo: rapid.Uint64().Draw(t, name)}
			if rapid.Bool().Draw(t, name+" large") {
				p.Hi = rapid.Uint64().Draw(t, name+" high")
			}
			return p
		}
		a, b, n, d := draw("a"), draw("b"), rapid.Uint64().Draw(t, "n"), rapid.Uint64Min(1).Draw(t, "d")
		check := func(name string, got fallow.Pico, err error, want *big.Int) {
			if fits := want.Sign() >= 0 && want.BitLen() <= 128; fits != (err == nil) {
				t.Fatalf("%s: %v for %s", name, err, want)
			} else if fits && big128(got).Cmp(want) != 0 {
				t.Fatalf("%s: %s, want %s", name, big128(got), want)
			}
			if err != nil && !errors.Is(err, fallow.ErrOverflow) {
				t.Fatalf("%s: %v", name, err)
			}
		}
		x, y, z := big128(a), big128(b), new(big.Int).SetUint64(n)
		sum, err := a.Add(b)
		check("add", sum, err, new(big.Int).Add(x, y))
		diff, err := a.Sub(b)
		check("sub", diff, err, new(big.Int).Sub(x, y))
		prod, err := a.Mul(n)
		check("mul", prod, err, new(big.Int).Mul(x, z))
		part, err := a.MulDiv(n, d)
		check("muldiv", part, err, new(big.Int).Quo(new(big.Int).Mul(x, z), new(big.Int).SetUint64(d)))
		if a.Cmp(b) != x.Cmp(y) {
			t.Fatalf("cmp: %d", a.Cmp(b))
		}
		if back, err := fallow.ParsePico(a.String()); err != nil || back != a {
			t.Fatalf("%s reads as %s, %v", a, back, err)
		}
		if floor, err := a.Floor(); err == nil {
			ceil, err := a.Ceil()
			switch {
			case floor.Pico().Cmp(a) > 0:
				t.Fatalf("floor of %s is %s", a, floor)
			case err == nil && (ceil.Pico().Cmp(a) < 0 || ceil-floor > 1):
				t.Fatalf("ceil of %s is %s", a, ceil)
			}
		}
	})
}

func TestParseCredits(t *testing.T) {
	for s, want := range map[string]fallow.Credits{"1": 1_000_000, "1.25": 1_250_000, "0.000001": 1, ".5": 500_000, "18446744073709.551615": 1<<64 - 1} {
		if got, err := fallow.ParseCredits(s); err != nil || got != want {
			t.Errorf("%s: %d, %v", s, got, err)
		}
	}
	for _, s := range []string{"", ".", "-1", "1.0000001", "1e3", "18446744073709.551616", "1,5", "999999999999999999999999999999999999999999"} {
		if got, err := fallow.ParseCredits(s); err == nil {
			t.Errorf("%q is read as %d", s, got)
		}
	}
}
