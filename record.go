package fallow

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrRecord is a stored record that does not decode.
var ErrRecord = errors.New("record does not decode")

// RecordWriter writes a record of a Store: a version byte, then fields as
// minimal unsigned varints and as byte strings behind their length. One value
// has one encoding, so that states are compared byte by byte.
type RecordWriter struct{ b []byte }

// NewRecord begins a record of that version.
func NewRecord(version byte) *RecordWriter { return &RecordWriter{b: []byte{version}} }

// Uint writes a number.
func (w *RecordWriter) Uint(v uint64) { w.b = binary.AppendUvarint(w.b, v) }

// Bool writes 0 or 1.
func (w *RecordWriter) Bool(v bool) {
	if v {
		w.Uint(1)
	} else {
		w.Uint(0)
	}
}

// Time writes a moment, or a height, which is never negative in a record.
func (w *RecordWriter) Time(v int64) { w.Uint(uint64(max(v, 0))) }

// Pico writes an amount.
func (w *RecordWriter) Pico(p Pico) {
	w.Uint(p.Hi)
	w.Uint(p.Lo)
}

// Bytes writes a byte string.
func (w *RecordWriter) Bytes(b []byte) {
	w.Uint(uint64(len(b)))
	w.b = append(w.b, b...)
}

// String writes a string.
func (w *RecordWriter) String(s string) {
	w.Uint(uint64(len(s)))
	w.b = append(w.b, s...)
}

// Done is the record.
func (w *RecordWriter) Done() []byte { return w.b }

// RecordReader reads what RecordWriter wrote. After the first error it reads
// zero values; Done tells.
type RecordReader struct {
	b   []byte
	err error
}

// ReadRecord begins to read a record of that version.
func ReadRecord(b []byte, version byte) *RecordReader {
	if len(b) == 0 || b[0] != version {
		return &RecordReader{err: fmt.Errorf("%w: want version %d", ErrRecord, version)}
	}
	return &RecordReader{b: b[1:]}
}

// Uint reads a number.
func (r *RecordReader) Uint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || n > 1 && r.b[n-1] == 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

// Uint32 reads a number of at most 32 bits.
func (r *RecordReader) Uint32() uint32 {
	v := r.Uint()
	if v > 1<<32-1 {
		r.fail()
		return 0
	}
	return uint32(v)
}

// Bool reads 0 or 1.
func (r *RecordReader) Bool() bool {
	v := r.Uint()
	if v > 1 {
		r.fail()
	}
	return v == 1
}

// Time reads a moment or a height.
func (r *RecordReader) Time() int64 {
	v := r.Uint()
	if v > 1<<63-1 {
		r.fail()
		return 0
	}
	return int64(v)
}

// Pico reads an amount.
func (r *RecordReader) Pico() Pico { return Pico{Hi: r.Uint(), Lo: r.Uint()} }

// Bytes reads a byte string; the result is a copy.
func (r *RecordReader) Bytes() []byte {
	n := r.Uint()
	if n > uint64(len(r.b)) {
		r.fail()
		return nil
	}
	b := append([]byte{}, r.b[:n]...)
	r.b = r.b[n:]
	return b
}

// Fixed reads a byte string of exactly len(to) bytes.
func (r *RecordReader) Fixed(to []byte) {
	if b := r.Bytes(); len(b) == len(to) {
		copy(to, b)
	} else {
		r.fail()
	}
}

// String reads a string.
func (r *RecordReader) String() string { return string(r.Bytes()) }

// Count reads a length, which can't be above what is left to read.
func (r *RecordReader) Count() int {
	n := r.Uint()
	if n > uint64(len(r.b)) {
		r.fail()
		return 0
	}
	return int(n)
}

// Done says whether all was read, and nothing is left.
func (r *RecordReader) Done() error {
	if r.err == nil && len(r.b) > 0 {
		r.err = fmt.Errorf("%w: %d bytes left over", ErrRecord, len(r.b))
	}
	return r.err
}

func (r *RecordReader) fail() {
	if r.err == nil {
		r.err = ErrRecord
	}
	r.b = nil
}
