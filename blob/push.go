package blob

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"fallow.network"
)

// Push sends the blob d of the store to base, from where an earlier try
// ended; what the other side has already is not sent.
func (t *Transfer) Push(ctx context.Context, base string, d fallow.Digest, progress Progress) error {
	leave, err := t.enter(ctx, base, d)
	if err != nil {
		return err
	}
	defer leave()
	size, ok := t.Store.Has(d)
	if !ok {
		return fmt.Errorf("push: %w: %s", ErrNotFound, d)
	}
	p := &push{t: t, url: base + PathPrefix + d.String(), digest: d, size: size, progress: progress}
	if err := t.try(ctx, p.once); err != nil {
		return fmt.Errorf("push blob %s: %w", d, err)
	}
	if progress != nil {
		progress(size, size)
	}
	return nil
}

// push is the state of one Push over its tries.
type push struct {
	t        *Transfer
	url      string
	digest   fallow.Digest
	size     int64
	lies     int
	reached  int64 // the highest offset that the other side told
	progress Progress
}

func (p *push) once(ctx context.Context) (int64, error) {
	from, there, err := p.where(ctx)
	if err != nil || there {
		return 0, err
	}
	// What counts is what arrived, which the next try will know.
	moved := max(from-p.reached, 0)
	p.reached = max(p.reached, from)
	f, size, err := p.t.Store.Open(p.digest)
	if err != nil {
		return moved, final(err)
	}
	defer func() { _ = f.Close() }()
	if size != p.size {
		return 0, final(fmt.Errorf("%w: %s changed its size", ErrDigest, p.digest))
	}
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return 0, final(err)
	}
	ctx, alive, stop := watch(ctx, p.t.idle())
	defer stop()
	body := &counted{r: f, alive: alive, done: from, total: p.size, progress: p.progress}
	var send io.Reader = body
	if p.size == 0 {
		send = http.NoBody
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, p.url, send)
	if err != nil {
		return moved, final(err)
	}
	req.ContentLength = p.size - from
	if p.size > 0 {
		req.Header.Set("Content-Range", formatContentRange(span{from, p.size - from}, p.size))
	}
	resp, err := p.t.Client.Do(req)
	if err != nil {
		return moved, cause(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }()
	switch resp.StatusCode {
	case http.StatusOK, http.StatusCreated:
		return moved, nil
	case http.StatusAccepted, http.StatusConflict, http.StatusBadRequest:
		// It stands elsewhere, or the body did not get through.
		return moved, refusalText(resp)
	case http.StatusUnprocessableEntity:
		if p.lies++; p.lies <= liesForgiven {
			return moved, refusalText(resp)
		}
		return moved, refusal(resp)
	default:
		return moved, refusal(resp)
	}
}

// where asks how much of the blob the other side has.
func (p *push) where(ctx context.Context) (offset int64, all bool, err error) {
	ctx, _, stop := watch(ctx, p.t.idle())
	defer stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, p.url, nil)
	if err != nil {
		return 0, false, final(err)
	}
	req.Header.Set("Upload-Length", strconv.FormatInt(p.size, 10))
	resp, err := p.t.Client.Do(req)
	if err != nil {
		return 0, false, cause(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }()
	switch resp.StatusCode {
	case http.StatusOK:
		return 0, true, nil
	case http.StatusNotFound:
		n, err := parseCount(resp.Header.Get(offsetHeader))
		if err != nil || n >= p.size {
			return 0, false, nil // it holds nothing that could be continued
		}
		return n, false, nil
	default:
		return 0, false, refusal(resp)
	}
}
