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
	only     string // of the parts, those with this in their name
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

// part measures one thing. One that fails becomes a row of its own, and the
// others go on.
func (b *bench) part(ctx context.Context, name string, do func(context.Context) error) {
	if ctx.Err() != nil || !slices.ContainsFunc(strings.Split(b.only, ","), func(some string) bool { return strings.Contains(name, some) }) {
		return
	}
	fmt.Fprintf(b.progress, "measuring %s\n", name)
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	if err := do(ctx); err != nil {
		b.add(Row{What: name, Note: "not measured: " + oneLine(err)})
	}
}

// measure does everything, the local network around all but what needs none.
func (b *bench) measure(ctx context.Context) (err error) {
	b.part(ctx, "a no-op task in a sandbox alone", b.sandbox)
	b.part(ctx, "matching", b.matching)
	b.part(ctx, "metered guests against bare ones", b.metered)
	b.part(ctx, "ledger: settling", b.settling)
	b.part(ctx, "ledger under load", b.ledgerLoad)
	b.part(ctx, "bidders", b.biddersRows)
	if strings.HasPrefix(b.only, "ledger") || b.only == "bidders" {
		return ctx.Err() // has a node of its own
	}
	b.net, err = startNetwork(ctx, programs)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.net.end(ctx)) }()
	b.part(ctx, "idle memory", b.idleMemory)
	b.part(ctx, "a whole job", b.wholeJobs)
	b.part(ctx, "a job on an open lease", b.leasedJobs)
	b.part(ctx, "cold starts", b.coldStarts)
	b.part(ctx, "tasks inside a lease", b.latency)
	b.part(ctx, "tasks a second", b.rate)
	b.part(ctx, "endurance", b.endurance)
	b.part(ctx, "leases", b.leaseCosts)
	b.part(ctx, "the film", func(ctx context.Context) error { return b.film(ctx, wasm.Wazero) })
	b.part(ctx, "the film on wasmtime", b.filmOnWasmtime)
	return ctx.Err()
}

// programs is where make build puts the binaries.
const programs = "build"
