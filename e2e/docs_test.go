//go:build linux

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// help is what fallow prints for some words.
func help(t *testing.T, words ...string) string {
	t.Helper()
	b, err := exec.CommandContext(t.Context(), filepath.Join(root, "build", "fallow"), append([]string{"help"}, words...)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var (
	listed = regexp.MustCompile(`(?m)^  ([a-z][a-z-]*)  +[A-Z]`)
	row    = regexp.MustCompile(`(?m)^(\d+) +(\S.*?)  +(\S.*?) *$`)
)

// TestVerbsAreDocumented holds docs/cli.md against what the program says.
func TestVerbsAreDocumented(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(root, "docs", "cli.md"))
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	verbs := listed.FindAllStringSubmatch(help(t), -1)
	if len(verbs) < 20 {
		t.Fatalf("found %d verbs in help: %v", len(verbs), verbs)
	}
	for _, v := range verbs {
		if !strings.Contains(page, "`"+v[1]) {
			t.Errorf("docs/cli.md does not tell of %s", v[1])
		}
		if v[1] == "completion" { // shells' names
			continue
		}
		for _, sub := range listed.FindAllStringSubmatch(help(t, v[1]), -1) {
			if !strings.Contains(page, "`"+v[1]+" "+sub[1]) {
				t.Errorf("docs/cli.md does not tell of %s %s", v[1], sub[1])
			}
		}
	}
	codes := row.FindAllStringSubmatch(help(t, "exit-codes"), -1)
	if len(codes) < 10 {
		t.Fatalf("found %d exit codes: %v", len(codes), codes)
	}
	for _, c := range codes {
		if want := "| " + c[1] + " | " + c[2] + " | " + c[3] + " |"; !strings.Contains(page, want) {
			t.Errorf("docs/cli.md lacks the row %s", want)
		}
	}
}
