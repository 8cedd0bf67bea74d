package blob

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// errUnsatisfiable is a range that begins behind the blob's end.
var errUnsatisfiable = errors.New("range begins behind the end")

// span is size bytes of a blob from offset on.
type span struct{ offset, size int64 }

// parseRange reads a Range header (RFC 9110, section 14.2) with one range over
// a blob of total bytes. Several ranges are refused: nobody here needs them.
func parseRange(header string, total int64) (span, error) {
	spec, ok := strings.CutPrefix(header, "bytes=")
	if !ok || len(header) > 100 {
		return span{}, fmt.Errorf("range %.40q: want bytes=FIRST-LAST", header)
	}
	first, last, ok := strings.Cut(spec, "-")
	if !ok {
		return span{}, fmt.Errorf("range %.40q: want bytes=FIRST-LAST", header)
	}
	if first == "" { // the last so many bytes
		n, err := parseCount(last)
		if err != nil {
			return span{}, fmt.Errorf("range %.40q: %w", header, err)
		}
		if n = min(n, total); n == 0 {
			return span{}, errUnsatisfiable
		}
		return span{total - n, n}, nil
	}
	from, err := parseCount(first)
	if err != nil {
		return span{}, fmt.Errorf("range %.40q: %w", header, err)
	}
	to := int64(math.MaxInt64 - 1)
	if last != "" {
		if to, err = parseCount(last); err != nil {
			return span{}, fmt.Errorf("range %.40q: %w", header, err)
		}
		if to < from {
			return span{}, fmt.Errorf("range %.40q: ends before it begins", header)
		}
	}
	if from >= total {
		return span{}, errUnsatisfiable
	}
	return span{from, min(to, total-1) - from + 1}, nil
}

// parseContentRange reads a Content-Range header, bytes FIRST-LAST/TOTAL, with
// the total known.
func parseContentRange(header string) (s span, total int64, err error) {
	fail := func(err error) (span, int64, error) {
		return span{}, 0, fmt.Errorf("content-range %.40q: %w", header, err)
	}
	form := errors.New("want bytes FIRST-LAST/TOTAL")
	spec, ok := strings.CutPrefix(header, "bytes ")
	if !ok || len(header) > 100 {
		return fail(form)
	}
	part, of, ok := strings.Cut(spec, "/")
	if !ok {
		return fail(form)
	}
	first, last, ok := strings.Cut(part, "-")
	if !ok {
		return fail(form)
	}
	var n [3]int64
	for i, s := range []string{first, last, of} {
		if n[i], err = parseCount(s); err != nil {
			return fail(err)
		}
	}
	if n[1] < n[0] || n[1] >= n[2] {
		return fail(errors.New("the range is not inside the total"))
	}
	return span{n[0], n[1] - n[0] + 1}, n[2], nil
}

func formatContentRange(s span, total int64) string {
	return fmt.Sprintf("bytes %d-%d/%d", s.offset, s.offset+s.size-1, total)
}

// parseCount reads a decimal below 2^62, digits alone.
func parseCount(s string) (int64, error) {
	if s == "" || len(s) > 19 {
		return 0, errors.New("want a number of bytes")
	}
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, errors.New("want a number of bytes")
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n > math.MaxInt64/2 {
		return 0, errors.New("number of bytes is too large")
	}
	return n, nil
}
