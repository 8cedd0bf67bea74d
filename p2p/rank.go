package p2p

import (
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

const (
	quicDelay      = 250 * time.Millisecond // after TCP, on public addresses
	quicDelayLocal = 50 * time.Millisecond  // after TCP, on loopback and private ones
	relayDelay     = 500 * time.Millisecond // after direct public addresses
	stagger        = 20 * time.Millisecond  // between addresses of one kind
)

// rank orders the dials to one peer: QUIC first for who is to be met halfway,
// as hubs tell it the address that they saw it at, and UDP passes most NATs.
func (h *Host) rank(addrs []ma.Multiaddr) []network.AddrDelay {
	if h.meet.isOpen() {
		return swarm.DefaultDialRanker(addrs)
	}
	return tcpFirst(addrs)
}

// tcpFirst orders the dials to one peer. The library prefers QUIC; TCP with
// TLS costs about a quarter of the CPU for each byte, and work moves bulk.
func tcpFirst(addrs []ma.Multiaddr) []network.AddrDelay {
	var direct, public bool
	for _, a := range addrs {
		if !relayed(a) {
			direct = true
			public = public || manet.IsPublicAddr(a)
		}
	}
	out := make([]network.AddrDelay, 0, len(addrs))
	var seen [2]time.Duration // TCP and others so far
	for _, a := range addrs {
		var d time.Duration
		switch {
		case relayed(a) && public:
			d = relayDelay
		case relayed(a) && direct:
			d = 2 * quicDelayLocal
		}
		kind := 0
		if _, err := a.ValueForProtocol(ma.P_TCP); err != nil {
			kind = 1
			if manet.IsPublicAddr(a) {
				d += quicDelay
			} else {
				d += quicDelayLocal
			}
		}
		d += seen[kind] * stagger
		seen[kind]++
		out = append(out, network.AddrDelay{Addr: a, Delay: d})
	}
	return out
}

// relayed says whether a leads through a relay.
func relayed(a ma.Multiaddr) bool {
	_, err := a.ValueForProtocol(ma.P_CIRCUIT)
	return err == nil
}
