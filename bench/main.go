// Command bench measures what Fallow costs and prints one table: each figure
// beside its goal and, where that means something, as a ratio to a baseline
// measured in the same run. make bench runs it; docs/benchmarks.md keeps what
// it printed.
//
// Its one invariant: every figure is measured in this run, on a local network
// of its own in a temporary folder, which it ends whatever happens.
//
// It asserts nothing: a goal that is missed is a row that says so, and a row
// that could not be measured says why. It does not measure what takes longer
// than some minutes or more machines than one.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"fallow.network/runner/wasm"
)

func main() {
	// The tenant's own sandboxes are this program under another argument.
	if len(os.Args) == 2 && os.Args[1] == wasm.ChildVerb {
		os.Exit(wasm.ChildMain(os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run is main with its world as arguments; it gives the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	asJSON := flags.Bool("json", false, "print JSON")
	quick := flags.Bool("quick", false, "fewer runs of everything")
	only := flags.String("only", "", "measure only the parts whose name has one of these in it, as film,idle")
	profiles := flags.String("profiles", "", "keep the loaded ledger's CPU profiles in this folder")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	b := &bench{effort: thorough, only: *only, profiles: *profiles, progress: stderr}
	if *quick {
		b.effort = hasty
	}
	t := table{Machine: thisMachine(ctx), Begun: time.Now().UTC().Truncate(time.Second), Quick: *quick}
	err := b.measure(ctx)
	t.Rows, t.Ended = b.rows, thisMachine(ctx).Load
	if *asJSON {
		e := json.NewEncoder(stdout)
		e.SetIndent("", "  ")
		err = errors.Join(err, e.Encode(t))
	} else {
		t.print(stdout)
	}
	if err != nil {
		fmt.Fprintf(stderr, "bench: %v\n", err)
		return 1
	}
	return 0
}

// effort is how often things are done.
type effort struct {
	starts  int           // of a program
	runs    int           // of fallow run
	tasks   int           // for a latency
	many    int           // for a rate
	endure  int           // for what grows, and for bytes on chain
	leases  int           // times three, for the node's processor time
	wide    int           // lives at once of the ledger's load
	load    time.Duration // that begins lives for
	settle  int           // tasks
	films   int           // rendered
	idle    time.Duration // before memory is read
	bidders []int         // for one lease, ascending
	kernels string        // -benchtime of the guests
}

var (
	thorough = effort{starts: 20, runs: 10, tasks: 500, many: 3000, endure: 100_000, leases: 15, wide: 1000, load: 30 * time.Second, settle: 1_000_000, films: 2, idle: 20 * time.Second, bidders: []int{1, 10, 100}, kernels: "3x"}
	hasty    = effort{starts: 5, runs: 3, tasks: 100, many: 500, endure: 3000, leases: 3, wide: 200, load: 8 * time.Second, settle: 20_000, idle: 5 * time.Second, bidders: []int{1, 10}, kernels: "1x"}
)

// bench gathers rows.
type bench struct {
	effort
	only     string // of the parts, those with one of these in their name; empty for all
	profiles string // folder for the ledger's; empty for none
	progress io.Writer
	rows     []Row
	net      *network
	// noop is what a task that does nothing takes in a sandbox alone, without
	// any market around it; 0 before it was measured.
	noop time.Duration
	// idleCPU is the part of a core that the idle node uses.
	idleCPU float64
}

func (b *bench) add(rows ...Row) { b.rows = append(b.rows, rows...) }

// part is one thing to measure.
type part struct {
	name string
	do   func(context.Context) error
}

// wanted are the parts that --only leaves, all where it names none.
func (b *bench) wanted(parts []part) []part {
	some := strings.FieldsFunc(b.only, func(c rune) bool { return c == ',' })
	if len(some) == 0 {
		return parts
	}
	return slices.DeleteFunc(parts, func(p part) bool {
		return !slices.ContainsFunc(some, func(word string) bool { return strings.Contains(p.name, word) })
	})
}

// parts measures each. One that fails becomes a row of its own, and the others
// go on.
func (b *bench) parts(ctx context.Context, parts []part) {
	for _, p := range parts {
		if ctx.Err() != nil {
			return
		}
		fmt.Fprintf(b.progress, "measuring %s\n", p.name)
		within, cancel := context.WithTimeout(ctx, 10*time.Minute)
		if err := p.do(within); err != nil {
			b.add(Row{What: p.name, Note: "not measured: " + oneLine(err)})
		}
		cancel()
	}
}

// onNetwork does it on a local network of the programs and with the flags that
// startNetwork takes, which ends with it.
func (b *bench) onNetwork(ctx context.Context, do func(context.Context) error, programs string, flags ...string) (err error) {
	if b.net, err = startNetwork(ctx, programs, flags...); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.net.end(ctx)) }()
	return do(ctx)
}

// measure does everything that is wanted.
func (b *bench) measure(ctx context.Context) error {
	alone := []part{
		{"a no-op task in a sandbox alone", b.sandbox},
		{"matching", b.matching},
		{"metered guests against bare ones", b.metered},
		{"ledger: settling", b.settling},
		{"ledger under load", b.ledgerLoad},
		{"bidders", b.biddersRows},
	}
	networked := []part{
		{"idle memory", b.idleMemory},
		{"a whole job", b.wholeJobs},
		{"a job on an open lease", b.leasedJobs},
		{"cold starts", b.coldStarts},
		{"tasks inside a lease", b.latency},
		{"tasks a second", b.rate},
		{"endurance", b.endurance},
		{"leases", b.leaseCosts},
	}
	// On a network of another engine, beside which no other is to be at work.
	var apart []part
	if b.films > 0 {
		networked = append(networked, part{"the film", func(ctx context.Context) error { return b.film(ctx, wasm.Wazero) }})
		apart = append(apart, part{"the film on wasmtime", b.filmOnWasmtime})
	}
	alone, networked, apart = b.wanted(alone), b.wanted(networked), b.wanted(apart)
	if len(alone)+len(networked)+len(apart) == 0 {
		return fmt.Errorf("no part that is measured here has %q in its name", b.only)
	}
	b.parts(ctx, alone)
	if len(networked) > 0 {
		together := func(ctx context.Context) error { b.parts(ctx, networked); return nil }
		if err := b.onNetwork(ctx, together, programs); err != nil {
			return err
		}
	}
	b.parts(ctx, apart)
	return ctx.Err()
}

// programs is where make build puts the binaries.
const programs = "build"
