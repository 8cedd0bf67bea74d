//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"testing"
)

// find gives what path leads to in a JSON text: names and numbers between dots;
// * is every element, NAME=VALUE those elements of a list whose field has that
// value, and a last len how many there are.
func find(doc, path string) ([]any, error) {
	d := json.NewDecoder(strings.NewReader(doc))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("not JSON: %w: %.200q", err, doc)
	}
	found := []any{v}
	for _, step := range strings.Split(path, ".") {
		var next []any
		for _, v := range found {
			next = append(next, follow(v, step)...)
		}
		if step == "len" {
			next = []any{json.Number(strconv.Itoa(len(next)))}
		}
		found = next
	}
	return found, nil
}

func follow(v any, step string) []any {
	switch v := v.(type) {
	case map[string]any:
		if step == "*" || step == "len" {
			var all []any
			for _, e := range v {
				all = append(all, e)
			}
			return all
		}
		if e, ok := v[step]; ok {
			return []any{e}
		}
	case []any:
		if step == "*" || step == "len" {
			return v
		}
		if name, want, ok := strings.Cut(step, "="); ok {
			var some []any
			for _, e := range v {
				for _, field := range follow(e, name) {
					if text(field) == want {
						some = append(some, e)
					}
				}
			}
			return some
		}
		if i, err := strconv.Atoi(step); err == nil && i >= 0 && i < len(v) {
			return []any{v[i]}
		}
	}
	return nil
}

func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	case nil:
		return "null"
	default:
		b, err := json.Marshal(v)
		if err != nil {
			return err.Error()
		}
		return string(b)
	}
}

// holds says why "path op value" does not hold in doc. Every value that the
// path finds must hold, and there must be one; numbers, also those written as
// text, compare as exact decimals. sum adds before it compares. A wanted value
// that begins with @ is itself a path. Numbers behind minuses are taken off,
// and u stands for millionths: 100-0.5-20u.
func holds(doc, path, op, want string) error {
	found, err := find(doc, path)
	if err != nil {
		return err
	}
	if at, ok := strings.CutPrefix(want, "@"); ok {
		other, err := find(doc, at)
		if err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
		if len(other) != 1 {
			return fmt.Errorf("%s finds %d values, want one", at, len(other))
		}
		want = text(other[0])
	}
	if len(found) == 0 {
		return fmt.Errorf("%s finds nothing", path)
	}
	if rest, ok := strings.CutPrefix(op, "sum"); ok {
		total, err := sum(found)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		found, op = []any{total.FloatString(12)}, rest
	}
	for _, v := range found {
		if ok, err := compare(text(v), op, want); err != nil {
			return err
		} else if !ok {
			return fmt.Errorf("%s is %.200q: want %s %s", path, text(v), op, want)
		}
	}
	return nil
}

func number(s string) (*big.Rat, error) {
	digits, micro := strings.CutSuffix(s, "u")
	n, ok := new(big.Rat).SetString(digits)
	if !ok {
		return nil, fmt.Errorf("%.80q is not a number", s)
	}
	if micro {
		n.Mul(n, big.NewRat(1, 1_000_000))
	}
	return n, nil
}

// sum adds what a path found.
func sum(found []any) (*big.Rat, error) {
	total := new(big.Rat)
	for _, v := range found {
		n, err := number(text(v))
		if err != nil {
			return nil, err
		}
		total.Add(total, n)
	}
	return total, nil
}

func compare(got, op, want string) (bool, error) {
	switch op {
	case "has":
		return strings.Contains(got, want), nil
	case "is":
		return got == want, nil
	case "not":
		return got != want, nil
	}
	g, err := number(got)
	if err != nil {
		return false, err
	}
	first, less, _ := strings.Cut(want, "-")
	w, err := number(first)
	if err != nil {
		return false, err
	}
	for n := range strings.SplitSeq(less, "-") {
		if n == "" {
			continue
		}
		d, err := number(n)
		if err != nil {
			return false, err
		}
		w.Sub(w, d)
	}
	c := g.Cmp(w)
	switch op {
	case "==":
		return c == 0, nil
	case "!=":
		return c != 0, nil
	case ">=":
		return c >= 0, nil
	case "<=":
		return c <= 0, nil
	case ">":
		return c > 0, nil
	case "<":
		return c < 0, nil
	}
	return false, fmt.Errorf("no such comparison: %q", op)
}

func TestHolds(t *testing.T) {
	const doc = `{"a": [{"n": 1, "s": "0.50"}, {"n": 2, "s": "1.5"}], "e": [], "t": "x y"}`
	for _, c := range []struct {
		path, op, want string
		ok             bool
	}{
		{"a.0.n", "==", "1", true},
		{"a.1.s", ">", "1.4", true},
		{"a.*.n", ">=", "2", false},
		{"a.*.n", "<=", "2", true},
		{"a.len", "==", "2", true},
		{"e.len", "==", "0", true},
		{"a.*.s", "sum==", "2", true},
		{"a.n=2.s", "is", "1.5", true},
		{"a.1.s", "==", "2.75-1-0.25", true},
		{"a.1.s", "==", "1.500008-8u", true},
		{"a.1.s", ">", "@a.0.s", true},
		{"t", "has", "x", true},
		{"t", "not", "x", true},
		{"e.*", "==", "0", false},
		{"e.*", "sum==", "0", false},
		{"missing", "sum>=", "0", false},
		{"a.0.n", "==", "@e.*", false},
		{"missing", "is", "", false},
		{"t", "==", "1", false},
	} {
		if err := holds(doc, c.path, c.op, c.want); (err == nil) != c.ok {
			t.Errorf("%s %s %s: %v", c.path, c.op, c.want, err)
		}
	}
}
