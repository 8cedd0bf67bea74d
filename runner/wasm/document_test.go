package wasm

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"fallow.network/meter"
	"fallow.network/receipt"
	"fallow.network/spec"
)

// TestDocument looks for every host function, trap and bound in the document
// that says what they are.
func TestDocument(t *testing.T) {
	b, err := os.ReadFile("../../docs/run-profile.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for _, h := range meter.Hosts {
		if !strings.Contains(text, "`"+h.Name+"`") {
			t.Errorf("%s is not described", h.Name)
		}
	}
	for _, w := range traps {
		if !strings.Contains(text, "`"+w+"`") {
			t.Errorf("trap %s is not described", w)
		}
	}
	for what, n := range map[string]uint64{
		"nodes": maxNodes, "outputs": maxOutputs, "depth": maxDepth, "output path": receipt.MaxPath, "name": maxNameLen,
		"path": maxPathLen, "descriptors": maxFDs, "vectors": maxVectors, "subscriptions": maxSubscribes, "listed": maxListed,
		"clock": clockStart, "step": clockStep, "end": clockEnd, "arguments": maxArgsBytes, "inputs": spec.MaxInputs,
		"output": spec.MaxOutputBytes, "scratch": spec.MaxScratchBytes, "most slots": spec.MaxStackDepth,
		"slots": meter.DefaultStackSlots, "page": meter.PageBytes,
	} {
		if !strings.Contains(text, grouped(n)) {
			t.Errorf("%s: %s is not in the document", what, grouped(n))
		}
	}
	for _, s := range []string{spec.ProfileWASM, meter.ScheduleID, strconv.Itoa(meter.GasPerSubscription) + " gas for each subscription"} {
		if !strings.Contains(text, s) {
			t.Errorf("%s is not in the document", s)
		}
	}
}

// grouped writes a number with commas, as the document does.
func grouped(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
