package p2p

import (
	"context"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// DialDirect opens a direct connection beside a relayed one, as meeting
// halfway does.
func (h *Host) DialDirect(ctx context.Context, addr string) error {
	info, err := peer.AddrInfoFromString(addr)
	if err != nil {
		return err
	}
	return h.p2p.Connect(network.WithForceDirectDial(ctx, "test"), *info)
}
