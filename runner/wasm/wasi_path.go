package wasm

import "fallow.network/meter"

// at is where the path of a call leads.
func (r *run) at(fd, path, n uint64) (place, errno) {
	d, e := r.fd(uint32(fd))
	if e != ok {
		return place{}, e
	}
	if !d.node.folder {
		return place{}, errnoNotDir
	}
	p, e := r.text(uint32(path), uint32(n))
	if e != ok {
		return place{}, e
	}
	return r.tree.walk(d.node, p)
}

// there is a place whose node exists.
func (r *run) there(fd, path, n uint64) (place, errno) {
	p, e := r.at(fd, path, n)
	if e == ok && p.node == nil {
		e = errnoNoEnt
	}
	return p, e
}

func (r *run) pathOpen(s []uint64) errno {
	p, e := r.at(s[0], s[2], s[3])
	flags, rights, fdFlags := uint32(s[4]), s[5], uint16(s[7])
	read, write := rights&rightRead != 0, rights&rightWrite != 0
	n := p.node
	switch {
	case e != ok && !p.folder:
		return e
	case flags&(oCreate|oDirectory) == oCreate|oDirectory:
		return errnoInval
	case p.folder && flags&oCreate != 0:
		return errnoIsDir
	case e != ok:
		return e
	case n == nil && flags&oCreate == 0:
		return errnoNoEnt
	case n == nil:
		e = r.room(p, &node{})
	case flags&(oCreate|oExclusive) == oCreate|oExclusive:
		return errnoExist
	case n.folder && (flags&(oCreate|oTruncate) != 0 || write && flags&oDirectory == 0):
		return errnoIsDir
	case n.folder:
	case flags&oDirectory != 0:
		return errnoNotDir
	case n.readOnly && (write || flags&oTruncate != 0):
		return errnoROFS
	}
	if e != ok {
		return e
	}
	fd, e := r.vacant()
	if e != ok {
		return e
	}
	if n == nil {
		n = r.tree.node(p.name, false)
		n.data = &content{in: &r.tree.store}
		r.put(p, n)
	} else if flags&oTruncate != 0 && n.size() > 0 {
		r.setSize(n, 0)
	}
	n.opens++
	r.fds[fd] = &descriptor{node: n, flags: fdFlags & (fdAppend | fdNonblock), read: read || !write, write: write && !n.folder}
	return fault(r.putU32(uint32(s[8]), uint32(fd)))
}

// room says whether a new node can stand at a place.
func (r *run) room(p place, n *node) errno {
	if e := r.tree.admit(p.parent, p.name, n); e != ok {
		return e
	}
	if r.tree.nodes >= maxNodes {
		return errnoNoSpc
	}
	return ok
}

// put makes a new node.
func (r *run) put(p place, n *node) {
	n.kind, n.changed, p.parent.changed = p.parent.kind, r.clock, r.clock
	r.tree.link(p.parent, n)
}

func (r *run) pathStat(s []uint64) errno {
	p, e := r.there(s[0], s[2], s[3])
	if e != ok {
		return e
	}
	kind := byte(typeRegular)
	if p.node.folder {
		kind = typeDirectory
	}
	return r.stat(uint32(s[4]), p.node, kind)
}

func (r *run) pathTimes(s []uint64) errno {
	_, e := r.there(s[0], s[2], s[3])
	return e
}

// pathReadLink finds no links, for there are none.
func (r *run) pathReadLink(s []uint64) errno {
	if _, e := r.there(s[0], s[1], s[2]); e != ok {
		return e
	}
	return errnoInval
}

func (r *run) pathMakeDir(s []uint64) errno {
	p, e := r.at(s[0], s[1], s[2])
	switch {
	case p.node != nil:
		return errnoExist
	case e != ok:
		return e
	}
	if e := r.room(p, &node{folder: true}); e != ok {
		return e
	}
	r.put(p, r.tree.node(p.name, true))
	return ok
}

func (r *run) pathRemoveDir(s []uint64) errno {
	p, e := r.there(s[0], s[1], s[2])
	switch {
	case e != ok:
		return e
	case !p.node.folder:
		return errnoNotDir
	case p.node.unlinked:
		return errnoNoEnt
	case p.parent == nil || p.parent.readOnly:
		return errnoROFS
	case len(p.node.children) > 0:
		return errnoNotEmpty
	}
	r.tree.unlink(p.node)
	p.parent.changed = r.clock
	return ok
}

func (r *run) pathUnlink(s []uint64) errno {
	p, e := r.there(s[0], s[1], s[2])
	switch {
	case e != ok:
		return e
	case p.node.folder:
		return errnoIsDir
	case p.parent.readOnly:
		return errnoROFS
	}
	r.tree.unlink(p.node)
	p.parent.changed = r.clock
	return ok
}

func (r *run) pathRename(s []uint64) errno {
	from, e := r.there(s[0], s[1], s[2])
	if e != ok {
		return e
	}
	to, e := r.at(s[3], s[4], s[5])
	if e != ok {
		return e
	}
	n, old := from.node, to.node
	switch {
	case from.parent == nil || from.parent.readOnly || to.parent == nil || to.parent.readOnly:
		return errnoROFS
	case n.unlinked:
		return errnoNoEnt
	case old == n:
		return ok
	case n.folder && within(to.parent, n):
		return errnoInval
	case to.folder && !n.folder:
		return errnoNotDir
	case old != nil && old.folder && !n.folder:
		return errnoIsDir
	case old != nil && !old.folder && n.folder:
		return errnoNotDir
	case old != nil && len(old.children) > 0:
		return errnoNotEmpty
	case n.folder && n.kind != to.parent.kind:
		// Bytes would change quotas, and how many isn't told to the caller.
		return errnoXDev
	}
	r.charge(meter.GasPerEntry * int64(n.below))
	if e := r.tree.admit(to.parent, to.name, n); e != ok {
		return e
	}
	if n.kind != to.parent.kind {
		if e := r.rebook(n, old, to.parent.kind); e != ok {
			return e
		}
	}
	if old != nil {
		r.tree.unlink(old)
	}
	r.tree.cut(n)
	n.name, n.kind = to.name, to.parent.kind
	r.tree.link(to.parent, n)
	from.parent.changed, to.parent.changed = r.clock, r.clock
	return ok
}

// rebook moves a file's bytes from one quota to another, before it takes the
// place of an old file.
func (r *run) rebook(n, old *node, to area) errno {
	grow := n.data.size
	if old != nil && old.opens == 0 {
		grow -= old.data.size
	}
	if e := r.fits(to, grow); e != ok {
		return e
	}
	r.tree.used[n.kind] -= uint64(n.data.size)
	r.tree.used[to] += uint64(n.data.size)
	return ok
}
