package wasm

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"fallow.network"
	"fallow.network/receipt"
)

// Bounds of what a guest may make.
const (
	maxNodes   = 1 << 16
	maxPathLen = 4096
	maxNameLen = 255
	maxFDs     = 1024
)

// node is a file or folder that a guest sees.
type node struct {
	ino      uint64
	name     string
	parent   *node
	children map[string]*node // of a folder
	readOnly bool
	data     *content // of a writable file
	host     string   // of an input
	hostSize int64
	opened   *os.File // an input, once read
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

func (n *node) dir() bool { return n.children != nil }

func (n *node) size() int64 {
	switch {
	case n.data != nil:
		return n.data.size
	case n.host != "":
		return n.hostSize
	default:
		return 0
	}
}

// tree is the whole file system of one run.
type tree struct {
	root   *node
	nodes  uint64
	used   [3]uint64 // bytes by area
	most   [3]uint64
	spill  string // host folder for large files
	open   []*os.File
	serial uint64
}

// newTree lays out /in with the task's inputs, and empty /out, /scratch, /tmp.
func newTree(t Task) (*tree, error) {
	tr := &tree{spill: t.Out}
	tr.most[areaOutput], tr.most[areaScratch] = t.Limits.Output, t.Limits.Scratch
	tr.root = tr.node(nil, "/", true)
	tr.root.readOnly = true
	in := tr.add(tr.root, "in", true)
	in.readOnly = true
	for _, a := range []struct {
		name string
		kind area
	}{{"out", areaOutput}, {"scratch", areaScratch}, {"tmp", areaScratch}} {
		tr.add(tr.root, a.name, true).kind = a.kind
	}
	files := slices.Clone(t.Files)
	slices.SortFunc(files, func(a, b receipt.File) int { return strings.Compare(a.Path, b.Path) })
	for _, f := range files {
		if err := tr.addInput(in, f, t.Paths); err != nil {
			return nil, err
		}
	}
	return tr, nil
}

func (tr *tree) node(parent *node, name string, dir bool) *node {
	tr.serial++
	tr.nodes++
	n := &node{ino: tr.serial, name: name, parent: parent}
	if dir {
		n.children = map[string]*node{}
	}
	if parent != nil {
		n.kind = parent.kind
	}
	return n
}

func (tr *tree) add(parent *node, name string, dir bool) *node {
	n := tr.node(parent, name, dir)
	parent.children[name] = n
	return n
}

func (tr *tree) addInput(in *node, f receipt.File, paths map[fallow.Digest]string) error {
	host, ok := paths[f.Blob.Digest]
	if !ok {
		return abort(fallow.ReasonAborted, "input %s has no file here", f.Path)
	}
	parts := strings.Split(f.Path, "/")
	at := in
	for i, p := range parts {
		if p == "" || p == "." || p == ".." || len(p) > maxNameLen {
			return abort(fallow.ReasonMalformed, "input path %.80q", f.Path)
		}
		next, exists := at.children[p]
		last := i == len(parts)-1
		if exists && (last || !next.dir()) {
			return abort(fallow.ReasonMalformed, "input path %.80q stands twice", f.Path)
		}
		if !exists {
			if tr.nodes >= maxNodes {
				return abort(fallow.ReasonTooLarge, "more than %d inputs", maxNodes)
			}
			next = tr.add(at, p, !last)
			next.readOnly = true
			if last {
				next.host, next.hostSize = host, int64(f.Blob.Size)
			}
		}
		at = next
	}
	return nil
}

// outputs lists the files below /out, ascending by path.
func (tr *tree) outputs() []*node {
	var list []*node
	var walk func(*node)
	walk = func(n *node) {
		for _, name := range sortedNames(n) {
			c := n.children[name]
			if c.dir() {
				walk(c)
			} else {
				list = append(list, c)
			}
		}
	}
	walk(tr.root.children["out"])
	slices.SortFunc(list, func(a, b *node) int { return strings.Compare(a.outPath(), b.outPath()) })
	return list
}

// outPath is a node's path below /out.
func (n *node) outPath() string {
	p := n.name
	for at := n.parent; at.parent != nil && at.parent.parent != nil; at = at.parent {
		p = path.Join(at.name, p)
	}
	return p
}

// streams says whether a name in /out is taken: stdout and stderr are outputs
// of their own.
func (tr *tree) streams(parent *node, name string) bool {
	return parent == tr.root.children["out"] && (name == "stdout" || name == "stderr")
}

func sortedNames(n *node) []string {
	names := make([]string, 0, len(n.children))
	for name := range n.children {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// walk finds the node of a path below from. Where the last part is missing it
// gives its folder and name.
func (tr *tree) walk(from *node, p string) (found, parent *node, name string, e errno) {
	if len(p) > maxPathLen || strings.ContainsRune(p, 0) {
		return nil, nil, "", errnoNameTooLong
	}
	if strings.HasPrefix(p, "/") {
		from = tr.root
	}
	wantDir := strings.HasSuffix(p, "/")
	at := from
	parts := strings.Split(p, "/")
	kept := parts[:0]
	for _, part := range parts {
		if part != "" && part != "." {
			kept = append(kept, part)
		}
	}
	for i, part := range kept {
		if !at.dir() {
			return nil, nil, "", errnoNotDir
		}
		if part == ".." {
			if at.parent == nil {
				return nil, nil, "", errnoPerm
			}
			at = at.parent
			continue
		}
		if len(part) > maxNameLen {
			return nil, nil, "", errnoNameTooLong
		}
		next, ok := at.children[part]
		switch {
		case ok:
			at = next
		case i == len(kept)-1:
			return nil, at, part, errnoNoEnt
		default:
			return nil, nil, "", errnoNoEnt
		}
	}
	if wantDir && !at.dir() {
		return nil, nil, "", errnoNotDir
	}
	return at, at.parent, at.name, ok
}

// reserve counts bytes against an area's quota before they are written.
func (tr *tree) reserve(n *node, grow int64) bool {
	if grow <= 0 {
		return true
	}
	if uint64(grow) > tr.most[n.kind]-min(tr.used[n.kind], tr.most[n.kind]) {
		return false
	}
	tr.used[n.kind] += uint64(grow)
	return true
}

func (tr *tree) release(n *node, shrink int64) { tr.used[n.kind] -= uint64(shrink) }

// unlink takes a name away. The bytes go with the last open descriptor.
func (tr *tree) unlink(n *node) {
	delete(n.parent.children, n.name)
	n.unlinked = true
	tr.nodes--
	tr.forget(n)
}

// forget frees the bytes of a file that has neither name nor descriptor.
func (tr *tree) forget(n *node) {
	if n.unlinked && n.opens == 0 && n.data != nil {
		tr.release(n, n.data.size)
		n.data.close()
		n.data = &content{}
	}
}

// read reads of a file; short only at its end.
func (tr *tree) read(n *node, p []byte, off int64) (int, error) {
	if n.data != nil {
		return n.data.readAt(p, off)
	}
	if off >= n.hostSize {
		return 0, nil
	}
	if n.opened == nil {
		f, err := os.Open(n.host)
		if err != nil {
			return 0, fmt.Errorf("open input %s: %w", n.name, err)
		}
		n.opened = f
		tr.open = append(tr.open, f)
	}
	p = p[:min(int64(len(p)), n.hostSize-off)]
	k, err := n.opened.ReadAt(p, off)
	if k < len(p) {
		return k, fmt.Errorf("read input %s: %w", n.name, err)
	}
	return k, nil
}

func (tr *tree) close() {
	for _, f := range tr.open {
		_ = f.Close() // read only
	}
	var walk func(*node)
	walk = func(n *node) {
		if n.data != nil {
			n.data.close()
		}
		for _, c := range n.children {
			walk(c)
		}
	}
	walk(tr.root)
}
