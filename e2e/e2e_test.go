//go:build linux

package e2e

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// At most this many networks at once: each is six processes.
const networksAtOnce = 2

// storyWait bounds a story. It ends far below the time that go test grants, so
// that what a story started is always ended by the story.
const storyWait = 4 * time.Minute

// root is the repository; keep is the story whose network stays for the audit.
var root string

const keep = "run"

func TestMain(m *testing.M) {
	flag.Parse()
	if err := prepare(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func prepare() error {
	var err error
	if root, err = filepath.Abs(".."); err != nil {
		return err
	}
	for _, bin := range []string{"fallow", "fallowd"} {
		if _, err := os.Stat(filepath.Join(root, "build", bin)); err != nil {
			return fmt.Errorf("%w; run: make build", err)
		}
	}
	for guest, target := range map[string]string{"film/film.wasm": "guest", "speech/flite.wasm": "speech"} {
		if _, err := os.Stat(filepath.Join(root, "examples", guest)); err != nil {
			return fmt.Errorf("%w; run: make %s", err, target)
		}
	}
	return flag.Set("test.parallel", fmt.Sprint(networksAtOnce))
}

func TestStories(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:      "testdata",
		Deadline: time.Now().Add(12 * time.Minute),
		Setup:    setUp,
		Condition: func(c string) (bool, error) {
			if c != "long" {
				return false, fmt.Errorf("no condition %q", c)
			}
			return os.Getenv("FALLOW_LONG") != "", nil // make test-all sets it
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"fallow":   cmdFallow,
			"begin":    cmdBegin,
			"end":      cmdEnd,
			"signal":   cmdSignal,
			"up":       cmdUp,
			"down":     cmdDown,
			"waitfor":  cmdWaitFor,
			"json":     cmdJSON,
			"remember": cmdRemember,
			"guest":    cmdGuest,
			"metrics":  cmdMetrics,
			"collect":  cmdCollect,
			"traces":   cmdTraces,
		},
	})
}

func setUp(env *testscript.Env) error {
	s := &story{
		home:    filepath.Join(env.WorkDir, "home"),
		running: map[string]*process{},
		until:   time.Now().Add(storyWait),
	}
	if filepath.Base(env.WorkDir) == "script-"+keep {
		s.home = filepath.Join(root, "build", "e2e-home")
		if err := os.RemoveAll(s.home); err != nil {
			return err
		}
	}
	env.Values[storyKey{}] = s
	env.Setenv("ROOT", root)
	env.Setenv("FALLOW_HOME", s.home)
	env.Setenv("PATH", filepath.Join(root, "build")+string(os.PathListSeparator)+os.Getenv("PATH"))
	env.Setenv("HOME", filepath.Join(env.WorkDir, "user"))
	env.Defer(func() {
		if err := s.endAll(); err != nil {
			env.T().Log(err)
			env.T().FailNow()
		}
	})
	return nil
}
