package receipt

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"

	"fallow.network"
	"fallow.network/market"
)

// File is a blob that a guest sees at a path below /in.
type File struct {
	Path string
	Blob market.Blob
}

// Limits bound one run.
type Limits struct {
	Gas        fallow.Gas
	Memory     uint64 // bytes
	Output     uint64 // bytes
	Scratch    uint64 // bytes
	StackDepth uint32
}

// Task is everything that a run's result depends on. Wall-clock limits,
// attempts and leases are not in it: they must not change a result.
type Task struct {
	Task     uint32
	Workload fallow.Digest
	Module   fallow.Digest
	Args     []string
	Env      []string       // NAME=value, in the order that the guest sees
	Stdin    *fallow.Digest // nil is an empty stdin
	Files    []File         // in the order of the message
	Limits   Limits
	Profile  string
	Seed     []byte
}

// writer hashes fields so that no two values share an encoding: every field
// has a fixed width or its length before it.
type writer struct{ h hash.Hash }

func begin(domain string) writer {
	w := writer{sha256.New()}
	w.h.Write([]byte(domain))
	w.h.Write([]byte{0})
	return w
}

func (w writer) u64(v uint64) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], v)
	w.h.Write(b[:])
}

func (w writer) bytes(b []byte) {
	w.u64(uint64(len(b)))
	w.h.Write(b)
}

func (w writer) strings(list []string) {
	w.u64(uint64(len(list)))
	for _, s := range list {
		w.bytes([]byte(s))
	}
}

func (w writer) sum() fallow.Digest { return fallow.Digest(w.h.Sum(nil)) }

// InputDigest stands for a task's canonical inputs: sha256 over
// "fallow/input/v1", a zero byte, and the fields in the order of Task, numbers
// as 8 bytes big-endian, strings and byte strings behind their length, lists
// behind their count, files as path, digest and size, and a missing stdin as
// the empty string.
func InputDigest(t Task) fallow.Digest {
	w := begin("fallow/input/v1")
	w.u64(uint64(t.Task))
	w.bytes(t.Workload[:])
	w.bytes(t.Module[:])
	w.strings(t.Args)
	w.strings(t.Env)
	if t.Stdin == nil {
		w.bytes(nil)
	} else {
		w.bytes(t.Stdin[:])
	}
	w.u64(uint64(len(t.Files)))
	for _, f := range t.Files {
		w.bytes([]byte(f.Path))
		w.bytes(f.Blob.Digest[:])
		w.u64(f.Blob.Size)
	}
	w.u64(uint64(t.Limits.Gas))
	w.u64(t.Limits.Memory)
	w.u64(t.Limits.Output)
	w.u64(t.Limits.Scratch)
	w.u64(uint64(t.Limits.StackDepth))
	w.bytes([]byte(t.Profile))
	w.bytes(t.Seed)
	return w.sum()
}

// OutputDigest stands for a task's outputs, which must be ascending by path:
// sha256 over "fallow/output/v1", a zero byte, the count, and path, digest
// and size of each, encoded as for InputDigest.
func OutputDigest(outputs []Output) fallow.Digest {
	w := begin("fallow/output/v1")
	w.u64(uint64(len(outputs)))
	for _, o := range outputs {
		w.bytes([]byte(o.Path))
		w.bytes(o.Digest[:])
		w.u64(o.Size)
	}
	return w.sum()
}

// GasUnit is how much gas a gas price is for.
const GasUnit = 1_000_000

// Charge is what a task of that much gas costs by the terms: the task's fee
// and the gas price for each million gas, rounded down to a pico-credit. It
// fails when that does not fit 128 bits, which terms that passed Check
// prevent.
func Charge(t market.Terms, gas fallow.Gas) (fallow.Pico, error) {
	work, err := t.GasPrice.MulDiv(uint64(gas), GasUnit)
	if err != nil {
		return fallow.Pico{}, err
	}
	return work.Add(t.TaskFee)
}
