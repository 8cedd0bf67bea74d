package wasm

import (
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"fallow.network"
	"fallow.network/receipt"
)

// Bounds of what a guest may make.
const (
	maxNodes   = 1 << 16
	maxPathLen = 4096
	maxNameLen = 255
	maxFDs     = 1024
	// maxDepth bounds nested folders, and so the recursion of those who walk them.
	maxDepth = 64
	// maxOutputs leaves room for stdout and stderr.
	maxOutputs = receipt.MaxOutputs - 2
	// maxListed bounds the entries that open folders remember together.
	maxListed = 1 << 18
)

// node is a file or folder that a guest sees.
type node struct {
	ino      uint64
	name     string
	parent   *node
	folder   bool
	children []*node // of a folder, ascending by name
	below    int     // nodes below a folder
	readOnly bool
	data     *content // of a writable file
	input    *input   // of a file of the host's
	kind     area
	changed  uint64 // guest clock, nanoseconds
	opens    int    // descriptors
	unlinked bool
}

// area says whose quota a node counts for.
type area uint8

const (
	areaNone area = iota
	areaOutput
	areaScratch
)

func (n *node) size() int64 {
	switch {
	case n.data != nil:
		return n.data.size
	case n.input != nil:
		return n.input.size
	default:
		return 0
	}
}

// find gives the place of a name among a folder's children.
func (n *node) find(name string) (int, bool) {
	return slices.BinarySearchFunc(n.children, name, func(c *node, name string) int { return strings.Compare(c.name, name) })
}

func (n *node) child(name string) *node {
	if i, found := n.find(name); found {
		return n.children[i]
	}
	return nil
}

// tree is the whole file system of one run.
type tree struct {
	root   *node
	out    *node
	store  store
	nodes  int
	files  int       // below /out
	used   [3]uint64 // bytes by area
	most   [3]uint64
	serial uint64
}

// newTree lays out /in with the task's inputs, and empty /out, /scratch, /tmp.
func newTree(t Task, in *inputs) (*tree, error) {
	tr := &tree{store: store{dir: t.Out}}
	tr.most[areaOutput], tr.most[areaScratch] = t.Limits.Output, t.Limits.Scratch
	tr.root = tr.node("/", true)
	tr.root.readOnly = true
	folder := func(name string, kind area) *node {
		n := tr.node(name, true)
		n.kind = kind
		tr.link(tr.root, n)
		return n
	}
	at := folder("in", areaNone)
	at.readOnly = true
	tr.out = folder("out", areaOutput)
	folder("scratch", areaScratch)
	folder("tmp", areaScratch)
	files := slices.Clone(t.Files)
	slices.SortFunc(files, func(a, b receipt.File) int { return strings.Compare(a.Path, b.Path) })
	for _, f := range files {
		if err := tr.addInput(at, f, t, in); err != nil {
			return nil, err
		}
	}
	return tr, nil
}

func (tr *tree) node(name string, folder bool) *node {
	tr.serial++
	return &node{ino: tr.serial, name: name, folder: folder}
}

// link puts a node into a folder, which has none of its name.
func (tr *tree) link(parent, n *node) {
	i, _ := parent.find(n.name)
	parent.children = slices.Insert(parent.children, i, n)
	n.parent = parent
	tr.count(n, 1)
}

// cut takes a node out of its folder.
func (tr *tree) cut(n *node) {
	i, _ := n.parent.find(n.name)
	n.parent.children = slices.Delete(n.parent.children, i, i+1)
	tr.count(n, -1)
}

// count keeps account of the nodes below each folder.
func (tr *tree) count(n *node, sign int) {
	all := sign * (1 + n.below)
	for at := n.parent; at != nil; at = at.parent {
		at.below += all
	}
	tr.nodes += all
	if !n.folder && n.kind == areaOutput {
		tr.files += sign
	}
}

func (tr *tree) addInput(at *node, f receipt.File, t Task, in *inputs) error {
	parts := strings.Split(f.Path, "/")
	if len(parts) > maxDepth-2 {
		return abort(fallow.ReasonMalformed, "input path %.80q is too deep", f.Path)
	}
	for i, p := range parts {
		if p == "" || p == "." || p == ".." || len(p) > maxNameLen || !nameable(p) {
			return abort(fallow.ReasonMalformed, "input path %.80q", f.Path)
		}
		next, last := at.child(p), i == len(parts)-1
		if next != nil && (last || !next.folder) {
			return abort(fallow.ReasonMalformed, "input path %.80q stands twice", f.Path)
		}
		if next == nil {
			if tr.nodes >= maxNodes {
				return abort(fallow.ReasonTooLarge, "more than %d inputs", maxNodes)
			}
			next = tr.node(p, !last)
			next.readOnly = true
			if last {
				var err error
				if next.input, err = in.of(t, f); err != nil {
					return err
				}
			}
			tr.link(at, next)
		}
		at = next
	}
	return nil
}

// outputs lists the files below /out.
func (tr *tree) outputs() []*node {
	var list []*node
	var walk func(*node)
	walk = func(n *node) {
		for _, c := range n.children {
			if c.folder {
				walk(c)
			} else {
				list = append(list, c)
			}
		}
	}
	walk(tr.out)
	return list
}

// outPath is a node's path below /out.
func (n *node) outPath() string {
	p := n.name
	for at := n.parent; at.parent.parent != nil; at = at.parent {
		p = path.Join(at.name, p)
	}
	return p
}

// nameable says whether a name can be told in a receipt.
func nameable(name string) bool {
	return utf8.ValidString(name) && !strings.ContainsAny(name, "\x00\\")
}

// admit says whether a node of this name, with what is below it, may come into
// a folder.
func (tr *tree) admit(into *node, name string, n *node) errno {
	switch {
	case into.unlinked:
		return errnoNoEnt
	case into.readOnly:
		return errnoROFS
	case !nameable(name):
		return errnoIlSeq
	case into == tr.out && (name == "stdout" || name == "stderr"): // outputs of their own
		return errnoPerm
	case depth(into)+height(n) > maxDepth:
		return errnoNoSpc
	}
	if into.kind != areaOutput {
		return ok
	}
	long := len(name) + longest(n)
	if into != tr.out {
		long += len(into.outPath()) + 1
	}
	if long > receipt.MaxPath {
		return errnoNameTooLong
	}
	if !n.folder && n.kind != areaOutput && tr.files >= maxOutputs {
		return errnoNoSpc
	}
	return ok
}

// depth is the number of folders from the root to a node, itself counted.
func depth(n *node) (d int) {
	for ; n != nil; n = n.parent {
		d++
	}
	return d
}

// height is the number of levels from a node down, files not counted.
func height(n *node) int {
	if !n.folder {
		return 0
	}
	h := 0
	for _, c := range n.children {
		h = max(h, height(c))
	}
	return h + 1
}

// longest is the length of the longest path below a node, with the slash
// before it.
func longest(n *node) int {
	l := 0
	for _, c := range n.children {
		l = max(l, 1+len(c.name)+longest(c))
	}
	return l
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

// place is where a path leads. node is nil where only the last name is
// missing, which could then be made in parent.
type place struct {
	node   *node
	parent *node
	name   string
	folder bool // the path says that it is one
}

// walk follows a path below from. A folder's own name and the one above it
// are resolved on the way.
func (tr *tree) walk(from *node, p string) (place, errno) {
	switch {
	case p == "":
		return place{}, errnoNoEnt
	case len(p) > maxPathLen:
		return place{}, errnoNameTooLong
	case p[0] == '/':
		from = tr.root
	}
	at, folder := from, false
	for rest := p; rest != ""; {
		var part string
		part, rest, folder = strings.Cut(rest, "/")
		switch {
		case !at.folder:
			return place{}, errnoNotDir
		case part == "" || part == ".":
			folder = true
			continue
		case part == "..":
			if at.parent == nil {
				return place{}, errnoPerm
			}
			at, folder = at.parent, true
			continue
		case len(part) > maxNameLen:
			return place{}, errnoNameTooLong
		}
		next := at.child(part)
		if next == nil {
			if strings.Trim(rest, "/") != "" {
				return place{}, errnoNoEnt
			}
			return place{parent: at, name: part, folder: folder}, ok
		}
		at = next
	}
	found := place{at, at.parent, at.name, folder}
	if folder && !at.folder {
		return found, errnoNotDir
	}
	return found, ok
}

// fits says whether an area has room for so many bytes more.
func (tr *tree) fits(kind area, grow int64) bool {
	return grow <= 0 || uint64(grow) <= tr.most[kind]-min(tr.used[kind], tr.most[kind])
}

// unlink takes a name away. The bytes go with the last open descriptor.
func (tr *tree) unlink(n *node) {
	tr.cut(n)
	n.unlinked = true
	tr.forget(n)
}

// forget frees the bytes of a file that has neither name nor descriptor.
func (tr *tree) forget(n *node) {
	if n.unlinked && n.opens == 0 && n.data != nil {
		tr.used[n.kind] -= uint64(n.data.size)
		n.data.drop()
	}
}
