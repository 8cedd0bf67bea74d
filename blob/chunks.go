package blob

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"fallow.network"
)

// ChunkSize is how many bytes one digest of a chunk list covers; the last
// chunk may be shorter.
const ChunkSize = 1 << 20

const (
	chunksMagic = "fallow/chunks/1\n"
	maxChunks   = 1 << 18 // 256 GiB
)

// ErrChunk is a chunk that does not hash to its place in the list.
var ErrChunk = errors.New("chunk does not hash to its digest")

// Chunks are the digests of a blob's chunks in order: with them a transfer
// notices at the first wrong chunk, not at the end. They prove nothing about
// the blob's own digest, which is checked all the same.
type Chunks struct {
	Size   int64 // of the blob, bytes
	Digest []fallow.Digest
}

func chunkCount(size int64) int64 { return (size + ChunkSize - 1) / ChunkSize }

// Encode writes a list: the line "fallow/chunks/1", the blob's size as eight
// bytes big-endian, and 32 bytes for each chunk.
func (c Chunks) Encode() []byte {
	b := make([]byte, 0, len(chunksMagic)+8+len(c.Digest)*sha256.Size)
	b = append(b, chunksMagic...)
	b = binary.BigEndian.AppendUint64(b, uint64(c.Size))
	for _, d := range c.Digest {
		b = append(b, d[:]...)
	}
	return b
}

// encodedChunks is the length of the list of a blob of this size, in bytes.
func encodedChunks(size int64) int64 {
	return int64(len(chunksMagic)) + 8 + chunkCount(size)*sha256.Size
}

// ParseChunks reads what Encode wrote; the number of digests must be what the
// size asks for.
func ParseChunks(b []byte) (Chunks, error) {
	head := len(chunksMagic) + 8
	if len(b) < head || string(b[:len(chunksMagic)]) != chunksMagic {
		return Chunks{}, errors.New("chunk list: not one of version 1")
	}
	size := binary.BigEndian.Uint64(b[len(chunksMagic):])
	if size > maxChunks*ChunkSize {
		return Chunks{}, fmt.Errorf("chunk list of a blob of %d bytes: at most %d", size, int64(maxChunks*ChunkSize))
	}
	n := chunkCount(int64(size))
	if int64(len(b)-head) != n*sha256.Size {
		return Chunks{}, fmt.Errorf("chunk list of a blob of %d bytes: %d bytes of digests, want %d", size, len(b)-head, n*sha256.Size)
	}
	c := Chunks{Size: int64(size), Digest: make([]fallow.Digest, n)}
	for i := range c.Digest {
		copy(c.Digest[i][:], b[head+i*sha256.Size:])
	}
	return c, nil
}

// Chunks is the chunk list of a blob here: computed at the first call, one at
// a time, and kept beside the blob.
func (s *Store) Chunks(ctx context.Context, d fallow.Digest) (Chunks, error) {
	r, size, err := s.Open(d)
	if err != nil {
		return Chunks{}, err
	}
	defer func() { _ = r.Close() }()
	if chunkCount(size) > maxChunks {
		return Chunks{}, fmt.Errorf("chunks of %s: %w: %d bytes", d, ErrTooLarge, size)
	}
	select {
	case s.chunking <- struct{}{}:
		defer func() { <-s.chunking }()
	case <-ctx.Done():
		return Chunks{}, ctx.Err()
	}
	kept := s.path(d) + chunksExt
	b, err := os.ReadFile(kept)
	if err == nil {
		if c, err := ParseChunks(b); err == nil && c.Size == size {
			return c, nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return Chunks{}, fmt.Errorf("chunks of %s: %w", d, err)
	}
	c := Chunks{Size: size, Digest: make([]fallow.Digest, 0, chunkCount(size))}
	h := sha256.New()
	for left := size; left > 0; {
		h.Reset()
		n, err := copyAll(ctx, h, io.LimitReader(r, min(left, ChunkSize)))
		if err != nil {
			return Chunks{}, fmt.Errorf("chunks of %s: %w", d, err)
		}
		if n == 0 {
			return Chunks{}, fmt.Errorf("chunks of %s: %w", d, io.ErrUnexpectedEOF)
		}
		left -= n
		c.Digest = append(c.Digest, fallow.Digest(h.Sum(nil)))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.find(d) != nil {
		// A list that can't be kept is computed again.
		if err := s.keepFile(kept, c.Encode()); err != nil && !errors.Is(err, ErrFull) {
			return Chunks{}, fmt.Errorf("chunks of %s: %w", d, err)
		}
	}
	return c, nil
}

// chunkWriter writes through to w and checks each whole chunk. w stands at a
// chunk's start when it begins. After ErrChunk w stands at the start of the
// wrong chunk.
type chunkWriter struct {
	w    *Writer
	list Chunks
	buf  []byte // of the chunk begun
}

func (c *chunkWriter) Write(p []byte) (int, error) {
	var n int
	for len(p) > 0 {
		at := c.w.Offset()
		room := min(ChunkSize, c.list.Size-at) - int64(len(c.buf))
		if room <= 0 {
			return n, fmt.Errorf("%w: %s goes on after its %d bytes", ErrTooLarge, c.w.digest, c.list.Size)
		}
		take := min(int64(len(p)), room)
		c.buf = append(c.buf, p[:take]...)
		p = p[take:]
		n += int(take)
		if take < room {
			return n, nil
		}
		i := at / ChunkSize
		if got := fallow.Sum(c.buf); got != c.list.Digest[i] {
			return n, fmt.Errorf("%w: chunk %d of %s", ErrChunk, i, c.w.digest)
		}
		if _, err := c.w.Write(c.buf); err != nil {
			return n, err
		}
		c.buf = c.buf[:0]
	}
	return n, nil
}
