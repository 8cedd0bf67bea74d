package wire_test

import (
	"bytes"
	"reflect"
	"testing"

	"fallow.network/wire"
)

// FuzzDecode feeds every decoder the same bytes. What one takes must survive
// a second trip, and no input may panic or decode without its bounds.
func FuzzDecode(f *testing.F) {
	for _, m := range messages(f) {
		b, err := m.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if v, err := wire.Demand(b); err == nil {
			again(t, v, wire.EncodeDemand, wire.Demand)
		}
		if v, err := wire.Offer(b); err == nil {
			again(t, v, wire.EncodeOffer, wire.Offer)
		}
		if v, err := wire.Answer(b); err == nil {
			again(t, v, wire.EncodeAnswer, wire.Answer)
		}
		if v, err := wire.Receipt(b); err == nil {
			again(t, v, wire.EncodeReceipt, wire.Receipt)
		}
		if v, err := wire.Voucher(b); err == nil {
			again(t, v, wire.EncodeVoucher, wire.Voucher)
		}
		if v, err := wire.Horizon(b); err == nil {
			again(t, v, wire.EncodeHorizon, wire.Horizon)
		}
		if v, err := wire.Release(b); err == nil {
			again(t, v, wire.EncodeRelease, wire.Release)
		}
	})
}

func again[T any](t *testing.T, v T, encode func(T) ([]byte, error), decode func([]byte) (T, error)) {
	t.Helper()
	b, err := encode(v)
	if err != nil {
		t.Fatalf("decoded and not encoded: %v", err)
	}
	got, err := decode(b)
	if err != nil || !reflect.DeepEqual(got, v) {
		t.Fatalf("%+v came back as %+v, %v", v, got, err)
	}
	twice, err := encode(got)
	if err != nil || !bytes.Equal(b, twice) {
		t.Fatalf("two encodings, %v", err)
	}
}

func FuzzCheckAccount(f *testing.F) {
	f.Add("fal1w508d6qejxtdg4y5r3zarvary0c5xw7k000000")
	f.Add("fal1")
	f.Fuzz(func(t *testing.T, s string) {
		if wire.CheckAccount(s) == nil && len(s) != 42 && len(s) != 62 {
			t.Fatalf("%q is taken", s)
		}
	})
}
