package p2p

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/prometheus/client_golang/prometheus"

	"fallow.network"
)

// Role is what a host is for; it decides which services run beside the
// requests and how much it lets others take.
type Role uint8

const (
	// RoleTenant dials out. With no Listen it is a light host: see New.
	RoleTenant Role = iota
	// RoleProvider listens, holds a reservation at each relay and meets
	// tenants halfway through NATs.
	RoleProvider
	// RoleHub listens for many peers and relays between them.
	RoleHub
)

// String is the role in one word.
func (r Role) String() string {
	switch r {
	case RoleTenant:
		return "tenant"
	case RoleProvider:
		return "provider"
	case RoleHub:
		return "hub"
	default:
		return fmt.Sprintf("role(%d)", uint8(r))
	}
}

const (
	maxRelays    = 8    // relays held at once, more are refused in Config
	maxAddrs     = 32   // addresses taken from one peer's list
	maxAddrBytes = 1024 // of one address as text
	maxListen    = 16
	defaultPeers = 8192
)

// loopback is where a host listens unless told otherwise: TCP with TLS for
// bulk, QUIC for traversal.
var loopback = []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"}

// Config says who a host is and where it may be reached.
type Config struct {
	// Identity is the Ed25519 key that every connection proves: a node key, a
	// hub's key or the session key of one lease.
	Identity ed25519.PrivateKey
	Role     Role
	// Listen holds multiaddrs. Nil means loopback on free ports for hubs and
	// providers, and no listener for tenants.
	Listen []string
	// Wildcard permits Listen to leave loopback. Hole punching needs that.
	Wildcard bool
	// Punch lets a tenant that does not listen open sockets beyond loopback once
	// a peer turns out to be reachable through a relay alone, to meet it halfway.
	Punch bool
	// Bulk holds prefixes of paths whose requests are refused with status 503
	// when they come through a relay from a peer that is connected directly.
	Bulk []string
	// Announce holds further addresses at which others reach this host, as
	// behind a forwarded port.
	Announce []string
	// Public says that Listen or Announce is reachable from outside, so that
	// those addresses are told to others. Hubs are always public.
	Public bool
	// Relays are full multiaddrs (/…/p2p/ID) of hubs, at most 8; a provider
	// keeps a reservation at each. Several addresses of one hub count once.
	Relays []string
	// Elsewhere says that peers are on other machines: loopback addresses,
	// which strangers may have named, are not dialled then. Link-local ones
	// never are.
	Elsewhere bool
	// RelayAllow decides at a hub who may be relayed to whom; nil allows all.
	// It must not block.
	RelayAllow func(from, to fallow.Key) bool
	// Admit decides on each incoming request; nil admits all. An error is
	// answered with status 429 and its text. It must not block.
	Admit func(peer fallow.Key, path string) error
	// MaxPeers bounds the peers that a hub keeps; 0 means 8192.
	MaxPeers int
	// Metrics takes libp2p's own figures; nil keeps none.
	Metrics prometheus.Registerer
	// Log may be nil.
	Log *slog.Logger
}

// parsed is a Config that was checked.
type parsed struct {
	listen   []ma.Multiaddr
	announce []ma.Multiaddr
	relays   []peer.AddrInfo
	wild     bool
}

func (c *Config) parse() (parsed, error) {
	var p parsed
	if len(c.Identity) != ed25519.PrivateKeySize {
		return p, fmt.Errorf("identity of %d bytes: want an ed25519 private key of %d", len(c.Identity), ed25519.PrivateKeySize)
	}
	if c.Role > RoleHub {
		return p, fmt.Errorf("unknown %s", c.Role)
	}
	listen := c.Listen
	if listen == nil && c.Role != RoleTenant {
		listen = loopback
	}
	var err error
	if p.listen, err = parseAddrs("listen", listen, maxListen); err != nil {
		return p, err
	}
	if p.announce, err = parseAddrs("announce", c.Announce, maxListen); err != nil {
		return p, err
	}
	for _, a := range p.listen {
		if manet.IsIPLoopback(a) {
			continue
		}
		if !c.Wildcard {
			return p, fmt.Errorf("listen %s: not a loopback address; set wildcard to open it to others", a)
		}
		p.wild = true
	}
	relays, err := parseAddrs("relay", c.Relays, maxRelays*maxAddrs)
	if err != nil {
		return p, err
	}
	if p.relays, err = peer.AddrInfosFromP2pAddrs(relays...); err != nil {
		return p, fmt.Errorf("relays: %w; want full addresses that end in /p2p/ID", err)
	}
	if len(p.relays) > maxRelays {
		return p, fmt.Errorf("%d relays: at most %d", len(p.relays), maxRelays)
	}
	if c.MaxPeers < 0 {
		return p, errors.New("max peers is negative")
	}
	return p, nil
}

func parseAddrs(what string, addrs []string, limit int) ([]ma.Multiaddr, error) {
	if len(addrs) > limit {
		return nil, fmt.Errorf("%d %s addresses: at most %d", len(addrs), what, limit)
	}
	out := make([]ma.Multiaddr, 0, len(addrs))
	for _, s := range addrs {
		if len(s) > maxAddrBytes {
			return nil, fmt.Errorf("%s address of %d bytes: at most %d", what, len(s), maxAddrBytes)
		}
		a, err := ma.NewMultiaddr(s)
		if err != nil {
			return nil, fmt.Errorf("%s address %q: %w", what, s, err)
		}
		out = append(out, a)
	}
	return out, nil
}
