package wasm

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"fallow.network"
	"fallow.network/meter"
	"fallow.network/receipt"
	"fallow.network/spec"
)

// raw is a module of the sections that are given.
func raw(sections ...string) []byte {
	return []byte("\x00asm\x01\x00\x00\x00" + strings.Join(sections, ""))
}

func TestModulesRefused(t *testing.T) {
	good := says(t, "hello")
	strange := bytes.Replace(good, []byte("\x08fd_write"), []byte("\x08fd_wrong"), 1)
	foreign := bytes.Replace(good, []byte(meter.HostModule), []byte("wasi_snapshot_previewX"), 1)
	shared := bytes.Replace(noop(t), []byte("\x05\x03\x01\x00\x01"), []byte("\x05\x04\x01\x03\x01\x01"), 1)
	tests := []struct {
		name   string
		module []byte
		why    string
	}{
		{"empty", nil, "not"},
		{"text", []byte("#!/bin/sh\necho hello\n"), "not"},
		{"ELF", []byte("\x7fELF\x02\x01\x01\x00"), "not"},
		{"component", []byte("\x00asm\x0d\x00\x01\x00"), "component"},
		{"truncated", good[:len(good)-3], ""},
		{"half", good[:len(good)/2], ""},
		{"unknown function", strange, "fd_wrong"},
		{"unknown module", foreign, "wasi_snapshot_previewX"},
		{"no _start", assemble(t, source{pages: 1, hidden: true, funcs: []string{""}}), "_start"},
		{"memory above the grant", assemble(t, source{pages: 300, funcs: []string{""}}), "memory"},
		{"threads", shared, "shared"},
		{"code that is not valid", assemble(t, source{pages: 1, funcs: []string{"i32.add"}}), ""},
		{"_start takes something", raw("\x01\x05\x01\x60\x01\x7f\x00", "\x03\x02\x01\x00", "\x07\x0a\x01\x06_start\x00\x00", "\x0a\x04\x01\x02\x00\x0b"), "_start"},
	}
	s := open(t, 1)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			task, _ := taskOf(t, tt.module)
			_, err := s.Run(t.Context(), task)
			wantAbort(t, err, fallow.ReasonModuleRefused, tt.why)
			t.Log(err)
		})
	}
	task, _ := taskOf(t, good)
	mustRun(t, s, task)
}

func TestTasksRefused(t *testing.T) {
	tests := []struct {
		name   string
		reason fallow.Reason
		why    string
		change func(*Task, *blobs)
	}{
		{"profile", fallow.ReasonUnsupported, "wasm/1", func(t *Task, _ *blobs) { t.Profile = "wasm/1" }},
		{"memory", fallow.ReasonTooLarge, "memory", func(t *Task, _ *blobs) { t.Limits.Memory = 65 << 20 }},
		{"gas", fallow.ReasonMalformed, "gas", func(t *Task, _ *blobs) { t.Limits.Gas = meter.MaxGas + 1 }},
		{"output", fallow.ReasonTooLarge, "output", func(t *Task, _ *blobs) { t.Limits.Output = spec.MaxOutputBytes + 1 }},
		{"scratch", fallow.ReasonTooLarge, "scratch", func(t *Task, _ *blobs) { t.Limits.Scratch = spec.MaxScratchBytes + 1 }},
		{"stack", fallow.ReasonTooLarge, "stack", func(t *Task, _ *blobs) { t.Limits.StackDepth = spec.MaxStackDepth + 1 }},
		{"argument", fallow.ReasonMalformed, "UTF-8", func(t *Task, _ *blobs) { t.Args = []string{"a\xff"} }},
		{"variable", fallow.ReasonMalformed, "zero", func(t *Task, _ *blobs) { t.Env = []string{"A=\x00"} }},
		{"many arguments", fallow.ReasonTooLarge, "arguments", func(t *Task, _ *blobs) { t.Args = make([]string, 2000) }},
		{"long arguments", fallow.ReasonTooLarge, "arguments", func(t *Task, _ *blobs) { t.Args = []string{strings.Repeat("x", 300<<10)} }},
		{"many inputs", fallow.ReasonTooLarge, "inputs", func(t *Task, _ *blobs) { t.Files = make([]receipt.File, 5000) }},
		{"no module", fallow.ReasonAborted, "module", func(t *Task, _ *blobs) { t.Module = fallow.Sum(nil) }},
		{"no stdin", fallow.ReasonAborted, "stdin", func(t *Task, _ *blobs) { d := fallow.Sum(nil); t.Stdin = &d }},
		{"no input", fallow.ReasonAborted, "\"a\"", func(t *Task, _ *blobs) { t.Files = []receipt.File{{Path: "a"}} }},
		{"input outside", fallow.ReasonMalformed, "../a", func(t *Task, b *blobs) { t.Files = []receipt.File{b.file("../a", nil)} }},
		{"input at the root", fallow.ReasonMalformed, "/a", func(t *Task, b *blobs) { t.Files = []receipt.File{b.file("/a", nil)} }},
		{"input without name", fallow.ReasonMalformed, "input path", func(t *Task, b *blobs) { t.Files = []receipt.File{b.file("", nil)} }},
		{"input that no receipt tells", fallow.ReasonMalformed, "input path", func(t *Task, b *blobs) { t.Files = []receipt.File{b.file("a\\b", nil)} }},
		{"input in bytes", fallow.ReasonMalformed, "UTF-8", func(t *Task, b *blobs) { t.Files = []receipt.File{b.file("a\xff", nil)} }},
		{"input twice", fallow.ReasonMalformed, "twice", func(t *Task, b *blobs) { t.Files = []receipt.File{b.file("a", nil), b.file("a", []byte("x"))} }},
		{"input below an input", fallow.ReasonMalformed, "twice", func(t *Task, b *blobs) { t.Files = []receipt.File{b.file("a", nil), b.file("a/b", nil)} }},
		{"deep input", fallow.ReasonMalformed, "deep", func(t *Task, b *blobs) { t.Files = []receipt.File{b.file(strings.Repeat("a/", 70)+"b", nil)} }},
		{"long name", fallow.ReasonMalformed, "input path", func(t *Task, b *blobs) { t.Files = []receipt.File{b.file(strings.Repeat("a", 256), nil)} }},
	}
	s := openWith(t, Config{MaxMemory: 64 << 20}, ChildVerb, 1)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			task, b := taskOf(t, noop(t))
			tt.change(&task, b)
			_, err := s.Run(t.Context(), task)
			wantAbort(t, err, tt.reason, tt.why)
		})
	}
	task, _ := taskOf(t, noop(t))
	task.Out = ""
	if _, err := s.Run(t.Context(), task); err == nil {
		t.Error("a task without a folder for outputs")
	}
}

// TestRelativePaths runs a task whose paths begin at this process's folder,
// which isn't the child's.
func TestRelativePaths(t *testing.T) {
	t.Chdir(t.TempDir())
	module := floods(t, 2)
	if err := os.WriteFile("m.wasm", module, 0o600); err != nil {
		t.Fatal(err)
	}
	s := openWith(t, Config{Cache: "cache"}, ChildVerb, 1)
	task, _ := taskOf(t, module)
	task.Paths = map[fallow.Digest]string{fallow.Sum(module): "m.wasm"}
	task.Out = "out"
	r := mustRun(t, s, task)
	if n := len(outputOf(t, r, "stdout")); n != 64<<10 {
		t.Errorf("%d bytes of output", n)
	}
	if list, err := os.ReadDir("cache"); err != nil || len(list) != 1 {
		t.Errorf("the cache has %v, %v", list, err)
	}
}

// TestPrepareIsBounded: a module that takes long to compile ends its child, and
// the next task gets another one.
func TestPrepareIsBounded(t *testing.T) {
	s := openWith(t, Config{Prepare: 200 * time.Millisecond}, ChildVerb, 1)
	body := "locals 1 " + strings.Repeat("local.get 0 i32.const 3 i32.mul i32.load i32.load local.set 0 ", 100_000)
	task, _ := taskOf(t, assemble(t, source{pages: 1, funcs: []string{body}}))
	var a *Abort
	if _, err := s.Run(t.Context(), task); !errors.As(err, &a) || a.Reason != fallow.ReasonTooLarge || !strings.Contains(a.Detail, "processor time") {
		t.Fatalf("got %v, want an abort for its size", err)
	}
	next, _ := taskOf(t, noop(t))
	if r := mustRun(t, s, next); r.Outcome != receipt.Exited {
		t.Errorf("afterwards: %+v", r)
	}
	if all := children(t, os.Getpid()); len(all) != 1 {
		t.Errorf("children %v, want the one of the second task", all)
	}
}
