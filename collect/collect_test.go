package collect

import (
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/gif"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// scene paints a gradient with a bright square that moves with the frame.
func scene(width, height, i int) *image.RGBA {
	m := image.NewRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			m.SetRGBA(x, y, color.RGBA{uint8(40 + 150*x/width), uint8(60 + 90*y/height), uint8(120 - 60*x/width), 255})
		}
	}
	draw.Draw(m, image.Rect(0, 0, 9, 9).Add(image.Pt(3*i, 2*i)), image.NewUniform(color.RGBA{250, 220, 40, 255}), image.Point{}, draw.Src)
	return m
}

func ppm(m *image.RGBA) []byte {
	b := fmt.Appendf(nil, "P6\n# a frame\n%d %d\n255\n", m.Rect.Dx(), m.Rect.Dy())
	for i := 0; i < len(m.Pix); i += 4 {
		b = append(b, m.Pix[i], m.Pix[i+1], m.Pix[i+2])
	}
	return b
}

// shoot writes n frames to a fresh folder, by turns as PPM and as PNG.
func shoot(t *testing.T, n, width, height int) []string {
	t.Helper()
	dir := t.TempDir()
	var paths []string
	for i := range n {
		m := scene(width, height, i)
		path := filepath.Join(dir, fmt.Sprintf("frame-%03d.ppm", i))
		data := ppm(m)
		if i%2 == 1 {
			path = filepath.Join(dir, fmt.Sprintf("frame-%03d.png", i))
			var b strings.Builder
			if err := png.Encode(&b, m); err != nil {
				t.Fatal(err)
			}
			data = []byte(b.String())
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	return paths
}

func readGIF(t *testing.T, path string) *gif.GIF {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	g, err := gif.DecodeAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestFilmGIF(t *testing.T) {
	const n, width, height = 12, 70, 44
	frames := shoot(t, n, width, height)
	path := filepath.Join(t.TempDir(), "new", "film.gif")
	report, err := Film(context.Background(), frames, Options{GIF: path, FPS: 24})
	if err != nil {
		t.Fatal(err)
	}
	if report.Frames != n || report.Width != width || report.Height != height || len(report.Files) != 1 || report.Files[0].Bytes == 0 {
		t.Fatalf("report is %+v", report)
	}
	g := readGIF(t, path)
	if len(g.Image) != n || g.LoopCount != 0 {
		t.Fatalf("%d frames, loop count %d; want %d frames in an endless loop", len(g.Image), g.LoopCount, n)
	}
	total := 0
	for _, d := range g.Delay {
		total += d
	}
	if total != 100*n/24 {
		t.Errorf("the film lasts %d hundredths, want %d", total, 100*n/24)
	}
	// What stands on the screen after each frame must be the frame, seen from
	// far enough that the dither blends: compare means of 4x4 squares.
	screen := image.NewRGBA(image.Rect(0, 0, width, height))
	for i, m := range g.Image {
		draw.Draw(screen, m.Rect, m, m.Rect.Min, draw.Over)
		want := smaller(scene(width, height, i), 4, width/4, height/4)
		got := smaller(screen, 4, width/4, height/4)
		var sum float64
		for k := range want.Pix {
			d := float64(want.Pix[k]) - float64(got.Pix[k])
			sum += d * d
		}
		if off := math.Sqrt(sum / float64(len(want.Pix))); off > 3 {
			t.Errorf("frame %d is off by %.1f of 255", i, off)
		}
		if i > 0 && m.Rect == screen.Rect {
			t.Errorf("frame %d is written whole though little moved", i)
		}
	}
}

func TestFilmOfOneStillColour(t *testing.T) {
	dir := t.TempDir()
	m := image.NewRGBA(image.Rect(0, 0, 5, 3))
	draw.Draw(m, m.Rect, image.NewUniform(color.RGBA{9, 200, 77, 255}), image.Point{}, draw.Src)
	var frames []string
	for i := range 3 {
		p := filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(p, ppm(m), 0o600); err != nil {
			t.Fatal(err)
		}
		frames = append(frames, p)
	}
	path := filepath.Join(dir, "film.gif")
	if _, err := Film(context.Background(), frames, Options{GIF: path}); err != nil {
		t.Fatal(err)
	}
	g := readGIF(t, path)
	if got := g.Image[0].At(2, 1); got != (color.RGBA{9, 200, 77, 255}) {
		t.Errorf("the colour came out as %v", got)
	}
	if len(g.Image) != 3 || g.Image[1].Rect.Dx() != 1 {
		t.Errorf("%d frames, the second %v wide", len(g.Image), g.Image[1].Rect)
	}
}

func TestContactSheet(t *testing.T) {
	frames := shoot(t, 10, 20, 12)
	path := filepath.Join(t.TempDir(), "sheet.png")
	if _, err := Film(context.Background(), frames, Options{ContactSheet: path, Columns: 4}); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	m, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	if want := image.Pt(sheetGap+4*(20+sheetGap), sheetGap+3*(12+sheetGap)); m.Bounds().Size() != want {
		t.Fatalf("the sheet is %v, want %v", m.Bounds().Size(), want)
	}
	for i := range frames {
		x, y := sheetGap+i%4*(20+sheetGap)+19, sheetGap+i/4*(12+sheetGap)
		r, g, b, _ := m.At(x, y).RGBA()
		want := scene(20, 12, i).RGBAAt(19, 0)
		if (color.RGBA{uint8(r >> 8), uint8(g >> 8), uint8(b >> 8), 255}) != want {
			t.Errorf("the corner of frame %d is not where it should be", i)
		}
	}
}

func TestSheetColumns(t *testing.T) {
	for n, want := range map[int]int{1: 1, 2: 2, 3: 2, 4: 2, 12: 4, 10: 4, 48: 8, 49: 7, 100: 10} {
		if got := sheetColumns(n); got != want {
			t.Errorf("%d frames in %d columns, want %d", n, got, want)
		}
	}
}

func TestFilmNamesMissingFrames(t *testing.T) {
	frames := shoot(t, 3, 8, 8)
	gone := []string{filepath.Join(t.TempDir(), "frame-001.ppm"), filepath.Join(t.TempDir(), "frame-003.ppm")}
	path := filepath.Join(t.TempDir(), "film.gif")
	_, err := Film(context.Background(), []string{frames[0], gone[0], frames[1], gone[1]}, Options{GIF: path})
	var missing *MissingError
	if !errors.As(err, &missing) || len(missing.Paths) != 2 || missing.Paths[0] != gone[0] || missing.Paths[1] != gone[1] {
		t.Fatalf("got %v, want both missing frames named", err)
	}
	for _, p := range gone {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("%q does not name %s", err, p)
		}
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a film was written all the same: %v", err)
	}
}

func TestFilmRefuses(t *testing.T) {
	good := shoot(t, 2, 8, 8)
	other := shoot(t, 1, 9, 8)
	bad := filepath.Join(t.TempDir(), "bad.ppm")
	if err := os.WriteFile(bad, []byte("P6\n8 8\n255\nshort"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		frames []string
		o      Options
		want   string
	}{
		"no frames":       {nil, Options{}, "at least one"},
		"another size":    {[]string{good[0], other[0]}, Options{}, "is 9x8 where the first is 8x8"},
		"cut short":       {[]string{good[0], bad}, Options{}, "unexpected EOF"},
		"a folder":        {[]string{t.TempDir()}, Options{}, "not a file"},
		"too fast":        {good, Options{FPS: 51}, "1 to 50"},
		"negative speed":  {good, Options{FPS: -1}, "1 to 50"},
		"columns below 1": {good, Options{ContactSheet: filepath.Join(t.TempDir(), "s.png"), Columns: -1}, "columns"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if c.o.ContactSheet == "" {
				c.o.GIF = filepath.Join(dir, "film.gif")
			}
			_, err := Film(context.Background(), c.frames, c.o)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want an error about %q", err, c.want)
			}
		})
	}
}

func TestFailureLeavesWhatWasThere(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "film.gif")
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	frames := shoot(t, 2, 8, 8)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Film(ctx, frames, Options{GIF: path}); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want a cancelled film", err)
	}
	if err := replace(path, func(temporary string) error {
		return errors.Join(os.WriteFile(temporary, []byte("half"), 0o600), errors.New("disk full"))
	}); err == nil {
		t.Fatal("a failed write went unnoticed")
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "old" {
		t.Errorf("the old film became %q, %v", b, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("%d files stand where one did, %v", len(entries), err)
	}
}

// encoder is a stand-in for ffmpeg that keeps its arguments and its input.
func encoder(t *testing.T, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ffmpeg")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFilmMP4(t *testing.T) {
	frames := shoot(t, 4, 10, 6)
	path := filepath.Join(t.TempDir(), "film.mp4")
	program := encoder(t, `for last; do :; done; { echo "$@"; cat; } >"$last"`)
	report, err := Film(context.Background(), frames, Options{MP4: path, FFmpeg: program, FPS: 12})
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	args, pixels, _ := strings.Cut(string(b), "\n")
	for _, want := range []string{"-video_size 10x6", "-framerate 12", "libx264", "yuv420p"} {
		if !strings.Contains(args, want) {
			t.Errorf("ffmpeg was called without %q: %s", want, args)
		}
	}
	if len(pixels) != 4*10*6*3 || len(report.Files) != 1 || len(report.Notes) != 0 {
		t.Errorf("%d bytes of pixels, report %+v", len(pixels), report)
	}
	m := scene(10, 6, 0)
	if pixels[0] != m.Pix[0] || pixels[1] != m.Pix[1] || pixels[3] != m.Pix[4] {
		t.Error("the first pixels are not those of the first frame")
	}
}

func TestFilmMP4Fails(t *testing.T) {
	frames := shoot(t, 2, 10, 6)
	path := filepath.Join(t.TempDir(), "film.mp4")
	program := encoder(t, `echo "no such codec" >&2; cat >/dev/null; exit 3`)
	if _, err := Film(context.Background(), frames, Options{MP4: path, FFmpeg: program}); err == nil || !strings.Contains(err.Error(), "no such codec") {
		t.Errorf("got %v, want what ffmpeg said", err)
	}
}

func TestFilmWithoutFFmpeg(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	frames := shoot(t, 2, 10, 6)
	path := filepath.Join(t.TempDir(), "film.mp4")
	report, err := Film(context.Background(), frames, Options{MP4: path})
	if err != nil || len(report.Files) != 0 || len(report.Notes) != 1 || !strings.Contains(report.Notes[0], "apt-get install") {
		t.Errorf("report %+v, %v; want a note on how to get ffmpeg", report, err)
	}
}
