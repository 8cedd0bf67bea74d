package wasm

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"

	"fallow.network"
)

const (
	// spillAt is the size at which a guest's file moves from memory to disk,
	// and maxHeld how much all files of a run hold in memory together.
	spillAt = 1 << 20
	maxHeld = 64 << 20
	// blockBytes is the piece in which files on disk grow.
	blockBytes = 1 << 16
)

// store keeps the bytes of all files of one run: small files in memory, the
// others in blocks of a single host file, so that a guest with many large
// files runs out of its quota and never of the host's descriptors.
type store struct {
	dir   string   // for the host file
	file  *os.File // once something has spilled; it has no name
	next  uint32   // blocks that the host file has
	free  []uint32 // blocks given back
	held  int64    // bytes of memory
	waste int64    // bytes that the next garbage collection frees
}

// host opens the host file.
func (s *store) host() (*os.File, error) {
	if s.file != nil {
		return s.file, nil
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("keep a guest's files: %w", err)
	}
	f, err := os.CreateTemp(s.dir, "spill-*")
	if err != nil {
		return nil, fmt.Errorf("keep a guest's files: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil { // so it goes with us
		return nil, errors.Join(fmt.Errorf("keep a guest's files: %w", err), f.Close())
	}
	s.file = f
	return f, nil
}

// block gives a free block. A used one is cleared unless all of it will be
// written.
func (s *store) block(whole bool) (uint32, error) {
	if n := len(s.free); n > 0 {
		b := s.free[n-1]
		s.free = s.free[:n-1]
		if whole {
			return b, nil
		}
		return b, s.write(make([]byte, blockBytes), int64(b)*blockBytes)
	}
	s.next++
	return s.next - 1, nil
}

func (s *store) write(p []byte, at int64) error {
	f, err := s.host()
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(p, at); err != nil {
		return fmt.Errorf("write a guest's file: %w", err)
	}
	return nil
}

func (s *store) close() {
	if s.file != nil {
		_ = s.file.Close() // it has no name and no reader any more
	}
}

// content is the bytes of one file that a guest wrote. Holes read as zeros.
type content struct {
	in      *store
	size    int64
	mem     []byte // while it is small
	spilled bool
	blocks  []uint32 // of the host file, counted from 1; 0 is a hole
}

// runs goes over the pieces of [off, off+n) that lie together on disk. place
// is below zero for a hole.
func (c *content) runs(off int64, n int, each func(from, to int, place int64) error) error {
	for done := 0; done < n; {
		at := off + int64(done)
		i := at / blockBytes
		b := c.blocks[i]
		k := int(blockBytes - at%blockBytes)
		for j := i + 1; done+k < n && (b == 0 && c.blocks[j] == 0 || b != 0 && c.blocks[j] == b+uint32(j-i)); j++ {
			k += blockBytes
		}
		k = min(k, n-done)
		place := int64(-1)
		if b != 0 {
			place = int64(b-1)*blockBytes + at%blockBytes
		}
		if err := each(done, done+k, place); err != nil {
			return err
		}
		done += k
	}
	return nil
}

// readAt reads what there is from off on, at most len(p) bytes.
func (c *content) readAt(p []byte, off int64) (int, error) {
	if off >= c.size {
		return 0, nil
	}
	p = p[:min(int64(len(p)), c.size-off)]
	if !c.spilled {
		return copy(p, c.mem[off:]), nil
	}
	return len(p), c.runs(off, len(p), func(from, to int, place int64) error {
		if place < 0 {
			clear(p[from:to])
			return nil
		}
		// The host file may end in a hole of its own.
		k, err := c.in.file.ReadAt(p[from:to], place)
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read a guest's file: %w", err)
		}
		clear(p[from+k : to])
		return nil
	})
}

// writeAt writes all of p, and makes the file larger where it must.
func (c *content) writeAt(p []byte, off int64) error {
	if len(p) == 0 {
		return nil
	}
	if end := off + int64(len(p)); end > c.size {
		if err := c.resize(end); err != nil {
			return err
		}
	}
	if !c.spilled {
		copy(c.mem[off:], p)
		return nil
	}
	end := off + int64(len(p))
	for i := off / blockBytes; i*blockBytes < end; i++ {
		if c.blocks[i] != 0 {
			continue
		}
		b, err := c.in.block(off <= i*blockBytes && (i+1)*blockBytes <= end)
		if err != nil {
			return err
		}
		c.blocks[i] = b + 1
	}
	return c.runs(off, len(p), func(from, to int, place int64) error { return c.in.write(p[from:to], place) })
}

// resize cuts the file or appends a hole.
func (c *content) resize(size int64) error {
	if size == 0 {
		c.drop()
		return nil
	}
	if more := size - int64(cap(c.mem)); !c.spilled && more > 0 && (size > spillAt || c.in.held+more > maxHeld) {
		if err := c.spill(); err != nil {
			return err
		}
	}
	if !c.spilled {
		c.resizeMemory(int(size))
		return nil
	}
	count := int((size + blockBytes - 1) / blockBytes)
	if count > len(c.blocks) {
		c.blocks = append(c.blocks, make([]uint32, count-len(c.blocks))...)
	}
	if size < c.size {
		for _, b := range c.blocks[count:] {
			if b != 0 {
				c.in.free = append(c.in.free, b-1)
			}
		}
		clear(c.blocks[count:])
		c.blocks = c.blocks[:count]
		// What is left of the last block must read as zeros when it grows.
		if rest := size % blockBytes; rest != 0 && c.blocks[count-1] != 0 {
			if err := c.in.write(make([]byte, blockBytes-rest), int64(c.blocks[count-1]-1)*blockBytes+rest); err != nil {
				return err
			}
		}
	}
	c.size = size
	return nil
}

func (c *content) resizeMemory(size int) {
	old, have := len(c.mem), cap(c.mem)
	switch {
	case size > have || size < have/4 && have > 1<<10:
		to := size
		if size > have {
			to = min(max(size, 2*have), spillAt)
		}
		mem := make([]byte, size, to)
		copy(mem, c.mem)
		c.in.held += int64(cap(mem) - have)
		c.in.waste += int64(have)
		c.mem = mem
	default:
		c.mem = c.mem[:size]
		if size > old {
			clear(c.mem[old:])
		}
	}
	c.size = int64(size)
}

// spill moves the file to disk.
func (c *content) spill() error {
	mem := c.mem
	c.in.held -= int64(cap(mem))
	c.in.waste += int64(cap(mem))
	c.mem, c.spilled = nil, true
	c.blocks = make([]uint32, (len(mem)+blockBytes-1)/blockBytes)
	return c.writeAt(mem, 0)
}

// drop frees the bytes; the file is empty afterwards.
func (c *content) drop() {
	for _, b := range c.blocks {
		if b != 0 {
			c.in.free = append(c.in.free, b-1)
		}
	}
	c.in.held -= int64(cap(c.mem))
	c.in.waste += int64(cap(c.mem))
	*c = content{in: c.in}
}

// copyTo writes the whole file to w and gives its sha256 digest.
func (c *content) copyTo(w io.Writer) (fallow.Digest, error) {
	if !c.spilled {
		_, err := w.Write(c.mem)
		return fallow.Sum(c.mem), err
	}
	h := sha256.New()
	buf := make([]byte, 4*blockBytes)
	for off := int64(0); off < c.size; {
		n, err := c.readAt(buf, off)
		if err != nil {
			return fallow.Digest{}, err
		}
		h.Write(buf[:n])
		if _, err := w.Write(buf[:n]); err != nil {
			return fallow.Digest{}, err
		}
		off += int64(n)
	}
	return fallow.Digest(h.Sum(nil)), nil
}
