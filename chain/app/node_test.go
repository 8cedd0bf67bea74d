package app

import (
	"context"
	"strings"
	"testing"
	"time"

	"cosmossdk.io/log/v2"
	"github.com/cosmos/cosmos-sdk/baseapp"
)

// TestNodeThatCannotGoOn ends, and says why, instead of standing still.
func TestNodeThatCannotGoOn(t *testing.T) {
	h := DefaultHome()
	h.Dir = t.TempDir()
	h.RPC, h.P2P, h.GRPC, h.API = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	if _, err := h.Found(t.Context(), freshApp(t), DefaultGenesis(testChain, time.Now())); err != nil {
		t.Fatal(err)
	}
	cfg, srv, settings, err := ReadHome(h.Dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Consensus.TimeoutCommit, cfg.DBBackend, cfg.P2P.PexReactor = 20*time.Millisecond, "memdb", false
	settings.Set("app-db-backend", "memdb")
	n, err := Start(context.WithoutCancel(t.Context()), log.NewNopLogger(), cfg, srv, settings, baseapp.SetHaltHeight(4))
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-n.Failed():
	case <-time.After(20 * time.Second):
		t.Error("the node stands still")
	}
	if err := n.Stop(); err == nil || !strings.Contains(err.Error(), "block 4: halt per configuration") {
		t.Errorf("err = %v", err)
	}
}

// TestHomes refuses settings that can't work, and leaves what is there alone.
func TestHomes(t *testing.T) {
	change := map[string]func(*Home){
		"no folder":         func(h *Home) { h.Dir = "" },
		"blocks too fast":   func(h *Home) { h.BlockTime = time.Millisecond },
		"no name":           func(h *Home) { h.Moniker = "" },
		"no gas price":      func(h *Home) { h.GasPrice = "" },
		"a free-form price": func(h *Home) { h.GasPrice = "cheap" },
	}
	for name, f := range change {
		h := DefaultHome()
		h.Dir = t.TempDir()
		f(&h)
		if err := h.Validate(); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	h := DefaultHome()
	h.Dir = t.TempDir()
	if err := h.Join([]byte("{}")); err == nil || Exists(h.Dir) {
		t.Errorf("joined a network of nothing: %v", err)
	}
	for _, s := range []string{"", "x", "fal1=5ufal", newPerson("a").String() + "=", newPerson("a").String() + "=0ufal"} {
		if _, err := ParseFunding(s); err == nil {
			t.Errorf("%q funds an account", s)
		}
	}
}
