package blob

import (
	"bytes"
	"testing"

	"fallow.network"
)

func FuzzParseRange(f *testing.F) {
	for _, s := range []string{"bytes=0-0", "bytes=5-", "bytes=-5", "bytes=-0", "bytes=9223372036854775807-", "bytes=1-2,3-4", "bytes= 1-2", "", "bytes=", "bytes=-"} {
		f.Add(s, int64(10))
	}
	f.Add("bytes=0-", int64(0))
	f.Fuzz(func(t *testing.T, header string, total int64) {
		if total < 0 {
			return
		}
		s, err := parseRange(header, total)
		if err == nil && (s.offset < 0 || s.size <= 0 || s.offset > total-s.size) {
			t.Errorf("range %q of %d gave %+v", header, total, s)
		}
	})
}

func FuzzParseContentRange(f *testing.F) {
	for _, s := range []string{"bytes 0-0/1", "bytes 5-9/10", "bytes */10", "bytes 0-9/*", "bytes 9-5/10", "bytes 0-4611686018427387903/4611686018427387903", "items 0-1/2", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		s, total, err := parseContentRange(header)
		if err != nil {
			return
		}
		if s.offset < 0 || s.size <= 0 || s.offset > total-s.size {
			t.Errorf("content-range %q gave %+v of %d", header, s, total)
		}
		again, total2, err := parseContentRange(formatContentRange(s, total))
		if err != nil || again != s || total2 != total {
			t.Errorf("content-range %q does not survive: %+v %d %v", header, again, total2, err)
		}
	})
}

func FuzzParseChunks(f *testing.F) {
	for _, c := range []Chunks{{}, {Size: 1, Digest: make([]fallow.Digest, 1)}, {Size: ChunkSize + 1, Digest: []fallow.Digest{fallow.Sum(nil), {}}}} {
		f.Add(c.Encode())
	}
	f.Add([]byte(chunksMagic + "\xff\xff\xff\xff\xff\xff\xff\xff"))
	f.Add([]byte(chunksMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseChunks(b)
		if err != nil {
			return
		}
		if int64(len(c.Digest)) != chunkCount(c.Size) || !bytes.Equal(c.Encode(), b) {
			t.Errorf("%d chunks of %d bytes", len(c.Digest), c.Size)
		}
	})
}
