package wasm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// ChildVerb is the hidden argument under which a program runs ChildMain.
const ChildVerb = "wasm-child"

// setup is the first message to a child.
type setup struct {
	Cache  string
	Engine string
	// AddressSpace bounds the child, in bytes; 0 sets no bound.
	AddressSpace uint64
	// Prepare bounds the processor time for one module; 0 sets no bound.
	Prepare time.Duration
}

// ChildMain is what a child runs: tasks from in, one after the other, and
// their results to out, until in ends. It returns the exit code.
func ChildMain(in io.Reader, out, errs io.Writer) int {
	if err := growStack(); err != nil {
		fmt.Fprintf(errs, "wasm child: %v\n", err)
		return 1
	}
	if err := child(context.Background(), bufio.NewReaderSize(in, 1<<16), out); err != nil {
		fmt.Fprintf(errs, "wasm child: %v\n", err)
		return 1
	}
	return 0
}

func child(ctx context.Context, in io.Reader, out io.Writer) error {
	var s setup
	if err := getFrame(in, &s); err != nil {
		return fmt.Errorf("setup: %w", err)
	}
	os.Clearenv()
	if err := confine(s.AddressSpace); err != nil {
		return fmt.Errorf("confine: %w", err)
	}
	e, err := newEngine(s.Engine, s.Cache)
	if err != nil {
		return err
	}
	e.prepare = s.Prepare
	for {
		var t Task
		err := getFrame(in, &t)
		if errors.Is(err, io.EOF) {
			return e.close(ctx)
		}
		if err != nil {
			return fmt.Errorf("read a task: %w", err)
		}
		var r reply
		if r.Result, err = e.run(ctx, t); err != nil {
			r = reply{Abort: blame(err), Last: e.spent}
		}
		if err := putFrame(out, r); err != nil {
			return fmt.Errorf("answer a task: %w", err)
		}
		if e.spent {
			return nil // a module is still being compiled, and can't be stopped
		}
	}
}
