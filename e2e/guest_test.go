//go:build linux

package e2e

import (
	"os"
	"strconv"

	"github.com/rogpeppe/go-internal/testscript"
)

// guest FILE KIND [N] writes a module of the named kind:
//
//	work N    counts to N millions, then writes its stdin on stdout
//	loop      never ends
//	grow      takes memory until there is none, then counts for ever
//	flood     writes without end
//	import    asks its host for what no host has
//	trap      runs into unreachable
//	truncated is cut in the middle
func cmdGuest(ts *testscript.TestScript, neg bool, args []string) {
	deny(ts, neg)
	if len(args) < 2 {
		ts.Fatalf("usage: guest FILE KIND [N]")
	}
	var millions uint64
	if len(args) > 2 {
		var err error
		millions, err = strconv.ParseUint(args[2], 10, 32)
		ts.Check(err)
	}
	module := guest(args[1], millions*1_000_000)
	if module == nil {
		ts.Fatalf("no such kind of guest: %s", args[1])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), module, 0o600))
}

// Opcodes that the guests are made of.
const (
	opUnreachable = 0x00
	opBlock       = 0x02
	opLoop        = 0x03
	opEnd         = 0x0b
	opBr          = 0x0c
	opBrIf        = 0x0d
	opCall        = 0x10
	opDrop        = 0x1a
	opLocalGet    = 0x20
	opLocalSet    = 0x21
	opI32Load     = 0x28
	opI32Store    = 0x36
	opMemoryGrow  = 0x40
	opI32Const    = 0x41
	opI64Const    = 0x42
	opI32LtS      = 0x48
	opI64Eqz      = 0x50
	opI64Sub      = 0x7d
	noResult      = 0x40
)

// Function numbers: two imports, then _start.
const fdRead, fdWrite, start = 0, 1, 2

// guest is a command with one page of memory: at 0 stands a list of one
// buffer, 4096 bytes at 64; at 16 the count of bytes read or written.
func guest(kind string, count uint64) []byte {
	forever := []byte{opLoop, noResult, opBr, 0, opEnd}
	echo := join(
		wasi(fdRead, 0), []byte{opDrop},
		[]byte{opI32Const, 4, opI32Const, 16, opI32Load, 2, 0, opI32Store, 2, 0}, // as much as was read
		wasi(fdWrite, 1), []byte{opDrop},
	)
	var code []byte
	name := "fd_read"
	switch kind {
	case "work":
		code = join(
			[]byte{opI64Const}, signed(int64(count)), []byte{opLocalSet, 0},
			[]byte{opBlock, noResult, opLoop, noResult, opLocalGet, 0, opI64Eqz, opBrIf, 1},
			[]byte{opLocalGet, 0, opI64Const, 1, opI64Sub, opLocalSet, 0, opBr, 0, opEnd, opEnd},
			echo,
		)
	case "loop":
		code = forever
	case "grow":
		code = join([]byte{opBlock, noResult, opLoop, noResult, opI32Const, 1, opMemoryGrow, 0, opI32Const, 0, opI32LtS, opBrIf, 1, opBr, 0, opEnd, opEnd}, forever)
	case "flood":
		code = join([]byte{opLoop, noResult}, wasi(fdWrite, 1), []byte{opDrop, opBr, 0, opEnd})
	case "import":
		code, name = echo, "teleport"
	case "trap":
		code = []byte{opUnreachable}
	case "truncated":
		whole := guest("work", 1)
		return whole[:len(whole)/2]
	default:
		return nil
	}
	body := join([]byte{1, 1, 0x7e}, code, []byte{opEnd}) // one local, an i64
	const host = "wasi_snapshot_preview1"
	return join(
		[]byte("\x00asm\x01\x00\x00\x00"),
		section(1, []byte{2, 0x60, 0, 0, 0x60, 4, 0x7f, 0x7f, 0x7f, 0x7f, 1, 0x7f}),
		section(2, join([]byte{2}, named(host), named(name), []byte{0, 1}, named(host), named("fd_write"), []byte{0, 1})),
		section(3, []byte{1, 0}),
		section(5, []byte{1, 0, 1}),
		section(7, join([]byte{2}, named("memory"), []byte{2, 0}, named("_start"), []byte{0, start})),
		section(10, join([]byte{1}, unsigned(uint64(len(body))), body)),
		section(11, join([]byte{1, 0, opI32Const, 0, opEnd}, named("\x40\x00\x00\x00\x00\x10\x00\x00"))),
	)
}

// wasi calls fd_read or fd_write on a file with the one buffer.
func wasi(function, file byte) []byte {
	return []byte{opI32Const, file, opI32Const, 0, opI32Const, 1, opI32Const, 16, opCall, function}
}

func section(id byte, b []byte) []byte { return join([]byte{id}, named(string(b))) }

// named is bytes behind their length.
func named(s string) []byte { return join(unsigned(uint64(len(s))), []byte(s)) }

func unsigned(n uint64) []byte {
	var b []byte
	for ; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

func signed(n int64) []byte {
	var b []byte
	for {
		c := byte(n & 0x7f)
		n >>= 7
		if n == 0 && c&0x40 == 0 || n == -1 && c&0x40 != 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

func join(parts ...[]byte) []byte {
	var all []byte
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}
