package main

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// clean is s as it may stand in a line on a terminal: names of files, traps,
// regions and reasons come from strangers, who must neither move the cursor nor
// forge a line. What is no printable character is written as its escape.
func clean(s string) string { return escape(s, "") }

// escape writes what is not printable as its escape, but for keep.
func escape(s, keep string) string {
	plain := true
	for _, r := range s {
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			plain = false
			break
		}
	}
	if plain {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case unicode.IsPrint(r) || strings.ContainsRune(keep, r):
			b.WriteString(s[:n])
		case r < 0x80:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
		s = s[n:]
	}
	return b.String()
}

// plain is where text for people goes: lines stand, and nothing else that a
// terminal would act on.
type plain struct{ io.Writer }

// Write writes p with its escapes spelled out.
func (w plain) Write(p []byte) (int, error) {
	if _, err := io.WriteString(w.Writer, escape(string(p), "\n")); err != nil {
		return 0, err
	}
	return len(p), nil
}
