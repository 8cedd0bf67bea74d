package wasm

import (
	"encoding/binary"
	"io"
	"math"
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
		return typeCharacter
	case d.node.dir():
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
	if d.stream || !d.node.dir() {
		if !d.read {
			rights &^= rightRead
		}
		if !d.write {
			rights &^= rightWrite
		}
	}
	if d.stream {
		rights &^= 1<<2 | 1<<5 // no seek, no tell: it is no file
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
	switch off, n := s[1], s[2]; {
	case e != ok:
		return e
	case n == 0 || off > math.MaxInt64 || n > math.MaxInt64-off:
		return errnoInval
	case int64(off+n) <= d.node.size():
		return r.writable(d)
	default:
		return r.resize(d, int64(off+n))
	}
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
	case d.node.dir():
		return errnoIsDir
	case !d.write || d.node.readOnly || d.node.data == nil:
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
	n := d.node
	grow := size - n.data.size
	r.chargeBytes(uint64(max(grow, 0)))
	if e := r.book(n, grow); e != ok {
		return e
	}
	if grow < 0 {
		r.tree.release(n, -grow)
	}
	if err := n.data.resize(r.tree.spill, size); err != nil {
		r.stopHost(err)
	}
	n.changed = r.clock
	return ok
}

// book counts growth: scratch that is full is an error that a guest can
// handle, outputs beyond their limit end the run.
func (r *run) book(n *node, grow int64) errno {
	if r.tree.reserve(n, grow) {
		return ok
	}
	if n.kind == areaOutput {
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
	if d.node.dir() {
		return 0, errnoIsDir
	}
	if !d.read {
		return 0, errnoBadF
	}
	vectors, sum, e := r.vectors(at, count)
	if e != ok {
		return 0, e
	}
	r.chargeBytes(sum)
	var n uint32
	for _, v := range vectors {
		k, err := r.tree.read(d.node, v, off+int64(n))
		if err != nil {
			r.stopHost(err)
		}
		n += uint32(k)
		if k < len(v) {
			break
		}
	}
	return n, ok
}

func (r *run) fdWrite(s []uint64) errno {
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
	r.chargeBytes(sum)
	if sum > math.MaxUint32 || off > math.MaxInt64-int64(sum) {
		return 0, errnoFBig
	}
	n := d.node
	grow := off + int64(sum) - n.data.size
	if grow > int64(sum) { // the hole before it is written as well
		r.chargeBytes(uint64(grow) - sum)
	}
	if e := r.book(n, grow); e != ok {
		return 0, e
	}
	for _, v := range vectors {
		if err := n.data.writeAt(r.tree.spill, v, off); err != nil {
			r.stopHost(err)
		}
		off += int64(len(v))
	}
	n.changed = r.clock
	return uint32(sum), ok
}

func (r *run) fdSeek(s []uint64) errno {
	d, e := r.fd(uint32(s[0]))
	switch {
	case e != ok:
		return e
	case d.stream:
		return errnoSPipe
	case d.node.dir():
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

func (r *run) prestat(s []uint64) errno {
	d, e := r.fd(uint32(s[0]))
	if e != ok || !d.root {
		return errnoBadF
	}
	return fault(r.putU32(uint32(s[1]), 0) && r.putU32(uint32(s[1])+4, 1))
}

func (r *run) prestatName(s []uint64) errno {
	d, e := r.fd(uint32(s[0]))
	if e != ok || !d.root {
		return errnoBadF
	}
	if uint32(s[2]) < 1 {
		return errnoNameTooLong
	}
	b, okay := r.bytes(uint32(s[1]), 1)
	if !okay {
		return errnoFault
	}
	b[0] = '/'
	return ok
}

// fdReadDir lists a folder by name, as it was when it was first listed from
// its beginning.
func (r *run) fdReadDir(s []uint64) errno {
	d, e := r.fd(uint32(s[0]))
	switch {
	case e != ok:
		return e
	case !d.node.dir():
		return errnoNotDir
	}
	size, cookie := uint32(s[2]), s[3]
	r.chargeBytes(uint64(size))
	b, okay := r.bytes(uint32(s[1]), size)
	if !okay {
		return errnoFault
	}
	if cookie == 0 || d.names == nil {
		names := sortedNames(d.node)
		r.chargeBytes(uint64(len(names)) * 64)
		d.names = append([]string{".", ".."}, names...)
	}
	used := 0
	for i := cookie; i < uint64(len(d.names)) && used < len(b); i++ {
		name := d.names[i]
		n := d.node
		switch name {
		case ".":
		case "..":
			if n.parent != nil {
				n = n.parent
			}
		default:
			if n = d.node.children[name]; n == nil {
				n = &node{name: name} // gone since
			}
		}
		entry := make([]byte, 24, 24+len(name))
		binary.LittleEndian.PutUint64(entry[0:], i+1)
		binary.LittleEndian.PutUint64(entry[8:], n.ino)
		binary.LittleEndian.PutUint32(entry[16:], uint32(len(name)))
		entry[20] = typeRegular
		if n.dir() {
			entry[20] = typeDirectory
		}
		used += copy(b[used:], append(entry, name...))
	}
	return fault(r.putU32(uint32(s[4]), uint32(used)))
}
