package keys

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"fallow.network"
)

// Node is the key of one machine: its libp2p identity, and what signs its
// offers, receipts and releases. The ledger numbers each registration of a
// node key; Epoch is the number last seen there, 0 before the first.
type Node struct {
	Private ed25519.PrivateKey
	Epoch   uint64
}

// nodeFile is a node key on disk: the daemon must start without a person, so
// it is kept by its mode alone.
type nodeFile struct {
	Version int        `json:"version"`
	Key     fallow.Key `json:"key"`
	Seed    string     `json:"seed"`
	Epoch   uint64     `json:"epoch"`
}

// Key is the public half.
func (n Node) Key() fallow.Key {
	var k fallow.Key
	copy(k[:], n.Private.Public().(ed25519.PublicKey))
	return k
}

// OpenNode reads the node key at path, and makes one if there is none.
func OpenNode(path string) (Node, error) {
	n, err := readNode(path)
	if !errors.Is(err, os.ErrNotExist) {
		return n, err
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Node{}, fmt.Errorf("draw a node key: %w", err)
	}
	n = Node{Private: private}
	b, err := n.file()
	if err != nil {
		return Node{}, err
	}
	err = writeNew(path, b)
	if errors.Is(err, os.ErrExist) { // another process made it meanwhile
		return readNode(path)
	}
	return n, err
}

// Save writes n to path, as after the ledger gave it an epoch.
func (n Node) Save(path string) error {
	b, err := n.file()
	if err != nil {
		return err
	}
	return replace(path, b)
}

// RotateNode replaces the node key at path by a new one and keeps the old
// file as path.old, since offers and receipts signed by it stay evidence.
func RotateNode(path string) (Node, error) {
	old, err := readNode(path)
	if err != nil {
		return Node{}, err
	}
	if err := old.Save(path + ".old"); err != nil {
		return Node{}, err
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Node{}, fmt.Errorf("draw a node key: %w", err)
	}
	n := Node{Private: private}
	return n, n.Save(path)
}

func (n Node) file() ([]byte, error) {
	if len(n.Private) != ed25519.PrivateKeySize {
		return nil, fmt.Errorf("node key of %d bytes: want %d", len(n.Private), ed25519.PrivateKeySize)
	}
	b, err := json.MarshalIndent(nodeFile{1, n.Key(), hex.EncodeToString(n.Private.Seed()), n.Epoch}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write a node key: %w", err)
	}
	return append(b, '\n'), nil
}

func readNode(path string) (Node, error) {
	b, err := readSecretFile(path, 4096, true)
	if err != nil {
		return Node{}, fmt.Errorf("node key: %w", err)
	}
	n, err := parseNode(b)
	if err != nil {
		return Node{}, fmt.Errorf("node key %s: %w", path, err)
	}
	return n, nil
}

func parseNode(b []byte) (Node, error) {
	var f nodeFile
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return Node{}, err
	}
	seed, err := hex.DecodeString(f.Seed)
	if f.Version != 1 || err != nil || len(seed) != ed25519.SeedSize {
		return Node{}, errors.New("want version 1 and a seed of 64 hex digits")
	}
	n := Node{Private: ed25519.NewKeyFromSeed(seed), Epoch: f.Epoch}
	if n.Key() != f.Key {
		return Node{}, errors.New("its seed does not give the key that it names")
	}
	return n, nil
}
