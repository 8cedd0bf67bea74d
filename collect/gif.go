package collect

import (
	"context"
	"image"
	"image/color"
	"image/gif"
	"io"
)

// still is how much, squared and weighed as distance does, a pixel may differ
// from what is on the screen and be left standing: less than grain, and it
// keeps quiet walls from being written again in every frame.
const still = 40

// writeGIF writes the film with one palette for all frames: 255 colours, and
// one that is clear for pixels that stay as they were.
func writeGIF(ctx context.Context, r *reel, o Options) (string, error) {
	count := new(census)
	if err := r.each(ctx, func(_ int, m *image.RGBA) error {
		count.add(m)
		return nil
	}); err != nil {
		return "", err
	}
	d := newDither(count.palette(255))
	palette := make(color.Palette, 0, len(d.colours)+1)
	for _, c := range d.colours {
		palette = append(palette, color.RGBA{c[0], c[1], c[2], 255})
	}
	palette = append(palette, color.RGBA{})

	film := &gif.GIF{Config: image.Config{ColorModel: palette, Width: r.width, Height: r.height}}
	screen := make([]uint8, r.width*r.height)
	if err := r.each(ctx, func(i int, m *image.RGBA) error {
		film.Image = append(film.Image, d.frame(m, screen, i == 0, palette))
		film.Delay = append(film.Delay, 100*(i+1)/o.FPS-100*i/o.FPS)
		film.Disposal = append(film.Disposal, gif.DisposalNone)
		return nil
	}); err != nil {
		return "", err
	}
	return "", writeFile(o.GIF, func(w io.Writer) error { return gif.EncodeAll(w, film) })
}

// dither shows a colour that the palette lacks by a pattern of two that it has.
// The pattern stands still on the screen, so it neither crawls from frame to
// frame nor defeats compression, as diffusing errors would.
type dither struct {
	colours []rgb
	near    []int16 // nearest colour by the upper six bits a channel; -1 is unknown
}

func newDither(colours []rgb) *dither {
	d := &dither{colours: colours, near: make([]int16, 1<<18)}
	for i := range d.near {
		d.near[i] = -1
	}
	return d
}

func (d *dither) nearest(c rgb) int {
	key := int(c[0]>>2)<<12 | int(c[1]>>2)<<6 | int(c[2]>>2)
	if d.near[key] < 0 {
		d.near[key] = int16(nearest(d.colours, rgb{c[0]&^3 | 2, c[1]&^3 | 2, c[2]&^3 | 2}))
	}
	return int(d.near[key])
}

// at is the palette's index for colour c at x, y: the nearest colour, or the
// one on the far side of c, in the proportion that makes c of both.
func (d *dither) at(c rgb, x, y int) int {
	i := d.nearest(c)
	p := d.colours[i]
	var beyond rgb
	for k := range beyond {
		beyond[k] = uint8(min(max(2*int(c[k])-int(p[k]), 0), 255))
	}
	j := d.nearest(beyond)
	if j == i {
		return i
	}
	q := d.colours[j]
	across, along := 0, 0 // of c and of q as seen from p
	for k := range c {
		weight := 1 + k&1 // as in distance
		across += weight * (int(c[k]) - int(p[k])) * (int(q[k]) - int(p[k]))
		along += weight * (int(q[k]) - int(p[k])) * (int(q[k]) - int(p[k]))
	}
	if across*128 > along*(2*bayer(x, y)+1) {
		return j
	}
	return i
}

// bayer is the threshold, 0 to 63, of ordered dithering (Bayer, 1973).
func bayer(x, y int) int {
	v := 0
	for bit := range 3 {
		a, b := x>>bit&1, y>>bit&1
		v = v<<2 | (a^b)<<1 | b
	}
	return v
}

// frame gives what of m differs from screen and puts it there.
func (d *dither) frame(m *image.RGBA, screen []uint8, whole bool, palette color.Palette) *image.Paletted {
	width, height := m.Rect.Dx(), m.Rect.Dy()
	blank := uint8(len(d.colours))
	out := image.NewPaletted(m.Rect, palette)
	changed := image.Rectangle{Min: image.Pt(width, height)}
	for y := range height {
		for x := range width {
			at := y*width + x
			o := m.PixOffset(x, y)
			c := rgb{m.Pix[o], m.Pix[o+1], m.Pix[o+2]}
			if !whole && distance(d.colours[screen[at]], c) <= still {
				out.Pix[at] = blank
				continue
			}
			i := uint8(d.at(c, x, y))
			if !whole && i == screen[at] {
				out.Pix[at] = blank
				continue
			}
			screen[at], out.Pix[at] = i, i
			changed.Min.X, changed.Min.Y = min(changed.Min.X, x), min(changed.Min.Y, y)
			changed.Max.X, changed.Max.Y = max(changed.Max.X, x+1), max(changed.Max.Y, y+1)
		}
	}
	if changed.Empty() {
		changed = image.Rect(0, 0, 1, 1) // a GIF has no empty frames
	}
	return tight(out, changed)
}

// tight copies the part r of m, so that the rest need not stay in memory.
func tight(m *image.Paletted, r image.Rectangle) *image.Paletted {
	if r == m.Rect {
		return m
	}
	out := image.NewPaletted(r, m.Palette)
	for y := r.Min.Y; y < r.Max.Y; y++ {
		copy(out.Pix[out.PixOffset(r.Min.X, y):], m.Pix[m.PixOffset(r.Min.X, y):m.PixOffset(r.Max.X-1, y)+1])
	}
	return out
}
