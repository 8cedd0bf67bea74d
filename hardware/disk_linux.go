package hardware

import (
	"os"
	"syscall"
)

func space(path string) (total, free uint64, err error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(path, &s); err != nil {
		return 0, 0, &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	unit := uint64(s.Frsize)
	return s.Blocks * unit, s.Bavail * unit, nil
}
