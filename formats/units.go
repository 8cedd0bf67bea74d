package formats

import (
	"math"
	"strconv"
	"strings"
	"time"

	"fallow.network"
)

// scaled reads a whole number with a unit behind it, as 256MiB, and fails
// above high. units maps what may stand behind the digits to its factor.
func scaled(s string, units map[string]uint64) (value uint64, problem string) {
	digits := strings.TrimRight(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
	factor, ok := units[s[len(digits):]]
	digits = strings.TrimSuffix(digits, " ")
	switch {
	case strings.HasPrefix(digits, "-"):
		return 0, "is negative"
	case !ok || digits == "":
		return 0, "is not a number with a known unit"
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, "is not a whole number"
		}
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || factor != 0 && n > math.MaxUint64/factor {
		return 0, "overflows 64 bits"
	}
	return n * factor, ""
}

var (
	byteUnits = map[string]uint64{
		"": 1, "B": 1,
		"kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
		"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
	}
	gasUnits   = map[string]uint64{"": 1, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
	plainUnits = map[string]uint64{"": 1}
)

// number reads a whole number between low and high.
func (r *reader) number(f field, units map[string]uint64, low, high uint64, example string) (uint64, bool) {
	s, ok := r.text(f)
	if !ok {
		return 0, false
	}
	v, problem := scaled(s, units)
	if problem != "" {
		r.fail(f, "write a whole number, as "+example, "%.60q %s", s, problem)
		return 0, false
	}
	if v < low || v > high {
		r.fail(f, "write "+strconv.FormatUint(low, 10)+" to "+strconv.FormatUint(high, 10)+", as "+example, "%.60q is out of range", s)
		return 0, false
	}
	return v, true
}

// duration reads a time as 250ms, 5m or 1h30m.
func (r *reader) duration(f field, low, high time.Duration) (time.Duration, bool) {
	s, ok := r.text(f)
	if !ok {
		return 0, false
	}
	d, err := time.ParseDuration(s)
	switch {
	case err != nil:
		r.fail(f, "write a number with its unit, as 90s, 5m or 1h30m", "%.60q is not a duration", s)
	case d < 0:
		r.fail(f, "write a time from now on, as 5m", "%.60q is negative", s)
	case d < low || d > high:
		r.fail(f, "write "+low.String()+" to "+high.String(), "%.60q is out of range", s)
	default:
		return d, true
	}
	return 0, false
}

// credits reads an amount of credits above zero.
func (r *reader) credits(f field) (fallow.Credits, bool) {
	s, ok := r.text(f)
	if !ok {
		return 0, false
	}
	if strings.HasPrefix(s, "-") {
		r.fail(f, "write credits above zero, as 0.50", "%.60q is negative", s)
		return 0, false
	}
	c, err := fallow.ParseCredits(s)
	if err != nil {
		r.fail(f, "write credits with at most six decimals, as 0.50", "%v", err)
		return 0, false
	}
	if c == 0 {
		r.fail(f, "write credits above zero, as 0.50, or remove it", "nothing can be bought with 0 credits")
		return 0, false
	}
	return c, true
}

// percent reads 5% or 0.5% as parts per million.
func (r *reader) percent(f field) (uint32, bool) {
	s, ok := r.text(f)
	if !ok {
		return 0, false
	}
	p, found := strings.CutSuffix(s, "%")
	whole, frac, _ := strings.Cut(p, ".")
	if found && whole != "" && len(frac) <= 4 {
		n, err := strconv.ParseUint(whole+frac+strings.Repeat("0", 4-len(frac)), 10, 32)
		if err == nil && n <= 1_000_000 {
			return uint32(n), true
		}
	}
	r.fail(f, "write 0% to 100%, as 5%", "%.60q is not a share", s)
	return 0, false
}
