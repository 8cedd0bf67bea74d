package meter

// nanFlow follows where NaNs may go whose bits depend on the machine: fresh
// from arithmetic, whose sign and payload differ between processors. They are
// made canonical right after the instruction that put them on the stack, and
// only if the one instruction that takes them from there shows their bits:
// stores, reinterpretations, the sign operand of copysign, integer and bit
// instructions on vectors, and whatever goes to a call, out of the function or
// to a global. A hot loop that only calculates pays nothing.
//
// Through locals the flow is followed from definitions to uses, with a phi
// where ways join. What is read from a local is made canonical there only if
// all that can be in it are results of float instructions of one width, for
// it might be something else, or integers in a vector; otherwise its
// definitions are made canonical. So what is only moved keeps its bits.
// Parameters, results, globals and memory are always canonical.
type nanFlow struct {
	locals []byte
	params int
	slot   []int32 // by local: its place in cur, -1 if it holds no floats
	cur    []int32 // by slot: the node that the local holds now
	nodes  []nanNode
	edges  []nanEdge
	sees   []nanSee
	found  []edit
	// plain gives up on following: whatever is put into a local is canonical.
	plain bool
	// work counts what was copied, in this function and in all so far.
	work, allWork int
}

// nanNode is a definition of a local or, with inputs, a phi.
type nanNode struct {
	what  uint8 // 4, 8: may be a fresh NaN of that width; other
	t     byte
	mend  bool
	at    int32 // of a definition
	owner int32 // of a phi: the frame that joins it
	in    int32 // first of its inputs among the edges, 0 without
}

type nanEdge struct{ from, to, next int32 }

// nanSee is a node that an instruction takes, which tolerates tol.
type nanSee struct {
	node, at int32
	tol      uint8
}

const (
	fresh = uint8(4 | 8)
	other = uint8(1) // may hold bits that are no result of arithmetic
	// maxFlow bounds nodes and edges of one function; beyond it, plain. So do
	// maxWork and maxAllWork for what is copied in a function and a module.
	maxFlow    = 1 << 20
	maxWork    = 1 << 24
	maxAllWork = 1 << 28
)

func scalarDirt(t byte) uint8 {
	switch t {
	case f32:
		return 4
	case f64:
		return 8
	}
	return 0
}

func (n *nanFlow) reset(locals []byte, params int, plain bool) {
	n.locals, n.params, n.plain, n.work = locals, params, plain || n.allWork > maxAllWork, 0
	n.slot, n.cur, n.found = n.slot[:0], n.cur[:0], n.found[:0]
	n.nodes, n.edges, n.sees = append(n.nodes[:0], nanNode{}), append(n.edges[:0], nanEdge{}), n.sees[:0]
	for i, t := range locals {
		if scalarDirt(t) == 0 && t != v128 {
			n.slot = append(n.slot, -1)
			continue
		}
		n.slot = append(n.slot, int32(len(n.cur)))
		var what uint8
		if i < params {
			what = other
		}
		n.cur = append(n.cur, n.node(nanNode{t: t, what: what}))
	}
}

func (n *nanFlow) node(d nanNode) int32 {
	n.nodes = append(n.nodes, d)
	return int32(len(n.nodes) - 1)
}

func (n *nanFlow) edge(phi, from int32) {
	if phi == from {
		return
	}
	n.edges = append(n.edges, nanEdge{from: from, to: phi, next: n.nodes[phi].in})
	n.nodes[phi].in = int32(len(n.edges) - 1)
}

// full says that the function is too large to follow.
func (n *nanFlow) full() bool {
	return !n.plain && (len(n.nodes)+len(n.edges) > maxFlow || n.work > maxWork)
}

func (n *nanFlow) count() {
	n.work += len(n.cur)
	n.allWork += len(n.cur)
}

// of gives the node of a value.
func (n *nanFlow) of(v value) int32 {
	if v.node != 0 {
		return v.node
	}
	what := v.dirt
	if what == 0 && !v.zero {
		what = other
	}
	return n.node(nanNode{what: what, t: v.t, at: v.at})
}

// set notes that v goes to a local.
func (n *nanFlow) set(local uint32, v value) {
	if s := n.slot[local]; s >= 0 {
		if n.plain {
			n.see(v, 0)
			return
		}
		n.cur[s] = n.of(v)
	}
}

// get gives the node that a local holds, 0 if it is canonical.
func (n *nanFlow) get(local uint32) int32 {
	if s := n.slot[local]; s >= 0 && !n.plain {
		return n.cur[s]
	}
	return 0
}

// see notes that v is taken by an instruction that tolerates fresh NaNs of the
// widths tol and shows the bits of others.
func (n *nanFlow) see(v value, tol uint8) {
	switch {
	case v.node != 0:
		n.sees = append(n.sees, nanSee{v.node, v.at, tol})
	case v.dirt&^tol != 0:
		n.mend(v.t, v.at, v.dirt)
	}
}

// choose gives the node of a value that is either a or b, 0 if it is
// canonical.
func (n *nanFlow) choose(a, b value) int32 {
	if n.plain {
		n.see(a, 0)
		n.see(b, 0)
		return 0
	}
	if a.node|b.node == 0 && a.dirt|b.dirt == 0 {
		return 0
	}
	return n.either(n.either(0, n.of(a)), n.of(b))
}

// either adds what b holds to the phi a, which it makes if a is 0.
func (n *nanFlow) either(a, b int32) int32 {
	if b <= 0 || a == clean {
		return a
	}
	if a == 0 {
		a = n.node(nanNode{t: n.nodes[b].t, owner: -1})
	}
	n.edge(a, b)
	return a
}

// save keeps what the locals hold for another way through the code.
func (n *nanFlow) save() []int32 {
	if n.plain || len(n.cur) == 0 {
		return nil
	}
	n.count()
	return append([]int32(nil), n.cur...)
}

// loop begins a loop: whatever its locals hold may come from its end as well.
func (n *nanFlow) loop(frame int32) []int32 {
	if n.plain {
		return nil
	}
	for i, from := range n.cur {
		phi := n.node(nanNode{t: n.nodes[from].t, owner: frame})
		n.edge(phi, from)
		n.cur[i] = phi
	}
	return n.save()
}

// join adds what the locals hold to what they may hold at a label.
func (n *nanFlow) join(label []int32, frame int32) []int32 {
	if label == nil {
		return n.save()
	}
	n.count()
	for i, from := range n.cur {
		switch have := label[i]; {
		case have == from:
		case n.nodes[have].owner == frame:
			n.edge(have, from)
		default:
			phi := n.node(nanNode{t: n.nodes[have].t, owner: frame})
			n.edge(phi, have)
			n.edge(phi, from)
			label[i] = phi
		}
	}
	return label
}

// mend makes the value that was pushed at at canonical.
func (n *nanFlow) mend(t byte, at int32, dirt uint8) {
	kind := editF32
	switch {
	case t == f64:
		kind = editF64
	case t == v128 && dirt == 4:
		kind = editF32x4
	case t == v128:
		kind = editF64x2
	}
	n.found = append(n.found, edit{at: at, kind: kind})
}

// resolve gives the edits, once all of a body has been seen.
func (n *nanFlow) resolve() []edit {
	n.spread()
	for _, e := range n.sees {
		d := &n.nodes[e.node]
		switch bad := d.what & fresh &^ e.tol; {
		case bad == 0:
		case d.what == 4 || d.what == 8:
			n.mend(d.t, e.at, d.what)
		default:
			n.demand(e.node)
		}
	}
	return n.found
}

// spread carries what definitions hold along the edges to the phis.
func (n *nanFlow) spread() {
	if len(n.edges) == 1 {
		return
	}
	first := make([]int32, len(n.nodes)+1) // edges by the node they come from
	for _, e := range n.edges[1:] {
		first[e.from+1]++
	}
	for i := range n.nodes {
		first[i+1] += first[i]
	}
	out := make([]int32, len(n.edges)-1)
	at := append([]int32(nil), first...)
	for _, e := range n.edges[1:] {
		out[at[e.from]] = e.to
		at[e.from]++
	}
	work := make([]int32, 0, len(n.nodes))
	for i := range n.nodes {
		if n.nodes[i].what != 0 {
			work = append(work, int32(i))
		}
	}
	for len(work) > 0 {
		from := work[len(work)-1]
		work = work[:len(work)-1]
		for _, to := range out[first[from]:first[from+1]] {
			if w := n.nodes[to].what | n.nodes[from].what; w != n.nodes[to].what {
				n.nodes[to].what = w
				work = append(work, to)
			}
		}
	}
}

// demand makes every definition that may be in a node canonical.
func (n *nanFlow) demand(node int32) {
	work := []int32{node}
	for len(work) > 0 {
		i := work[len(work)-1]
		work = work[:len(work)-1]
		d := &n.nodes[i]
		if d.mend {
			continue
		}
		d.mend = true
		if d.in == 0 && d.what&fresh != 0 {
			n.mend(d.t, d.at, d.what)
		}
		for e := d.in; e != 0; e = n.edges[e].next {
			work = append(work, n.edges[e].from)
		}
	}
}
