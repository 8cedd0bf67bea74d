package provider

import (
	"context"
	"sync"

	"connectrpc.com/connect"

	"fallow.network"
	marketv1 "fallow.network/api/market"
	nodev1 "fallow.network/api/node"
)

// maxQueued is how many messages may wait for a tenant before nothing more is
// heard of it.
const maxQueued = 1024

// link is one connection of a lease's tenant. What is to be said is queued, so
// that a task never waits for a slow tenant; one that does not listen is not
// listened to, which bounds the queue.
type link struct {
	mu     sync.Mutex
	out    []*nodev1.WorkResponse
	wake   chan struct{} // holds one token when there is something to do
	space  chan struct{} // holds one token when the queue was taken
	over   bool
	err    error                  // how the stream ends; nil is well
	wanted map[fallow.Digest]bool // blobs asked for on this connection
	gone   chan struct{}          // closed when the stream has ended
}

func newLink() *link {
	return &link{wake: make(chan struct{}, 1), space: make(chan struct{}, 1), wanted: map[fallow.Digest]bool{}, gone: make(chan struct{})}
}

func (k *link) signal() { wake(k.wake) }

// await waits until there is room in the queue; false when ctx or the
// connection is over.
func (k *link) await(ctx context.Context) bool {
	for {
		k.mu.Lock()
		n, over := len(k.out), k.over
		k.mu.Unlock()
		if over || n < maxQueued {
			return !over
		}
		select {
		case <-ctx.Done():
			return false
		case <-k.space:
		}
	}
}

// send queues a message; after the end it is dropped, as the journal has it.
func (k *link) send(m ...*nodev1.WorkResponse) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.over {
		return
	}
	k.out = append(k.out, m...)
	k.signal()
}

// want asks for blobs that were not asked for on this connection yet.
func (k *link) want(blobs []*marketv1.Blob) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var list []*marketv1.Blob
	for _, b := range blobs {
		d, err := fallow.DigestFrom(b.GetDigest())
		if err == nil && !k.wanted[d] {
			k.wanted[d] = true
			list = append(list, b)
		}
	}
	if len(list) > 0 && !k.over {
		k.out = append(k.out, &nodev1.WorkResponse{Wants: list})
		k.signal()
	}
}

// end says why the lease ends, when it does, and closes the connection once
// all is sent.
func (k *link) end(reason fallow.Reason) {
	if reason != "" {
		k.send(&nodev1.WorkResponse{Ending: string(reason)})
	}
	k.close(nil)
}

func (k *link) close(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.over {
		k.over, k.err = true, err
		k.signal()
	}
}

// run sends what is queued until the end.
func (k *link) run(ctx context.Context, stream *connect.BidiStream[nodev1.WorkRequest, nodev1.WorkResponse]) error {
	for {
		k.mu.Lock()
		out, over, err := k.out, k.over, k.err
		k.out = nil
		wake(k.space)
		k.mu.Unlock()
		for _, m := range out {
			if err := stream.Send(m); err != nil {
				return err
			}
		}
		if over {
			return err
		}
		if len(out) > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-k.wake:
		}
	}
}
