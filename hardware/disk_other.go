//go:build !linux

package hardware

import (
	"errors"
	"os"
)

func space(path string) (total, free uint64, err error) {
	return 0, 0, &os.PathError{Op: "statfs", Path: path, Err: errors.ErrUnsupported}
}
