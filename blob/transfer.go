package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"fallow.network"
)

const (
	defaultRetries = 8
	firstBackoff   = 100 * time.Millisecond
	mostBackoff    = 5 * time.Second
	// maxAttempts bounds tries that each moved a little.
	maxAttempts = 1000
	// liesForgiven is how often content that hashes to something else is
	// tried again: the first time it may be an older upload's remains.
	liesForgiven = 1
	// hashTime is how long another's disk may take to hash a MiB.
	hashTime = 20 * time.Millisecond
	// chunksFrom is the size from which Fetch asks for a chunk list, bytes.
	chunksFrom = 4 * ChunkSize
	errorText  = 512 // bytes read of a refusal
)

// ErrRefused is the other side's final no: trying again would not help.
var ErrRefused = errors.New("the other side refuses")

// RefusedError is a refusal with the other side's words.
type RefusedError struct {
	Status int // HTTP
	Text   string
}

// Error says what the other side said.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("the other side refuses with %d: %s", e.Status, e.Text)
}

// Is tells the kinds of refusal apart.
func (e *RefusedError) Is(target error) bool {
	switch target {
	case ErrRefused:
		return true
	case ErrNotFound:
		return e.Status == http.StatusNotFound
	case ErrFull:
		return e.Status == http.StatusInsufficientStorage
	case ErrTooLarge:
		return e.Status == http.StatusRequestEntityTooLarge
	case ErrDigest:
		return e.Status == http.StatusUnprocessableEntity
	default:
		return false
	}
}

// Transfer moves blobs between a store and a Handler elsewhere. Transfers of
// one blob with one side wait for each other.
type Transfer struct {
	Store *Store
	// Client's connections bound nothing in time; Idle does.
	Client *http.Client
	// Retries is how many tries in a row may move nothing; 0 means 8.
	Retries int
	// Idle is how long a try may stand still; 0 means 30 s.
	Idle time.Duration
	// Backoff is the first pause between tries, doubled up to 5 s; 0 means
	// 100 ms.
	Backoff time.Duration

	mu   sync.Mutex
	busy map[string]chan struct{}
}

// Progress hears how many of total bytes the other side, or the store, has.
// It is called often and must not block.
type Progress func(done, total int64)

// enter lets one transfer of d with base go at a time.
func (t *Transfer) enter(ctx context.Context, base string, d fallow.Digest) (leave func(), err error) {
	key := base + " " + d.String()
	for {
		t.mu.Lock()
		if t.busy == nil {
			t.busy = map[string]chan struct{}{}
		}
		other, busy := t.busy[key]
		if !busy {
			done := make(chan struct{})
			t.busy[key] = done
			t.mu.Unlock()
			return func() {
				t.mu.Lock()
				defer t.mu.Unlock()
				delete(t.busy, key)
				close(done)
			}, nil
		}
		t.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (t *Transfer) idle() time.Duration {
	if t.Idle > 0 {
		return t.Idle
	}
	return defaultIdle
}

// try calls once until it succeeds, fails for good, or has moved nothing so
// many times in a row.
func (t *Transfer) try(ctx context.Context, once func(context.Context) (int64, error)) error {
	retries, first := t.Retries, t.Backoff
	if retries == 0 {
		retries = defaultRetries
	}
	if first == 0 {
		first = firstBackoff
	}
	wait, still := first, 0
	for range maxAttempts {
		moved, err := once(ctx)
		if err == nil {
			return nil
		}
		var f *finalError
		if errors.As(err, &f) {
			return f.err
		}
		if ctx.Err() != nil {
			return err
		}
		if moved > 0 {
			wait, still = first, 0
		} else if still++; still > retries {
			return fmt.Errorf("after %d tries: %w", still, err)
		}
		if err := pause(ctx, wait/2+rand.N(wait/2+1)); err != nil {
			return err
		}
		wait = min(2*wait, mostBackoff)
	}
	return fmt.Errorf("after %d tries: %w", maxAttempts, ErrRefused)
}

// finalError is one that no further try would change.
type finalError struct{ err error }

func (e *finalError) Error() string { return e.err.Error() }
func (e *finalError) Unwrap() error { return e.err }

func final(err error) error { return &finalError{err} }

// refusal is the other side's answer as an error: final unless it says that
// it may pass.
func refusal(resp *http.Response) error {
	err := refusalText(resp)
	switch resp.StatusCode {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return err
	}
	return final(err)
}

func refusalText(resp *http.Response) error {
	b, err := io.ReadAll(io.LimitReader(resp.Body, errorText))
	text := strings.ToValidUTF8(strings.TrimSpace(string(b)), "?")
	if err != nil || text == "" {
		text = http.StatusText(resp.StatusCode)
	}
	return &RefusedError{Status: resp.StatusCode, Text: text}
}

// errIdle is a transfer that stood still.
var errIdle = errors.New("the transfer stood still for too long")

// watch ends ctx when alive is not called for the idle time.
func watch(ctx context.Context, idle time.Duration) (_ context.Context, alive, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	t := time.AfterFunc(idle, func() { cancel(errIdle) })
	return ctx, func() { t.Reset(idle) }, func() { t.Stop(); cancel(nil) }
}

// cause prefers why ctx ended over what that did to the connection.
func cause(ctx context.Context, err error) error {
	if c := context.Cause(ctx); c != nil {
		return errors.Join(c, err)
	}
	return err
}

// counted tells the watch and the listener of each read.
type counted struct {
	r           io.Reader
	alive       func()
	done, total int64
	progress    Progress
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.alive()
	c.done += int64(n)
	if n > 0 && c.progress != nil {
		c.progress(min(c.done, c.total), c.total)
	}
	return n, err
}
