// Package collect turns the fetched outputs of a job into something to look
// at: a film out of frames, as an animated GIF, as MP4 where ffmpeg stands, and
// as a contact sheet.
//
// Its invariant: a file under the name that the caller gave is whole. Each is
// written beside it first and renamed, so a failure leaves what was there.
//
// It does not fetch or verify outputs, and it does not decide where they go.
package collect

import (
	"context"
	"errors"
	"fmt"
	"image"
	"os"
	"strings"
)

// Bounds of a film. Frames come from other people's machines.
const (
	maxFrames     = 10_000
	maxFilmPixels = 1 << 28 // of all frames together: a GIF keeps a byte for each
)

// DefaultFPS is the speed of a film where Options name none, in frames a second.
const DefaultFPS = 16

// Options say what to make of the frames. An empty path leaves that out.
type Options struct {
	GIF          string // animated, endless
	MP4          string // needs ffmpeg; left out with a note where it is absent
	ContactSheet string // a PNG of all frames

	FPS     int    // frames a second, 1 to 50; 0 is DefaultFPS
	Columns int    // of the contact sheet; 0 lets it choose
	FFmpeg  string // the program; empty looks for ffmpeg on PATH
}

// File is one that was written.
type File struct {
	Path  string `json:"path"`
	Bytes int64  `json:"bytes"`
}

// Report says what was made.
type Report struct {
	Frames int      `json:"frames"`
	Width  int      `json:"width"` // of a frame, in pixels
	Height int      `json:"height"`
	Files  []File   `json:"files"`
	Notes  []string `json:"notes"` // what was left out and why, for people
}

// MissingError names the frames that are not there.
type MissingError struct {
	Paths []string
}

func (e *MissingError) Error() string {
	const most = 8
	names := e.Paths
	more := ""
	if len(names) > most {
		more = fmt.Sprintf(" and %d more", len(names)-most)
		names = names[:most]
	}
	return fmt.Sprintf("%d frames are missing: %s%s", len(e.Paths), strings.Join(names, ", "), more)
}

// Film makes what Options ask for out of frames: PPM (P6) or PNG files of one
// size, in order. Frames that are missing give a *MissingError and nothing is
// written. Files that were finished before an error stay and are in the report.
func Film(ctx context.Context, frames []string, o Options) (Report, error) {
	if o.FPS == 0 {
		o.FPS = DefaultFPS
	}
	if o.FPS < 1 || o.FPS > 50 {
		return Report{}, fmt.Errorf("a film runs at 1 to 50 frames a second, not %d", o.FPS)
	}
	r, err := open(frames)
	if err != nil {
		return Report{}, err
	}
	report := Report{Frames: len(frames), Width: r.width, Height: r.height}
	for _, part := range []struct {
		path string
		make func(context.Context, *reel, Options) (string, error)
	}{
		{o.GIF, writeGIF},
		{o.MP4, writeMP4},
		{o.ContactSheet, writeSheet},
	} {
		if part.path == "" {
			continue
		}
		note, err := part.make(ctx, r, o)
		if err != nil {
			return report, fmt.Errorf("making %s: %w", part.path, err)
		}
		if note != "" {
			report.Notes = append(report.Notes, note)
			continue
		}
		info, err := os.Stat(part.path)
		if err != nil {
			return report, fmt.Errorf("looking at what was made: %w", err)
		}
		report.Files = append(report.Files, File{Path: part.path, Bytes: info.Size()})
	}
	return report, nil
}

// reel is a film's frames, read again for each use so that none need stay.
type reel struct {
	paths         []string
	width, height int
}

func open(paths []string) (*reel, error) {
	switch {
	case len(paths) == 0:
		return nil, errors.New("a film needs at least one frame")
	case len(paths) > maxFrames:
		return nil, fmt.Errorf("a film has at most %d frames, not %d", maxFrames, len(paths))
	}
	var missing []string
	for _, p := range paths {
		info, err := os.Stat(p)
		if errors.Is(err, os.ErrNotExist) {
			missing = append(missing, p)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("looking at a frame: %w", err)
		}
		if !info.Mode().IsRegular() {
			return nil, fmt.Errorf("frame %s is not a file", p)
		}
	}
	if len(missing) > 0 {
		return nil, &MissingError{Paths: missing}
	}
	first, err := readFrame(paths[0])
	if err != nil {
		return nil, err
	}
	r := &reel{paths: paths, width: first.Rect.Dx(), height: first.Rect.Dy()}
	if int64(r.width)*int64(r.height)*int64(len(paths)) > maxFilmPixels {
		return nil, fmt.Errorf("%d frames of %dx%d are more than the %d pixels that a film may have",
			len(paths), r.width, r.height, maxFilmPixels)
	}
	return r, nil
}

// each calls f with every frame in order.
func (r *reel) each(ctx context.Context, f func(i int, m *image.RGBA) error) error {
	for i, p := range r.paths {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("stopped at frame %d of %d: %w", i+1, len(r.paths), err)
		}
		m, err := readFrame(p)
		if err != nil {
			return err
		}
		if m.Rect.Dx() != r.width || m.Rect.Dy() != r.height {
			return fmt.Errorf("frame %s is %dx%d where the first is %dx%d", p, m.Rect.Dx(), m.Rect.Dy(), r.width, r.height)
		}
		if err := f(i, m); err != nil {
			return err
		}
	}
	return nil
}
