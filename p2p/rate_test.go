package p2p_test

import (
	"testing"
	"time"

	"fallow.network/p2p"
)

func TestRate(t *testing.T) {
	r := p2p.NewRate[string](2, 3, 2)
	at := time.Unix(1000, 0)
	count := func(k string) (n int) {
		for r.Allow(k, at) {
			n++
		}
		return n
	}
	if n := count("a"); n != 3 {
		t.Errorf("burst of %d", n)
	}
	if n := count("b"); n != 3 {
		t.Errorf("another's burst of %d", n)
	}
	at = at.Add(time.Second)
	if n := count("a"); n != 2 {
		t.Errorf("%d after a second", n)
	}
	// A third one pushes out b, the longest unused, and a stays known.
	if n := count("c"); n != 3 {
		t.Errorf("a third's burst of %d", n)
	}
	if n := count("a"); n != 0 {
		t.Errorf("a forgotten: %d", n)
	}
	if n := count("b"); n != 3 {
		t.Errorf("b remembered: %d", n)
	}
}
