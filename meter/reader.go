package meter

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

// ErrRefused is wrapped by every error of Instrument: the module can't be
// metered, and the text says why.
var ErrRefused = errors.New("module refused")

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrRefused, fmt.Sprintf(format, args...))
}

// reader walks bytes from outside. The first error sticks and every later
// read gives zero, so callers check err once per item, and always in loops.
type reader struct {
	b   []byte
	p   int
	off int // where b starts in the module, for messages
	err error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = refuse("%s at byte %d", fmt.Sprintf(format, args...), r.off+r.p)
	}
}

func (r *reader) more() bool { return r.err == nil && r.p < len(r.b) }

func (r *reader) u8() byte {
	if r.err != nil {
		return 0
	}
	if r.p >= len(r.b) {
		r.fail("module is truncated")
		return 0
	}
	r.p++
	return r.b[r.p-1]
}

// u32 reads an unsigned LEB128 of at most 32 bits in at most 5 bytes.
func (r *reader) u32() uint32 {
	if r.p < len(r.b) && r.b[r.p] < 0x80 && r.err == nil { // most of them
		r.p++
		return uint32(r.b[r.p-1])
	}
	var v uint64
	for s := 0; s < 35; s += 7 {
		c := r.u8()
		v |= uint64(c&0x7f) << s
		if c < 0x80 {
			if v > 0xffffffff {
				break
			}
			return uint32(v)
		}
	}
	r.fail("integer is longer than 32 bits")
	return 0
}

// sleb reads a signed LEB128 of the given width in bits.
func (r *reader) sleb(bits int) int64 {
	var v int64
	for s := 0; s < bits; s += 7 {
		c := r.u8()
		v |= int64(c&0x7f) << s
		if c < 0x80 {
			if s+7 < 64 {
				v = v << (64 - s - 7) >> (64 - s - 7)
			}
			if rest := bits - s; rest < 7 {
				// The last byte holds the sign and nothing but copies of it.
				if top := int8(c<<1) >> rest; top != 0 && top != -1 {
					break
				}
			}
			return v
		}
	}
	r.fail("integer is longer than %d bits", bits)
	return 0
}

func (r *reader) skip(n int) {
	if r.err != nil {
		return
	}
	if n < 0 || n > len(r.b)-r.p {
		r.fail("module is truncated")
		return
	}
	r.p += n
}

// sub cuts the next n bytes off as a reader of their own.
func (r *reader) sub(n uint32) *reader {
	start := r.p
	if int64(n) > int64(len(r.b)-r.p) {
		r.fail("module is truncated: %d bytes announced, %d left", n, len(r.b)-r.p)
	} else {
		r.skip(int(n))
	}
	if r.err != nil {
		return &reader{err: r.err}
	}
	return &reader{b: r.b[start:r.p], off: r.off + start}
}

// count reads the length of a vector whose items take a byte each at least.
func (r *reader) count(what string, most int) int {
	n := r.u32()
	if int64(n) > int64(most) {
		r.fail("%d %s, at most %d are allowed", n, what, most)
		return 0
	}
	if int64(n) > int64(len(r.b)-r.p) {
		r.fail("module is truncated: %d %s announced", n, what)
		return 0
	}
	return int(n)
}

// name reads a UTF-8 string of at most MaxNameBytes.
func (r *reader) name() string {
	n := r.u32()
	if n > MaxNameBytes {
		r.fail("name of %d bytes, at most %d are allowed", n, MaxNameBytes)
		return ""
	}
	s := r.sub(n)
	if r.err == nil && !utf8.Valid(s.b) {
		r.fail("name is not UTF-8")
	}
	return string(s.b)
}

// Writing.

func putU32(b []byte, v uint32) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

func putS64(b []byte, v int64) []byte {
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if v == 0 && c&0x40 == 0 || v == -1 && c&0x40 != 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

func putBytes(b, v []byte) []byte { return append(putU32(b, uint32(len(v))), v...) }

func putName(b []byte, s string) []byte { return append(putU32(b, uint32(len(s))), s...) }
