package wire

import (
	"errors"
	"fmt"

	"fallow.network"
	nodev1 "fallow.network/api/node"
	"fallow.network/receipt"
)

// Bounds of a task as it is sent to a node.
const (
	maxStrings = 4096
	maxFiles   = 4096
	maxString  = 64 << 10 // bytes
	maxSeed    = 64       // bytes
)

// Task converts what a node is asked to run to what its receipt's input
// digest covers, and bounds it.
func Task(m *nodev1.Task) (receipt.Task, error) {
	t, err := task(m)
	if err != nil {
		return receipt.Task{}, malformed("task", err)
	}
	return t, nil
}

func task(m *nodev1.Task) (receipt.Task, error) {
	if len(m.GetArgs()) > maxStrings || len(m.GetEnv()) > maxStrings || len(m.GetInputs()) > maxFiles || len(m.GetSeed()) > maxSeed {
		return receipt.Task{}, errors.New("too many args, env, inputs or too long a seed")
	}
	for _, list := range [][]string{m.GetArgs(), m.GetEnv()} {
		for _, s := range list {
			if len(s) > maxString {
				return receipt.Task{}, fmt.Errorf("an arg or env of %d bytes is above %d", len(s), maxString)
			}
		}
	}
	if err := refuseUnknown(m.ProtoReflect()); err != nil {
		return receipt.Task{}, err
	}
	module, err := Blob(m.GetModule())
	if err != nil {
		return receipt.Task{}, fmt.Errorf("module: %w", err)
	}
	var r reader
	t := receipt.Task{
		Task:     m.GetTask(),
		Workload: r.digest("workload", m.GetWorkload()),
		Module:   module.Digest,
		Args:     m.GetArgs(),
		Env:      m.GetEnv(),
		Limits: receipt.Limits{
			Gas:        fallow.Gas(m.GetLimits().GetGas()),
			Memory:     m.GetLimits().GetMemoryBytes(),
			Output:     m.GetLimits().GetOutputBytes(),
			Scratch:    m.GetLimits().GetScratchBytes(),
			StackDepth: m.GetLimits().GetStackDepth(),
		},
		Profile: m.GetProfile(),
		Seed:    m.GetSeed(),
	}
	if m.GetStdin() != nil {
		b, err := Blob(m.GetStdin())
		r.fail("stdin", err)
		t.Stdin = &b.Digest
	}
	for i, in := range m.GetInputs() {
		b, err := Blob(in.GetBlob())
		r.fail(fmt.Sprintf("inputs[%d]", i), err)
		if p := in.GetPath(); len(p) == 0 || len(p) > receipt.MaxPath {
			r.fail(fmt.Sprintf("inputs[%d]", i), fmt.Errorf("path of %d bytes: want 1 to %d", len(p), receipt.MaxPath))
		}
		t.Files = append(t.Files, receipt.File{Path: in.GetPath(), Blob: b})
	}
	return t, r.err
}
