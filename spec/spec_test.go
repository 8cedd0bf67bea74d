package spec

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"fallow.network"
)

func limits() Limits {
	return Limits{Gas: 1e9, MemoryBytes: 64 << 20, OutputBytes: 1 << 20, ScratchBytes: 1 << 20, StackDepth: 1000, WallMillis: 60_000}
}

func example() Workload {
	teapot := Blob{Digest: fallow.Sum([]byte("teapot")), Size: 6}
	w := Workload{
		Name:    "film",
		Class:   fallow.ClassWASM,
		Profile: ProfileWASM,
		Module:  Blob{Digest: fallow.Sum([]byte("module")), Size: 6},
		Limits:  limits(),
		Tasks: []Task{
			{Args: []string{"film", "0"}, Env: []string{"B=2", "A=1"}, Inputs: []Input{{"teapot.txt", teapot}, {"a/b", teapot}}, Outputs: []string{"frame-*.ppm"}},
			{Args: []string{"film", "1"}, Stdin: teapot, Outputs: []string{"**"}},
		},
	}
	Normalize(&w)
	return w
}

func TestCanonicalIsPinned(t *testing.T) {
	w := example()
	if err := Validate(w); err != nil {
		t.Fatal(err)
	}
	const want = "sha256:82323eb9edf355395002d0b04ad1504b0bcd5c6dff1984b19c13da07d9393b53"
	if got := Hash(w).String(); got != want {
		t.Errorf("hash %s, want %s: the encoding changed, and with it every workload's name", got, want)
	}
	seed := Seed(Hash(w), 1)
	if got, want := hex.EncodeToString(seed[:4]), "960c8901"; got != want {
		t.Errorf("seed %s, want %s", got, want)
	}
	commitment := Commitment([32]byte{1}, Hash(w))
	if got, want := commitment.Short(), "6740d8a2bf39"; got != want {
		t.Errorf("commitment %s, want %s", got, want)
	}
}

func TestEveryFieldChangesTheHash(t *testing.T) {
	base := Hash(example())
	seen := map[fallow.Digest]int{base: -1}
	for i, change := range []func(*Workload){
		func(w *Workload) { w.Name = "film2" },
		func(w *Workload) { w.Module.Size++ },
		func(w *Workload) { w.Module.Digest[0]++ },
		func(w *Workload) { w.Limits.Gas++ },
		func(w *Workload) { w.Limits.MemoryBytes += PageBytes },
		func(w *Workload) { w.Limits.OutputBytes++ },
		func(w *Workload) { w.Limits.ScratchBytes++ },
		func(w *Workload) { w.Limits.StackDepth++ },
		func(w *Workload) { w.Limits.WallMillis++ },
		func(w *Workload) { w.Tasks = w.Tasks[:1] },
		func(w *Workload) { w.Tasks[0].Args = []string{"film0"} },
		func(w *Workload) { w.Tasks[0].Args = append(w.Tasks[0].Args, "") },
		func(w *Workload) { w.Tasks[0].Env = w.Tasks[0].Env[:1] },
		func(w *Workload) { w.Tasks[0].Stdin = w.Tasks[1].Stdin },
		func(w *Workload) { w.Tasks[0].Inputs[0].Path = "a/c" },
		func(w *Workload) { w.Tasks[0].Inputs[0].Blob.Size++ },
		func(w *Workload) { w.Tasks[0].Outputs = nil },
	} {
		w := example()
		change(&w)
		h := Hash(w)
		if j, ok := seen[h]; ok {
			t.Errorf("changes %d and %d give the same hash", i, j)
		}
		seen[h] = i
		if err := Validate(w); err != nil {
			t.Errorf("change %d: %v", i, err)
		}
	}
}

func TestValidateNamesTheField(t *testing.T) {
	for _, c := range []struct {
		change func(*Workload)
		field  string
	}{
		{func(w *Workload) { w.Name = "" }, "name"},
		{func(w *Workload) { w.Name = "-x" }, "name"},
		{func(w *Workload) { w.Class = "oci" }, "class"},
		{func(w *Workload) { w.Profile = "wasm/9" }, "profile"},
		{func(w *Workload) { w.Module = Blob{} }, "module.digest"},
		{func(w *Workload) { w.Module.Size = 0 }, "module.size"},
		{func(w *Workload) { w.Module.Size = MaxModuleBytes + 1 }, "module.size"},
		{func(w *Workload) { w.Limits.Gas = 0 }, "limits.gas"},
		{func(w *Workload) { w.Limits.Gas = 1 << 63 }, "limits.gas"},
		{func(w *Workload) { w.Limits.MemoryBytes = 100_000 }, "limits.memory"},
		{func(w *Workload) { w.Limits.MemoryBytes = 5 << 30 }, "limits.memory"},
		{func(w *Workload) { w.Limits.StackDepth = 0 }, "limits.stack"},
		{func(w *Workload) { w.Limits.WallMillis = 0 }, "limits.wall"},
		{func(w *Workload) { w.Tasks = nil }, "tasks"},
		{func(w *Workload) { w.Tasks[1].Index = 7 }, "tasks[1].index"},
		{func(w *Workload) { w.Tasks[1].Args = nil }, "tasks[1].args"},
		{func(w *Workload) { w.Tasks[1].Args = []string{"a\x00"} }, "tasks[1].args[0]"},
		{func(w *Workload) { w.Tasks[1].Args = []string{"\xff"} }, "tasks[1].args[0]"},
		{func(w *Workload) { w.Tasks[0].Env = []string{"1A=1"} }, "tasks[0].env[0]"},
		{func(w *Workload) { w.Tasks[0].Env = []string{"A=1", "A=2"} }, "tasks[0].env[1]"},
		{func(w *Workload) { w.Tasks[0].Inputs[0].Path = "/etc/passwd" }, "tasks[0].inputs[0].path"},
		{func(w *Workload) { w.Tasks[0].Inputs[0].Path = "../x" }, "tasks[0].inputs[0].path"},
		{func(w *Workload) { w.Tasks[0].Inputs[0].Path = "teapot.txt" }, "tasks[0].inputs[1].path"},
		{func(w *Workload) { w.Tasks[0].Inputs[1].Path = "a/b/c" }, "tasks[0].inputs[1].path"},
		{func(w *Workload) { w.Tasks[0].Outputs = []string{"["} }, "tasks[0].outputs[0]"},
		{func(w *Workload) { w.Tasks[0].Outputs = []string{"a**b"} }, "tasks[0].outputs[0]"},
	} {
		w := example()
		c.change(&w)
		err := Validate(w)
		var fe *FieldError
		if !errors.As(err, &fe) || fe.Field != c.field {
			t.Errorf("got %v, want an error at %s", err, c.field)
		}
	}
}

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, path string
		want          bool
	}{
		{"frame-*.ppm", "frame-001.ppm", true},
		{"frame-*.ppm", "sub/frame-001.ppm", false},
		{"sub/*.txt", "sub/a.txt", true},
		{"**", "a/b/c", true},
		{"sub/**", "sub/b/c", true},
		{"sub/**", "sub", false},
		{"s*/**", "sub/x", true},
		{"sub/**", "other/x", false},
	} {
		if got := Match(c.pattern, c.path); got != c.want {
			t.Errorf("Match(%q, %q) = %v", c.pattern, c.path, got)
		}
	}
}

func TestSeedsDiffer(t *testing.T) {
	h := Hash(example())
	if Seed(h, 0) == Seed(h, 1) || Seed(h, 0) == Seed(fallow.Digest{}, 0) {
		t.Error("two tasks share a seed")
	}
}

func drawBlob(t *rapid.T, label string) Blob {
	return Blob{Digest: fallow.Sum([]byte(rapid.StringN(1, 8, 8).Draw(t, label))), Size: rapid.Uint64Range(1, MaxModuleBytes).Draw(t, label+" size")}
}

func drawWorkload(t *rapid.T) Workload {
	name := rapid.StringMatching(`[a-zA-Z0-9][a-zA-Z0-9._-]{0,20}`)
	w := Workload{
		Name: name.Draw(t, "name"), Class: fallow.ClassWASM, Profile: ProfileWASM,
		Module: drawBlob(t, "module"), Limits: limits(),
	}
	text := rapid.StringMatching(`[^\x00]{0,20}`)
	for i := range rapid.IntRange(1, 5).Draw(t, "tasks") {
		task := Task{Index: uint32(i), Args: rapid.SliceOfN(text, 1, 4).Draw(t, "args")}
		for _, n := range rapid.SliceOfNDistinct(rapid.StringMatching(`[A-Z_][A-Z0-9_]{0,6}`), 0, 3, rapid.ID[string]).Draw(t, "env") {
			task.Env = append(task.Env, n+"="+text.Draw(t, "value"))
		}
		if rapid.Bool().Draw(t, "stdin") {
			task.Stdin = drawBlob(t, "stdin blob")
		}
		for _, n := range rapid.SliceOfNDistinct(name, 0, 3, rapid.ID[string]).Draw(t, "inputs") {
			task.Inputs = append(task.Inputs, Input{Path: "d/" + n, Blob: drawBlob(t, "input")})
		}
		w.Tasks = append(w.Tasks, task)
	}
	Normalize(&w)
	return w
}

func TestCanonicalRoundTrips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorkload(t)
		if err := Validate(w); err != nil {
			t.Fatal(err)
		}
		got, err := Decode(Canonical(w))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(w, got); d != "" {
			t.Fatal(d)
		}
	})
}

func TestDecodeRefuses(t *testing.T) {
	good := Canonical(example())
	for name, b := range map[string][]byte{
		"nothing":   nil,
		"magic":     append([]byte("Fallow"), good[6:]...),
		"truncated": good[:len(good)-1],
		"trailing":  append(append([]byte{}, good...), 0),
		"count":     []byte(magic + "\xff\xff\xff\xff"),
	} {
		if _, err := Decode(b); !errors.Is(err, ErrCanonical) {
			t.Errorf("%s: got %v, want ErrCanonical", name, err)
		}
	}
	if _, err := Decode([]byte(strings.Replace(string(good), "film", "fi m", 1))); err == nil || !strings.Contains(err.Error(), "name") {
		t.Errorf("invalid name: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(Canonical(example()))
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		w, err := Decode(b)
		if err != nil {
			return
		}
		if string(Canonical(w)) != string(b) {
			t.Error("two sequences of bytes for one workload")
		}
	})
}

func TestMatchTakesElementsOneByOne(t *testing.T) {
	for _, c := range []struct {
		pattern, p string
		want       bool
	}{
		{"a", "a", true},
		{"a", "b", false},
		{"a", "a/b", false},
		{"a/b", "a", false},
		{"*.png", "1.png", true},
		{"*.png", "frames/1.png", false},
		{"frames/*", "frames/1.png", true},
		{"a[^b]c", "a/c", false},
		{"**", "a", true},
		{"**", "a/b/c", true},
		{"**", "", false},
		{"a/**", "a/b", true},
		{"a/**", "a/b/c", true},
		{"a/**", "a", false},
		{"a/**", "a/", false},
		{"a/**", "b/c", false},
		{"?/**", "a/b", true},
		{"*", "", false},
		{"[", "[", false},
	} {
		if got := Match(c.pattern, c.p); got != c.want {
			t.Errorf("Match(%q, %q) = %v, want %v", c.pattern, c.p, got, c.want)
		}
	}
	for _, bad := range []string{"", "[", "a[/]b", "**/a", "a**", "/a", "../a"} {
		if CheckPattern(bad) == nil {
			t.Errorf("%q is taken as a pattern", bad)
		}
	}
}

// FuzzMatch holds Match to what a person expects of any path and any pattern
// that is accepted.
func FuzzMatch(f *testing.F) {
	f.Add("a/**", "a/b")
	f.Add("[", "a")
	f.Add("**", "")
	f.Add("a[^b]c", "a/c")
	f.Fuzz(func(t *testing.T, pattern, p string) {
		got := Match(pattern, p)
		if CheckPattern(pattern) != nil || CheckPath(p) != nil {
			return
		}
		if !Match("**", p) {
			t.Errorf("** leaves %q out", p)
		}
		if !strings.ContainsAny(pattern, "*?[") && got != (pattern == p) {
			t.Errorf("%q without anything special: Match of %q is %v", pattern, p, got)
		}
		deep := strings.Count(p, "/") - strings.Count(pattern, "/")
		if got && deep != 0 && (deep < 0 || !strings.HasSuffix(pattern, "**")) {
			t.Errorf("%q takes %q, which lies at another depth", pattern, p)
		}
		if !strings.ContainsAny(pattern, "*?[") && !Match(pattern+"/**", pattern+"/"+p) {
			t.Errorf("%q/** leaves %q out", pattern, p)
		}
	})
}
