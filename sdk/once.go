package sdk

import (
	"fmt"
	"sync"

	"github.com/gofrs/flock"
)

// once holds what is made when it is first needed; a failure is tried again.
type once[T any] struct {
	mu    sync.Mutex
	value T
	made  bool
}

func (o *once[T]) get(build func() (T, error)) (T, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.made {
		return o.value, nil
	}
	v, err := build()
	if err == nil {
		o.value, o.made = v, true
	}
	return v, err
}

func (o *once[T]) have() (T, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.value, o.made
}

// hold takes a lock file for this process alone.
func hold(path string) (release func(), err error) {
	lock := flock.New(path, flock.SetPermissions(0o600))
	ok, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if !ok {
		return nil, fmt.Errorf("%w: %s is held", ErrBusy, path)
	}
	return func() { _ = lock.Unlock() }, nil
}
