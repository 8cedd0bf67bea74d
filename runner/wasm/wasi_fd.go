package wasm

import (
	"encoding/binary"
	"io"
	"math"

	faults "fallow.network/fault"
)

func (r *run) fdKnown(s []uint64) errno {
	_, e := r.fd(uint32(s[0]))
	return e
}

func (r *run) fdClose(s []uint64) errno {
	n := uint32(s[0])
	d, e := r.fd(n)
	if e != ok {
		return e
	}
	r.fds[n] = nil
	r.shut(d)
	return ok
}

// shut lets a descriptor go; the file's bytes with it when it has no name.
func (r *run) shut(d *descriptor) {
	r.listed -= len(d.list)
	d.node.opens--
	r.tree.forget(d.node)
}

func (r *run) fdRenumber(s []uint64) errno {
	from, to := uint32(s[0]), uint32(s[1])
	d, e := r.fd(from)
	if e != ok {
		return e
	}
	old, e := r.fd(to)
	if e != ok {
		return e
	}
	if from == to {
		return ok
	}
	r.fds[to], r.fds[from] = d, nil
	r.shut(old)
	return ok
}

func (d *descriptor) fileType() byte {
	switch {
	case d.stream:
		return typeUnknown // as a pipe: no terminal
	case d.node.folder:
		return typeDirectory
	default:
		return typeRegular
	}
}

func (r *run) fdStat(s []uint64) errno {
	d, e := r.fd(uint32(s[0]))
	if e != ok {
		return e
	}
	b, okay := r.bytes(uint32(s[1]), 24)
	if !okay {
		return errnoFault
	}
	clear(b)
	b[0] = d.fileType()
	binary.LittleEndian.PutUint16(b[2:], d.flags)
	rights := uint64(allRights)
	if !d.node.folder {
		if !d.read {
			rights &^= rightRead
		}
		if !d.write {
			rights &^= rightWrite
		}
	}
	if d.stream {
		rights &^= rightSeek | rightTell
	}
	binary.LittleEndian.PutUint64(b[8:], rights)
	binary.LittleEndian.PutUint64(b[16:], allRights)
	return ok
}

func (r *run) fdSetFlags(s []uint64) errno {
	d, e := r.fd(uint32(s[0]))
	if e != ok {
		return e
	}
	d.flags = uint16(s[1]) & (fdAppend | fdNonblock)
	return ok
}

// stat writes a filestat.
func (r *run) stat(at uint32, n *node, kind byte) errno {
	b, okay := r.bytes(at, 64)
	if !okay {
		return errnoFault
	}
	clear(b)
	binary.LittleEndian.PutUint64(b[0:], 1)
	binary.LittleEndian.PutUint64(b[8:], n.ino)
	b[16] = kind
	binary.LittleEndian.PutUint64(b[24:], 1)
	binary.LittleEndian.PutUint64(b[32:], uint64(n.size()))
	for _, o := range []int{40, 48, 56} {
		binary.LittleEndian.PutUint64(b[o:], max(n.changed, clockStart))
	}
	return ok
}

func (r *run) fdFileStat(s []uint64) errno {
	d, e := r.fd(uint32(s[0]))
	if e != ok {
		return e
	}
	return r.stat(uint32(s[1]), d.node, d.fileType())
}

func (r *run) fdAllocate(s []uint64) errno {
	d, e := r.fd(uint32(s[0]))
	if e != ok {
		return e
	}
	off, n := s[1], s[2]
	if n == 0 || off > math.MaxInt64 || n > math.MaxInt64-off {
		return errnoInval
	}
	return r.resize(d, max(int64(off+n), d.node.size()))
}

func (r *run) fdSetSize(s []uint64) errno {
	d, e := r.fd(uint32(s[0]))
	switch {
	case e != ok:
		return e
	case s[1] > math.MaxInt64:
		return errnoFBig
	default:
		return r.resize(d, int64(s[1]))
	}
}

func (r *run) writable(d *descriptor) errno {
	switch {
	case d.node.folder:
		return errnoIsDir
	case !d.write:
		return errnoBadF
	default:
		return ok
	}
}

// resize changes a file's size within its quota.
func (r *run) resize(d *descriptor, size int64) errno {
	if e := r.writable(d); e != ok {
		return e
	}
	if d.stream {
		return errnoInval
	}
	grow := size - d.node.data.size
	if e := r.fits(d.node.kind, grow); e != ok {
		return e
	}
	r.chargeBytes(uint64(max(grow, 0)))
	r.setSize(d.node, size)
	return ok
}

// setSize changes a size that fits and is paid for.
func (r *run) setSize(n *node, size int64) {
	r.tree.used[n.kind] += uint64(size - n.data.size)
	if err := n.data.resize(size); err != nil {
		r.stopHost(err)
	}
	n.changed = r.clock
}

// fits looks at a quota: scratch that is full is an error that a guest can
// handle, outputs beyond their limit end the run.
func (r *run) fits(kind area, grow int64) errno {
	if r.tree.fits(kind, grow) {
		return ok
	}
	if kind == areaOutput {
		r.stopTrap(TrapOutput)
	}
	return errnoNoSpc
}

func (r *run) fdRead(s []uint64) errno {
	d, e := r.fd(uint32(s[0]))
	if e != ok {
		return e
	}
	n, e := r.readInto(d, uint32(s[1]), uint32(s[2]), d.offset)
	if e != ok {
		return e
	}
	d.offset += int64(n)
	return fault(r.putU32(uint32(s[3]), n))
}

func (r *run) fdPread(s []uint64) errno {
	d, e := r.fd(uint32(s[0]))
	switch {
	case e != ok:
		return e
	case d.stream:
		return errnoSPipe
	case s[3] > math.MaxInt64:
		return errnoInval
	}
	n, e := r.readInto(d, uint32(s[1]), uint32(s[2]), int64(s[3]))
	if e != ok {
		return e
	}
	return fault(r.putU32(uint32(s[4]), n))
}

// readInto fills the vectors, short only at the file's end.
func (r *run) readInto(d *descriptor, at, count uint32, off int64) (uint32, errno) {
	if d.node.folder {
		return 0, errnoIsDir
	}
	if !d.read {
		return 0, errnoBadF
	}
	vectors, sum, e := r.vectors(at, count)
	if e != ok {
		return 0, e
	}
	r.chargeBytes(uint64(sum))
	n := 0
	for len(vectors) > 0 {
		together, size := group(vectors)
		k := 0
		if together == 1 {
			k = r.readFile(d.node, vectors[0], off+int64(n))
		} else {
			b := r.gathered(size)
			k = r.readFile(d.node, b, off+int64(n))
			b = b[:k]
			for _, v := range vectors[:together] {
				b = b[copy(v, b):]
			}
		}
		n += k
		if k < size {
			break
		}
		vectors = vectors[together:]
	}
	return uint32(n), ok
}

// maxGather is how many bytes of small vectors are moved in one go.
const maxGather = 64 << 10

// group is how many of the first vectors are moved together, and their bytes:
// a guest that names a thousand of one byte must not cost a thousand system
// calls.
func group(vectors [][]byte) (n, size int) {
	for n < len(vectors) && size+len(vectors[n]) <= maxGather {
		size += len(vectors[n])
		n++
	}
	if n == 0 {
		return 1, len(vectors[0])
	}
	return n, size
}

func (r *run) gathered(n int) []byte {
	if r.scratch == nil {
		r.scratch = make([]byte, maxGather)
	}
	return r.scratch[:n]
}

// readFile reads of a file; short only at its end.
func (r *run) readFile(n *node, p []byte, off int64) (k int) {
	var err error
	switch {
	case len(p) == 0:
	case n.data != nil:
		k, err = n.data.readAt(p, off)
	case n.input != nil:
		k, err = r.inputs.readAt(n.input, p, off)
	}
	if err != nil {
		r.stopHost(err)
	}
	return k
}

func (r *run) fdWrite(s []uint64) errno {
	faults.Point("wasm/guest-wrote")
	d, e := r.fd(uint32(s[0]))
	if e != ok {
		return e
	}
	off := d.offset
	if d.flags&fdAppend != 0 {
		off = d.node.size()
	}
	n, e := r.writeFrom(d, uint32(s[1]), uint32(s[2]), off)
	if e != ok {
		return e
	}
	d.offset = off + int64(n)
	return fault(r.putU32(uint32(s[3]), n))
}

func (r *run) fdPwrite(s []uint64) errno {
	d, e := r.fd(uint32(s[0]))
	switch {
	case e != ok:
		return e
	case d.stream:
		return errnoSPipe
	case s[3] > math.MaxInt64:
		return errnoInval
	}
	n, e := r.writeFrom(d, uint32(s[1]), uint32(s[2]), int64(s[3]))
	if e != ok {
		return e
	}
	return fault(r.putU32(uint32(s[4]), n))
}

// writeFrom writes all of the vectors or nothing.
func (r *run) writeFrom(d *descriptor, at, count uint32, off int64) (uint32, errno) {
	if e := r.writable(d); e != ok {
		return 0, e
	}
	vectors, sum, e := r.vectors(at, count)
	if e != ok {
		return 0, e
	}
	if off > math.MaxInt64-int64(sum) {
		return 0, errnoFBig
	}
	if sum == 0 {
		return 0, ok
	}
	n := d.node
	grow := max(off+int64(sum)-n.data.size, 0)
	if e := r.fits(n.kind, grow); e != ok {
		return 0, e
	}
	// The hole before what is written is made as well.
	r.chargeBytes(uint64(max(grow, int64(sum))))
	r.tree.used[n.kind] += uint64(grow)
	for len(vectors) > 0 {
		together, size := group(vectors)
		b := vectors[0]
		if together > 1 {
			b = r.gathered(size)[:0]
			for _, v := range vectors[:together] {
				b = append(b, v...)
			}
		}
		if err := n.data.writeAt(b, off); err != nil {
			r.stopHost(err)
		}
		off += int64(size)
		vectors = vectors[together:]
	}
	n.changed = r.clock
	return sum, ok
}

func (r *run) fdSeek(s []uint64) errno {
	d, e := r.fd(uint32(s[0]))
	switch {
	case e != ok:
		return e
	case d.stream:
		return errnoSPipe
	case d.node.folder:
		return errnoIsDir
	}
	base := int64(0)
	switch uint32(s[2]) {
	case io.SeekStart:
	case io.SeekCurrent:
		base = d.offset
	case io.SeekEnd:
		base = d.node.size()
	default:
		return errnoInval
	}
	by := int64(s[1])
	if by > 0 && base > math.MaxInt64-by || base+by < 0 {
		return errnoInval
	}
	d.offset = base + by
	return fault(r.putU64(uint32(s[3]), uint64(d.offset)))
}

func (r *run) fdTell(s []uint64) errno {
	d, e := r.fd(uint32(s[0]))
	switch {
	case e != ok:
		return e
	case d.stream:
		return errnoSPipe
	}
	return fault(r.putU64(uint32(s[1]), uint64(d.offset)))
}
