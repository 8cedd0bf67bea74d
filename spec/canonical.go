package spec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"fallow.network"
)

// magic begins every canonical workload; a change of encoding changes it.
const magic = "fallow/workload/v1\x00"

// ErrCanonical is bytes that Canonical did not write.
var ErrCanonical = errors.New("not a canonical workload")

// Canonical writes w as its one sequence of bytes. Integers are big-endian;
// text is a u32 length and its bytes; a list is a u32 count and its elements:
//
//	magic  "fallow/workload/v1" 0x00
//	text   name, class, profile
//	blob   module                      (32-byte digest, u64 size)
//	u64    gas, memory, output, scratch; u32 stack depth; u64 wall ms
//	list   tasks, each:
//	         list of text  args
//	         list of text  env
//	         u8            1 when stdin follows, else 0; blob
//	         list          inputs: text path, blob
//	         list of text  outputs
//
// A task's index is its position and is not written. Canonical does not
// validate: bytes of an invalid workload are refused by Decode.
func Canonical(w Workload) []byte {
	b := make([]byte, 0, 256+128*len(w.Tasks))
	b = append(b, magic...)
	b = appendText(b, w.Name)
	b = appendText(b, string(w.Class))
	b = appendText(b, w.Profile)
	b = appendBlob(b, w.Module)
	b = binary.BigEndian.AppendUint64(b, uint64(w.Limits.Gas))
	b = binary.BigEndian.AppendUint64(b, w.Limits.MemoryBytes)
	b = binary.BigEndian.AppendUint64(b, w.Limits.OutputBytes)
	b = binary.BigEndian.AppendUint64(b, w.Limits.ScratchBytes)
	b = binary.BigEndian.AppendUint32(b, w.Limits.StackDepth)
	b = binary.BigEndian.AppendUint64(b, w.Limits.WallMillis)
	b = binary.BigEndian.AppendUint32(b, uint32(len(w.Tasks)))
	for _, t := range w.Tasks {
		b = appendTask(b, t)
	}
	return b
}

// Hash names w: sha256 of its canonical bytes.
func Hash(w Workload) fallow.Digest { return fallow.Sum(Canonical(w)) }

// Commitment is what stands on the ledger for a workload, so that nobody
// recognises it: sha256 of "fallow/commitment/v1", 0x00, the salt, the hash.
func Commitment(salt [32]byte, workload fallow.Digest) fallow.Digest {
	b := append([]byte("fallow/commitment/v1\x00"), salt[:]...)
	return fallow.Sum(append(b, workload[:]...))
}

// Seed is where a guest's random numbers begin: sha256 of "fallow/seed/v1",
// 0x00, the workload's hash, the task's index as u32. Equal on every machine
// and in every attempt.
func Seed(workload fallow.Digest, task uint32) [32]byte {
	b := append([]byte("fallow/seed/v1\x00"), workload[:]...)
	return fallow.Sum(binary.BigEndian.AppendUint32(b, task))
}

// Decode reads what Canonical wrote. It fails with ErrCanonical on anything
// else, and with a FieldError when the workload does not validate.
func Decode(b []byte) (Workload, error) {
	var w Workload
	if len(b) > MaxCanonicalBytes {
		return w, fmt.Errorf("%d bytes, at most %d: %w", len(b), MaxCanonicalBytes, ErrCanonical)
	}
	r := reader{b: b}
	if string(r.take(len(magic))) != magic {
		return w, fmt.Errorf("no %q at the start: %w", magic[:len(magic)-1], ErrCanonical)
	}
	w.Name = r.text(MaxNameBytes)
	w.Class = fallow.Class(r.text(MaxNameBytes))
	w.Profile = r.text(MaxNameBytes)
	w.Module = r.blob()
	w.Limits = Limits{
		Gas:          fallow.Gas(r.u64()),
		MemoryBytes:  r.u64(),
		OutputBytes:  r.u64(),
		ScratchBytes: r.u64(),
		StackDepth:   r.u32(),
		WallMillis:   r.u64(),
	}
	n := r.count(MaxTasks)
	for i := 0; i < n && r.err == nil; i++ {
		w.Tasks = append(w.Tasks, r.task(uint32(i)))
	}
	if r.err == nil && len(r.b) != 0 {
		r.err = fmt.Errorf("%d bytes too many: %w", len(r.b), ErrCanonical)
	}
	if r.err != nil {
		return Workload{}, r.err
	}
	if err := Validate(w); err != nil {
		return Workload{}, err
	}
	return w, nil
}

func appendText(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
	return append(b, s...)
}

func appendBlob(b []byte, blob Blob) []byte {
	return binary.BigEndian.AppendUint64(append(b, blob.Digest[:]...), blob.Size)
}

func appendTexts(b []byte, list []string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(list)))
	for _, s := range list {
		b = appendText(b, s)
	}
	return b
}

func appendTask(b []byte, t Task) []byte {
	b = appendTexts(b, t.Args)
	b = appendTexts(b, t.Env)
	if t.HasStdin() {
		b = appendBlob(append(b, 1), t.Stdin)
	} else {
		b = append(b, 0)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(t.Inputs)))
	for _, in := range t.Inputs {
		b = appendBlob(appendText(b, in.Path), in.Blob)
	}
	return appendTexts(b, t.Outputs)
}

// reader takes fields off the front of b and remembers the first failure.
type reader struct {
	b   []byte
	err error
}

func (r *reader) take(n int) []byte {
	if r.err != nil {
		return nil
	}
	if n > len(r.b) {
		r.err = fmt.Errorf("ends early: %w", ErrCanonical)
		return nil
	}
	var out []byte
	out, r.b = r.b[:n], r.b[n:]
	return out
}

func (r *reader) u32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if b := r.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (r *reader) count(most int) int {
	n := r.u32()
	if r.err == nil && n > uint32(min(most, math.MaxInt32)) {
		r.err = fmt.Errorf("a count of %d, at most %d: %w", n, most, ErrCanonical)
		return 0
	}
	return int(n)
}

func (r *reader) text(most int) string { return string(r.take(r.count(most))) }

func (r *reader) texts(most, bytes int) []string {
	n := r.count(most)
	var out []string
	for i := 0; i < n && r.err == nil; i++ {
		out = append(out, r.text(bytes))
	}
	return out
}

func (r *reader) blob() (b Blob) {
	copy(b.Digest[:], r.take(len(b.Digest)))
	b.Size = r.u64()
	return b
}

func (r *reader) task(index uint32) Task {
	t := Task{Index: index, Args: r.texts(MaxArgs, MaxArgBytes), Env: r.texts(MaxEnv, MaxArgBytes)}
	switch flag := r.take(1); {
	case r.err != nil:
	case flag[0] == 1:
		t.Stdin = r.blob()
		if r.err == nil && !t.HasStdin() {
			r.err = fmt.Errorf("an empty stdin where none should stand: %w", ErrCanonical)
		}
	case flag[0] != 0:
		r.err = fmt.Errorf("a stdin flag of %d: %w", flag[0], ErrCanonical)
	}
	n := r.count(MaxInputs)
	for i := 0; i < n && r.err == nil; i++ {
		t.Inputs = append(t.Inputs, Input{Path: r.text(MaxPathBytes), Blob: r.blob()})
	}
	t.Outputs = r.texts(MaxOutputs, MaxPathBytes)
	return t
}
