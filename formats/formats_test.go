package formats

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"fallow.network"
	"fallow.network/market"
	"fallow.network/spec"
)

var update = flag.Bool("update", false, "write the golden files of testdata/bad")

// files is a host that has just these.
type files []string

func (h files) Glob(pattern string) (out []string, err error) {
	for _, f := range h {
		if ok, err := path.Match(pattern, f); err != nil {
			return nil, err
		} else if ok {
			out = append(out, f)
		}
	}
	return out, nil
}

func (h files) Check(p string) error {
	if !slices.Contains(h, p) {
		return fmt.Errorf("no file at %s", p)
	}
	return nil
}

var here = files{"film.wasm", "module.wasm", "photos/a.png", "photos/b.png", "teapot.txt"}

func parse(t *testing.T, file string) *Job {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	job, err := Parse(path.Base(file), b, here)
	if err != nil {
		t.Fatal(err)
	}
	return job
}

func TestLeast(t *testing.T) {
	want := &Job{
		Format: "fallow", Name: "least", Module: "module.wasm",
		Tasks:  []Task{{Args: []string{"least"}, Outputs: []string{"**"}}},
		Limits: defaultLimits(), Checks: Checks{Mode: CheckAuto},
	}
	if d := cmp.Diff(want, parse(t, "testdata/good/least.yaml")); d != "" {
		t.Error(d)
	}
}

func TestFilm(t *testing.T) {
	job := parse(t, "testdata/good/film.yaml")
	if len(job.Tasks) != 48*2*2 {
		t.Fatalf("%d tasks", len(job.Tasks))
	}
	want := Task{
		Label:   "frame=001 size=large photo=photos/b.png",
		Args:    []string{"film", "001", "48", "320", "b", "$5", "7"},
		Env:     []string{"SIZE=large", "PHOTO=b.png"},
		Stdin:   "teapot.txt",
		Inputs:  []Input{{"scene/teapot.txt", "teapot.txt"}, {"photo.png", "photos/b.png"}},
		Outputs: []string{"frame-*.ppm", "log/**"},
	}
	if d := cmp.Diff(want, job.Tasks[7]); d != "" {
		t.Error(d)
	}
	job.Tasks = nil
	rest := &Job{
		Format: "fallow", Name: "film", Module: "film.wasm",
		Limits:   spec.Limits{Gas: 200e9, MemoryBytes: 131072, OutputBytes: 4 << 20, StackDepth: 1000, WallMillis: 300_000},
		Budget:   500_000,
		Deadline: 10 * time.Minute,
		Slots:    8,
		Checks:   Checks{Mode: CheckAuto, MinimumPPM: 25_000, Where: WhereOwn},
		Placement: market.Placement{
			Regions: []string{"eu", "us"}, Attributes: []market.Attribute{{Key: "arch", Value: "amd64"}},
			Providers: []fallow.Account{"fal1abc"}, Excluded: []fallow.Account{"fal1xyz"},
		},
		Collect: Collect{Frames: "frame-*.ppm", FPS: 24, GIF: "out/film.gif", MP4: "out/film.mp4", ContactSheet: "out/sheet.png"},
	}
	if d := cmp.Diff(rest, job); d != "" {
		t.Error(d)
	}
}

func TestBacalhau(t *testing.T) {
	job := parse(t, "testdata/good/bacalhau.yaml")
	limits := defaultLimits()
	limits.MemoryBytes, limits.ScratchBytes, limits.WallMillis = 512_032_768, 1<<30, 60_000
	if job.Name != "My-words-counted" || job.Module != "module.wasm" || job.Limits != limits || job.Deadline != 10*time.Minute || len(job.Tasks) != 3 {
		t.Errorf("%+v", job)
	}
	want := Task{
		Label:   "partition=2",
		Args:    []string{"module.wasm", "--from=/in/teapot.txt", "/out/counts.txt", "/inputsx"},
		Env:     []string{"LEVEL=3", "MODE=fast", "BACALHAU_PARTITION_INDEX=2", "BACALHAU_PARTITION_COUNT=3"},
		Inputs:  []Input{{"teapot.txt", "teapot.txt"}},
		Outputs: []string{"**"},
	}
	if d := cmp.Diff(want, job.Tasks[2]); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(market.Placement{Regions: []string{"eu", "us"}, Attributes: []market.Attribute{{Key: "arch", Value: "amd64"}}}, job.Placement); d != "" {
		t.Error(d)
	}
	if notes := strings.Join(job.Notes, "\n"); !strings.Contains(notes, "is read by the guest at /in/teapot.txt") || !strings.Contains(notes, "Namespace has no meaning") {
		t.Errorf("notes: %s", notes)
	}
	if job := parse(t, "testdata/good/bacalhau-alias.yaml"); job.Module != "module.wasm" || len(job.Tasks[0].Inputs) != 0 {
		t.Errorf("alias: %+v", job)
	}
}

// TestBad compares each bad file's errors with the text beside it.
func TestBad(t *testing.T) {
	names, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(names) < 20 {
		t.Fatal(len(names), err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		_, got := Parse(path.Base(name), b, here)
		var all Errors
		if !errors.As(got, &all) || len(all) == 0 {
			t.Errorf("%s: got %v, want Errors", name, got)
			continue
		}
		golden := strings.TrimSuffix(name, ".yaml") + ".txt"
		if *update {
			if err := os.WriteFile(golden, []byte(all.Error()+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(want), all.Error()+"\n"); d != "" {
			t.Errorf("%s:\n%s", name, d)
		}
		for _, e := range all {
			if e.Line < 1 || e.Column < 1 || e.Problem == "" {
				t.Errorf("%s: an error without a place: %+v", name, e)
			}
		}
	}
}

// TestSchema holds the published schema and the parser to one opinion, over
// all examples and test files.
func TestSchema(t *testing.T) {
	schema, err := jsonschema.NewCompiler().Compile("../docs/job.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	verdict := func(b []byte) error {
		j, err := yaml.YAMLToJSON(b)
		if err != nil {
			return err
		}
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(j))
		if err != nil {
			return err
		}
		return schema.Validate(v)
	}
	var all []string
	for _, pattern := range []string{"testdata/*/*.yaml", "../examples/*/*job.yaml"} {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			t.Fatal(pattern, err)
		}
		all = append(all, names...)
	}
	for _, name := range all {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(name, "bacalhau") {
			continue
		}
		err = verdict(b)
		accepts := !strings.Contains(name, "/bad/") || bytes.HasPrefix(b, []byte("# schema: accepts"))
		if accepts && err != nil {
			t.Errorf("%s: the schema refuses it: %v", name, err)
		}
		if !accepts && err == nil {
			t.Errorf("%s: the schema accepts it", name)
		}
		if strings.Contains(name, "/examples/") {
			if _, err := Parse(name, b, anything{}); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestDocs parses each job that the page on job files shows.
func TestDocs(t *testing.T) {
	b, err := os.ReadFile("../docs/job-file.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(b), "```yaml\n")[1:]
	if len(blocks) == 0 {
		t.Fatal("no examples in docs/job-file.md")
	}
	for _, block := range blocks {
		text, _, _ := strings.Cut(block, "```")
		if _, err := Parse("job-file.md", []byte(text), anything{}); err != nil {
			t.Errorf("%v in\n%s", err, text)
		}
	}
	// Each field of the schema stands in the page.
	var schema struct{ Properties map[string]any }
	s, err := os.ReadFile("../docs/job.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(s, &schema); err != nil {
		t.Fatal(err)
	}
	for field := range schema.Properties {
		if !bytes.Contains(b, []byte("`"+field+"`")) {
			t.Errorf("docs/job-file.md does not name `%s`", field)
		}
	}
}

// anything is a host that has every file.
type anything struct{}

func (anything) Glob(string) ([]string, error) { return []string{"a.txt", "b.txt"}, nil }
func (anything) Check(string) error            { return nil }

func TestNesting(t *testing.T) {
	for name, s := range map[string]string{
		"brackets": "a: " + strings.Repeat("[", 100_000),
		"markers":  strings.Repeat("- ", 100_000),
		"keys":     strings.Repeat("? ", 100_000),
		"size":     "a: " + strings.Repeat("x", MaxFileBytes),
		"expanded": "name: x\nmodule: m\nforeach: {a: 1..90000}\nargs: [\"" + strings.Repeat("x", 2000) + "\"]\n",
		"arg":      "name: x\nmodule: m\nargs: [\"" + strings.Repeat("x", spec.MaxArgBytes+1) + "\"]\n",
	} {
		start := time.Now()
		if _, err := Parse("x.yaml", []byte(s), anything{}); err == nil {
			t.Errorf("%s: accepted", name)
		} else if len(err.Error()) > 5000 {
			t.Errorf("%s: an error of %d bytes", name, len(err.Error()))
		}
		if d := time.Since(start); d > 10*time.Second {
			t.Errorf("%s: %s", name, d)
		}
	}
}

func FuzzParse(f *testing.F) {
	names, err := filepath.Glob("testdata/*/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		job, err := Parse("x.yaml", b, here)
		if err != nil {
			var all Errors
			if !errors.As(err, &all) || len(all) == 0 || len(all) > MaxErrors {
				t.Fatalf("not Errors: %v", err)
			}
			return
		}
		w := spec.Workload{Name: job.Name, Class: fallow.ClassWASM, Profile: spec.ProfileWASM, Limits: job.Limits}
		w.Module = spec.Blob{Digest: fallow.Sum(nil), Size: 1}
		if len(job.Tasks) == 0 || len(job.Tasks) > spec.MaxTasks {
			t.Fatalf("%d tasks", len(job.Tasks))
		}
		w.Tasks = []spec.Task{{Args: []string{"x"}}}
		if err := spec.Validate(w); err != nil {
			t.Fatalf("the job is no workload: %v", err)
		}
	})
}
