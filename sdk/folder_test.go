package sdk

import (
	"os"
	"path/filepath"
	"testing"
)

// What a killed process left is removed by the next; what another that lives uses
// is not.
func TestOwnFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "checks")
	one, free, err := ownFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(one, "out"), "mine")
	dead := filepath.Join(dir, "dead")
	put(t, filepath.Join(dead, "out"), "nobody's")
	put(t, dead+lockSuffix, "")
	two, freeTwo, err := ownFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dead); !os.IsNotExist(err) {
		t.Errorf("a dead process' folder: %v", err)
	}
	if _, err := os.Stat(filepath.Join(one, "out")); err != nil || one == two {
		t.Errorf("%s beside %s: %v", one, two, err)
	}
	for _, f := range []func() error{free, freeTwo} {
		if err := f(); err != nil {
			t.Error(err)
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 || left[0].Name() != "door" {
		t.Errorf("left: %v, %v", left, err)
	}
}
