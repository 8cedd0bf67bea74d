package collect

import (
	"context"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"io"
	"math"
)

const (
	sheetGap    = 4       // pixels between frames and around them
	sheetPixels = 1 << 24 // of a sheet: frames are halved until they fit
)

var sheetGround = color.RGBA{20, 20, 22, 255}

// writeSheet writes all frames into one picture, row by row.
func writeSheet(ctx context.Context, r *reel, o Options) (string, error) {
	columns := o.Columns
	if columns == 0 {
		columns = sheetColumns(len(r.paths))
	}
	if columns < 1 || columns > maxFrames {
		return "", fmt.Errorf("a contact sheet has 1 to %d columns, not %d", maxFrames, columns)
	}
	columns = min(columns, len(r.paths))
	rows := (len(r.paths) + columns - 1) / columns
	shrink := 1
	for (sheetGap+columns*(r.width/shrink+sheetGap))*(sheetGap+rows*(r.height/shrink+sheetGap)) > sheetPixels &&
		r.width/shrink > 16 && r.height/shrink > 16 {
		shrink *= 2
	}
	width, height := max(r.width/shrink, 1), max(r.height/shrink, 1)
	sheet := image.NewRGBA(image.Rect(0, 0, sheetGap+columns*(width+sheetGap), sheetGap+rows*(height+sheetGap)))
	draw.Draw(sheet, sheet.Rect, image.NewUniform(sheetGround), image.Point{}, draw.Src)
	if err := r.each(ctx, func(i int, m *image.RGBA) error {
		at := image.Pt(sheetGap+i%columns*(width+sheetGap), sheetGap+i/columns*(height+sheetGap))
		tile := smaller(m, shrink, width, height)
		draw.Draw(sheet, tile.Rect.Add(at), tile, image.Point{}, draw.Src)
		return nil
	}); err != nil {
		return "", err
	}
	return "", writeFile(o.ContactSheet, func(w io.Writer) error { return png.Encode(w, sheet) })
}

// sheetColumns chooses a number of columns that is at least that of rows, at
// most twice it, and leaves the fewest gaps.
func sheetColumns(n int) int {
	least := int(math.Ceil(math.Sqrt(float64(n))))
	best, gaps := least, n
	for c := least; c*c <= 2*n || c == least; c++ {
		if g := (c - n%c) % c; g < gaps {
			best, gaps = c, g
		}
	}
	return best
}

// smaller averages squares of shrink pixels a side.
func smaller(m *image.RGBA, shrink, width, height int) *image.RGBA {
	if shrink == 1 {
		return m
	}
	out := image.NewRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			var sum [3]int
			n := 0
			for b := y * shrink; b < min((y+1)*shrink, m.Rect.Max.Y); b++ {
				for a := x * shrink; a < min((x+1)*shrink, m.Rect.Max.X); a++ {
					o := m.PixOffset(a, b)
					for k := range sum {
						sum[k] += int(m.Pix[o+k])
					}
					n++
				}
			}
			o := out.PixOffset(x, y)
			for k, s := range sum {
				out.Pix[o+k] = uint8((s + n/2) / n)
			}
			out.Pix[o+3] = 255
		}
	}
	return out
}
