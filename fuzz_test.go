package fallow_test

import (
	"testing"

	"fallow.network"
)

// FuzzParse: what reads as an amount, a digest or a key is written as text that
// reads as the same again.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"1.25", "0.000001", ".5", "5.", "340282366920938463463374607431768211455", "00.1", "-1", "1e9", "sha256:" + "00", fallow.Sum(nil).String(), fallow.Key{1}.String()} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if c, err := fallow.ParseCredits(s); err == nil {
			if again, err := fallow.ParseCredits(c.String()); err != nil || again != c {
				t.Errorf("%q: %s credits read back as %s, %v", s, c, again, err)
			}
		}
		if p, err := fallow.ParsePico(s); err == nil {
			if again, err := fallow.ParsePico(p.String()); err != nil || again != p {
				t.Errorf("%q: %s reads back as %s, %v", s, p, again, err)
			}
		}
		if d, err := fallow.ParseDigest(s); err == nil && d.String() != s {
			t.Errorf("%q is written %s", s, d)
		}
		var k fallow.Key
		if k.UnmarshalText([]byte(s)) == nil {
			var again fallow.Key
			if err := again.UnmarshalText([]byte(k.String())); err != nil || again != k {
				t.Errorf("%q: key %s reads back as %s, %v", s, k, again, err)
			}
		}
	})
}
