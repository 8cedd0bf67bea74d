package sdk

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"fallow.network"
)

// Network is what a network file says: enough to find a network, to know it
// again and to refuse another that calls itself by the same name.
type Network struct {
	// Protocol is the version that every program of the network speaks.
	Protocol string `toml:"protocol" json:"protocol"`
	// ChainID names the ledger; it is part of everything that is signed.
	ChainID string `toml:"chain_id" json:"chain_id"`
	// Genesis is the digest of the genesis file.
	Genesis fallow.Digest `toml:"genesis" json:"genesis"`
	// RPC lists CometBFT endpoints, as http://127.0.0.1:26657.
	RPC []string `toml:"rpc" json:"rpc"`
	// GRPC lists gRPC endpoints, as 127.0.0.1:9090.
	GRPC []string `toml:"grpc" json:"grpc"`
	// Hubs lists multiaddrs with peer ids.
	Hubs []string `toml:"hubs" json:"hubs"`
}

// maxNetworkFile bounds a network file, in bytes.
const maxNetworkFile = 64 << 10

// ErrNotJoined is a home that no network was joined from.
var ErrNotJoined = errors.New("no network joined yet; start one here with: fallow up, or join one with: fallow join NETWORK-FILE")

// ParseNetwork reads and checks a network file.
func ParseNetwork(b []byte) (Network, error) {
	var n Network
	if len(b) > maxNetworkFile {
		return n, fmt.Errorf("network file of %d bytes: at most %d", len(b), maxNetworkFile)
	}
	if err := ParseTOML(b, &n); err != nil {
		return n, err
	}
	return n, n.Validate()
}

// Validate says what is missing or wrong.
func (n Network) Validate() error {
	switch {
	case n.Protocol != fallow.Protocol:
		return fmt.Errorf("network file: protocol %q, and this program speaks %q: upgrade the older of the two", n.Protocol, fallow.Protocol)
	case n.ChainID == "" || len(n.ChainID) > 50 || strings.ContainsAny(n.ChainID, " \t\r\n/"):
		return fmt.Errorf("network file: chain_id %.60q: want 1 to 50 characters without spaces", n.ChainID)
	case n.Genesis.IsZero():
		return errors.New("network file: genesis is missing: want sha256: and 64 hex digits")
	case len(n.RPC) == 0 || len(n.GRPC) == 0:
		return errors.New("network file: want at least one rpc and one grpc endpoint")
	case len(n.RPC) > 64 || len(n.GRPC) > 64 || len(n.Hubs) > 64:
		return errors.New("network file: more than 64 endpoints of one kind")
	}
	for _, u := range n.RPC {
		if at, err := url.Parse(u); err != nil || at.Scheme != "http" && at.Scheme != "https" || at.Host == "" {
			return fmt.Errorf("network file: rpc %.80q: want http:// or https:// and a host", u)
		}
	}
	for _, a := range n.GRPC {
		if host, port, err := net.SplitHostPort(a); err != nil || host == "" || port == "" {
			return fmt.Errorf("network file: grpc %.80q: want host:port, as 127.0.0.1:9090", a)
		}
	}
	for _, h := range n.Hubs {
		if !strings.HasPrefix(h, "/") || !strings.Contains(h, "/p2p/") {
			return fmt.Errorf("network file: hub %.80q: want a multiaddr with /p2p/ and a peer id", h)
		}
	}
	return nil
}

// Save writes the network file of a home.
func (n Network) Save(path string) error {
	b, err := toml.Marshal(n)
	if err != nil {
		return err
	}
	return writeFile(path, b, 0o644)
}

// LoadNetwork reads the network file at path.
func LoadNetwork(path string) (Network, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Network{}, ErrNotJoined
	}
	if err != nil {
		return Network{}, err
	}
	n, err := ParseNetwork(b)
	if err != nil {
		return n, fmt.Errorf("%s: %w", path, err)
	}
	return n, nil
}

// writeFile puts b at path by rename, so that a crash leaves the old or the new.
func writeFile(path string, b []byte, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(f.Name()))
	}
	return nil
}

// ParseTOML reads b into v, over what stands there; an error says in which line
// and column, and a field that v does not know is one.
func ParseTOML(b []byte, v any) error {
	err := toml.NewDecoder(bytes.NewReader(b)).DisallowUnknownFields().Decode(v)
	if strict, ok := errors.AsType[*toml.StrictMissingError](err); ok && len(strict.Errors) > 0 {
		row, col := strict.Errors[0].Position()
		return fmt.Errorf("line %d, column %d: unknown field %q", row, col, strings.Join(strict.Errors[0].Key(), "."))
	}
	if dec, ok := errors.AsType[*toml.DecodeError](err); ok {
		row, col := dec.Position()
		return fmt.Errorf("line %d, column %d: %s", row, col, strings.TrimPrefix(dec.Error(), "toml: "))
	}
	return err
}
