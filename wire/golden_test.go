package wire_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"fallow.network"
	"fallow.network/market"
	"fallow.network/receipt"
	"fallow.network/wire"
)

var update = flag.Bool("update", false, "write the golden vectors anew")

const chainID = "fallow-golden-1"

// vector is one file of testdata/golden: a message as bytes, what its
// signature covers, and the signature by a fixed key. Chain, client and
// simulator read the same files.
type vector struct {
	Kind        string          `json:"kind"`
	ChainID     string          `json:"chain_id"`
	Message     string          `json:"message"`      // hex
	Digest      string          `json:"digest"`       // the message's identity
	SignedBytes string          `json:"signed_bytes"` // hex
	SecretKey   string          `json:"secret_key"`   // hex, 32 bytes: Ed25519 seed or secp256k1 scalar
	PublicKey   string          `json:"public_key"`   // hex
	Signature   string          `json:"signature"`    // hex
	Decoded     json.RawMessage `json:"decoded"`      // the pure type, for people
}

func seed(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

func node() ed25519.PrivateKey    { return ed25519.NewKeyFromSeed(seed(2)) }
func session() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(seed(3)) }

func tenant(tb testing.TB) (market.ClientKey, fallow.Account) {
	tb.Helper()
	k, err := wire.ClientKey(seed(1))
	if err != nil {
		tb.Fatal(err)
	}
	return k, wire.Address(k)
}

func provider(tb testing.TB) fallow.Account {
	tb.Helper()
	k, err := wire.ClientKey(seed(4))
	if err != nil {
		tb.Fatal(err)
	}
	return wire.Address(k)
}

func sampleDemand(tb testing.TB) market.Demand {
	tb.Helper()
	key, who := tenant(tb)
	return market.Demand{
		Tenant: who, ClientKey: key, SessionKey: wire.PublicKey(session()),
		SealingKey: market.SealingKey(seed(5)), Nonce: market.Nonce(seed(6)[:16]),
		Kind: market.KindBatch, Class: fallow.ClassWASM, Profile: "wasm/1",
		Slot:  market.Resources{MilliCPU: 1000, Memory: 256 << 20, Disk: 64 << 20},
		Slots: 4,
		Placement: market.Placement{
			Regions:    []string{"eu-west"},
			Attributes: []market.Attribute{{Key: "arch", Value: "amd64"}},
			Excluded:   []fallow.Account{provider(tb)},
		},
		Workload: fallow.Sum([]byte("workload")),
		Inputs:   []market.Blob{{Digest: fallow.Sum([]byte("module")), Size: 4096, MediaType: "application/wasm"}},
		Expires:  1_700_000_000_000, Seconds: 60, Tasks: 48,
	}
}

func sampleOffer(tb testing.TB) market.Offer {
	tb.Helper()
	_, who := tenant(tb)
	return market.Offer{
		Demand: fallow.Sum([]byte("demand")), Tenant: who, Provider: provider(tb),
		NodeKey: wire.PublicKey(node()), KeyEpoch: 3, Kind: market.KindBatch, Workload: fallow.Sum([]byte("workload")),
		Terms: market.Terms{
			GasPrice: fallow.Pico{Hi: 0, Lo: 2_500_000}, TaskFee: fallow.PicoOf(100), Slots: 2,
			Slot:       market.Resources{MilliCPU: 1000, Memory: 256 << 20, Disk: 64 << 20},
			LeastSpeed: 50_000_000, UnpaidCeiling: 20_000, MaxReserve: 5_000_000, ClaimWindowMS: 5_000, IdleMS: 60_000,
		},
		Nonce: market.Nonce(seed(7)[:16]), LastHeight: 1234, Profile: "wasm/1",
	}
}

func sampleReceipt() receipt.Receipt {
	r := receipt.Receipt{
		Lease: 9, Workload: fallow.Sum([]byte("canonical workload")), Task: 17, Attempt: 1,
		Input: fallow.Sum([]byte("input")),
		Outputs: []receipt.Output{
			{Path: "frame.ppm", Digest: fallow.Sum([]byte("frame")), Size: 172_815},
			{Path: "stdout", Digest: fallow.Sum(nil)},
		},
		Gas: 812_345_678, Outcome: receipt.Exited, Profile: "wasm/1",
		Started: 1_700_000_000_000, Ended: 1_700_000_001_500, Charge: fallow.PicoOf(2_030_964_295),
	}
	r.Output = receipt.OutputDigest(r.Outputs)
	return r
}

func sampleVoucher() receipt.Voucher {
	return receipt.Voucher{
		Lease: 9, Amount: fallow.Pico{Hi: 1, Lo: 5}, Receipts: 2,
		ReceiptsRoot: receipt.Root([]fallow.Digest{fallow.Sum([]byte("r1")), fallow.Sum([]byte("r2"))}),
	}
}

func sampleHorizon() receipt.Horizon {
	return receipt.Horizon{Lease: 10, Sequence: 2, Until: 1_700_000_030_000}
}

func sampleRelease() receipt.Release {
	return receipt.Release{Lease: 9, Amount: fallow.PicoOf(2_030_964_295)}
}

// message is one kind of signed message with how it is made and read.
type message struct {
	kind   string
	secret []byte
	value  any
	encode func() ([]byte, error)
	decode func([]byte) (any, error)
}

func messages(tb testing.TB) []message {
	tb.Helper()
	d, o := sampleDemand(tb), sampleOffer(tb)
	return []message{
		{
			market.SignsDemand, seed(1), d,
			func() ([]byte, error) { return wire.EncodeDemand(d) },
			func(b []byte) (any, error) { return wire.Demand(b) },
		},
		{
			market.SignsOffer, seed(2), o,
			func() ([]byte, error) { return wire.EncodeOffer(o) },
			func(b []byte) (any, error) { return wire.Offer(b) },
		},
		{
			market.SignsReceipt, seed(2), sampleReceipt(),
			func() ([]byte, error) { return wire.EncodeReceipt(sampleReceipt()) },
			func(b []byte) (any, error) { return wire.Receipt(b) },
		},
		{
			market.SignsVoucher, seed(3), sampleVoucher(),
			func() ([]byte, error) { return wire.EncodeVoucher(sampleVoucher()) },
			func(b []byte) (any, error) { return wire.Voucher(b) },
		},
		{
			market.SignsHorizon, seed(3), sampleHorizon(),
			func() ([]byte, error) { return wire.EncodeHorizon(sampleHorizon()) },
			func(b []byte) (any, error) { return wire.Horizon(b) },
		},
		{
			market.SignsRelease, seed(2), sampleRelease(),
			func() ([]byte, error) { return wire.EncodeRelease(sampleRelease()) },
			func(b []byte) (any, error) { return wire.Release(b) },
		},
	}
}

func (m message) sign(tb testing.TB, b []byte) (market.Signed, []byte) {
	tb.Helper()
	if m.kind != market.SignsDemand {
		key := ed25519.NewKeyFromSeed(m.secret)
		public := wire.PublicKey(key)
		return wire.Sign(key, m.kind, chainID, b), public[:]
	}
	s, err := wire.SignDemand(m.secret, chainID, b)
	if err != nil {
		tb.Fatal(err)
	}
	public, err := wire.ClientKey(m.secret)
	if err != nil {
		tb.Fatal(err)
	}
	return s, public[:]
}

func TestGolden(t *testing.T) {
	for _, m := range messages(t) {
		t.Run(m.kind, func(t *testing.T) {
			file := filepath.Join("..", "testdata", "golden", m.kind+".json")
			b, err := m.encode()
			if err != nil {
				t.Fatal(err)
			}
			signed, public := m.sign(t, b)
			decoded, err := json.Marshal(m.value)
			if err != nil {
				t.Fatal(err)
			}
			made := vector{
				Kind: m.kind, ChainID: chainID,
				Message:     hex.EncodeToString(b),
				Digest:      signed.ID().String(),
				SignedBytes: hex.EncodeToString(fallow.SignedBytes(m.kind, chainID, b)),
				SecretKey:   hex.EncodeToString(m.secret),
				PublicKey:   hex.EncodeToString(public),
				Signature:   hex.EncodeToString(signed.Signature),
				Decoded:     decoded,
			}
			text, err := json.MarshalIndent(made, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			text = append(text, '\n')
			if *update {
				if err := os.WriteFile(file, text, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(text, want) {
				t.Errorf("%s differs from what is made now:\n%s", file, text)
			}
			got, err := m.decode(b)
			if err != nil || !reflect.DeepEqual(got, m.value) {
				t.Errorf("decoded %+v, %v; want %+v", got, err, m.value)
			}
			if err := open(m.kind, chainID, signed); err != nil {
				t.Errorf("open: %v", err)
			}
			forged := market.Signed{Message: b, Signature: bytes.Clone(signed.Signature)}
			forged.Signature[40] ^= 1
			if err := open(m.kind, chainID, forged); wire.ReasonOf(err) != fallow.ReasonSignature {
				t.Errorf("forged: %v", err)
			}
			if err := open(m.kind, "another", signed); wire.ReasonOf(err) != fallow.ReasonSignature {
				t.Errorf("from another chain: %v", err)
			}
		})
	}
}

// open opens a signed message of any kind by the sample keys.
func open(kind, chain string, s market.Signed) error {
	var err error
	switch kind {
	case market.SignsDemand:
		_, err = wire.OpenDemand(chain, s)
	case market.SignsOffer:
		_, err = wire.OpenOffer(chain, s)
	case market.SignsReceipt:
		_, err = wire.OpenReceipt(chain, wire.PublicKey(node()), s)
	case market.SignsVoucher:
		_, err = wire.OpenVoucher(chain, wire.PublicKey(session()), s)
	case market.SignsHorizon:
		_, err = wire.OpenHorizon(chain, wire.PublicKey(session()), s)
	case market.SignsRelease:
		_, err = wire.OpenRelease(chain, wire.PublicKey(node()), s)
	}
	return err
}
