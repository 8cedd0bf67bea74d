package p2p

import (
	"context"
	"crypto/ed25519"
	"fmt"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"fallow.network"
)

// PeerID is the libp2p name of an Ed25519 key, as in /p2p/12D3Koo…: the
// identity multihash of the key, so it converts both ways.
func PeerID(k fallow.Key) string {
	id, err := idOf(k)
	if err != nil {
		return ""
	}
	return id.String()
}

// ParsePeerID is the key that a libp2p peer ID names. IDs of other kinds of
// key are refused.
func ParsePeerID(s string) (fallow.Key, error) {
	if len(s) > 128 {
		return fallow.Key{}, fmt.Errorf("peer id of %d characters: at most 128", len(s))
	}
	id, err := peer.Decode(s)
	if err != nil {
		return fallow.Key{}, fmt.Errorf("peer id %q: %w", s, err)
	}
	return keyOf(id)
}

// URL is where requests to k go with Host.HTTPClient: http://<peer id>.
func URL(k fallow.Key) string { return "http://" + PeerID(k) }

// AddrKey is the key in a full multiaddr that ends in /p2p/ID.
func AddrKey(addr string) (fallow.Key, error) {
	if len(addr) > maxAddrBytes {
		return fallow.Key{}, fmt.Errorf("address of %d bytes: at most %d", len(addr), maxAddrBytes)
	}
	info, err := peer.AddrInfoFromString(addr)
	if err != nil {
		return fallow.Key{}, fmt.Errorf("address %q: %w", addr, err)
	}
	return keyOf(info.ID)
}

type peerKey struct{}

// PeerKey is the key that the sender of a request proved when it connected.
// It is false outside a handler that Host.Serve called.
func PeerKey(ctx context.Context) (fallow.Key, bool) {
	k, ok := ctx.Value(peerKey{}).(fallow.Key)
	return k, ok
}

// WithPeerKey makes ctx look as if k had sent the request: for tests of
// handlers, and for a program that calls its own.
func WithPeerKey(ctx context.Context, k fallow.Key) context.Context {
	return context.WithValue(ctx, peerKey{}, k)
}

func idOf(k fallow.Key) (peer.ID, error) {
	pub, err := crypto.UnmarshalEd25519PublicKey(k[:])
	if err != nil {
		return "", fmt.Errorf("key %s: %w", k.Short(), err)
	}
	return peer.IDFromPublicKey(pub)
}

func keyOf(id peer.ID) (fallow.Key, error) {
	pub, err := id.ExtractPublicKey()
	if err != nil {
		return fallow.Key{}, fmt.Errorf("peer id %s holds no ed25519 key: %w", id, err)
	}
	if pub.Type() != crypto.Ed25519 {
		return fallow.Key{}, fmt.Errorf("peer id %s is of a %s key: want ed25519", id, pub.Type())
	}
	raw, err := pub.Raw()
	if err != nil {
		return fallow.Key{}, fmt.Errorf("peer id %s: %w", id, err)
	}
	return fallow.KeyFrom(raw)
}

// publicOf is the public half of an ed25519 private key.
func publicOf(k ed25519.PrivateKey) fallow.Key {
	var out fallow.Key
	copy(out[:], k[ed25519.PrivateKeySize-ed25519.PublicKeySize:])
	return out
}
