package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"fallow.network"
)

const (
	// PathPrefix is where a Handler is served: /blob/sha256:….
	PathPrefix = "/blob/"

	offsetHeader = "Upload-Offset" // how much of an upload is here, bytes
	chunksType   = "application/vnd.fallow.chunks"
	blobType     = "application/octet-stream"

	defaultIdle    = 30 * time.Second
	defaultUploads = 16
)

// Handler serves a store over HTTP:
//
//	HEAD /blob/<digest>          200, or 404 with Upload-Offset of an upload
//	GET  /blob/<digest>          the blob, whole or one Range of it
//	GET  /blob/<digest>/chunks   its chunk list, see Chunks
//	PUT  /blob/<digest>          the blob, whole or from Upload-Offset on by
//	                             Content-Range: bytes FIRST-LAST/TOTAL
//
// A PUT answers 201 when the blob is complete and hashes right, 200 when it
// was here before, 202 with Upload-Offset when more is to come. Refusals: 409
// with Upload-Offset when FIRST is elsewhere or another upload of the same is
// running, 413 too large, 422 content that is not what its digest says, 507
// store or disk full.
type Handler struct {
	Store *Store
	// Authorize decides on each request; size is the whole blob's as announced
	// by a PUT, in bytes, and -1 otherwise. An error is answered with 403 and
	// its text. Nil refuses all.
	Authorize func(r *http.Request, d fallow.Digest, size int64) error
	// Scope names the sender of a PUT, so that unfinished uploads of different
	// senders are kept apart; nil means that there is one.
	Scope func(r *http.Request) string
	// Uploads bounds how many PUTs one scope may have running; 0 means 16.
	Uploads int
	// Idle is how long a transfer may stand still; 0 means 30 s.
	Idle time.Duration
	// Log may be nil.
	Log *slog.Logger

	mu      sync.Mutex
	running map[string]int     // uploads of each scope
	uploads map[string]*upload // by partial name
}

// upload is a PUT in progress. A sender whose connection was cut may be back
// before this end has noticed: the new PUT then ends the old one.
type upload struct {
	cancel context.CancelFunc
	done   chan struct{}
}

// ServeHTTP answers a request below PathPrefix.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, ok := strings.CutPrefix(r.URL.Path, PathPrefix)
	name, chunks := strings.CutSuffix(name, "/chunks")
	d, err := fallow.ParseDigest(name)
	if !ok || err != nil {
		http.Error(w, "want "+PathPrefix+"sha256:<64 hex digits>", http.StatusBadRequest)
		return
	}
	switch {
	case r.Method == http.MethodGet && chunks:
		if h.authorized(w, r, d, -1) {
			h.getChunks(w, r, d)
		}
	case r.Method == http.MethodGet && !chunks, r.Method == http.MethodHead && !chunks:
		if h.authorized(w, r, d, -1) {
			h.get(w, r, d)
		}
	case r.Method == http.MethodPut && !chunks:
		h.put(w, r, d)
	default:
		w.Header().Set("Allow", "GET, HEAD, PUT")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
	}
}

func (h *Handler) authorized(w http.ResponseWriter, r *http.Request, d fallow.Digest, size int64) bool {
	err := errors.New("nobody may")
	if h.Authorize != nil {
		err = h.Authorize(r, d, size)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
		return false
	}
	return true
}

func (h *Handler) scope(r *http.Request) string {
	if h.Scope == nil {
		return ""
	}
	return h.Scope(r)
}

func (h *Handler) idle() time.Duration {
	if h.Idle > 0 {
		return h.Idle
	}
	return defaultIdle
}

func (h *Handler) get(w http.ResponseWriter, r *http.Request, d fallow.Digest) {
	f, size, err := h.Store.Open(d)
	if errors.Is(err, ErrNotFound) {
		if total, err := parseCount(r.Header.Get("Upload-Length")); err == nil && r.Method == http.MethodHead {
			w.Header().Set(offsetHeader, strconv.FormatInt(h.Store.Offset(d, total, h.scope(r)), 10))
		}
		http.Error(w, "no such blob", http.StatusNotFound)
		return
	}
	if err != nil {
		h.fail(w, d, err)
		return
	}
	defer func() { _ = f.Close() }()
	head := w.Header()
	head.Set("Content-Type", blobType)
	head.Set("Accept-Ranges", "bytes")
	head.Set("ETag", `"`+d.String()+`"`)
	part, status := span{0, size}, http.StatusOK
	if rng := r.Header.Get("Range"); rng != "" && r.Method == http.MethodGet {
		part, err = parseRange(rng, size)
		if errors.Is(err, errUnsatisfiable) {
			head.Set("Content-Range", fmt.Sprintf("bytes */%d", size))
			http.Error(w, err.Error(), http.StatusRequestedRangeNotSatisfiable)
			return
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		head.Set("Content-Range", formatContentRange(part, size))
		status = http.StatusPartialContent
	}
	head.Set("Content-Length", strconv.FormatInt(part.size, 10))
	if _, err := f.Seek(part.offset, io.SeekStart); err != nil {
		h.fail(w, d, err)
		return
	}
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return
	}
	if err := h.send(w, io.LimitReader(f, part.size)); err != nil {
		h.log().DebugContext(r.Context(), "sending a blob ended early", slog.String("digest", d.String()), slog.Any("error", err))
	}
}

// send copies with large buffers; each must leave within the idle time.
func (h *Handler) send(w http.ResponseWriter, r io.Reader) error {
	ctl := http.NewResponseController(w)
	buf := make([]byte, copyBuffer)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			_ = ctl.SetWriteDeadline(time.Now().Add(h.idle())) // not every server can
			if _, err := w.Write(buf[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (h *Handler) getChunks(w http.ResponseWriter, r *http.Request, d fallow.Digest) {
	c, err := h.Store.Chunks(r.Context(), d)
	if err != nil {
		h.fail(w, d, err)
		return
	}
	b := c.Encode()
	w.Header().Set("Content-Type", chunksType)
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	if _, err := w.Write(b); err != nil {
		h.log().DebugContext(r.Context(), "sending a chunk list ended early", slog.String("digest", d.String()), slog.Any("error", err))
	}
}

func (h *Handler) put(w http.ResponseWriter, r *http.Request, d fallow.Digest) {
	part, total := span{0, r.ContentLength}, r.ContentLength
	if cr := r.Header.Get("Content-Range"); cr != "" {
		var err error
		if part, total, err = parseContentRange(cr); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	}
	if total < 0 {
		http.Error(w, "want Content-Length, or Content-Range with the total", http.StatusLengthRequired)
		return
	}
	if h.authorized(w, r, d, total) {
		h.receive(w, r, d, part, total)
	}
}

func (h *Handler) receive(w http.ResponseWriter, r *http.Request, d fallow.Digest, part span, total int64) {
	scope := h.scope(r)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	leave, err := h.enter(ctx, cancel, partialName(d, total, scope), scope)
	if err != nil {
		w.Header().Set("Retry-After", "1")
		http.Error(w, err.Error(), http.StatusTooManyRequests)
		return
	}
	defer leave()
	bw, err := h.Store.Writer(ctx, d, total, scope)
	if errors.Is(err, ErrExists) {
		w.WriteHeader(http.StatusOK)
		return
	}
	if err != nil {
		h.fail(w, d, err)
		return
	}
	defer func() { _ = bw.Close() }()
	if part.offset == 0 && bw.Offset() > 0 {
		err = bw.Restart() // the sender starts anew
	}
	if err != nil {
		h.fail(w, d, err)
		return
	}
	if bw.Offset() != part.offset {
		h.refuse(w, bw.Offset(), http.StatusConflict, "the upload stands at another offset")
		return
	}
	cut := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(cut)
		_ = http.NewResponseController(w).SetReadDeadline(time.Now())
	})
	defer func() {
		if !stop() {
			<-cut // a writer must not be touched after its handler
		}
	}()
	if err := h.take(ctx, w, bw, r.Body, part.size); err != nil {
		if errors.Is(err, ErrFull) || errors.Is(err, ErrTooLarge) {
			h.fail(w, d, err)
			return
		}
		h.refuse(w, bw.Offset(), http.StatusBadRequest, "the body ended early")
		return
	}
	if bw.Offset() < total {
		w.Header().Set(offsetHeader, strconv.FormatInt(bw.Offset(), 10))
		w.WriteHeader(http.StatusAccepted)
		return
	}
	if err := bw.Commit(); err != nil {
		h.fail(w, d, err)
		return
	}
	w.WriteHeader(http.StatusCreated)
}

// take reads exactly n bytes of body; one that goes on is cut.
func (h *Handler) take(ctx context.Context, w http.ResponseWriter, to io.Writer, body io.Reader, n int64) error {
	ctl := http.NewResponseController(w)
	buf := make([]byte, copyBuffer)
	for {
		_ = ctl.SetReadDeadline(time.Now().Add(h.idle())) // not every server can
		if err := ctx.Err(); err != nil {
			return err
		}
		m, err := body.Read(buf)
		if int64(m) > n {
			return fmt.Errorf("%w: the body goes on after its range", ErrTooLarge)
		}
		if m > 0 {
			if _, err := to.Write(buf[:m]); err != nil {
				return err
			}
			n -= int64(m)
		}
		switch {
		case err == io.EOF && n == 0:
			return nil
		case err == io.EOF:
			return io.ErrUnexpectedEOF
		case err != nil:
			return err
		}
	}
}

// enter counts an upload and ends an older one of the same blob and sender.
func (h *Handler) enter(ctx context.Context, cancel context.CancelFunc, name, scope string) (leave func(), err error) {
	most := h.Uploads
	if most == 0 {
		most = defaultUploads
	}
	u := &upload{cancel: cancel, done: make(chan struct{})}
	h.mu.Lock()
	if h.uploads == nil {
		h.uploads, h.running = map[string]*upload{}, map[string]int{}
	}
	old := h.uploads[name]
	if h.running[scope] >= most && old == nil {
		h.mu.Unlock()
		return nil, fmt.Errorf("%d uploads are running: wait for one to end", most)
	}
	h.uploads[name] = u
	h.running[scope]++
	h.mu.Unlock()
	if old != nil {
		old.cancel()
		select {
		case <-old.done:
		case <-ctx.Done():
		}
	}
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.uploads[name] == u {
			delete(h.uploads, name)
		}
		if h.running[scope]--; h.running[scope] <= 0 {
			delete(h.running, scope)
		}
		close(u.done)
	}, nil
}

func (h *Handler) refuse(w http.ResponseWriter, offset int64, status int, text string) {
	w.Header().Set(offsetHeader, strconv.FormatInt(offset, 10))
	http.Error(w, text, status)
}

// fail answers with what a store's error means to the other side.
func (h *Handler) fail(w http.ResponseWriter, d fallow.Digest, err error) {
	status := http.StatusInternalServerError
	switch {
	case errors.Is(err, ErrNotFound):
		status = http.StatusNotFound
	case errors.Is(err, ErrDigest):
		status = http.StatusUnprocessableEntity
	case errors.Is(err, ErrTooLarge):
		status = http.StatusRequestEntityTooLarge
	case errors.Is(err, ErrFull):
		status = http.StatusInsufficientStorage
	case errors.Is(err, ErrBusy):
		status = http.StatusConflict
	case errors.Is(err, context.Canceled), errors.Is(err, os.ErrDeadlineExceeded):
		status = http.StatusRequestTimeout
	}
	text := http.StatusText(status)
	if status != http.StatusInternalServerError { // paths of ours stay here
		text = err.Error()
	}
	h.log().Debug("blob request failed", slog.String("digest", d.String()), slog.Int("status", status), slog.Any("error", err))
	http.Error(w, text, status)
}

func (h *Handler) log() *slog.Logger {
	if h.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return h.Log
}
