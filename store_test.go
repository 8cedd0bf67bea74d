package fallow_test

import (
	"bytes"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"fallow.network"
)

func dump(t *rapid.T, s fallow.Store, start, end []byte) string {
	t.Helper()
	var b bytes.Buffer
	if err := s.Scan(start, end, func(k, v []byte) bool {
		fmt.Fprintf(&b, "%x=%x ", k, v)
		return true
	}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestOverlayIsTheStoreItWillBe writes the same to a store and to an overlay
// over a copy: both read alike before the commit and are equal after it.
func TestOverlayIsTheStoreItWillBe(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.SliceOfN(rapid.ByteRange(0, 3), 0, 3)
		plain := &fallow.Memory{}
		for range rapid.IntRange(0, 10).Draw(t, "before") {
			_ = plain.Set(key.Draw(t, "key"), []byte{9})
		}
		under := plain.Clone()
		over := fallow.NewOverlay(under)
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) {
				k := key.Draw(t, "key")
				a, _ := plain.Get(k)
				b, _ := over.Get(k)
				if (a == nil) != (b == nil) || !bytes.Equal(a, b) {
					t.Fatalf("%x: %x and %x", k, a, b)
				}
				start, end := key.Draw(t, "start"), key.Draw(t, "end")
				if rapid.Bool().Draw(t, "to the end") {
					end = nil
				}
				if a, b := dump(t, plain, start, end), dump(t, over, start, end); a != b {
					t.Fatalf("from %x to %x: %s and %s", start, end, a, b)
				}
			},
			"set": func(t *rapid.T) {
				k, v := key.Draw(t, "key"), rapid.SliceOfN(rapid.Byte(), 0, 2).Draw(t, "value")
				_, _ = plain.Set(k, v), over.Set(k, v)
			},
			"delete": func(t *rapid.T) {
				k := key.Draw(t, "key")
				_, _ = plain.Delete(k), over.Delete(k)
			},
			"commit": func(t *rapid.T) {
				if err := over.Commit(); err != nil {
					t.Fatal(err)
				}
				if a, b := dump(t, plain, nil, nil), dump(t, under, nil, nil); a != b {
					t.Fatalf("%s and %s", a, b)
				}
			},
		})
	})
}

func TestScansStop(t *testing.T) {
	m := &fallow.Memory{}
	o := fallow.NewOverlay(m)
	for i := range byte(4) {
		_ = m.Set([]byte{i * 2}, []byte{1})
		_ = o.Set([]byte{i*2 + 1}, []byte{1})
	}
	for stop := 1; stop <= 8; stop++ {
		n := 0
		if err := o.Scan(nil, nil, func([]byte, []byte) bool {
			n++
			return n < stop
		}); err != nil || n != stop {
			t.Errorf("stopped after %d of %d, %v", n, stop, err)
		}
	}
}

func TestRecords(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, s := rapid.Uint64().Draw(t, "n"), rapid.String().Draw(t, "s")
		p := fallow.Pico{Hi: rapid.Uint64().Draw(t, "hi"), Lo: n}
		yes := rapid.Bool().Draw(t, "yes")
		w := fallow.NewRecord(3)
		w.Uint(n)
		w.String(s)
		w.Pico(p)
		w.Bool(yes)
		b := w.Done()
		r := fallow.ReadRecord(b, 3)
		if r.Uint() != n || r.String() != s || r.Pico() != p || r.Bool() != yes || r.Done() != nil {
			t.Fatal("a record does not come back")
		}
		cut := fallow.ReadRecord(b[:len(b)-1], 3)
		_, _, _, _ = cut.Uint(), cut.String(), cut.Pico(), cut.Bool()
		if cut.Done() == nil {
			t.Fatal("a record that is cut is read")
		}
		if fallow.ReadRecord(b, 4).Done() == nil || fallow.ReadRecord(b, 3).Done() == nil {
			t.Fatal("another version, or something left over, is read")
		}
	})
	r := fallow.ReadRecord([]byte{3, 0x80, 0x00}, 3)
	if _ = r.Uint(); r.Done() == nil {
		t.Error("a number with two encodings is read")
	}
}
