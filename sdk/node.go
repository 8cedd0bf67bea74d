package sdk

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
)

// FindNode finds the ledger's binary: $FALLOWD, beside this program, or on PATH.
func FindNode() (string, error) {
	if p := os.Getenv("FALLOWD"); p != "" {
		return exec.LookPath(p)
	}
	if self, err := os.Executable(); err == nil {
		if self, err = filepath.EvalSymlinks(self); err == nil {
			if p, err := exec.LookPath(filepath.Join(filepath.Dir(self), "fallowd")); err == nil {
				return p, nil
			}
		}
	}
	p, err := exec.LookPath("fallowd")
	if err != nil {
		return "", errors.New("fallowd stands neither beside fallow nor on PATH")
	}
	return p, nil
}
