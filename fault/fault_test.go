package fault

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var placed = regexp.MustCompile(`\bfaults?\.Point\(("[^"]*")?`)

// TestPlaced finds each step in the code once, and no point that is no step.
func TestPlaced(t *testing.T) {
	at := map[string][]string{}
	err := filepath.WalkDir("..", func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && file != ".." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules" || d.Name() == "build" || d.Name() == "fault"):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go"):
			return nil
		}
		b, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		for _, m := range placed.FindAllStringSubmatch(string(b), -1) {
			if m[1] == "" {
				t.Errorf("%s: a point whose name is no literal", file)
			}
			at[strings.Trim(m[1], `"`)] = append(at[strings.Trim(m[1], `"`)], file)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range Steps() {
		if len(at[s.Name]) != 1 {
			t.Errorf("%s stands in %q: want one place", s.Name, at[s.Name])
		}
		if len(s.Parties) == 0 {
			t.Errorf("%s: nobody passes it", s.Name)
		}
		delete(at, s.Name)
	}
	for name, files := range at {
		t.Errorf("%s in %q is no step", name, files)
	}
}
