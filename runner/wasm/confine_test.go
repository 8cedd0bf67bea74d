package wasm

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestWhatAChildHas opens a file that children would inherit, sets a variable,
// and has a child tell what it sees after it was confined.
func TestWhatAChildHas(t *testing.T) {
	t.Setenv("FALLOW_SECRET", "secret")
	kept, err := unix.Open(os.DevNull, unix.O_RDONLY, 0) // not closed on exec
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(kept) })
	s := openWith(t, Config{Engine: Wazero, MaxMemory: 1 << 30}, spyVerb, 1)
	task, _ := taskOf(t, noop(t))
	if err := os.MkdirAll(task.Out, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err = s.Run(t.Context(), task)
	wantAbort(t, err, "aborted", "look at the file")
	b, err := os.ReadFile(filepath.Join(task.Out, "spy"))
	if err != nil {
		t.Fatal(err)
	}
	var w watched
	if err := json.Unmarshal(b, &w); err != nil {
		t.Fatal(err)
	}
	slices.Sort(w.Env)
	if !slices.Equal(w.Env, []string{"GOMAXPROCS=2", "GOTRACEBACK=none"}) {
		t.Errorf("environment %q", w.Env)
	}
	for fd, at := range w.Files {
		switch {
		case fd == "0" || fd == "1" || fd == "2":
			if !strings.HasPrefix(at, "pipe:") {
				t.Errorf("descriptor %s is %s", fd, at)
			}
		// What the Go runtime opens for itself.
		case strings.HasPrefix(at, "anon_inode:"), strings.HasPrefix(at, "/sys/fs/cgroup/"), strings.Contains(at, "/proc/"), strings.HasPrefix(at, "/sys/kernel/mm/"):
		default:
			t.Errorf("descriptor %s is %s", fd, at)
		}
	}
	want := map[string]uint64{"core": 0, "files": maxFiles, "space": 1<<30 + overhead}
	for name, most := range want {
		if w.Limits[name] != most {
			t.Errorf("limit of %s is %d, want %d", name, w.Limits[name], most)
		}
	}
	if w.NoNew != 1 || w.Dir != "/" {
		t.Errorf("no new privileges %d, folder %s", w.NoNew, w.Dir)
	}
}
