package collect

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// writeFile puts what write gives under path, whole or not at all.
func writeFile(path string, write func(io.Writer) error) error {
	return replace(path, func(temporary string) error {
		f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_TRUNC, 0)
		if err != nil {
			return fmt.Errorf("opening a temporary file: %w", err)
		}
		b := bufio.NewWriter(f)
		err = write(b)
		if err == nil {
			err = b.Flush()
		}
		if err == nil {
			err = f.Sync()
		}
		if closed := f.Close(); err == nil {
			err = closed
		}
		return err
	})
}

// replace lets fill write a new file beside path and puts it in path's place.
func replace(path string, fill func(temporary string) error) (err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("making its folder: %w", err)
	}
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("making a temporary file: %w", err)
	}
	temporary := f.Name()
	defer func() {
		if err != nil {
			_ = os.Remove(temporary) // the error that counts is on its way
		}
	}()
	if err := f.Close(); err != nil {
		return fmt.Errorf("making a temporary file: %w", err)
	}
	if err := fill(temporary); err != nil {
		return err
	}
	if err := os.Chmod(temporary, 0o644); err != nil {
		return fmt.Errorf("opening it to readers: %w", err)
	}
	if err := os.Rename(temporary, path); err != nil {
		return fmt.Errorf("putting it in its place: %w", err)
	}
	return nil
}
