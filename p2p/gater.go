package p2p

import (
	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"fallow.network"
)

// gater refuses connections with peers whose key is not Ed25519, as nothing in
// the market could name them, and dials to where no peer is: peers name their
// own addresses, and must not lead others to what answers them alone.
type gater struct{ elsewhere bool }

func (gater) InterceptPeerDial(id peer.ID) bool                               { return keyed(id) }
func (gater) InterceptAccept(network.ConnMultiaddrs) bool                     { return true }
func (gater) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason) { return true, 0 }
func (gater) InterceptSecured(_ network.Direction, id peer.ID, _ network.ConnMultiaddrs) bool {
	return keyed(id)
}

func (g gater) InterceptAddrDial(_ peer.ID, a ma.Multiaddr) bool {
	ip, err := manet.ToIP(a)
	switch {
	case err != nil: // a name, which comes again when it is resolved
		return true
	case ip.IsLoopback():
		return !g.elsewhere
	default:
		return !ip.IsUnspecified() && !ip.IsMulticast() && !ip.IsLinkLocalUnicast()
	}
}

func keyed(id peer.ID) bool {
	_, err := keyOf(id)
	return err == nil
}

// relayACL asks the RelayAllow hook. Reservations are open to every peer that
// proved its key; the relay's own bounds hold their number.
type relayACL struct {
	allow  func(from, to fallow.Key) bool
	prober *prober // whose dials test a slot before its peer is on any board
}

func (relayACL) AllowReserve(id peer.ID, _ ma.Multiaddr) bool { return keyed(id) }

func (a relayACL) AllowConnect(src peer.ID, _ ma.Multiaddr, dest peer.ID) bool {
	from, err := keyOf(src)
	if err != nil {
		return false
	}
	to, err := keyOf(dest)
	if err != nil {
		return false
	}
	return a.allow == nil || a.prober.is(src) || a.allow(from, to)
}
