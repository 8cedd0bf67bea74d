package wire_test

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"fallow.network"
	marketv1 "fallow.network/api/market"
	nodev1 "fallow.network/api/node"
	"fallow.network/market"
	"fallow.network/wire"
)

// field appends an unknown field with these bytes as its value.
func field(b, value []byte) []byte {
	b = protowire.AppendTag(bytes.Clone(b), 999, protowire.BytesType)
	return protowire.AppendBytes(b, value)
}

func TestUnknownFieldsAreRefused(t *testing.T) {
	for _, m := range messages(t) {
		b, err := m.encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.decode(field(b, []byte("new"))); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%s with a new field: %v", m.kind, err)
		}
		for _, bad := range [][]byte{nil, b[:len(b)-1], append(bytes.Clone(b), 0xff)} {
			if _, err := m.decode(bad); !errors.Is(err, wire.ErrMalformed) {
				t.Errorf("%s of %d bytes: %v", m.kind, len(bad), err)
			}
		}
	}
	// In a message inside a list inside a message.
	b, err := wire.EncodeDemand(sampleDemand(t))
	if err != nil {
		t.Fatal(err)
	}
	var m marketv1.Demand
	if err := proto.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	m.GetPlacement().GetAttributes()[0].ProtoReflect().SetUnknown(field(nil, []byte("new")))
	if b, err = proto.Marshal(&m); err != nil {
		t.Fatal(err)
	}
	if _, err := wire.Demand(b); !errors.Is(err, wire.ErrMalformed) || !strings.Contains(err.Error(), "Attribute") {
		t.Errorf("a new field deep inside: %v", err)
	}
}

func TestDemandBounds(t *testing.T) {
	tests := map[string]func(*marketv1.Demand){
		"tenant":        func(d *marketv1.Demand) { d.Tenant = "cosmos1qqq" },
		"tenant's sum":  func(d *marketv1.Demand) { d.Tenant = d.GetTenant()[:len(d.GetTenant())-1] + "q" },
		"client key":    func(d *marketv1.Demand) { d.ClientKey = d.GetClientKey()[1:] },
		"session key":   func(d *marketv1.Demand) { d.SessionKey = nil },
		"sealing key":   func(d *marketv1.Demand) { d.SealingKey = append(d.GetSealingKey(), 1) },
		"nonce":         func(d *marketv1.Demand) { d.Nonce = d.GetNonce()[:8] },
		"kind":          func(d *marketv1.Demand) { d.Kind = -1 },
		"slots":         func(d *marketv1.Demand) { d.Slots = 0 },
		"memory":        func(d *marketv1.Demand) { d.Slot.MemoryBytes = 1 << 62 },
		"workload":      func(d *marketv1.Demand) { d.Workload = d.GetWorkload()[:31] },
		"expiry":        func(d *marketv1.Demand) { d.ExpiresUnixMs = -5 },
		"tasks":         func(d *marketv1.Demand) { d.Tasks = 1 << 30 },
		"class":         func(d *marketv1.Demand) { d.Class = strings.Repeat("x", 200) },
		"profile":       func(d *marketv1.Demand) { d.Profile = "a\nb" },
		"gpu":           func(d *marketv1.Demand) { d.Slot.GpuModel = "H100" },
		"excluded":      func(d *marketv1.Demand) { d.Placement.Excluded = []string{"me"} },
		"input":         func(d *marketv1.Demand) { d.Inputs[0].Digest = nil },
		"many inputs":   func(d *marketv1.Demand) { d.Inputs = slicesRepeat(d.GetInputs()[0], 1025) },
		"large message": func(d *marketv1.Demand) { d.Placement.Regions = []string{strings.Repeat("x", wire.MaxDemand)} },
	}
	for name, change := range tests {
		b, err := wire.EncodeDemand(sampleDemand(t))
		if err != nil {
			t.Fatal(err)
		}
		var m marketv1.Demand
		if err := proto.Unmarshal(b, &m); err != nil {
			t.Fatal(err)
		}
		change(&m)
		if b, err = proto.Marshal(&m); err != nil {
			t.Fatal(err)
		}
		if _, err := wire.Demand(b); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func slicesRepeat[T any](v T, n int) []T {
	var list []T
	for range n {
		list = append(list, v)
	}
	return list
}

func TestAddress(t *testing.T) {
	// The key and hash of BIP-173's examples: the hash is of secp256k1's
	// generator point.
	var one secp256k1.ModNScalar
	one.SetInt(1)
	key := market.ClientKey(secp256k1.NewPrivateKey(&one).PubKey().SerializeCompressed())
	const want = "fal1w508d6qejxtdg4y5r3zarvary0c5xw7k"
	got := string(wire.Address(key))
	if !strings.HasPrefix(got, want) || len(got) != len(want)+6 {
		t.Errorf("address %s, want %s and a sum", got, want)
	}
	if err := wire.CheckAccount(got); err != nil {
		t.Error(err)
	}
	for i := range got {
		bad := []byte(got)
		bad[i] ^= 1
		if wire.CheckAccount(string(bad)) == nil {
			t.Errorf("mistyped at %d and taken", i)
		}
	}
	for _, bad := range []string{"", "fal1", strings.ToUpper(got), got + "q", got[:len(got)-1]} {
		if wire.CheckAccount(bad) == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestDemandSignatureHasOneForm(t *testing.T) {
	b, err := wire.EncodeDemand(sampleDemand(t))
	if err != nil {
		t.Fatal(err)
	}
	s, err := wire.SignDemand(seed(1), chainID, b)
	if err != nil {
		t.Fatal(err)
	}
	// The other S verifies by the curve; it must not by us.
	var scalar secp256k1.ModNScalar
	scalar.SetByteSlice(s.Signature[32:])
	high := scalar.Negate().Bytes()
	s.Signature = append(bytes.Clone(s.Signature[:32]), high[:]...)
	if _, err := wire.OpenDemand(chainID, s); !errors.Is(err, wire.ErrSignature) {
		t.Errorf("a high S: %v", err)
	}
	other, err := wire.SignDemand(seed(9), chainID, b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := wire.OpenDemand(chainID, other); !errors.Is(err, wire.ErrSignature) {
		t.Errorf("by another key: %v", err)
	}
	if _, err := wire.SignDemand(make([]byte, 32), chainID, b); err == nil {
		t.Error("signed by the zero key")
	}
}

func TestSealedAnswer(t *testing.T) {
	priv, pub, err := wire.NewSealingKey()
	if err != nil {
		t.Fatal(err)
	}
	demand := fallow.Sum([]byte("demand"))
	offer, err := wire.EncodeOffer(sampleOffer(t))
	if err != nil {
		t.Fatal(err)
	}
	answers := []market.Answer{
		{Provider: provider(t), NodeKey: wire.PublicKey(node()), Reason: fallow.ReasonNoCapacity, Detail: "busy", Protocol: fallow.Protocol},
		{
			Provider: provider(t), NodeKey: wire.PublicKey(node()), Protocol: fallow.Protocol, Region: "eu-west",
			Offer: wire.Sign(node(), market.SignsOffer, chainID, offer),
			Addrs: []string{"/ip4/127.0.0.1/tcp/1"}, Has: []fallow.Digest{demand},
		},
	}
	for _, a := range answers {
		sealed, err := wire.SealAnswer(pub, demand, a)
		if err != nil {
			t.Fatal(err)
		}
		got, err := wire.OpenAnswer(priv, demand, sealed)
		if err != nil || !reflect.DeepEqual(got, a) {
			t.Errorf("opened %+v, %v", got, err)
		}
		if _, err := wire.OpenAnswer(priv, fallow.Sum(nil), sealed); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("for another demand: %v", err)
		}
		other, _, err := wire.NewSealingKey()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := wire.OpenAnswer(other, demand, sealed); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("with another key: %v", err)
		}
		sealed.Ciphertext[3] ^= 1
		if _, err := wire.OpenAnswer(priv, demand, sealed); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("altered: %v", err)
		}
	}
	both := answers[1]
	both.Reason = fallow.ReasonPaused
	if _, err := wire.SealAnswer(pub, demand, both); !errors.Is(err, wire.ErrMalformed) {
		t.Errorf("an offer and a reason: %v", err)
	}
	if _, err := wire.OpenAnswer(priv, demand, &marketv1.SealedAnswer{}); !errors.Is(err, wire.ErrMalformed) {
		t.Errorf("nothing: %v", err)
	}
}

func TestTask(t *testing.T) {
	blob := &marketv1.Blob{Digest: seed(1), Size: 10}
	good := func() *nodev1.Task {
		return &nodev1.Task{
			Task: 3, Attempt: 2, Workload: seed(2), Module: blob, Args: []string{"a"}, Stdin: blob,
			Inputs: []*nodev1.Input{{Path: "x", Blob: blob}}, Limits: &nodev1.Limits{Gas: 5}, Profile: "p", Seed: seed(3), WallMs: 7,
		}
	}
	task, err := wire.Task(good())
	if err != nil {
		t.Fatal(err)
	}
	if task.Stdin == nil || len(task.Files) != 1 || task.Limits.Gas != 5 || task.Task != 3 {
		t.Errorf("%+v", task)
	}
	tests := map[string]func(*nodev1.Task){
		"module":  func(m *nodev1.Task) { m.Module = nil },
		"digest":  func(m *nodev1.Task) { m.Workload = seed(2)[1:] },
		"seed":    func(m *nodev1.Task) { m.Seed = make([]byte, 65) },
		"args":    func(m *nodev1.Task) { m.Args = []string{strings.Repeat("x", 65<<10)} },
		"path":    func(m *nodev1.Task) { m.Inputs[0].Path = "" },
		"input":   func(m *nodev1.Task) { m.Inputs[0].Blob = &marketv1.Blob{Digest: []byte{1}} },
		"unknown": func(m *nodev1.Task) { m.ProtoReflect().SetUnknown(field(nil, []byte("new"))) },
	}
	for name, change := range tests {
		m := good()
		change(m)
		if _, err := wire.Task(m); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEncodersRefuseWhatDecodersWould(t *testing.T) {
	o := sampleOffer(t)
	o.Terms.SecondPrice = fallow.PicoOf(1_001)
	if _, err := wire.EncodeOffer(o); !errors.Is(err, wire.ErrMalformed) {
		t.Errorf("a price of a part of a pico-credit a millisecond: %v", err)
	}
	r := sampleReceipt()
	r.Output[0]++
	if _, err := wire.EncodeReceipt(r); !errors.Is(err, wire.ErrMalformed) {
		t.Errorf("an output digest of other outputs: %v", err)
	}
}
