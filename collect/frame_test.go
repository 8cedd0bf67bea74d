package collect

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
	"image/png"
	"io"
	"runtime"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestDecodePPM(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		want []color.RGBA
	}{
		"plain":         {"P6\n2 1\n255\nabcdef", []color.RGBA{{'a', 'b', 'c', 255}, {'d', 'e', 'f', 255}}},
		"comments":      {"P6#x\n# y\n2 # z\n1\n255\nabcdef", []color.RGBA{{'a', 'b', 'c', 255}, {'d', 'e', 'f', 255}}},
		"white pixels":  {"P6 1 1 255 \n\n\n", []color.RGBA{{10, 10, 10, 255}}},
		"smaller range": {"P6 1 1 15\n\x00\x0f\x08", []color.RGBA{{0, 255, 136, 255}}},
		"over range":    {"P6 1 1 15\n\xff\x0f\x00", []color.RGBA{{255, 255, 0, 255}}},
		"more behind":   {"P6 1 1 255\nabcREST", []color.RGBA{{'a', 'b', 'c', 255}}},
	} {
		m, err := DecodePPM(strings.NewReader(c.in))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for x, want := range c.want {
			if got := m.RGBAAt(x, 0); got != want {
				t.Errorf("%s: pixel %d is %v, want %v", name, x, got, want)
			}
		}
	}
}

func TestDecodePPMRefuses(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"nothing":        {"", "unexpected EOF"},
		"text PPM":       {"P3\n1 1\n255\n1 2 3", "P6"},
		"no size":        {"P6\n", "unexpected EOF"},
		"zero width":     {"P6 0 1 255\n", "0x1"},
		"huge":           {"P6 16384 16384 255\n", "pixels"},
		"wide":           {"P6 16385 1 255\n", "16385x1"},
		"long number":    {"P6 99999999999999999999 1 255\n", "too long"},
		"negative":       {"P6 -1 1 255\n", "digit"},
		"sixteen bits":   {"P6 1 1 65535\nabcdef", "65535"},
		"no range":       {"P6 1 1 0\nabc", "1 to 255"},
		"cut short":      {"P6 2 2 255\nabcdef", "row 2 of 2"},
		"endless remark": {"P6 #" + strings.Repeat("x", 5000), "too long"},
	} {
		if _, err := DecodePPM(strings.NewReader(c.in)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error about %q", name, err, c.want)
		}
	}
}

// A header that promises much and brings little must not make room for much.
func TestDecodePPMDoesNotTrustItsHeader(t *testing.T) {
	in := "P6 8192 8192 255\n" + strings.Repeat("abc", 100)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := DecodePPM(strings.NewReader(in)); err == nil {
		t.Fatal("a file of three hundred samples became a picture")
	}
	runtime.ReadMemStats(&after)
	if room := after.TotalAlloc - before.TotalAlloc; room > 1<<18 {
		t.Errorf("%d bytes were allocated for a file of %d", room, len(in))
	}
}

func TestDecodePPMReadsOneOfMany(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		width, height := rapid.IntRange(1, 9).Draw(t, "width"), rapid.IntRange(1, 9).Draw(t, "height")
		m := image.NewRGBA(image.Rect(0, 0, width, height))
		for i := range m.Pix {
			m.Pix[i] = rapid.Byte().Draw(t, "sample")
			if i%4 == 3 {
				m.Pix[i] = 255
			}
		}
		r := bytes.NewReader(append(ppm(m), "next"...))
		got, err := DecodePPM(r)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Pix, m.Pix) {
			t.Fatal("the pixels changed")
		}
		if rest, err := io.ReadAll(r); err != nil || string(rest) != "next" {
			t.Fatalf("%q was left behind the picture, %v", rest, err)
		}
	})
}

func FuzzDecodePPM(f *testing.F) {
	f.Add([]byte("P6\n2 1\n255\nabcdef"))
	f.Add([]byte("P6 # c\n1 1 15\n\x00\x0f\x08"))
	f.Add([]byte("P6 8192 8192 255\n"))
	f.Add([]byte("P3 1 1 255\n1 2 3"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodePPM(bytes.NewReader(b))
		if err != nil {
			return
		}
		if m.Rect.Dx() > maxSide || m.Rect.Dy() > maxSide || len(m.Pix) != 4*m.Rect.Dx()*m.Rect.Dy() {
			t.Fatalf("a picture of %v has %d bytes", m.Rect, len(m.Pix))
		}
		again, err := DecodePPM(bytes.NewReader(ppm(m)))
		if err != nil || !bytes.Equal(again.Pix, m.Pix) {
			t.Fatalf("written and read again it differs: %v", err)
		}
	})
}

// pngOf is a picture of one color, which compresses a thousandfold.
func pngOf(tb testing.TB, width, height int) []byte {
	tb.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray16(image.Rect(0, 0, width, height))); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// resized is a PNG whose header says another size than its rows have.
func resized(b []byte, width, height uint32) []byte {
	b = bytes.Clone(b)
	binary.BigEndian.PutUint32(b[16:], width)
	binary.BigEndian.PutUint32(b[20:], height)
	binary.BigEndian.PutUint32(b[29:], crc32.ChecksumIEEE(b[12:29]))
	return b
}

// TestPictureBombs: what a few bytes unpack to is bounded before there is room
// made for it.
func TestPictureBombs(t *testing.T) {
	bomb := pngOf(t, maxSide, 1<<11+1)
	t.Logf("%d bytes of PNG for %d MiB of samples", len(bomb), maxSide*(1<<11+1)*2>>20)
	for name, b := range map[string][]byte{
		"a plane of zeros":   bomb,
		"a header alone":     resized(pngOf(t, 1, 1), 1<<31-1, 1<<31-1),
		"longer than a side": resized(pngOf(t, 1, 1), maxSide+1, 1),
		"a PPM header alone": []byte("P6 16384 16384 255\n"),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if m, err := decodeFrame(bytes.NewReader(b)); err == nil || !strings.Contains(err.Error(), "is not within") && !strings.Contains(err.Error(), "dimension overflow") {
			t.Errorf("%s: %v", name, err)
		} else if m != nil {
			t.Errorf("%s: a picture as well", name)
		}
		runtime.ReadMemStats(&after)
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 4<<20 {
			t.Errorf("%s: %d bytes were allocated", name, grown)
		}
	}
	// Rows that are missing make an error, and no picture of what was there.
	if _, err := decodeFrame(bytes.NewReader(resized(pngOf(t, 10, 10), 10, 20))); err == nil {
		t.Error("rows are missing")
	}
}

// FuzzDecodeFrame reads PNG and PPM, whichever the bytes announce.
func FuzzDecodeFrame(f *testing.F) {
	f.Add(pngOf(f, 3, 2))
	f.Add(resized(pngOf(f, 3, 2), 100, 100))
	f.Add([]byte("P6\n2 1\n255\nabcdef"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 26 && bytes.HasPrefix(b, pngMagic) && uint64(binary.BigEndian.Uint32(b[16:]))*uint64(binary.BigEndian.Uint32(b[20:])) > 1<<20 {
			return // taken, but slow to fill
		}
		m, err := decodeFrame(bytes.NewReader(b))
		if err == nil && (m.Rect.Dx() < 1 || m.Rect.Dx() > maxSide || m.Rect.Dy() > maxSide || len(m.Pix) != 4*m.Rect.Dx()*m.Rect.Dy()) {
			t.Fatalf("a picture of %v has %d bytes", m.Rect, len(m.Pix))
		}
	})
}
