package verify

import (
	"math/big"

	"fallow.network"
)

// PPM is a share in parts per million.
type PPM uint32

// All is the whole: a rate at which everything is checked.
const All PPM = 1_000_000

// Defaults of the design.
const (
	// Multiple of its price that a wrong task costs.
	Multiple = 100
	// Newcomers is how many of a node's first tasks of a class are checked,
	// all of them.
	Newcomers = 3
)

// Slash is what can really be taken for one wrong task of that price: multiple
// times the price, at most half of the free bond.
func Slash(price fallow.Pico, multiple uint64, bond fallow.Credits) fallow.Pico {
	most := (bond / 2).Pico()
	if s, err := price.Mul(multiple); err == nil && s.Cmp(most) < 0 {
		return s
	}
	return most
}

// Rate is the least share of tasks to check, rounded up:
// 1.5·g / ((1-r)(g+s)), at most All. g is what faking a task gains, at most
// its price; s what is taken for it when it shows (Slash); r the chance that
// the checker colludes, zero on the tenant's own machine. Nothing to gain
// needs no check.
func Rate(g, s fallow.Pico, r PPM) PPM {
	if g.IsZero() {
		return 0
	}
	if r >= All {
		return All
	}
	million := big.NewInt(int64(All))
	// 3·g·10⁶·10⁶ / (2·(10⁶-r)·(g+s))
	num := new(big.Int).Mul(toBig(g), big.NewInt(3))
	num.Mul(num, million).Mul(num, million)
	den := new(big.Int).Add(toBig(g), toBig(s))
	den.Mul(den, big.NewInt(2*int64(All-r)))
	p, rest := new(big.Int).QuoRem(num, den, new(big.Int))
	if rest.Sign() > 0 {
		p.Add(p, big.NewInt(1))
	}
	if p.Cmp(million) >= 0 {
		return All
	}
	return PPM(p.Uint64())
}

// Unsecured is the part of a price that no bond answers for: all of it where
// slashable is nothing, as long as the ledger has no disputes.
func Unsecured(price, slashable fallow.Pico) fallow.Pico {
	rest, err := price.Sub(slashable)
	if err != nil {
		return fallow.Pico{} // the bond covers more than the price
	}
	return rest
}

func toBig(p fallow.Pico) *big.Int {
	v := new(big.Int).Lsh(new(big.Int).SetUint64(p.Hi), 64)
	return v.Or(v, new(big.Int).SetUint64(p.Lo))
}

func fromBig(v *big.Int) fallow.Pico {
	if v.BitLen() > 128 {
		return fallow.Pico{Hi: 1<<64 - 1, Lo: 1<<64 - 1}
	}
	lo := new(big.Int).And(v, new(big.Int).SetUint64(1<<64-1))
	return fallow.Pico{Hi: new(big.Int).Rsh(v, 64).Uint64(), Lo: lo.Uint64()}
}
