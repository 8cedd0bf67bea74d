package main

import "testing"

// TestCollector: a busy second is enough to be busy, ten calm ones to be idle.
func TestCollector(t *testing.T) {
	c := &collector{} // sets nothing
	var total uint64
	look := func(grown uint64) bool {
		total += grown
		return c.look(total)
	}
	if look(busyAllocs - 1) {
		t.Error("busy below the rate")
	}
	if !look(busyAllocs) {
		t.Error("not busy at the rate")
	}
	for range calm - 1 {
		if !look(0) {
			t.Fatal("calm too soon")
		}
	}
	if !look(busyAllocs) {
		t.Error("not busy again")
	}
	for range calm - 1 {
		look(0)
	}
	if look(0) {
		t.Error("still busy")
	}
}

// TestAllocated: it counts.
func TestAllocated(t *testing.T) {
	before := allocated()
	b := make([]byte, 1<<20)
	if after := allocated(); after < before+uint64(len(b)) {
		t.Errorf("%d bytes, then %d", before, after)
	}
}
