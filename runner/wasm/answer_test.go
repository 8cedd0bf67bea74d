package wasm

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fallow.network"
	"fallow.network/receipt"
)

func framed(tb testing.TB, v any) []byte {
	tb.Helper()
	var b bytes.Buffer
	if err := putFrame(&b, v); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func TestFrames(t *testing.T) {
	var got reply
	if err := getFrame(bytes.NewReader(framed(t, reply{Abort: &Abort{"aborted", "x"}})), &got); err != nil || got.Abort.Detail != "x" {
		t.Errorf("got %+v, %v", got, err)
	}
	if err := putFrame(io.Discard, strings.Repeat("x", maxFrame)); err == nil {
		t.Error("a frame that is too large is written")
	}
	if err := putFrame(io.Discard, func() {}); err == nil {
		t.Error("a function is written")
	}
	for name, b := range map[string][]byte{
		"nothing": {}, "half a length": {0, 0}, "no message": {0, 0, 0, 4}, "half a message": {0, 0, 0, 4, '{'},
		"too large": {255, 255, 255, 255}, "no JSON": {0, 0, 0, 1, '{'}, "another type": {0, 0, 0, 2, '4', '2'},
	} {
		if err := getFrame(bytes.NewReader(b), &got); err == nil {
			t.Errorf("%s: read", name)
		}
	}
}

// FuzzAnswer reads what a child may say, and takes nothing that a task
// could not have come to.
func FuzzAnswer(f *testing.F) {
	task := Task{Task: receipt.Task{Limits: receipt.Limits{Gas: 1000, Output: 1000}}, Out: "/out"}
	good := Result{Outcome: receipt.Exited, Gas: 10, Outputs: []Output{{Output: receipt.Output{Path: "a", Digest: fallow.Sum([]byte("b")), Size: 1}, Small: []byte("b")}}}
	f.Add(framed(f, reply{Result: good}))
	f.Add(framed(f, reply{Result: Result{Outcome: receipt.Trapped, Trap: TrapStack, Gas: 1000}}))
	f.Add(framed(f, reply{Abort: &Abort{"what?", strings.Repeat("x", 1000)}}))
	f.Add([]byte{0, 0, 0, 200, '{'})
	f.Add([]byte{255, 0, 0, 0, '{'})
	f.Fuzz(func(t *testing.T, b []byte) {
		var r reply
		if getFrame(bytes.NewReader(b), &r) != nil {
			return
		}
		r, err := (&Sandbox{}).heard(task, r)
		if err != nil {
			return
		}
		if r.Abort != nil {
			if !r.Abort.Reason.Known() || len(r.Abort.Detail) > maxDetail {
				t.Fatalf("took %+v", r.Abort)
			}
			return
		}
		sum := uint64(0)
		for _, o := range r.Result.Outputs {
			if o.File != "" && filepath.Dir(o.File) != "/out" {
				t.Fatalf("took file %s", o.File)
			}
			sum += o.Size
		}
		if r.Result.Gas > 1000 || sum > 1000 {
			t.Fatalf("took %+v", r.Result)
		}
	})
}

// TestLiar has a child answer nonsense. None of it may become a result, and
// the next task gets another child.
func TestLiar(t *testing.T) {
	out := func(change func(*Output)) reply {
		o := Output{Output: receipt.Output{Path: "a", Digest: fallow.Sum([]byte("b")), Size: 1}, Small: []byte("b")}
		change(&o)
		return reply{Result: Result{Outcome: receipt.Exited, Outputs: []Output{o}}}
	}
	result := func(r Result) []byte { return framed(t, reply{Result: r}) }
	two := out(func(*Output) {})
	two.Result.Outputs = append(two.Result.Outputs, two.Result.Outputs[0])
	many := reply{Result: Result{Outcome: receipt.Exited, Outputs: make([]Output, receipt.MaxOutputs+1)}}
	big := out(func(o *Output) {
		o.Small = make([]byte, maxSmall+1)
		o.Size, o.Digest = maxSmall+1, fallow.Sum(o.Small)
	})
	tests := map[string][]byte{
		"no frame":            []byte("hello, parent\n"),
		"a frame without end": {0xff, 0xff, 0xff, 0xff},
		"no JSON":             {0, 0, 0, 2, '{', '{'},
		"no outcome":          result(Result{}),
		"unknown outcome":     result(Result{Outcome: 9}),
		"unknown trap":        result(Result{Outcome: receipt.Trapped, Trap: "tired"}),
		"trap of an exit":     result(Result{Outcome: receipt.Exited, Trap: TrapStack}),
		"exit of a trap":      result(Result{Outcome: receipt.Trapped, Trap: TrapStack, ExitCode: 1}),
		"gas":                 result(Result{Outcome: receipt.Exited, Gas: 1e9 + 1}),
		"path outside":        framed(t, out(func(o *Output) { o.Path = "../a" })),
		"path of another":     framed(t, out(func(o *Output) { o.Path = "/etc/passwd" })),
		"file of another":     framed(t, out(func(o *Output) { o.Small, o.File = nil, "/etc/passwd" })),
		"file and bytes":      framed(t, out(func(o *Output) { o.File = "x" })),
		"digest":              framed(t, out(func(o *Output) { o.Digest = fallow.Sum(nil) })),
		"size":                framed(t, out(func(o *Output) { o.Size = 9 << 20 })),
		"order":               framed(t, two),
		"many":                framed(t, many),
		"big":                 framed(t, big),
	}
	for name, answer := range tests {
		t.Run(name, func(t *testing.T) {
			s := openWith(t, Config{}, liarVerb, 1)
			task, b := taskOf(t, noop(t))
			task.Args = []string{filepath.Join(b.dir, "answer")}
			if err := os.WriteFile(task.Args[0], answer, 0o600); err != nil {
				t.Fatal(err)
			}
			r, err := s.Run(t.Context(), task)
			if err == nil {
				t.Fatalf("took %+v", r)
			}
			wantAbort(t, err, fallow.ReasonAborted, "process")
			if left := children(t, os.Getpid()); len(left) > 0 {
				t.Errorf("children %v are left", left)
			}
		})
	}
}

// TestReasonsOfAChild bounds what a child may say of itself.
func TestReasonsOfAChild(t *testing.T) {
	s := openWith(t, Config{}, liarVerb, 1)
	task, b := taskOf(t, noop(t))
	task.Args = []string{filepath.Join(b.dir, "answer")}
	if err := os.WriteFile(task.Args[0], framed(t, reply{Abort: &Abort{"because", strings.Repeat("long\xff", 1000)}}), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := s.Run(t.Context(), task)
	wantAbort(t, err, fallow.ReasonAborted, "long")
	if len(err.Error()) > maxDetail+20 {
		t.Errorf("a reason of %d bytes", len(err.Error()))
	}
}

// TestChildrenRefuse gives a child what no parent sends.
func TestChildrenRefuse(t *testing.T) {
	head := func(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
	for name, in := range map[string][]byte{
		"nothing": nil, "no setup": []byte("hello"), "too large": head(maxFrame + 1), "setup cut off": append(head(9), "{}"...),
	} {
		var errs bytes.Buffer
		if code := ChildMain(bytes.NewReader(in), io.Discard, &errs); code != 1 || !strings.Contains(errs.String(), "setup") {
			t.Errorf("%s: exit %d, %s", name, code, errs.String())
		}
	}
}
