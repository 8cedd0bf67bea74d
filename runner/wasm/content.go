package wasm

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"

	"fallow.network"
)

// spillAt is the size at which a file of a guest moves from memory to disk.
const spillAt = 1 << 20

// content is the bytes of a file that a guest wrote. Holes read as zeros.
type content struct {
	mem  []byte
	file *os.File // once it has spilled
	size int64
}

func (c *content) readAt(p []byte, off int64) (int, error) {
	if off >= c.size {
		return 0, nil
	}
	p = p[:min(int64(len(p)), c.size-off)]
	if c.file == nil {
		return copy(p, c.mem[off:]), nil
	}
	n, err := io.ReadFull(io.NewSectionReader(c.file, off, int64(len(p))), p)
	if err != nil {
		return n, fmt.Errorf("read a spilled file: %w", err)
	}
	return n, nil
}

func (c *content) writeAt(dir string, p []byte, off int64) error {
	if end := off + int64(len(p)); end > c.size {
		if err := c.resize(dir, end); err != nil {
			return err
		}
	}
	if c.file == nil {
		copy(c.mem[off:], p)
		return nil
	}
	if _, err := c.file.WriteAt(p, off); err != nil {
		return fmt.Errorf("write a spilled file: %w", err)
	}
	return nil
}

func (c *content) resize(dir string, size int64) error {
	if c.file == nil && size > spillAt {
		f, err := os.CreateTemp(dir, "spill-*")
		if err != nil {
			return fmt.Errorf("spill a file: %w", err)
		}
		if err := os.Remove(f.Name()); err != nil { // it goes with us
			return errors.Join(err, f.Close())
		}
		if _, err := f.Write(c.mem); err != nil {
			return errors.Join(fmt.Errorf("spill a file: %w", err), f.Close())
		}
		c.file, c.mem = f, nil
	}
	if c.file != nil {
		if err := c.file.Truncate(size); err != nil {
			return fmt.Errorf("resize a spilled file: %w", err)
		}
		c.size = size
		return nil
	}
	if size <= int64(len(c.mem)) {
		c.mem = c.mem[:size]
	} else {
		c.mem = append(c.mem, make([]byte, size-int64(len(c.mem)))...)
	}
	c.size = size
	return nil
}

func (c *content) reader() io.Reader {
	if c.file == nil {
		return &memReader{c.mem}
	}
	return io.NewSectionReader(c.file, 0, c.size)
}

type memReader struct{ b []byte }

func (r *memReader) Read(p []byte) (int, error) {
	if len(r.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.b)
	r.b = r.b[n:]
	return n, nil
}

// digest is the sha256 of the whole file.
func (c *content) digest() (fallow.Digest, error) {
	if c.file == nil {
		return fallow.Sum(c.mem), nil
	}
	h := sha256.New()
	if _, err := io.Copy(h, c.reader()); err != nil {
		return fallow.Digest{}, err
	}
	return fallow.Digest(h.Sum(nil)), nil
}

func (c *content) close() {
	if c.file != nil {
		_ = c.file.Close() // it has no name and no reader any more
	}
}
