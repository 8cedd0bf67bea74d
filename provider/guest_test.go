package provider

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"

	"fallow.network"
	nodev1 "fallow.network/api/node"
	"fallow.network/blob"
	"fallow.network/market"
	"fallow.network/receipt"
	"fallow.network/runner/wasm"
	"fallow.network/wire"
)

// guestChild runs this program as a sandbox's child when it is asked to.
func guestChild() bool {
	if len(os.Args) < 2 || os.Args[1] != wasm.ChildVerb {
		return false
	}
	os.Exit(wasm.ChildMain(os.Stdin, os.Stdout, os.Stderr))
	return true
}

// guests runs real guests out of a store.
type guests struct {
	runner *wasm.Runner
	store  *blob.Store
	dir    string
}

func (g guests) Start(_ context.Context, _ fallow.LeaseID, slots uint32) (Sandbox, error) {
	return &guestBox{box: g.runner.Open(int(slots)), from: g}, nil
}

type guestBox struct {
	box  *wasm.Sandbox
	from guests
	n    atomic.Int64
}

func (b *guestBox) Close() error { return b.box.Close() }

func (b *guestBox) Run(ctx context.Context, j Job) (Result, error) {
	path, err := b.from.store.Path(j.Task.Module)
	if err != nil {
		return Result{}, err
	}
	out := filepath.Join(b.from.dir, strconv.FormatInt(b.n.Add(1), 10))
	r, err := b.box.Run(ctx, wasm.Task{Task: j.Task, Paths: map[fallow.Digest]string{j.Task.Module: path}, Out: out, Wall: j.Wall})
	var a *wasm.Abort
	if errors.As(err, &a) {
		return Result{}, &Failure{a.Reason, a.Detail}
	}
	if err != nil {
		return Result{}, err
	}
	res := Result{Gas: r.Gas, Outcome: r.Outcome, ExitCode: r.ExitCode, Trap: r.Trap}
	for _, o := range r.Outputs {
		if o.File != "" {
			if _, _, err := b.from.store.AddFile(ctx, o.File); err != nil {
				return Result{}, err
			}
		}
		res.Outputs = append(res.Outputs, Output{o.Output, o.Small})
	}
	return res, nil
}

// section is a part of a module: its number, length and content.
func section(id byte, content ...byte) []byte {
	return append([]byte{id, byte(len(content))}, content...)
}

func name(s string) []byte { return append([]byte{byte(len(s))}, s...) }

const helloText = "hello, market\n"

// guest assembles a module whose _start has this body; its memory begins with
// an iovec over helloText, and function 0 is an import of WASI.
func guest(module, imported string, body ...byte) []byte {
	join := func(parts ...[]byte) (all []byte) {
		for _, p := range parts {
			all = append(all, p...)
		}
		return all
	}
	code := join([]byte{0}, body, []byte{0x0b}) // no locals, end
	data := append([]byte{16, 0, 0, 0, byte(len(helloText)), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, helloText...)
	return join(
		[]byte("\x00asm\x01\x00\x00\x00"),
		section(1, 2, 0x60, 4, 0x7f, 0x7f, 0x7f, 0x7f, 1, 0x7f, 0x60, 0, 0),        // types: fd_write's, and none to none
		section(2, join([]byte{1}, name(module), name(imported), []byte{0, 0})...), // import function 0
		section(3, 1, 1),       // function 1 has type 1
		section(5, 1, 1, 1, 1), // one page of memory, at most one
		section(7, join([]byte{2}, name("memory"), []byte{2, 0}, name("_start"), []byte{0, 1})...), // exports
		section(10, join([]byte{1, byte(len(code))}, code)...),
		section(11, join([]byte{1, 0, 0x41, 0, 0x0b, byte(len(data))}, data)...), // at 0
	)
}

// hello writes its text to stdout: fd_write(1, iovec 0, 1, result at 48).
func hello() []byte {
	return guest("wasi_snapshot_preview1", "fd_write", 0x41, 1, 0x41, 0, 0x41, 1, 0x41, 48, 0x10, 0, 0x1a)
}

// TestRealGuests runs WebAssembly in child processes under a lease, from the
// demand to the money.
func TestRealGuests(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	runner, err := wasm.New(wasm.Config{Child: []string{self, wasm.ChildVerb}, Cache: t.TempDir(), MaxMemory: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	w := newWorld(t, func(w *world) { w.boxes = func() Runner { return guests{runner, w.store, dir} } })
	c := w.tenant("anna", 10_000_000)
	c.module = hello()
	c.rent(1_000_000, nil)
	k := c.connect()
	defer k.close()
	const n = 8
	for i := range uint32(n) {
		k.task(i, "hello")
	}
	k.until(n)
	for _, r := range k.receipts {
		if r.Outcome != receipt.Exited || r.ExitCode != 0 || r.Gas == 0 || r.Gas != k.receipts[0].Gas {
			t.Errorf("%+v", r)
		}
		if len(r.Outputs) != 1 || r.Outputs[0].Path != "stdout" || string(k.inline[r.Task][0]) != helloText {
			t.Errorf("outputs %+v %q", r.Outputs, k.inline[r.Task])
		}
	}
	// An endless loop ends by gas, and that is a result.
	send := func(task uint32, module []byte) {
		c.module = module
		m := c.task(task, 1, "x")
		m.Module = wire.ToBlob(market.Blob{Digest: fallow.Sum(module), Size: uint64(len(module))})
		m.Limits.Gas = 10_000_000
		k.send(&nodev1.WorkRequest{Task: m})
	}
	send(100, guest("wasi_snapshot_preview1", "fd_write", 0x03, 0x40, 0x0c, 0, 0x0b))
	k.until(n + 1)
	if r := k.receipts[n]; r.Outcome != receipt.Trapped || r.Trap != wasm.TrapOutOfGas || r.Charge.IsZero() {
		t.Errorf("%+v", r)
	}
	for i, bad := range [][]byte{guest("env", "hack", 0x01), []byte("not wasm"), hello()[:40]} {
		send(uint32(200+i), bad)
		m := k.next("a refusal", func(m *nodev1.WorkResponse) bool { return m.GetFailed() != nil })
		if m.GetFailed().GetReason() != string(fallow.ReasonModuleRefused) || m.GetFailed().GetDetail() == "" {
			t.Errorf("module %d: %v", i, m)
		}
	}
	k.pay()
	k.send(&nodev1.WorkRequest{Finish: true})
	want, _ := k.charged.Floor()
	w.until("paid", func() bool { return w.paid() == want && len(w.d.all()) == 0 })
}
