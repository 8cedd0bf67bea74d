package provider

import (
	"testing"

	"pgregory.net/rapid"
)

// TestDone: a done set has what was added, and nothing else.
func TestDone(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var d done
		want := map[attempt]bool{}
		one := rapid.Custom(func(t *rapid.T) attempt {
			return attempt{rapid.OneOf(rapid.Uint32Range(0, 1100), rapid.Uint32()).Draw(t, "task"), rapid.Uint32Range(0, 3).Draw(t, "attempt")}
		})
		for _, at := range rapid.SliceOf(one).Draw(t, "added") {
			d.add(at)
			want[at] = true
		}
		for _, at := range rapid.SliceOf(one).Draw(t, "asked") {
			if d.has(at) != want[at] {
				t.Fatalf("%v: %t", at, d.has(at))
			}
		}
		for at := range want {
			if !d.has(at) {
				t.Fatalf("%v is lost", at)
			}
		}
		if d.n != len(want) {
			t.Fatalf("%d of %d", d.n, len(want))
		}
	})
}
