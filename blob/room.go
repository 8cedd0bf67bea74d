package blob

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"fallow.network"
)

const (
	busyWait   = 20 * time.Millisecond
	leftAge    = 5 * time.Minute // that an unfinished blob is safe from others' need
	maxPinFile = 64 << 20
	maxHolder  = 100 // characters of a pin's holder
)

// Holder is the name under which a lease pins blobs.
func Holder(id fallow.LeaseID) string { return "lease-" + strconv.FormatUint(uint64(id), 10) }

// Pin keeps digests from being dropped until holder unpins; they may be here
// or yet to come. Pins survive a restart.
func (s *Store) Pin(holder string, digests ...fallow.Digest) error {
	if err := checkHolder(holder); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.pins[holder]
	after := make(map[fallow.Digest]bool, len(before)+len(digests))
	for d := range before {
		after[d] = true
	}
	for _, d := range digests {
		after[d] = true
	}
	if len(after) == len(before) {
		return nil
	}
	lines := make([]string, 0, len(after))
	for d := range after {
		lines = append(lines, d.String()+"\n")
	}
	slices.Sort(lines)
	if err := s.keepFile(filepath.Join(s.pinDir(), holder), []byte(strings.Join(lines, ""))); err != nil {
		return fmt.Errorf("pin for %s: %w", holder, err)
	}
	s.pins[holder] = after
	return nil
}

// Unpin lets go of all that holder pinned; an unknown holder is no error.
func (s *Store) Unpin(holder string) error {
	if err := checkHolder(holder); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := os.Remove(filepath.Join(s.pinDir(), holder)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("unpin %s: %w", holder, err)
	}
	delete(s.pins, holder)
	return nil
}

// Holders are those who pin something, in order.
func (s *Store) Holders() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]string, 0, len(s.pins))
	for h := range s.pins {
		out = append(out, h)
	}
	slices.Sort(out)
	return out
}

func checkHolder(h string) error {
	if h == "" || len(h) > maxHolder || h[0] == '.' {
		return fmt.Errorf("pin holder %.40q: want 1 to %d characters, not beginning with a dot", h, maxHolder)
	}
	for _, c := range []byte(h) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("._-", rune(c)) {
			return fmt.Errorf("pin holder %.40q: want letters, digits, dots, dashes and underscores", h)
		}
	}
	return nil
}

// keepFile writes b at path, whole or not at all.
func (s *Store) keepFile(path string, b []byte) error {
	f, err := os.CreateTemp(s.partials(), "tmp-")
	if err != nil {
		return s.full(err, int64(len(b)))
	}
	_, err = s.write(f, b)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(s.full(err, int64(len(b))), os.Remove(f.Name()))
	}
	return syncDir(filepath.Dir(path))
}

// readPins takes the pins as they stand on disk, other processes' too.
func (s *Store) readPins() error {
	files, err := os.ReadDir(s.pinDir())
	if err != nil {
		return err
	}
	pins := make(map[string]map[fallow.Digest]bool, len(files))
	for _, f := range files {
		if checkHolder(f.Name()) != nil || f.IsDir() {
			continue
		}
		path := filepath.Join(s.pinDir(), f.Name())
		if info, err := f.Info(); err != nil || info.Size() > maxPinFile {
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			return errors.Join(fmt.Errorf("pin file %s cannot be read", path), err)
		}
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		set := map[fallow.Digest]bool{}
		for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
			d, err := fallow.ParseDigest(lines.Text())
			if err != nil {
				return fmt.Errorf("pin file %s: %w; remove it if its lease has ended", path, err)
			}
			set[d] = true
		}
		pins[f.Name()] = set
	}
	s.pins = pins
	return nil
}

func (s *Store) pinned() map[fallow.Digest]bool {
	all := map[fallow.Digest]bool{}
	for _, set := range s.pins {
		for d := range set {
			all[d] = true
		}
	}
	return all
}

// makeRoom drops the longest unused blobs without a pin until need more bytes
// fit, or drops nothing when they can't. except names an unfinished blob that
// stays.
func (s *Store) makeRoom(need int64, except string) error {
	short, err := s.short(need)
	if err != nil || short <= 0 {
		return err
	}
	if err := s.sweep(except, s.cfg.PartialAge); err != nil {
		return err
	}
	if err := s.readPins(); err != nil {
		return err
	}
	if short, err = s.short(need); err != nil || short <= 0 {
		return err
	}
	victims, gain := s.victims(short)
	if gain < short {
		// What was left unfinished a while ago must not keep others out.
		if err := s.sweep(except, min(s.cfg.PartialAge, leftAge)); err != nil {
			return err
		}
		if short, err = s.short(need); err != nil || short <= 0 {
			return err
		}
		victims, gain = s.victims(short)
	}
	if gain < short {
		byQuota := s.cfg.Quota > 0 && s.size+s.reserved()+need-s.cfg.Quota >= short
		return &FullError{Need: need, Room: max(need-short+gain, 0), Disk: !byQuota}
	}
	for _, d := range victims {
		if err := s.drop(d); err != nil {
			return err
		}
	}
	return nil
}

// victims are the longest unused blobs without a pin, so many that they come
// to short bytes, where there are.
func (s *Store) victims(short int64) (list []fallow.Digest, gain int64) {
	pinned := s.pinned()
	for el := s.lru.Back(); el != nil && gain < short; el = el.Prev() {
		if e := el.Value.(*entry); !pinned[e.digest] {
			list = append(list, e.digest)
			gain += e.size
		}
	}
	return list, gain
}

// short is how many bytes are missing for need more.
func (s *Store) short(need int64) (int64, error) {
	var short int64
	if s.cfg.Quota > 0 {
		short = s.size + s.reserved() + need - s.cfg.Quota
	}
	free, err := s.free(s.cfg.Dir)
	if err != nil {
		return 0, fmt.Errorf("free space of %s: %w", s.cfg.Dir, err)
	}
	return max(short, need+s.cfg.KeepFree-free), nil
}

// full turns the system's word for a full disk into ours.
func (s *Store) full(err error, need int64) error {
	if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) {
		return err
	}
	free, ferr := s.free(s.cfg.Dir)
	if ferr != nil {
		free = 0
	}
	return &FullError{Need: need, Room: free, Disk: true}
}

// Sweep drops unfinished blobs that nobody has touched for the configured
// age. Open calls it; a daemon calls it now and then.
func (s *Store) Sweep(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sweep("", s.cfg.PartialAge)
}

func (s *Store) sweep(except string, age time.Duration) error {
	files, err := os.ReadDir(s.partials())
	if err != nil {
		return fmt.Errorf("sweep partial blobs: %w", err)
	}
	for _, f := range files {
		if f.Name() == except || s.writing[f.Name()] {
			continue
		}
		info, err := f.Info()
		if err != nil || s.cfg.Now().Sub(info.ModTime()) < age {
			continue
		}
		if err := os.Remove(filepath.Join(s.partials(), f.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("sweep partial blobs: %w", err)
		}
		delete(s.parts, f.Name())
	}
	return nil
}

// pause waits, or less when ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
