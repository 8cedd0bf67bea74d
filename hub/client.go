package hub

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"connectrpc.com/connect"

	"fallow.network"
	"fallow.network/api/hub/hubv1connect"
	"fallow.network/p2p"
)

// dialTime bounds the way to a hub.
const dialTime = 15 * time.Second

// Peer is one's own host: *p2p.Host is one.
type Peer interface {
	Connect(ctx context.Context, addrs []string) (fallow.Key, error)
	HTTPClient() *http.Client
}

// Dial connects to the hub at addrs, full multiaddrs that end in its peer id.
func Dial(ctx context.Context, peer Peer, addrs ...string) (hubv1connect.HubServiceClient, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	k, err := peer.Connect(ctx, addrs)
	if err != nil {
		return nil, fmt.Errorf("hub: %w", err)
	}
	return hubv1connect.NewHubServiceClient(peer.HTTPClient(), p2p.URL(k),
		connect.WithAcceptCompression("gzip", nil, nil), connect.WithReadMaxBytes(maxMessage)), nil
}

// ReasonOf is the typed reason in a hub's refusal, or "".
func ReasonOf(err error) fallow.Reason {
	var c *connect.Error
	if !errors.As(err, &c) {
		return ""
	}
	word, _, _ := strings.Cut(c.Message(), ": ")
	if r := fallow.Reason(word); r.Known() {
		return r
	}
	return ""
}
