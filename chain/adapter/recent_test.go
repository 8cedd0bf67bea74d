package adapter

import "testing"

// TestRecentForgets: it is bounded, and keeps what is recent.
func TestRecentForgets(t *testing.T) {
	const most = 1000
	r := NewRecent(most)
	id := func(i int) [32]byte { return [32]byte{byte(i), byte(i >> 8)} }
	for i := range 5 * most {
		r.Add(id(i))
		if !r.Has(id(i)) || i >= most && !r.Has(id(i-most+1)) {
			t.Fatalf("%d is forgotten", i)
		}
		if n := r.Len(); n > 2*most {
			t.Fatalf("%d are remembered", n)
		}
	}
	if r.Has(id(0)) {
		t.Error("the first is remembered")
	}
}
