package wasm

// at is the folder that a path call begins from, and its path.
func (r *run) at(fd, path, n uint64) (*node, string, errno) {
	d, e := r.fd(uint32(fd))
	if e != ok {
		return nil, "", e
	}
	if !d.node.dir() {
		return nil, "", errnoNotDir
	}
	p, e := r.text(uint32(path), uint32(n))
	return d.node, p, e
}

func (r *run) pathOpen(s []uint64) errno {
	from, p, e := r.at(s[0], s[2], s[3])
	if e != ok {
		return e
	}
	flags, rights, fdFlags := uint32(s[4]), s[5], uint16(s[7])
	n, parent, name, e := r.tree.walk(from, p)
	write := rights&rightWrite != 0
	switch {
	case e == errnoNoEnt && parent != nil && flags&oCreate != 0:
		if parent.readOnly {
			return errnoROFS
		}
		if flags&oDirectory != 0 {
			return errnoInval
		}
		if r.tree.streams(parent, name) {
			return errnoPerm
		}
		if r.tree.nodes >= maxNodes {
			return errnoNoSpc
		}
		n = r.tree.add(parent, name, false)
		n.data = &content{}
		n.changed = r.clock
	case e != ok:
		return e
	case flags&(oCreate|oExclusive) == oCreate|oExclusive:
		return errnoExist
	case n.dir():
		if flags&(oCreate|oTruncate) != 0 {
			return errnoIsDir
		}
		write = false
	case flags&oDirectory != 0:
		return errnoNotDir
	case n.readOnly && flags&oTruncate != 0:
		return errnoROFS
	case n.readOnly && write && rights&rightRead == 0:
		return errnoROFS
	case n.readOnly:
		write = false
	}
	d := &descriptor{node: n, flags: fdFlags & (fdAppend | fdNonblock), read: true, write: write}
	if !n.dir() && rights&(rightRead|rightWrite) == rightWrite {
		d.read = false
	}
	if flags&oTruncate != 0 && !n.dir() && n.data != nil && n.data.size > 0 {
		if e := r.resize(&descriptor{node: n, write: true}, 0); e != ok {
			return e
		}
	}
	fd, e := r.open(d)
	if e != ok {
		return e
	}
	return fault(r.putU32(uint32(s[8]), fd))
}

func (r *run) pathStat(s []uint64) errno {
	from, p, e := r.at(s[0], s[2], s[3])
	if e != ok {
		return e
	}
	n, _, _, e := r.tree.walk(from, p)
	if e != ok {
		return e
	}
	kind := byte(typeRegular)
	if n.dir() {
		kind = typeDirectory
	}
	return r.stat(uint32(s[4]), n, kind)
}

func (r *run) pathTimes(s []uint64) errno {
	from, p, e := r.at(s[0], s[2], s[3])
	if e != ok {
		return e
	}
	_, _, _, e = r.tree.walk(from, p)
	return e
}

func (r *run) pathMakeDir(s []uint64) errno {
	from, p, e := r.at(s[0], s[1], s[2])
	if e != ok {
		return e
	}
	_, parent, name, e := r.tree.walk(from, p)
	switch {
	case e == ok:
		return errnoExist
	case e != errnoNoEnt || parent == nil:
		return e
	case parent.readOnly:
		return errnoROFS
	case r.tree.nodes >= maxNodes || depth(parent) >= maxDepth:
		return errnoNoSpc
	}
	if r.tree.streams(parent, name) {
		return errnoPerm
	}
	r.tree.add(parent, name, true).changed = r.clock
	return ok
}

// maxDepth bounds nested folders, and so the recursion of those who walk them.
const maxDepth = 64

func depth(n *node) (d int) {
	for ; n != nil; n = n.parent {
		d++
	}
	return d
}

func (r *run) pathRemoveDir(s []uint64) errno {
	from, p, e := r.at(s[0], s[1], s[2])
	if e != ok {
		return e
	}
	n, parent, _, e := r.tree.walk(from, p)
	switch {
	case e != ok:
		return e
	case !n.dir():
		return errnoNotDir
	case parent == nil || parent.readOnly:
		return errnoROFS
	case len(n.children) > 0:
		return errnoNotEmpty
	}
	r.tree.unlink(n)
	return ok
}

func (r *run) pathUnlink(s []uint64) errno {
	from, p, e := r.at(s[0], s[1], s[2])
	if e != ok {
		return e
	}
	n, parent, _, e := r.tree.walk(from, p)
	switch {
	case e != ok:
		return e
	case n.dir():
		return errnoIsDir
	case parent.readOnly:
		return errnoROFS
	}
	r.tree.unlink(n)
	return ok
}

func (r *run) pathRename(s []uint64) errno {
	from, p, e := r.at(s[0], s[1], s[2])
	if e != ok {
		return e
	}
	to, q, e := r.at(s[3], s[4], s[5])
	if e != ok {
		return e
	}
	n, parent, _, e := r.tree.walk(from, p)
	if e != ok {
		return e
	}
	old, into, name, e := r.tree.walk(to, q)
	if e != ok && (e != errnoNoEnt || into == nil) {
		return e
	}
	switch {
	case parent == nil || into == nil || parent.readOnly || into.readOnly:
		return errnoROFS
	case old == n:
		return ok
	case r.tree.streams(into, name):
		return errnoPerm
	case n.dir() && (depth(into)+height(n) > maxDepth || within(into, n)):
		return errnoInval
	case old != nil && old.dir() && !n.dir():
		return errnoIsDir
	case old != nil && !old.dir() && n.dir():
		return errnoNotDir
	case old != nil && len(old.children) > 0:
		return errnoNotEmpty
	}
	if n.kind != into.kind {
		// Bytes would change quotas: a copy says what it costs, a rename can't.
		if n.dir() {
			return errnoNotSup
		}
		if e := r.rebook(n, into.kind); e != ok {
			return e
		}
	}
	if old != nil {
		r.tree.unlink(old)
	}
	delete(parent.children, n.name)
	n.name, n.parent = name, into
	into.children[name] = n
	return ok
}

// rebook moves a file's bytes from one quota to another.
func (r *run) rebook(n *node, to area) errno {
	was := n.kind
	n.kind = to
	if e := r.book(n, n.data.size); e != ok {
		n.kind = was
		return e
	}
	r.tree.used[was] -= uint64(n.data.size)
	return ok
}

// within says whether n lies in folder or is it.
func within(n, folder *node) bool {
	for ; n != nil; n = n.parent {
		if n == folder {
			return true
		}
	}
	return false
}

func height(n *node) int {
	h := 0
	for _, c := range n.children {
		h = max(h, height(c))
	}
	return h + 1
}
