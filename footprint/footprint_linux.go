package footprint

import (
	"bufio"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// dropProgram gives back the pages of the program's own file. A part of the
// file of which the process has pages of its own was written to, as by the
// linker while it started, and stays.
func dropProgram() {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return
	}
	defer f.Close() //nolint:errcheck // it was only read
	var start, end uint64
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) == 0:
		case !strings.HasSuffix(fields[0], ":"):
			// start-end perms offset device inode path
			start, end = 0, 0
			if len(fields) == 6 && fields[5] == self && !strings.Contains(fields[1], "w") {
				start, end = span(fields[0])
			}
		case fields[0] == "Anonymous:" && len(fields) > 1 && fields[1] == "0" && end > start:
			_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, uintptr(start), uintptr(end-start), syscall.MADV_DONTNEED)
		}
	}
}

// span reads start-end; an empty one when it is none.
func span(text string) (start, end uint64) {
	from, to, _ := strings.Cut(text, "-")
	start, err1 := strconv.ParseUint(from, 16, 64)
	end, err2 := strconv.ParseUint(to, 16, 64)
	if err1 != nil || err2 != nil {
		return 0, 0
	}
	return start, end
}
