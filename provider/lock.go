package provider

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/gofrs/flock"
)

// ErrBusy is a home that another daemon uses.
var ErrBusy = errors.New("another provider daemon uses this home")

// lockHome makes this process the only daemon of a home until it ends.
func lockHome(c Config) (*flock.Flock, error) {
	if err := os.MkdirAll(c.Home, 0o700); err != nil {
		return nil, fmt.Errorf("provider's home: %w", err)
	}
	l := flock.New(c.lockFile(), flock.SetPermissions(0o600))
	ok, err := l.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", c.lockFile(), err)
	}
	if !ok {
		by := ""
		if b, err := os.ReadFile(c.lockFile()); err == nil && len(b) < 20 {
			by = " (process " + strings.TrimSpace(string(b)) + ")"
		}
		return nil, fmt.Errorf("%w%s: %s; stop that one, or give this one a home of its own", ErrBusy, by, c.Home)
	}
	if err := os.WriteFile(c.lockFile(), []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", c.lockFile(), err), l.Unlock())
	}
	return l, nil
}
