package sdk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/gofrs/flock"
)

const lockSuffix = ".lock"

// ownFolder makes a folder below dir for this process, and removes those of
// processes that ended without doing so: the kernel let go of their locks.
func ownFolder(dir string) (folder string, free func() error, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", nil, err
	}
	// One process at a time comes and sweeps: a folder without a held lock is
	// then nobody's.
	door := flock.New(filepath.Join(dir, "door"), flock.SetPermissions(0o600))
	if err := door.Lock(); err != nil {
		return "", nil, fmt.Errorf("lock %s: %w", door.Path(), err)
	}
	defer func() { err = errors.Join(err, door.Unlock()) }()
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", nil, err
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), lockSuffix)
		if !ok {
			continue
		}
		release, err := hold(filepath.Join(dir, e.Name()))
		if errors.Is(err, ErrBusy) {
			continue // it lives
		}
		if err != nil {
			return "", nil, err
		}
		err = errors.Join(os.RemoveAll(filepath.Join(dir, name)), os.Remove(filepath.Join(dir, e.Name())))
		release()
		if err != nil {
			return "", nil, err
		}
	}
	if folder, err = os.MkdirTemp(dir, ""); err != nil {
		return "", nil, err
	}
	release, err := hold(folder + lockSuffix)
	if err != nil {
		return "", nil, errors.Join(err, os.Remove(folder))
	}
	return folder, func() error {
		defer release()
		return errors.Join(os.RemoveAll(folder), os.Remove(folder+lockSuffix))
	}, nil
}
