package wasm

import (
	"encoding/binary"

	"fallow.network/meter"
)

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

// fdReadDir lists a folder by name, as it was when it was last listed from its
// beginning; what is gone since is left out. A cookie is the place of the next
// entry, "." and ".." being the first two.
func (r *run) fdReadDir(s []uint64) errno {
	d, e := r.fd(uint32(s[0]))
	switch {
	case e != ok:
		return e
	case !d.node.folder:
		return errnoNotDir
	}
	size, cookie := uint32(s[2]), s[3]
	r.chargeBytes(uint64(size))
	b, okay := r.bytes(uint32(s[1]), size)
	if !okay {
		return errnoFault
	}
	if cookie == 0 || !d.begun {
		r.listed -= len(d.list)
		d.list = nil
		if r.listed+len(d.node.children) > maxListed {
			return errnoNoMem
		}
		r.charge(meter.GasPerEntry * int64(len(d.node.children)))
		d.list = append([]*node(nil), d.node.children...)
		d.begun = true
		r.listed += len(d.list)
		r.tree.store.waste += 8 * int64(len(d.list))
	}
	used := 0
	for i := cookie; i < uint64(len(d.list))+2 && used < len(b); i++ {
		n, name := d.node, "."
		switch {
		case i == 1:
			name = ".."
			if n.parent != nil {
				n = n.parent
			}
		case i > 1:
			if n = d.list[i-2]; n.unlinked || n.parent != d.node {
				continue
			}
			name = n.name
		}
		used += copy(b[used:], r.entry(n, name, i+1))
	}
	return fault(r.putU32(uint32(s[4]), uint32(used)))
}

// entry is a directory entry and its name; the next one overwrites it.
func (r *run) entry(n *node, name string, next uint64) []byte {
	b := append(r.gathered(24), name...)
	clear(b[:24])
	binary.LittleEndian.PutUint64(b[0:], next)
	binary.LittleEndian.PutUint64(b[8:], n.ino)
	binary.LittleEndian.PutUint32(b[16:], uint32(len(name)))
	b[20] = typeRegular
	if n.folder {
		b[20] = typeDirectory
	}
	return b
}
