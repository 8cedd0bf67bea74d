package collect

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/draw"
	"image/png"
	"io"
	"os"
)

// Bounds of one frame.
const (
	maxSide  = 16_384
	maxArea  = 1 << 25 // pixels: 7680x4320, and 256 MiB where a PNG has 16 bits a sample
	maxBytes = 1 << 28 // of a frame's file
)

// pngMagic begins every PNG file.
var pngMagic = []byte("\x89PNG\r\n\x1a\n")

func readFrame(path string) (*image.RGBA, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening a frame: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	m, err := decodeFrame(f)
	if err != nil {
		return nil, fmt.Errorf("reading frame %s: %w", path, err)
	}
	return m, nil
}

// decodeFrame reads a PPM or PNG picture, whichever its first bytes announce.
func decodeFrame(r io.ReadSeeker) (*image.RGBA, error) {
	limited := bufio.NewReader(io.LimitReader(r, maxBytes))
	head, err := limited.Peek(len(pngMagic))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if !bytes.Equal(head, pngMagic) {
		return DecodePPM(limited)
	}
	c, err := png.DecodeConfig(limited)
	if err != nil {
		return nil, err
	}
	if err := checkSize(c.Width, c.Height); err != nil {
		return nil, err
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("going back to its start: %w", err)
	}
	src, err := png.Decode(io.LimitReader(r, maxBytes))
	if err != nil {
		return nil, err
	}
	m := image.NewRGBA(image.Rect(0, 0, c.Width, c.Height))
	draw.Draw(m, m.Rect, image.Black, image.Point{}, draw.Src)
	draw.Draw(m, m.Rect, src, src.Bounds().Min, draw.Over)
	return m, nil
}

func checkSize(width, height int) error {
	if width < 1 || height < 1 || width > maxSide || height > maxSide || width*height > maxArea {
		return fmt.Errorf("a picture of %dx%d is not within 1 to %d a side and %d pixels", width, height, maxSide, maxArea)
	}
	return nil
}

// DecodePPM reads one binary portable pixmap (P6) of one byte a sample, as
// netpbm's ppm(5) has it. It reads no more than the picture takes, and refuses
// one that is larger than 16384 pixels a side or 32 Mi pixels in all before
// making room for it.
func DecodePPM(r io.Reader) (*image.RGBA, error) {
	b, ok := r.(io.ByteReader)
	if !ok {
		buffered := bufio.NewReader(r)
		r, b = buffered, buffered
	}
	var magic [2]byte
	for i := range magic {
		c, err := b.ReadByte()
		if err != nil {
			return nil, fmt.Errorf("reading the magic number: %w", early(err))
		}
		magic[i] = c
	}
	if magic != [2]byte{'P', '6'} {
		return nil, fmt.Errorf("not a binary PPM: it begins with %q where P6 should stand", magic[:])
	}
	var head [3]int
	for i, name := range []string{"width", "height", "greatest value"} {
		n, err := ppmNumber(b)
		if err != nil {
			return nil, fmt.Errorf("reading the %s: %w", name, err)
		}
		head[i] = n
	}
	width, height, most := head[0], head[1], head[2]
	if err := checkSize(width, height); err != nil {
		return nil, err
	}
	if most < 1 || most > 255 {
		return nil, fmt.Errorf("a greatest value of %d is not within 1 to 255", most)
	}
	// Rows are read before the picture has room for them all: a header may
	// promise more than comes.
	row := make([]byte, 3*width)
	var pix []byte
	for y := range height {
		if _, err := io.ReadFull(r, row); err != nil {
			return nil, fmt.Errorf("reading row %d of %d: %w", y+1, height, early(err))
		}
		for x := 0; x < len(row); x += 3 {
			pix = append(pix, ppmSample(row[x], most), ppmSample(row[x+1], most), ppmSample(row[x+2], most), 255)
		}
	}
	return &image.RGBA{Pix: pix, Stride: 4 * width, Rect: image.Rect(0, 0, width, height)}, nil
}

func ppmSample(v byte, most int) byte {
	if most == 255 {
		return v
	}
	return byte((min(int(v), most)*255 + most/2) / most)
}

// ppmNumber reads a decimal number, the white space and comments before it and
// the one character of white space behind it.
func ppmNumber(b io.ByteReader) (int, error) {
	const mostSkipped = 4096
	n, digits := 0, 0
	comment := false
	for skipped := 0; ; {
		c, err := b.ReadByte()
		if err != nil {
			return 0, early(err)
		}
		switch {
		case comment:
			comment = c != '\n' && c != '\r'
		case c >= '0' && c <= '9':
			if digits++; digits > 7 {
				return 0, errors.New("the number is too long")
			}
			n = 10*n + int(c-'0')
			continue
		case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\v' || c == '\f':
			if digits > 0 {
				return n, nil
			}
		case c == '#' && digits == 0:
			comment = true
		default:
			return 0, fmt.Errorf("%q stands where a digit should", c)
		}
		if skipped++; skipped > mostSkipped {
			return 0, errors.New("the comments are too long")
		}
	}
}

// early makes an end of file within a picture an unexpected one.
func early(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
