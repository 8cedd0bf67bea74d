package provider

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"

	"fallow.network"
	"fallow.network/api/node/nodev1connect"
	"fallow.network/blob"
)

// maxMessage bounds one message of a peer, in bytes.
const maxMessage = 4 << 20

// Bounds of one peer's requests beside its transfers.
const (
	openRequests = 64
	requestTime  = 10 * time.Second // in which a question must be said
)

// guarded ends what is begun and never said, and lets a peer have only so many
// requests open: they come before all rates and cost more than they cost it.
func (d *Daemon) guarded(next http.Handler) http.Handler {
	var mu sync.Mutex
	open := map[fallow.Key]int{}
	errs := connect.NewErrorWriter()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if peer, ok := d.deps.PeerKey(r.Context()); ok {
			mu.Lock()
			full := open[peer] >= openRequests
			if !full {
				open[peer]++
			}
			mu.Unlock()
			if full {
				_ = errs.Write(w, r, refuse(connect.CodeResourceExhausted, fallow.ReasonRateLimited, "too many requests of this peer are open; wait for one to end"))
				return
			}
			defer func() {
				mu.Lock()
				defer mu.Unlock()
				if open[peer]--; open[peer] == 0 {
					delete(open, peer)
				}
			}()
		}
		if r.URL.Path != nodev1connect.NodeServiceWorkProcedure {
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(requestTime)) // a server that can't waits
		}
		next.ServeHTTP(w, r)
	})
}

// maxPutting is how many inputs of one lease may be begun and not whole: each
// is a file, however small.
const maxPutting = 1024

// Handler serves this node to peers: work, questions and blobs.
func (d *Daemon) handler() http.Handler {
	mux := http.NewServeMux()
	// Receipts are digests and signatures, which don't compress.
	path, service := nodev1connect.NewNodeServiceHandler(node{d}, connect.WithReadMaxBytes(maxMessage), connect.WithCompression("gzip", nil, nil))
	mux.Handle(path, d.guarded(service))
	blobs := &blob.Handler{Store: d.deps.Blobs, Authorize: d.authorize, Scope: d.scope, Log: d.log}
	mux.HandleFunc(blob.PathPrefix, func(w http.ResponseWriter, r *http.Request) { d.serveBlob(blobs, w, r) })
	return mux
}

// sender is the open lease whose tenant sends a request.
func (d *Daemon) sender(r *http.Request) *lease {
	peer, ok := d.deps.PeerKey(r.Context())
	if !ok {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, l := range d.leases {
		if l.session == peer {
			return l
		}
	}
	return nil
}

func (d *Daemon) scope(r *http.Request) string {
	if l := d.sender(r); l != nil {
		return blob.Holder(l.id)
	}
	return ""
}

// authorize lets a tenant read what its own lease brought or made, and bring
// as much as its slots' disk holds.
func (d *Daemon) authorize(r *http.Request, b fallow.Digest, size int64) error {
	l := d.sender(r)
	if l == nil {
		return fmt.Errorf("%s: your key is not the session key of an open lease", fallow.ReasonNotParty)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.Method != http.MethodPut {
		if !l.blobs[b] && r.Method != http.MethodHead {
			return fmt.Errorf("%s: no blob of this lease", fallow.ReasonNotParty)
		}
		return nil
	}
	if l.over != "" {
		return fmt.Errorf("%s: the lease takes no more inputs", l.over)
	}
	if l.blobs[b] {
		return nil
	}
	most, had := d.diskShare(l), l.putting[b]
	if size < 0 || uint64(size) > most || l.put-had > most-uint64(size) {
		return fmt.Errorf("%s: %d bytes of inputs are above the %d that this lease may bring", fallow.ReasonTooLarge, l.put-had+uint64(max(size, 0)), most)
	}
	if _, begun := l.putting[b]; !begun && len(l.putting) >= maxPutting {
		return fmt.Errorf("%s: %d inputs are begun and not whole", fallow.ReasonTooLarge, len(l.putting))
	}
	// It counts from its first byte on, whether it is ever whole or not.
	l.putting[b] = max(had, uint64(size))
	l.put += l.putting[b] - had
	return nil
}

// diskShare is how many bytes of inputs a lease may bring: its slots' disk.
func (d *Daemon) diskShare(l *lease) uint64 { return addCap(d.slotDisk(l), l.terms.Slots) }

// serveBlob serves the store, and small outputs out of the journal.
func (d *Daemon) serveBlob(blobs http.Handler, w http.ResponseWriter, r *http.Request) {
	name, isDigest := strings.CutPrefix(r.URL.Path, blob.PathPrefix)
	b, err := fallow.ParseDigest(name)
	if !isDigest || err != nil {
		blobs.ServeHTTP(w, r)
		return
	}
	l := d.sender(r)
	if l != nil {
		l.mu.Lock()
		l.lastWord = d.now()
		known := l.blobs[b]
		l.mu.Unlock()
		if _, stored := d.deps.Blobs.Has(b); known && !stored && r.Method != http.MethodPut {
			if body, err := d.journal.inlineOf(r.Context(), l.id, b); err == nil && body != nil {
				d.serveSmall(w, r, body)
				return
			}
		}
	}
	blobs.ServeHTTP(w, r)
	if size, ok := d.deps.Blobs.Has(b); ok && r.Method == http.MethodPut && l != nil {
		l.mu.Lock()
		if !l.blobs[b] {
			l.blobs[b] = true
			l.put += uint64(size) - l.putting[b]
			delete(l.putting, b)
		}
		l.mu.Unlock()
		d.pin(l, []fallow.Digest{b})
		d.arrived(b)
	}
}

// serveSmall sends a few bytes whole; ranges of so little are not worth it.
func (d *Daemon) serveSmall(w http.ResponseWriter, r *http.Request, body []byte) {
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method == http.MethodHead {
		return
	}
	if _, err := w.Write(body); err != nil {
		d.log.DebugContext(r.Context(), "sending a small output ended early", slog.Any("error", err))
	}
}

// pins gathers what is to be kept for leases while an earlier lot is being
// written, as each write syncs the disk.
type pins struct {
	mu   sync.Mutex
	lot  map[fallow.LeaseID][]fallow.Digest
	wake chan struct{}
}

func newPins() *pins {
	return &pins{lot: map[fallow.LeaseID][]fallow.Digest{}, wake: make(chan struct{}, 1)}
}

// pin keeps blobs for a lease until it ends.
func (d *Daemon) pin(l *lease, list []fallow.Digest) {
	if len(list) == 0 {
		return
	}
	l.mu.Lock()
	fresh := list[:0:0]
	for _, b := range list {
		if l.pinned[b] {
			continue
		}
		l.pinned[b] = true
		fresh = append(fresh, b)
	}
	l.mu.Unlock()
	if len(fresh) == 0 {
		return
	}
	d.pins.mu.Lock()
	d.pins.lot[l.id] = append(d.pins.lot[l.id], fresh...)
	d.pins.mu.Unlock()
	select {
	case d.pins.wake <- struct{}{}:
	default:
	}
}

// keepPins writes pins until ctx ends.
func (d *Daemon) keepPins(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.pins.wake:
		}
		d.pins.mu.Lock()
		lot := d.pins.lot
		d.pins.lot = map[fallow.LeaseID][]fallow.Digest{}
		d.pins.mu.Unlock()
		for id, list := range lot {
			d.mu.Lock()
			_, open := d.leases[id]
			d.mu.Unlock()
			if !open {
				continue
			}
			if err := d.deps.Blobs.Pin(blob.Holder(id), list...); err != nil {
				d.log.WarnContext(ctx, "blobs of a lease could not be pinned", slog.Uint64("lease", uint64(id)), slog.Any("error", err))
			}
		}
	}
}
