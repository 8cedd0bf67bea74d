//go:build fault

package fault

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
)

// Built says that this program was built to be killed.
const Built = true

// folder is read before anything else runs: a sandbox clears its environment.
var folder = os.Getenv(Folder)

// Environment is what a child needs to find the folder.
func Environment() []string { return []string{Folder + "=" + folder} }

var (
	one    sync.Mutex
	passed = map[string]int{} // how often, since the point was armed
)

// Point kills this process when the folder's file "armed" holds the point's
// name, and a count that this process reaches. Of several processes that pass
// it, one dies: who renames the file.
func Point(name string) {
	if folder == "" {
		return
	}
	armed := filepath.Join(folder, "armed")
	one.Lock()
	defer one.Unlock()
	b, err := os.ReadFile(armed)
	if err != nil {
		clear(passed)
		return
	}
	f := bytes.Fields(b)
	if len(f) != 2 || string(f[0]) != name {
		return
	}
	passed[name]++
	if nth, err := strconv.Atoi(string(f[1])); err != nil || passed[name] < nth {
		return
	}
	hit := filepath.Join(folder, "hit")
	if os.Rename(armed, hit) != nil {
		return // another process was first
	}
	pid := os.Getpid()
	if os.WriteFile(hit, fmt.Appendf(nil, "%s %d\n", name, pid), 0o600) != nil {
		return // nobody would know why it died
	}
	if p, err := os.FindProcess(pid); err != nil || p.Kill() != nil {
		return
	}
	select {} // not a step further
}
