//go:build fault

package fault

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestMain(m *testing.M) {
	if os.Getenv(Folder) != "" {
		for i := range 3 {
			Point("other")
			Point("client/closed")
			fmt.Println("passed", i+1)
		}
		return
	}
	os.Exit(m.Run())
}

// TestPoint arms the second pass of a process, and sees it die there and say so.
func TestPoint(t *testing.T) {
	for armed, want := range map[string]string{
		"client/closed 2\n": "passed 1\n", "client/closed 4\n": "passed 1\npassed 2\npassed 3\n",
		"client/closed\n": "passed 1\npassed 2\npassed 3\n", "": "passed 1\npassed 2\npassed 3\n",
	} {
		dir := t.TempDir()
		if armed != "" {
			if err := os.WriteFile(filepath.Join(dir, "armed"), []byte(armed), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), Folder+"="+dir)
		out, err := cmd.Output()
		if string(out) != want {
			t.Errorf("%q: printed %q (%v), want %q", armed, out, err, want)
		}
		hit, _ := os.ReadFile(filepath.Join(dir, "hit"))
		killed := cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
		if dies := armed == "client/closed 2\n"; killed != dies || strings.HasPrefix(string(hit), "client/closed ") != dies {
			t.Errorf("%q: killed is %t, and it said %q", armed, killed, hit)
		}
	}
}
