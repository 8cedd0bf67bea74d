package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"fallow.network"
)

// FetchOptions may be the zero value.
type FetchOptions struct {
	Progress Progress
	// Chunks is a list from someone trusted; without one the sender's own
	// binds it from the first byte on.
	Chunks Chunks
}

// Fetch brings the blob d of exactly size bytes from base (as http://<peer>)
// into the store, from where an earlier try ended. A sender whose bytes are
// not d's is ErrDigest or ErrChunk, and nothing of a wrong chunk is kept.
func (t *Transfer) Fetch(ctx context.Context, base string, d fallow.Digest, size int64, opt FetchOptions) error {
	leave, err := t.enter(ctx, base, d)
	if err != nil {
		return err
	}
	defer leave()
	w, err := t.Store.await(ctx, d, size, "fetch")
	if errors.Is(err, ErrExists) {
		if opt.Progress != nil {
			opt.Progress(size, size)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("fetch: %w", err)
	}
	defer func() { _ = w.Close() }()
	f := &fetch{t: t, url: base + PathPrefix + d.String(), w: w, list: opt.Chunks, progress: opt.Progress}
	lies := 0
	err = t.try(ctx, func(ctx context.Context) (int64, error) {
		n, err := f.once(ctx)
		if err != nil {
			return n, err
		}
		err = w.Commit()
		if !errors.Is(err, ErrDigest) {
			return n, err
		}
		// The remains of an earlier try may be what was wrong.
		if lies++; lies > liesForgiven || f.fresh {
			return n, final(err)
		}
		if w, err = t.Store.await(ctx, d, size, "fetch"); err != nil {
			return n, final(err)
		}
		f.restart(w)
		return n, errors.New("what was here was wrong: from the start")
	})
	if err != nil {
		return fmt.Errorf("fetch blob %s: %w", d, err)
	}
	return nil
}

// fetch is the state of one Fetch over its tries.
type fetch struct {
	t        *Transfer
	url      string
	w        *Writer
	list     Chunks
	checked  *chunkWriter // over w, when there is a list
	fresh    bool         // w began empty in this Fetch
	progress Progress
}

// restart goes on with an empty writer.
func (f *fetch) restart(w *Writer) {
	f.w, f.checked = w, nil
}

// once asks for what is missing and says how many bytes came.
func (f *fetch) once(ctx context.Context) (int64, error) {
	f.fresh = f.fresh || f.w.Offset() == 0
	if err := f.chunks(ctx); err != nil {
		return 0, err
	}
	to, from := io.Writer(f.w), f.w.Offset()
	if f.list.Size > 0 {
		if f.checked == nil {
			if from%ChunkSize != 0 { // left by a try without a list
				if err := f.w.Restart(); err != nil {
					return 0, final(err)
				}
			}
			f.checked = &chunkWriter{w: f.w, list: f.list}
		}
		to, from = f.checked, f.w.Offset()+int64(len(f.checked.buf))
	}
	if from == f.w.size {
		return 0, nil
	}
	ctx, alive, stop := watch(ctx, f.t.idle())
	defer stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url, nil)
	if err != nil {
		return 0, final(err)
	}
	if from > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", from))
	}
	resp, err := f.t.Client.Do(req)
	if err != nil {
		return 0, cause(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if err := f.expect(resp, from); err != nil {
		return 0, err
	}
	body := &counted{r: resp.Body, alive: alive, done: from, total: f.w.size, progress: f.progress}
	n, err := copyAll(ctx, to, io.LimitReader(body, f.w.size-from+1))
	switch {
	case errors.Is(err, ErrChunk), errors.Is(err, ErrTooLarge), errors.Is(err, ErrFull):
		return n, final(err)
	case err != nil:
		return n, cause(ctx, err)
	case f.w.Offset() < f.w.size:
		return n, io.ErrUnexpectedEOF
	default:
		return n, nil
	}
}

// chunks gets the sender's list, once.
func (f *fetch) chunks(ctx context.Context) error {
	if f.list.Size > 0 && (f.list.Size != f.w.size || int64(len(f.list.Digest)) != chunkCount(f.w.size)) {
		return final(fmt.Errorf("chunk list is of %d bytes, the blob has %d", f.list.Size, f.w.size))
	}
	if f.list.Size > 0 || f.w.size < chunksFrom {
		return nil
	}
	// The other side may have to read the whole blob first.
	ctx, _, stop := watch(ctx, f.t.idle()+time.Duration(f.w.size>>20)*hashTime)
	defer stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url+"/chunks", nil)
	if err != nil {
		return final(err)
	}
	resp, err := f.t.Client.Do(req)
	if err != nil {
		return cause(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return refusal(resp)
	}
	want := encodedChunks(f.w.size)
	b, err := io.ReadAll(io.LimitReader(resp.Body, want+1))
	if err != nil {
		return cause(ctx, err)
	}
	list, err := ParseChunks(b)
	if err != nil {
		return final(err)
	}
	if list.Size != f.w.size {
		return final(fmt.Errorf("%w: the sender's chunk list is of %d bytes, the blob has %d", ErrDigest, list.Size, f.w.size))
	}
	f.list = list
	return nil
}

func (f *fetch) expect(resp *http.Response, from int64) error {
	switch {
	case resp.StatusCode == http.StatusOK && from == 0:
		if resp.ContentLength >= 0 && resp.ContentLength != f.w.size {
			return final(fmt.Errorf("%w: the sender has %d bytes, the blob has %d", ErrDigest, resp.ContentLength, f.w.size))
		}
		return nil
	case resp.StatusCode == http.StatusPartialContent && from > 0:
		part, total, err := parseContentRange(resp.Header.Get("Content-Range"))
		if err != nil {
			return final(err)
		}
		if part.offset != from || total != f.w.size {
			return final(fmt.Errorf("%w: the sender answers %d of %d bytes, asked from %d of %d", ErrDigest, part.offset, total, from, f.w.size))
		}
		return nil
	case resp.StatusCode < 300:
		return final(fmt.Errorf("the sender answers a range with status %d", resp.StatusCode))
	default:
		return refusal(resp)
	}
}
