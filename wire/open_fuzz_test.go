package wire_test

import (
	"bytes"
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"

	"fallow.network"
	hubv1 "fallow.network/api/hub"
	marketv1 "fallow.network/api/market"
	nodev1 "fallow.network/api/node"
	"fallow.network/market"
	"fallow.network/receipt"
	"fallow.network/wire"
)

// FuzzOpen signs what it is given with the right key: then a message opens if
// it decodes. With one bit turned in message or signature, none does.
func FuzzOpen(f *testing.F) {
	for _, m := range messages(f) {
		b, err := m.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, uint16(7))
	}
	key := wire.PublicKey(node())
	opens := []struct {
		kind   string
		decode func([]byte) error
		open   func(market.Signed) error
	}{
		{market.SignsReceipt, func(b []byte) error { _, err := wire.Receipt(b); return err }, func(s market.Signed) error { _, err := wire.OpenReceipt(chainID, key, s); return err }},
		{market.SignsVoucher, func(b []byte) error { _, err := wire.Voucher(b); return err }, func(s market.Signed) error { _, err := wire.OpenVoucher(chainID, key, s); return err }},
		{market.SignsHorizon, func(b []byte) error { _, err := wire.Horizon(b); return err }, func(s market.Signed) error { _, err := wire.OpenHorizon(chainID, key, s); return err }},
		{market.SignsRelease, func(b []byte) error { _, err := wire.Release(b); return err }, func(s market.Signed) error { _, err := wire.OpenRelease(chainID, key, s); return err }},
	}
	f.Fuzz(func(t *testing.T, b []byte, bit uint16) {
		for _, o := range opens {
			s := wire.Sign(node(), o.kind, chainID, b)
			if (o.decode(b) == nil) != (o.open(s) == nil) {
				t.Errorf("%s: decodes with %v, opens with %v", o.kind, o.decode(b), o.open(s))
			}
			turned := bytes.Clone(append(s.Signature, b...))
			turned[int(bit)/8%len(turned)] ^= 1 << (bit % 8)
			n := len(s.Signature)
			if o.open(market.Signed{Message: turned[n:], Signature: turned[:n]}) == nil {
				t.Errorf("%s: opens with bit %d turned", o.kind, bit)
			}
		}
		// These name the key themselves, which b was not signed with.
		if _, err := wire.OpenOffer(chainID, market.Signed{Message: b, Signature: bytes.Repeat([]byte{1}, 64)}); err == nil {
			t.Error("an offer opens with a signature of ones")
		}
		if _, err := wire.OpenDemand(chainID, market.Signed{Message: b, Signature: bytes.Repeat([]byte{1}, 64)}); err == nil {
			t.Error("a demand opens with a signature of ones")
		}
	})
}

// FuzzSealed opens answers that nobody sealed.
func FuzzSealed(f *testing.F) {
	priv, to, err := wire.NewSealingKey()
	if err != nil {
		f.Fatal(err)
	}
	demand := fallow.Sum([]byte("demand"))
	m, err := wire.SealAnswer(to, demand, market.Answer{Provider: provider(f), NodeKey: fallow.Key{1}, Reason: fallow.ReasonPaused, Protocol: fallow.Protocol})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(m.GetEncapsulatedKey(), m.GetCiphertext())
	f.Add([]byte{1}, []byte{})
	f.Add(make([]byte, 32), make([]byte, 100))
	f.Fuzz(func(t *testing.T, key, text []byte) {
		if _, err := wire.OpenAnswer(priv, fallow.Sum([]byte("another")), &marketv1.SealedAnswer{EncapsulatedKey: key, Ciphertext: text}); err == nil {
			t.Error("an answer opens for another demand")
		}
		_, _ = wire.OpenAnswer(priv, demand, &marketv1.SealedAnswer{EncapsulatedKey: key, Ciphertext: text})
	})
}

// FuzzTask reads what a node is asked to run. What it takes is within its
// bounds, and has one digest.
func FuzzTask(f *testing.F) {
	d := fallow.Sum([]byte("x"))
	b, err := proto.Marshal(&nodev1.Task{
		Task: 1, Attempt: 1, Workload: d[:], Module: wire.ToBlob(market.Blob{Digest: d, Size: 5}), Args: []string{"a", ""}, Env: []string{"A=b"},
		Inputs: []*nodev1.Input{{Path: "p", Blob: wire.ToBlob(market.Blob{Digest: d, Size: 5})}}, Limits: &nodev1.Limits{Gas: 1, MemoryBytes: 2}, Profile: "p", Seed: d[:],
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:len(b)-1])
	f.Fuzz(func(t *testing.T, b []byte) {
		var m nodev1.Task
		if proto.Unmarshal(b, &m) != nil {
			return
		}
		task, err := wire.Task(&m)
		if err != nil {
			if !wire.ReasonOf(err).Known() {
				t.Errorf("refused without a reason: %v", err)
			}
			return
		}
		for _, in := range task.Files {
			if in.Path == "" || len(in.Path) > receipt.MaxPath {
				t.Errorf("took a path of %d bytes", len(in.Path))
			}
		}
		again, err := wire.Task(proto.CloneOf(&m))
		if err != nil || receipt.InputDigest(task) != receipt.InputDigest(again) {
			t.Errorf("the same task has another digest: %v", err)
		}
	})
}

// FuzzAnnouncement reads what a node says of itself at a hub. What is told of
// it further is checked again as it stands.
func FuzzAnnouncement(f *testing.F) {
	key := wire.PublicKey(node())
	owner := func(addr string) (fallow.Key, error) {
		if len(addr)%2 == 1 {
			return fallow.Key{}, errors.New("another's")
		}
		return key, nil
	}
	b, err := proto.Marshal(&hubv1.Announcement{
		Provider: string(provider(f)), NodeKey: key[:], Classes: []string{"wasm"}, Profiles: []string{"wasm/2"}, Region: "eu",
		LargestSlot: &marketv1.Resources{MilliCpu: 4000, MemoryBytes: 1 << 30}, Attributes: []*marketv1.Attribute{{Key: "arch", Value: "amd64"}},
		Addrs: []string{"/ip4/127.0.0.1"}, Protocol: fallow.Protocol,
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		var m hubv1.Announcement
		if proto.Unmarshal(b, &m) != nil {
			return
		}
		n, err := wire.Announcement(key, &m, owner)
		if err != nil {
			return
		}
		if len(n.Classes) == 0 || len(n.Region) > market.MaxName || n.Slot.Check() != nil || len(n.Told.ProtoReflect().GetUnknown())+len(n.Told.GetLargestSlot().ProtoReflect().GetUnknown()) > 0 {
			t.Errorf("took %+v", n)
		}
		again, err := wire.Announcement(key, n.Told, owner)
		if err != nil || !proto.Equal(again.Told, n.Told) {
			t.Errorf("what is told further is refused: %v", err)
		}
	})
}
