package receipt

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"fallow.network"
	"fallow.network/market"
)

func digests(n int) []fallow.Digest {
	var list []fallow.Digest
	for i := range n {
		list = append(list, fallow.Sum(fmt.Appendf(nil, "receipt %d", i)))
	}
	return list
}

// TestTreeIsRFC6962 recomputes roots by the definition in section 2.1.
func TestTreeIsRFC6962(t *testing.T) {
	var mth func(d []fallow.Digest) fallow.Digest
	mth = func(d []fallow.Digest) fallow.Digest {
		if len(d) == 1 {
			return sha256.Sum256(append([]byte{0}, d[0][:]...))
		}
		k := 1
		for k*2 < len(d) {
			k *= 2
		}
		l, r := mth(d[:k]), mth(d[k:])
		return sha256.Sum256(append(append([]byte{1}, l[:]...), r[:]...))
	}
	var tree Tree
	if !tree.Root().IsZero() {
		t.Error("an empty tree has a root")
	}
	all := digests(70)
	for i, d := range all {
		before := tree.Clone()
		tree.Append(d)
		if got, want := tree.Root(), mth(all[:i+1]); got != want {
			t.Fatalf("root over %d: %s, want %s", i+1, got, want)
		}
		if before.Len() != uint64(i) || i > 0 && before.Root() != mth(all[:i]) {
			t.Fatalf("a clone of %d has changed", i)
		}
	}
}

func TestProofs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := digests(rapid.IntRange(1, 40).Draw(t, "n"))
		i := rapid.IntRange(0, len(all)-1).Draw(t, "i")
		root, proof := Root(all), Proof(all, i)
		if !CheckProof(root, len(all), i, all[i], proof) {
			t.Fatal("a proof does not hold")
		}
		j := rapid.IntRange(0, len(all)-1).Draw(t, "j")
		if j != i && (CheckProof(root, len(all), j, all[i], proof) || CheckProof(root, len(all), i, all[j], proof)) {
			t.Fatal("a proof holds for another place")
		}
		if CheckProof(root, len(all), i, all[i], append(proof, fallow.Digest{})) {
			t.Fatal("a proof that is too long holds")
		}
		if len(proof) > 0 && CheckProof(root, len(all), i, all[i], proof[1:]) {
			t.Fatal("a proof that is too short holds")
		}
	})
	if Proof(digests(3), 3) != nil || CheckProof(Root(digests(3)), 3, -1, fallow.Digest{}, nil) {
		t.Error("a proof out of range")
	}
}

func TestCharge(t *testing.T) {
	tests := []struct {
		price, fee fallow.Pico
		gas        fallow.Gas
		want       fallow.Pico
	}{
		{fallow.PicoOf(0), fallow.PicoOf(7), 1_000_000, fallow.PicoOf(7)},
		{fallow.PicoOf(1), fallow.PicoOf(0), 999_999, fallow.PicoOf(0)},
		{fallow.PicoOf(1), fallow.PicoOf(0), 1_000_000, fallow.PicoOf(1)},
		{fallow.PicoOf(3), fallow.PicoOf(10), 1_500_000, fallow.PicoOf(14)},
	}
	for _, tt := range tests {
		got, err := Charge(market.Terms{GasPrice: tt.price, TaskFee: tt.fee}, tt.gas)
		if err != nil || got != tt.want {
			t.Errorf("%s and %s for %d gas: %s, %v; want %s", tt.price, tt.fee, tt.gas, got, err, tt.want)
		}
	}
	if _, err := Charge(market.Terms{GasPrice: market.MaxPrice, TaskFee: market.MaxPrice}, math.MaxUint64); err != nil {
		t.Errorf("the most that terms allow: %v", err)
	}
	over := fallow.Pico{Hi: math.MaxUint64, Lo: math.MaxUint64}
	if _, err := Charge(market.Terms{GasPrice: over}, math.MaxUint64); !errors.Is(err, fallow.ErrOverflow) {
		t.Errorf("an overflow: %v", err)
	}
}

func sample() Receipt {
	r := Receipt{
		Lease: 1, Workload: fallow.Sum([]byte("w")), Task: 2, Attempt: 1,
		Input:   fallow.Sum([]byte("in")),
		Outputs: []Output{{Path: "a", Digest: fallow.Sum([]byte("a")), Size: 1}, {Path: "out/b", Digest: fallow.Sum([]byte("b"))}},
		Gas:     2_000_000, Outcome: Exited, Profile: "p", Started: 10, Ended: 20,
		Charge: fallow.PicoOf(6),
	}
	r.Output = OutputDigest(r.Outputs)
	return r
}

func TestReceiptBounds(t *testing.T) {
	if err := sample().Check(); err != nil {
		t.Fatal(err)
	}
	tests := map[string]func(*Receipt){
		"no lease":      func(r *Receipt) { r.Lease = 0 },
		"no workload":   func(r *Receipt) { r.Workload = fallow.Digest{} },
		"outcome":       func(r *Receipt) { r.Outcome = 3 },
		"trap and exit": func(r *Receipt) { r.Trap = "unreachable" },
		"trap unnamed":  func(r *Receipt) { r.Outcome = Trapped },
		"times":         func(r *Receipt) { r.Ended = 9 },
		"order":         func(r *Receipt) { r.Outputs[0], r.Outputs[1] = r.Outputs[1], r.Outputs[0] },
		"twice":         func(r *Receipt) { r.Outputs[1].Path = "a" },
		"parent":        func(r *Receipt) { r.Outputs[0].Path = "../a" },
		"absolute":      func(r *Receipt) { r.Outputs[0].Path = "/a" },
		"dot":           func(r *Receipt) { r.Outputs[0].Path = "." },
		"backslash":     func(r *Receipt) { r.Outputs[0].Path = `a\b` },
		"long":          func(r *Receipt) { r.Outputs[0].Path = strings.Repeat("a", MaxPath+1) },
		"long name":     func(r *Receipt) { r.Outputs[0].Path = "a/" + strings.Repeat("b", MaxName+1) },
		"below a file":  func(r *Receipt) { r.Outputs[1].Path = "a/b" },
		"far below":     func(r *Receipt) { r.Outputs[1].Path = "a/b/c" },
		"not next to": func(r *Receipt) {
			r.Outputs = append(r.Outputs[:1], Output{Path: "a-", Digest: fallow.Sum(nil)}, Output{Path: "a/b", Digest: fallow.Sum(nil)})
		},
		"digest": func(r *Receipt) { r.Output = fallow.Sum(nil) },
	}
	for name, change := range tests {
		r := sample()
		r.Outputs = append([]Output{}, r.Outputs...)
		output := r.Output
		change(&r)
		if r.Output == output {
			r.Output = OutputDigest(r.Outputs)
		}
		if err := r.Check(); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAccept(t *testing.T) {
	r := sample()
	r.Outputs[1].Size = 5
	e := Expected{
		Lease: 1, Workload: r.Workload, Task: 2, Attempt: 1, Input: r.Input, Profile: "p", Gas: 2_000_000, Output: 6,
		Terms: market.Terms{GasPrice: fallow.PicoOf(2), TaskFee: fallow.PicoOf(2)},
	}
	if err := r.Accept(e); err != nil {
		t.Fatal(err)
	}
	tests := map[string]func(*Expected){
		"lease":   func(e *Expected) { e.Lease = 2 },
		"task":    func(e *Expected) { e.Task = 3 },
		"attempt": func(e *Expected) { e.Attempt = 2 },
		"input":   func(e *Expected) { e.Input = fallow.Digest{} },
		"profile": func(e *Expected) { e.Profile = "q" },
		"gas":     func(e *Expected) { e.Gas = 1_999_999 },
		"output":  func(e *Expected) { e.Output = 5 },
		"charge":  func(e *Expected) { e.Terms.TaskFee = fallow.PicoOf(1) },
	}
	for name, change := range tests {
		other := e
		change(&other)
		if r.Accept(other) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestEquivocates(t *testing.T) {
	a, b := sample(), sample()
	if Equivocates(a, b) {
		t.Error("a receipt against itself")
	}
	b.Ended++
	if Equivocates(a, b) {
		t.Error("times alone")
	}
	b.Gas++
	if !Equivocates(a, b) {
		t.Error("another gas is no proof")
	}
	b.Attempt++
	if Equivocates(a, b) {
		t.Error("another attempt")
	}
}

func TestInputDigestSeesEveryField(t *testing.T) {
	in := fallow.Sum([]byte("stdin"))
	base := Task{Args: []string{"a", "b"}, Env: []string{"A=1"}, Files: []File{{Path: "x"}}, Seed: []byte{1}}
	tests := map[string]func(*Task){
		"task":     func(t *Task) { t.Task++ },
		"workload": func(t *Task) { t.Workload[0]++ },
		"module":   func(t *Task) { t.Module[0]++ },
		"args":     func(t *Task) { t.Args = []string{"ab"} },
		"split":    func(t *Task) { t.Args, t.Env = []string{"a"}, []string{"b", "A=1"} },
		"stdin":    func(t *Task) { t.Stdin = &in },
		"path":     func(t *Task) { t.Files = []File{{Path: "y"}} },
		"size":     func(t *Task) { t.Files = []File{{Path: "x", Blob: market.Blob{Size: 1}}} },
		"gas":      func(t *Task) { t.Limits.Gas++ },
		"memory":   func(t *Task) { t.Limits.Memory++ },
		"output":   func(t *Task) { t.Limits.Output++ },
		"scratch":  func(t *Task) { t.Limits.Scratch++ },
		"stack":    func(t *Task) { t.Limits.StackDepth++ },
		"profile":  func(t *Task) { t.Profile = "p" },
		"seed":     func(t *Task) { t.Seed = nil },
	}
	seen := map[fallow.Digest]string{InputDigest(base): "base"}
	for name, change := range tests {
		task := base
		change(&task)
		d := InputDigest(task)
		if other, ok := seen[d]; ok {
			t.Errorf("%s and %s have one digest", name, other)
		}
		seen[d] = name
	}
}
