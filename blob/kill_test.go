package blob_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"fallow.network"
	"fallow.network/blob"
)

const killDir = "FALLOW_TEST_BLOB_DIR"

// TestMain writes blobs without end when TestKill asks for it.
func TestMain(m *testing.M) {
	dir := os.Getenv(killDir)
	if dir == "" {
		os.Exit(m.Run())
	}
	if err := writeWithoutEnd(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func numbered(i uint64) []byte {
	b := make([]byte, 200_000)
	for j := 0; j+8 <= len(b); j += 8 {
		binary.LittleEndian.PutUint64(b[j:], i)
	}
	return b
}

func writeWithoutEnd(dir string) error {
	ctx := context.Background()
	s, err := blob.Open(ctx, blob.Config{Dir: dir})
	if err != nil {
		return err
	}
	for i := uint64(0); ; i++ {
		d, err := s.Add(ctx, numbered(i))
		if err != nil {
			return err
		}
		if err := s.Pin(blob.Holder(fallow.LeaseID(i%3)), d); err != nil {
			return err
		}
		fmt.Println(i) // what was said to be kept must be there
	}
}

// TestKill: whatever the moment of kill -9, each blob that was said to be
// kept is there, pinned, and every file under blobs/ hashes to its name.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	for round := range 4 {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), killDir+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		kept := 0
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if kept++; kept == 5+3*round {
				if err := cmd.Process.Kill(); err != nil {
					t.Error(err)
				}
			}
		}
		if err := cmd.Wait(); err == nil {
			t.Error("was not killed")
		}
		s := open(t, blob.Config{Dir: dir, Quota: 1})
		for i := range uint64(kept) {
			if err := s.Check(t.Context(), fallow.Sum(numbered(i))); err != nil {
				t.Errorf("blob %d: %v", i, err)
			}
		}
		for i := uint64(0); ; i++ { // those that were not said to be kept
			err := s.Check(t.Context(), fallow.Sum(numbered(i)))
			if errors.Is(err, blob.ErrNotFound) {
				break
			}
			if err != nil {
				t.Errorf("blob %d: %v", i, err)
			}
		}
		if _, err := s.Add(t.Context(), []byte("one more")); !errors.Is(err, blob.ErrFull) {
			t.Errorf("pins are lost: %v", err)
		}
	}
}
