package p2p

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	reserveTimeout = 15 * time.Second
	retryFirst     = 250 * time.Millisecond
	retryMost      = 30 * time.Second
	renewLeast     = time.Second
	// relaysHeld is at how many relays a provider holds a slot at once; the
	// others take over when one of these goes away.
	relaysHeld = 2
)

// reservation is a provider's slot at one relay. The library's autorelay
// keeps such slots too, but tells nobody of relays at private or loopback
// addresses, where local networks and tests have theirs.
type reservation struct {
	info peer.AddrInfo
	gone chan struct{} // holds one token when the connection was lost

	mu    sync.Mutex
	held  bool
	asked bool // whether it is reached over UDP was tried
}

func newReservation(info peer.AddrInfo) *reservation {
	return &reservation{info: info, gone: make(chan struct{}, 1)}
}

func (r *reservation) lost() {
	select {
	case r.gone <- struct{}{}:
	default:
	}
}

func (r *reservation) set(held bool) (changed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	changed = r.held != held
	r.held = held
	return changed
}

// paths are the addresses through the relay while the slot is held.
func (r *reservation) paths() []ma.Multiaddr {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.held {
		return nil
	}
	out := make([]ma.Multiaddr, 0, len(r.info.Addrs))
	circuit, err := ma.NewMultiaddr("/p2p/" + r.info.ID.String() + "/p2p-circuit")
	if err != nil {
		return nil
	}
	for _, a := range r.info.Addrs {
		out = append(out, a.Encapsulate(circuit))
	}
	return out
}

// isHeld says whether the slot is held.
func (r *reservation) isHeld() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.held
}

// keep reserves once it is this relay's turn, renews at half of the slot's
// time, and starts again when the relay goes away, until the host closes.
func (h *Host) keep(ctx context.Context, r *reservation) {
	retry := retryFirst
	have := false // one of the tokens
	release := func() {
		if have {
			<-h.slots
			have = false
		}
	}
	defer release()
	for ctx.Err() == nil {
		if !have {
			select {
			case h.slots <- struct{}{}:
				have = true
			case <-ctx.Done():
				return
			}
		}
		until, err := h.reserve(ctx, r)
		wait := time.Until(until) / 2
		if err != nil {
			if r.set(false) {
				h.notify()
			}
			h.log.DebugContext(ctx, "no slot at relay", slog.String("relay", r.info.ID.String()), slog.Any("error", err))
			release() // another may be had
			wait = retry
			retry = min(2*retry, retryMost)
		} else {
			retry = retryFirst
			if r.set(true) {
				h.log.InfoContext(ctx, "reachable through relay", slog.String("relay", r.info.ID.String()))
				h.notify()
			}
			wait = max(wait, renewLeast)
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-t.C:
		case <-r.gone:
			if r.set(false) {
				h.notify()
			}
		}
		t.Stop()
	}
}

func (h *Host) reserve(ctx context.Context, r *reservation) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, reserveTimeout)
	defer cancel()
	select { // what was lost before this try does not matter
	case <-r.gone:
	default:
	}
	if err := h.dial(ctx, r.info); err != nil {
		return time.Time{}, err
	}
	if err := h.overUDP(ctx, r); err != nil {
		return time.Time{}, err
	}
	h.p2p.ConnManager().Protect(r.info.ID, "relay")
	res, err := client.Reserve(ctx, h.p2p, r.info)
	if err != nil {
		return time.Time{}, err
	}
	return res.Expiration, nil
}
