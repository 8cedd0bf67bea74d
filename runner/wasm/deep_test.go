package wasm

import (
	"strings"
	"testing"

	"fallow.network/receipt"
	"fallow.network/spec"
)

// TestDeepCalls has guests call themselves until the depth that they were
// granted ends. The engine's own stack must hold as much, up to the most that
// a task may ask for.
func TestDeepCalls(t *testing.T) {
	s := open(t, 1)
	for name, body := range map[string]string{
		"spilled values": "locals 1 " + strings.Repeat("local.get 0 i32.const 1 i32.add local.set 0 call 1 ", 1000) + "call 0",
		"small frames":   "call 0",
		"locals":         "locals 60 local.get 0 i32.const 1 i32.add local.set 0 call 0 local.get 0 local.set 59",
	} {
		for _, slots := range []uint32{1, 100, 20_000, 0, spec.DefaultStackDepth, spec.MaxStackDepth} {
			task, _ := taskOf(t, assemble(t, source{pages: 1, funcs: []string{body, ""}}))
			task.Limits.StackDepth = slots
			task.Limits.Gas = 1e12
			r, err := s.Run(t.Context(), task)
			if err != nil || r.Outcome != receipt.Trapped || r.Trap != TrapStack {
				t.Errorf("%s, %d slots: %+v, %v", name, slots, r, err)
			}
		}
	}
}
