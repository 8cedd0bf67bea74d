package p2p

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	"github.com/libp2p/go-libp2p/x/rate"
)

const (
	hubConnsPerSubnet = 256 // one IPv4 address or IPv6 /56: an office, a carrier's NAT
	hubConnsPerSecond = 8   // new ones from there in the long run
	hubMemory         = 1 << 30
	peerConns         = 16
	peerStreams       = 512 // relayed circuits count, so a busy provider needs many
)

// resources bounds what peers may take of this host. The library's defaults
// (8 connections an address, one new in five seconds, a few hundred relayed
// streams) would bite a hub; a hub's bounds scale with the peers it keeps.
func resources(role Role, peers int) (network.ResourceManager, error) {
	scaling := rcmgr.DefaultLimits
	libp2p.SetDefaultServiceLimits(&scaling)
	if role != RoleHub {
		return rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(scaling.AutoScale()), rcmgr.WithMetricsDisabled())
	}
	count := func(n int) rcmgr.ResourceLimits {
		v := rcmgr.LimitVal(n)
		return rcmgr.ResourceLimits{
			Conns: v, ConnsInbound: v, ConnsOutbound: v, FD: v,
			Streams: v * 8, StreamsInbound: v * 8, StreamsOutbound: v * 8,
			Memory: hubMemory,
		}
	}
	all := count(peers * 2)
	one := rcmgr.ResourceLimits{
		Conns: peerConns, ConnsInbound: peerConns, ConnsOutbound: peerConns, FD: peerConns,
		Streams: peerStreams, StreamsInbound: peerStreams, StreamsOutbound: peerStreams,
		Memory: 64 << 20,
	}
	limits := rcmgr.PartialLimitConfig{
		System: all,
		// Connections that have not said who they are: one that never does keeps
		// its place for 15 s, and when all are taken nobody new comes in. They
		// cost 10 kB each.
		Transient:           count(max(peers, 64)),
		ServiceDefault:      all,
		ServicePeerDefault:  one,
		ProtocolDefault:     all,
		ProtocolPeerDefault: one,
		PeerDefault:         one,
		Service:             map[string]rcmgr.ResourceLimits{},
		ServicePeer:         map[string]rcmgr.ResourceLimits{relay.ServiceName: one},
		Protocol:            map[protocol.ID]rcmgr.ResourceLimits{},
		ProtocolPeer:        map[protocol.ID]rcmgr.ResourceLimits{proto.ProtoIDv2Hop: one, proto.ProtoIDv2Stop: one},
	}
	for _, s := range []string{identify.ServiceName, ping.ServiceName, relay.ServiceName} {
		limits.Service[s] = all
	}
	for _, p := range []protocol.ID{identify.ID, identify.IDPush, ping.ID, proto.ProtoIDv2Hop, proto.ProtoIDv2Stop} {
		limits.Protocol[p] = all
	}
	subnet := func(bits int, scale float64) rate.SubnetLimit {
		return rate.SubnetLimit{PrefixLength: bits, Limit: rate.Limit{RPS: hubConnsPerSecond * scale, Burst: int(hubConnsPerSubnet * scale)}}
	}
	limiter := &rate.Limiter{
		NetworkPrefixLimits: []rate.PrefixLimit{
			{Prefix: netip.MustParsePrefix("127.0.0.0/8")},
			{Prefix: netip.MustParsePrefix("::1/128")},
		},
		SubnetRateLimiter: rate.SubnetLimiter{
			IPv4SubnetLimits: []rate.SubnetLimit{subnet(32, 1)},
			IPv6SubnetLimits: []rate.SubnetLimit{subnet(56, 1), subnet(48, 4)},
			GracePeriod:      time.Minute,
		},
	}
	m, err := rcmgr.NewResourceManager(
		rcmgr.NewFixedLimiter(limits.Build(scaling.AutoScale())),
		rcmgr.WithMetricsDisabled(),
		rcmgr.WithLimitPerSubnet(
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 32, ConnCount: hubConnsPerSubnet}},
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 56, ConnCount: hubConnsPerSubnet}, {PrefixLength: 48, ConnCount: 4 * hubConnsPerSubnet}},
		),
		rcmgr.WithConnRateLimiters(limiter),
	)
	if err != nil {
		return nil, fmt.Errorf("resource limits: %w", err)
	}
	return m, nil
}

// relayResources lets a hub carry whole jobs: no limit on bytes or time of a
// circuit, buffers for bulk, a slot for every peer that it keeps.
func relayResources(peers int) relay.Resources {
	r := relay.DefaultResources()
	r.Limit = nil
	r.BufferSize = 64 << 10
	r.MaxReservations = peers
	r.MaxCircuits = peerStreams / 2
	r.MaxReservationsPerIP = hubConnsPerSubnet
	r.MaxReservationsPerASN = peers
	return r
}
