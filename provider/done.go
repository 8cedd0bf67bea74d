package provider

// chunk is how many tasks share one entry of a done set.
const chunk = 512

// done is a set of attempts, small enough to be kept for as long as a lease
// lasts however many tasks it has: a bit for each. What else is known of an
// attempt stands in the journal.
type done struct {
	bits map[attempt][chunk / 64]uint64 // by the chunk's number and the attempt
	n    int
}

func (d *done) add(at attempt) {
	if d.has(at) {
		return
	}
	if d.bits == nil {
		d.bits = map[attempt][chunk / 64]uint64{}
	}
	key := attempt{at.task / chunk, at.attempt}
	b := d.bits[key]
	b[at.task%chunk/64] |= 1 << (at.task % 64)
	d.bits[key] = b
	d.n++
}

func (d *done) has(at attempt) bool {
	b := d.bits[attempt{at.task / chunk, at.attempt}]
	return b[at.task%chunk/64]&(1<<(at.task%64)) != 0
}
