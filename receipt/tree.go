package receipt

import (
	"crypto/sha256"
	"math/bits"
	"slices"

	"fallow.network"
)

// Tree is a Merkle tree over receipts' digests that grows one at a time, in
// the order in which they are paid. Its shape is RFC 6962's: a leaf hashes
// 0x00 and the digest, a node 0x01 and its two sides, and the left side is the
// largest perfect tree that is smaller than the whole. The zero Tree is empty.
type Tree struct {
	n    uint64
	done []fallow.Digest // roots of the perfect subtrees, largest first
}

func leaf(d fallow.Digest) fallow.Digest {
	return sha256.Sum256(append([]byte{0}, d[:]...))
}

func node(left, right fallow.Digest) fallow.Digest {
	return sha256.Sum256(slices.Concat([]byte{1}, left[:], right[:]))
}

// Append adds a receipt's digest.
func (t *Tree) Append(receipt fallow.Digest) {
	h := leaf(receipt)
	for n := t.n; n&1 == 1; n >>= 1 {
		last := len(t.done) - 1
		h = node(t.done[last], h)
		t.done = t.done[:last]
	}
	t.done = append(t.done, h)
	t.n++
}

// Len is how many receipts the tree is over.
func (t *Tree) Len() uint64 { return t.n }

// Root stands for all receipts so far; it is zero for none.
func (t *Tree) Root() fallow.Digest {
	if t.n == 0 {
		return fallow.Digest{}
	}
	h := t.done[len(t.done)-1]
	for i := len(t.done) - 2; i >= 0; i-- {
		h = node(t.done[i], h)
	}
	return h
}

// Clone is an independent copy.
func (t *Tree) Clone() Tree { return Tree{n: t.n, done: slices.Clone(t.done)} }

// Root stands for receipts in order; it is zero for none.
func Root(receipts []fallow.Digest) fallow.Digest {
	var t Tree
	for _, r := range receipts {
		t.Append(r)
	}
	return t.Root()
}

// Proof shows that the receipt at an index is among those that Root stands
// for: the hashes of the sides left out, from the leaf up. It is nil when the
// index is out of range.
func Proof(receipts []fallow.Digest, index int) []fallow.Digest {
	if index < 0 || index >= len(receipts) {
		return nil
	}
	if len(receipts) == 1 {
		return []fallow.Digest{}
	}
	cut := split(len(receipts))
	left, right := receipts[:cut], receipts[cut:]
	if index < cut {
		return append(Proof(left, index), Root(right))
	}
	return append(Proof(right, index-cut), Root(left))
}

// CheckProof says whether a receipt stands at an index among count receipts
// with that root.
func CheckProof(root fallow.Digest, count, index int, receipt fallow.Digest, proof []fallow.Digest) bool {
	if index < 0 || index >= count || len(proof) > bits.UintSize {
		return false
	}
	h, ok := climb(count, index, leaf(receipt), proof)
	return ok && h == root
}

func climb(count, index int, h fallow.Digest, proof []fallow.Digest) (fallow.Digest, bool) {
	if count == 1 {
		return h, len(proof) == 0
	}
	if len(proof) == 0 {
		return h, false
	}
	cut := split(count)
	last := len(proof) - 1
	if index < cut {
		below, ok := climb(cut, index, h, proof[:last])
		return node(below, proof[last]), ok
	}
	below, ok := climb(count-cut, index-cut, h, proof[:last])
	return node(proof[last], below), ok
}

// split is the largest power of two below n, which is above one.
func split(n int) int { return 1 << (bits.Len(uint(n-1)) - 1) }
