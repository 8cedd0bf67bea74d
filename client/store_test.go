package client

import (
	"os"
	"path/filepath"
	"testing"
)

// TestStoreHoldsWhatWasSigned: what goes out signed must not be forgotten when
// the power fails, and a home may have any name.
func TestStoreHoldsWhatWasSigned(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a home? 50%23#", "tenant.db")
	s, err := openStore(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	var level int
	if err := s.surely(t.Context(), func(w *writer) error {
		return w.row([]any{&level}, `PRAGMA synchronous`)
	}); err != nil || level != 2 {
		t.Errorf("synchronous %d, %v", level, err)
	}
	if err := s.close(); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() == 0 || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
}
