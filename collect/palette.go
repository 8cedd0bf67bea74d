package collect

import "image"

// Colours are counted in cells of 32 steps a channel.
const (
	cellBits = 5
	cells    = 1 << cellBits
)

// census counts the colours of a film: for each cell how many pixels, the sums
// of their channels, and the sum of their squares.
type census struct {
	n, r, g, b [cells][cells][cells]int64
	sq         [cells][cells][cells]int64
}

func (c *census) add(m *image.RGBA) {
	const shift = 8 - cellBits
	for i := 0; i+3 < len(m.Pix); i += 4 {
		r, g, b := m.Pix[i], m.Pix[i+1], m.Pix[i+2]
		x, y, z := r>>shift, g>>shift, b>>shift
		c.n[x][y][z]++
		c.r[x][y][z] += int64(r)
		c.g[x][y][z] += int64(g)
		c.b[x][y][z] += int64(b)
		c.sq[x][y][z] += int64(r)*int64(r) + int64(g)*int64(g) + int64(b)*int64(b)
	}
}

// moments are sums over a box of cells.
type moments struct {
	n, r, g, b, sq int64
}

func (m moments) minus(o moments) moments {
	return moments{m.n - o.n, m.r - o.r, m.g - o.g, m.b - o.b, m.sq - o.sq}
}

// spread is the sum of squared distances to the mean.
func (m moments) spread() float64 {
	if m.n == 0 {
		return 0
	}
	return float64(m.sq) - m.pull()
}

// pull is the part of spread that a cut can change: |sum|^2 / n.
func (m moments) pull() float64 {
	if m.n == 0 {
		return 0
	}
	r, g, b := float64(m.r), float64(m.g), float64(m.b)
	return (r*r + g*g + b*b) / float64(m.n)
}

// block is a box of cells, lo within and hi without.
type block struct {
	lo, hi [3]int
}

func (c *census) sum(k block) moments {
	var m moments
	for x := k.lo[0]; x < k.hi[0]; x++ {
		for y := k.lo[1]; y < k.hi[1]; y++ {
			for z := k.lo[2]; z < k.hi[2]; z++ {
				m.n += c.n[x][y][z]
				m.r += c.r[x][y][z]
				m.g += c.g[x][y][z]
				m.b += c.b[x][y][z]
				m.sq += c.sq[x][y][z]
			}
		}
	}
	return m
}

// cut divides a block where the spread of its halves is least. ok is false
// where nothing is gained.
func (c *census) cut(k block) (left, right block, ok bool) {
	whole := c.sum(k)
	best := whole.pull()
	for axis := range 3 {
		var part moments
		for at := k.lo[axis] + 1; at < k.hi[axis]; at++ {
			slice := k
			slice.lo[axis], slice.hi[axis] = at-1, at
			s := c.sum(slice)
			part = moments{part.n + s.n, part.r + s.r, part.g + s.g, part.b + s.b, part.sq + s.sq}
			rest := whole.minus(part)
			if part.n == 0 || rest.n == 0 {
				continue
			}
			if gain := part.pull() + rest.pull(); gain > best*(1+1e-12) {
				best, ok = gain, true
				left, right = k, k
				left.hi[axis], right.lo[axis] = at, at
			}
		}
	}
	return left, right, ok
}

type rgb [3]uint8

// palette chooses at most size colours for the film. It divides the cube of
// colours where their spread shrinks most (Wu, "Color Quantization by Dynamic
// Programming and Principal Analysis", ACM TOG 11(4), 1992, with exact sums in
// place of tables), then lets each colour drift to the middle of what is
// nearest to it (Lloyd's iteration).
func (c *census) palette(size int) []rgb {
	blocks := []block{{hi: [3]int{cells, cells, cells}}}
	spread := []float64{c.sum(blocks[0]).spread()}
	for len(blocks) < size {
		pick := -1
		for i, s := range spread {
			if s > 0 && (pick < 0 || s > spread[pick]) {
				pick = i
			}
		}
		if pick < 0 {
			break
		}
		left, right, ok := c.cut(blocks[pick])
		if !ok {
			spread[pick] = 0
			continue
		}
		blocks[pick] = left
		spread[pick] = c.sum(left).spread()
		blocks = append(blocks, right)
		spread = append(spread, c.sum(right).spread())
	}
	colours := make([]rgb, 0, len(blocks))
	for _, k := range blocks {
		if m := c.sum(k); m.n > 0 {
			colours = append(colours, m.mean())
		}
	}
	for range 8 {
		c.settle(colours)
	}
	return colours
}

func (m moments) mean() rgb {
	half := m.n / 2
	return rgb{uint8((m.r + half) / m.n), uint8((m.g + half) / m.n), uint8((m.b + half) / m.n)}
}

// settle moves every colour to the mean of the cells that are nearest to it.
func (c *census) settle(colours []rgb) {
	near := make([]moments, len(colours))
	for x := range cells {
		for y := range cells {
			for z := range cells {
				n := c.n[x][y][z]
				if n == 0 {
					continue
				}
				cell := moments{n, c.r[x][y][z], c.g[x][y][z], c.b[x][y][z], 0}
				m := &near[nearest(colours, cell.mean())]
				m.n += n
				m.r += cell.r
				m.g += cell.g
				m.b += cell.b
			}
		}
	}
	for i, m := range near {
		if m.n > 0 {
			colours[i] = m.mean()
		}
	}
}

// distance is squared, with green counting twice as eyes do.
func distance(a, b rgb) int {
	r, g, bl := int(a[0])-int(b[0]), int(a[1])-int(b[1]), int(a[2])-int(b[2])
	return r*r + 2*g*g + bl*bl
}

func nearest(colours []rgb, c rgb) int {
	best, at := 1<<30, 0
	for i, k := range colours {
		if d := distance(k, c); d < best {
			best, at = d, i
		}
	}
	return at
}
