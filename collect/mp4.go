package collect

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"image"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// ffmpegGrace is how long ffmpeg may take to end once it is told to.
const ffmpegGrace = 5 * time.Second

// writeMP4 pipes the frames into ffmpeg as raw pixels. Where there is no ffmpeg
// it returns a note that says so.
func writeMP4(ctx context.Context, r *reel, o Options) (string, error) {
	program := o.FFmpeg
	if program == "" {
		found, err := exec.LookPath("ffmpeg")
		if err != nil {
			return fmt.Sprintf("no %s: ffmpeg is not on PATH (apt-get install -y ffmpeg)", filepath.Base(o.MP4)), nil
		}
		program = found
	}
	return "", replace(o.MP4, func(temporary string) error {
		return encodeMP4(ctx, program, temporary, r, o.FPS)
	})
}

func encodeMP4(ctx context.Context, program, path string, r *reel, fps int) error {
	// The players of the world want even sides and 4:2:0 at the front of the file.
	cmd := exec.CommandContext(ctx, program, "-hide_banner", "-loglevel", "error", "-nostdin", "-y",
		"-f", "rawvideo", "-pixel_format", "rgb24",
		"-video_size", fmt.Sprintf("%dx%d", r.width, r.height), "-framerate", strconv.Itoa(fps), "-i", "pipe:0",
		"-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2,scale=out_color_matrix=bt709:out_range=tv",
		"-c:v", "libx264", "-preset", "slow", "-crf", "17", "-pix_fmt", "yuv420p",
		"-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709",
		"-movflags", "+faststart", "-f", "mp4", path)
	cmd.WaitDelay = ffmpegGrace
	var complaint tail
	cmd.Stderr = &complaint
	in, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("preparing ffmpeg: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting ffmpeg: %w", err)
	}
	fed := feed(ctx, bufio.NewWriter(in), r)
	if err := in.Close(); fed == nil {
		fed = err
	}
	if err := cmd.Wait(); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("stopped ffmpeg: %w", ctx.Err())
		}
		return fmt.Errorf("ffmpeg failed: %w: %s", err, complaint.String())
	}
	return fed
}

func feed(ctx context.Context, w *bufio.Writer, r *reel) error {
	row := make([]byte, 0, 3*r.width)
	if err := r.each(ctx, func(_ int, m *image.RGBA) error {
		for y := range r.height {
			row = row[:0]
			line := m.Pix[y*m.Stride : y*m.Stride+4*r.width]
			for x := 0; x < len(line); x += 4 {
				row = append(row, line[x], line[x+1], line[x+2])
			}
			if _, err := w.Write(row); err != nil {
				return fmt.Errorf("feeding ffmpeg: %w", err)
			}
		}
		return nil
	}); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("feeding ffmpeg: %w", err)
	}
	return nil
}

// tail keeps the last that a program had to say.
type tail struct {
	said bytes.Buffer
}

func (t *tail) Write(p []byte) (int, error) {
	const most = 2048
	t.said.Write(p)
	if over := t.said.Len() - most; over > 0 {
		t.said.Next(over)
	}
	return len(p), nil
}

func (t *tail) String() string { return strings.TrimSpace(t.said.String()) }
