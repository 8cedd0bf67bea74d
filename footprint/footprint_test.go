package footprint

import (
	"crypto/sha256"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// TestShrink: the pages of the program go, and it runs on.
func TestShrink(t *testing.T) {
	if runtime.GOOS != "linux" {
		Shrink() // does no harm
		return
	}
	file := func() (kib int) {
		b, err := os.ReadFile("/proc/self/status")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			if rest, ok := strings.CutPrefix(line, "RssFile:"); ok {
				kib, err = strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
			}
		}
		if err != nil || kib == 0 {
			t.Fatalf("no RssFile: %v", err)
		}
		return kib
	}
	before := sha256.Sum256([]byte("x"))
	was := file()
	Shrink()
	if is := file(); is >= was {
		t.Errorf("%d kB of the program before, %d after", was, is)
	}
	if sha256.Sum256([]byte("x")) != before {
		t.Error("it computes otherwise")
	}
	if a, b := span("00400000-0040f000"); a != 0x400000 || b != 0x40f000 {
		t.Errorf("span %x to %x", a, b)
	}
	if a, b := span("[heap]"); a != 0 || b != 0 {
		t.Errorf("span %x to %x", a, b)
	}
}
