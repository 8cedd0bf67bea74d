package client

import (
	"crypto/ed25519"

	"fallow.network"
	marketv1 "fallow.network/api/market"
	nodev1 "fallow.network/api/node"
	"fallow.network/market"
	"fallow.network/spec"
	"fallow.network/wire"
)

// message is an attempt as its provider gets it.
func (r *run) message(id attemptID) *nodev1.WorkRequest {
	return &nodev1.WorkRequest{Task: taskMessage(r.rec.workload, r.rec.Workload, id), Traceparent: r.spans[id].Parent()}
}

func taskMessage(w spec.Workload, hash fallow.Digest, id attemptID) *nodev1.Task {
	t := w.Tasks[id.task]
	seed := spec.Seed(hash, id.task)
	m := &nodev1.Task{
		Task: id.task, Attempt: id.attempt, Workload: hash[:], Module: blobMessage(w.Module),
		Args: t.Args, Env: t.Env, Profile: w.Profile, Seed: seed[:], WallMs: w.Limits.WallMillis,
		Limits: &nodev1.Limits{
			Gas: uint64(w.Limits.Gas), MemoryBytes: w.Limits.MemoryBytes, OutputBytes: w.Limits.OutputBytes,
			ScratchBytes: w.Limits.ScratchBytes, StackDepth: w.Limits.StackDepth,
		},
	}
	if t.HasStdin() {
		m.Stdin = blobMessage(t.Stdin)
	}
	for _, in := range t.Inputs {
		m.Inputs = append(m.Inputs, &nodev1.Input{Path: in.Path, Blob: blobMessage(in.Blob)})
	}
	return m
}

func blobMessage(b spec.Blob) *marketv1.Blob {
	return wire.ToBlob(market.Blob{Digest: b.Digest, Size: b.Size})
}

func publicKey(private ed25519.PrivateKey) (fallow.Key, error) { return wire.PublicKey(private), nil }
