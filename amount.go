package fallow

import (
	"errors"
	"fmt"
	"math/big"
	"math/bits"
	"strconv"
	"strings"
)

// Credits is an amount in micro-credits (ucredit), as coins on the ledger are.
type Credits uint64

// PicoPerMicro is how many pico-credits make one ucredit.
const PicoPerMicro = 1_000_000

// ErrOverflow is an amount that does not fit its type.
var ErrOverflow = errors.New("amount overflows")

// Pico is an amount in pico-credits (10^-12 credit), 128 bits unsigned.
// Amounts inside the rules are Pico and are rounded down once, at payout.
type Pico struct{ Hi, Lo uint64 }

// PicoOf is n pico-credits.
func PicoOf(n uint64) Pico { return Pico{Lo: n} }

// Pico is c in pico-credits.
func (c Credits) Pico() Pico {
	hi, lo := bits.Mul64(uint64(c), PicoPerMicro)
	return Pico{hi, lo}
}

// String is the amount in credits with up to six decimals, as 1.25.
func (c Credits) String() string {
	whole, frac := uint64(c)/1_000_000, uint64(c)%1_000_000
	if frac == 0 {
		return strconv.FormatUint(whole, 10)
	}
	return strings.TrimRight(fmt.Sprintf("%d.%06d", whole, frac), "0")
}

// ParseCredits reads an amount in credits, as 1.25 or 0.000001.
func ParseCredits(s string) (Credits, error) {
	p, err := parseDecimal(s, 6)
	if err != nil {
		return 0, err
	}
	if p.Hi != 0 {
		return 0, fmt.Errorf("credits %.40q: %w", s, ErrOverflow)
	}
	return Credits(p.Lo), nil
}

// ParsePico reads an amount in credits with up to twelve decimals.
func ParsePico(s string) (Pico, error) { return parseDecimal(s, 12) }

func parseDecimal(s string, places int) (Pico, error) {
	whole, frac, _ := strings.Cut(s, ".")
	if whole == "" && frac == "" || len(frac) > places || len(s) > 60 {
		return Pico{}, fmt.Errorf("amount %.40q: want credits with at most %d decimals, as 1.25", s, places)
	}
	digits := whole + frac + strings.Repeat("0", places-len(frac))
	var p Pico
	for _, c := range digits {
		if c < '0' || c > '9' {
			return Pico{}, fmt.Errorf("amount %.40q: want credits with at most %d decimals, as 1.25", s, places)
		}
		var err error
		if p, err = p.Mul(10); err != nil {
			return Pico{}, fmt.Errorf("amount %.40q: %w", s, err)
		}
		if p, err = p.Add(PicoOf(uint64(c - '0'))); err != nil {
			return Pico{}, fmt.Errorf("amount %.40q: %w", s, err)
		}
	}
	return p, nil
}

// Add is p+q.
func (p Pico) Add(q Pico) (Pico, error) {
	lo, carry := bits.Add64(p.Lo, q.Lo, 0)
	hi, carry := bits.Add64(p.Hi, q.Hi, carry)
	if carry != 0 {
		return Pico{}, ErrOverflow
	}
	return Pico{hi, lo}, nil
}

// Sub is p-q; it fails when q is larger.
func (p Pico) Sub(q Pico) (Pico, error) {
	lo, borrow := bits.Sub64(p.Lo, q.Lo, 0)
	hi, borrow := bits.Sub64(p.Hi, q.Hi, borrow)
	if borrow != 0 {
		return Pico{}, ErrOverflow
	}
	return Pico{hi, lo}, nil
}

// Mul is p times n.
func (p Pico) Mul(n uint64) (Pico, error) {
	over, hi := bits.Mul64(p.Hi, n)
	c, lo := bits.Mul64(p.Lo, n)
	hi, carry := bits.Add64(hi, c, 0)
	if over != 0 || carry != 0 {
		return Pico{}, ErrOverflow
	}
	return Pico{hi, lo}, nil
}

// MulDiv is p·n/d rounded down, with no loss in between; d is above zero.
func (p Pico) MulDiv(n, d uint64) (Pico, error) {
	if d == 0 {
		return Pico{}, ErrOverflow
	}
	v := new(big.Int).Mul(p.big(), new(big.Int).SetUint64(n))
	v.Quo(v, new(big.Int).SetUint64(d))
	return fromBig(v)
}

// Div is p/q rounded down; q is above zero.
func (p Pico) Div(q Pico) (uint64, error) {
	if q.IsZero() {
		return 0, ErrOverflow
	}
	v := new(big.Int).Quo(p.big(), q.big())
	if !v.IsUint64() {
		return 0, ErrOverflow
	}
	return v.Uint64(), nil
}

// Cmp is -1, 0 or 1 as p is below, equal to or above q.
func (p Pico) Cmp(q Pico) int {
	switch {
	case p.Hi != q.Hi && p.Hi < q.Hi, p.Hi == q.Hi && p.Lo < q.Lo:
		return -1
	case p == q:
		return 0
	default:
		return 1
	}
}

// IsZero says whether the amount is nothing.
func (p Pico) IsZero() bool { return p == Pico{} }

// Floor is p in whole micro-credits, rounded down.
func (p Pico) Floor() (Credits, error) {
	v := new(big.Int).Quo(p.big(), big.NewInt(PicoPerMicro))
	if !v.IsUint64() {
		return 0, ErrOverflow
	}
	return Credits(v.Uint64()), nil
}

// Ceil is p in whole micro-credits, rounded up: what must be reserved for p.
func (p Pico) Ceil() (Credits, error) {
	c, err := p.Floor()
	if err != nil {
		return 0, err
	}
	if c.Pico() == p {
		return c, nil
	}
	if c+1 == 0 {
		return 0, ErrOverflow
	}
	return c + 1, nil
}

// String is the amount in credits with up to twelve decimals.
func (p Pico) String() string {
	s := p.big().String()
	if len(s) <= 12 {
		s = strings.Repeat("0", 13-len(s)) + s
	}
	s = s[:len(s)-12] + "." + s[len(s)-12:]
	return strings.TrimRight(strings.TrimRight(s, "0"), ".")
}

// MarshalText writes the amount in credits.
func (p Pico) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads an amount in credits.
func (p *Pico) UnmarshalText(b []byte) error {
	v, err := ParsePico(string(b))
	if err != nil {
		return err
	}
	*p = v
	return nil
}

func (p Pico) big() *big.Int {
	v := new(big.Int).SetUint64(p.Hi)
	v.Lsh(v, 64)
	return v.Or(v, new(big.Int).SetUint64(p.Lo))
}

func fromBig(v *big.Int) (Pico, error) {
	if v.Sign() < 0 || v.BitLen() > 128 {
		return Pico{}, ErrOverflow
	}
	lo := new(big.Int).And(v, new(big.Int).SetUint64(1<<64-1)).Uint64()
	return Pico{new(big.Int).Rsh(v, 64).Uint64(), lo}, nil
}
