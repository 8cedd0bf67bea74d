package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fallow.network/local"
	"fallow.network/runner/wasm"
	"fallow.network/sdk"
	"fallow.network/trace"
)

func newUpCommand(a *app) *cobra.Command {
	var (
		dir    string
		detach bool
		config = local.Default("")
	)
	c := &cobra.Command{
		Use:   "up",
		Short: "Run a whole market on this machine: node, hubs, providers, a funded tenant",
		Long: `Run a whole market on this machine: one validator, one or more hubs, three
providers with different prices and sizes and a tenant with credits, each a
process of its own with its own key and home. Work is real, money is play.

It runs until Ctrl-C and goes on next time where it stopped. Homes, logs and
who runs stand in $FALLOW_HOME/local. Other verbs use its tenant by default;
to act as another party, name its home: fallow --home ~/.fallow/local/provider-1

Block time, check window, engine and credits are fixed when the network is made.`,
		Example: `  fallow up
  fallow up --detach --hubs 2 --block-time 250ms
  fallow down`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var err error
			if config.Dir, err = a.upDir(dir); err != nil {
				return err
			}
			if err := config.Validate(); err != nil {
				return typed(err)
			}
			if config.Fallow, err = os.Executable(); err != nil {
				return err
			}
			if config.Node, err = sdk.FindNode(); err != nil {
				return fail(exitUsage, err, "put it beside fallow (make build does), or name it in $FALLOWD")
			}
			if a.traces != "" { // every party inherits it
				if err := errors.Join(trace.Check(a.traces), os.Setenv(trace.Variable, a.traces)); err != nil {
					return fail(exitUsage, err, "")
				}
			}
			if detach {
				return a.detach(c.Context(), config)
			}
			return a.runUp(c.Context(), config)
		},
	}
	f := c.Flags()
	f.StringVar(&dir, "dir", "", "`folder` of the network (default $FALLOW_HOME/local)")
	f.BoolVarP(&detach, "detach", "d", false, "return when it is ready and leave it running; end it with fallow down")
	f.DurationVar(&config.BlockTime, "block-time", config.BlockTime, "wait from one block to the next, 250ms to 1m")
	f.IntVar(&config.Hubs, "hubs", config.Hubs, "how many hubs, 1 to 4")
	f.BoolVar(&config.Restart, "restart", config.Restart, "bring a party back that died")
	f.Uint64Var(&config.Credits, "credits", config.Credits, "credits of the tenant")
	f.Uint64Var(&config.Escrow, "escrow", config.Escrow, "credits that the tenant deposits at once")
	f.StringVar(&config.Engine, "engine", wasm.Wazero, "what runs WASM tasks: "+strings.Join(wasm.Engines(), ", "))
	f.DurationVar(&config.CheckWindow, "check-window", config.CheckWindow, "time from a redemption to its payout")
	return c
}

func (a *app) upDir(dir string) (string, error) {
	if dir != "" {
		return filepath.Abs(dir)
	}
	base, err := a.baseDir()
	return localDir(base), err
}

func (a *app) runUp(ctx context.Context, config local.Config) error {
	begun := time.Now()
	events := func(party, what string) {
		if !a.json {
			fmt.Fprintf(plain{a.out}, "%6.1fs  %-12s %s\n", time.Since(begun).Seconds(), party, what)
		}
	}
	var printed error
	err := local.Up(ctx, config, events, func(n sdk.Network, r local.Running) {
		printed = a.printUp(config, n, r, "Ctrl-C, or fallow down")
	})
	return errors.Join(err, printed)
}

// printUp says what is up, and what to do with it.
func (a *app) printUp(config local.Config, n sdk.Network, r local.Running, end string) error {
	as := ""
	if usual, err := a.upDir(""); err != nil || usual != config.Dir {
		as = " --home " + string(config.Tenant())
	}
	return a.print(map[string]any{"ready": true, "dir": config.Dir, "network": n, "running": r}, func(w io.Writer) {
		fmt.Fprintf(w, "\n%s is up in %s\n", n.ChainID, config.Dir)
		table(w, func(row func(...any)) {
			for _, name := range slices.Sorted(maps.Keys(r.Status)) {
				row("  "+name, r.Status[name])
			}
			row()
			row("Rent from it", "fallow run examples/hello/job.yaml"+as)
			row("Prove it", "fallow audit"+as)
			row("End it", end)
		})
	})
}

// detach starts the same verb in a session of its own and waits until it is ready.
func (a *app) detach(ctx context.Context, config local.Config) error {
	if _, err := local.Read(config.Dir); err == nil {
		return fmt.Errorf("the local network in %s is up: %w", config.Dir, sdk.ErrBusy)
	}
	if err := os.MkdirAll(filepath.Join(config.Dir, "logs"), 0o700); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(config.Dir, "logs", "up.log"), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()                    // others write it
	cmd := exec.Command(config.Fallow, upArgs(config)...) //nolint:noctx // it outlives this command
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = ownSession()
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if r, err := local.Read(config.Dir); err == nil && r.Ready && r.PID == cmd.Process.Pid {
			for _, note := range r.Notes {
				fmt.Fprintln(a.err, "note: "+note)
			}
			n, err := sdk.Home(config.Dir).Network()
			if err != nil {
				return err
			}
			return a.printUp(config, n, r, "fallow down"+downArgs(config, a))
		}
		select {
		case err := <-ended:
			return didNotComeUp(err, log.Name())
		case <-ctx.Done():
			return errors.Join(ctx.Err(), interrupt(cmd.Process))
		case <-tick.C:
		}
	}
}

// didNotComeUp is what a detached network's log says of its end.
func didNotComeUp(err error, log string) error {
	b, _ := os.ReadFile(log)
	_, why, told := strings.Cut(string(b), "fallow: ")
	if !told {
		why = fmt.Sprintf("%v; its log is %s", err, log)
	}
	return fail(exitOfProcess(err), errors.New("the local network did not come up: "+strings.TrimSpace(why)), "")
}

// exitOfProcess is the row of the table with which a program of ours ended.
func exitOfProcess(err error) exit {
	if ended, ok := errors.AsType[*exec.ExitError](err); ok {
		for _, e := range exits {
			if e.code == ended.ExitCode() {
				return e
			}
		}
	}
	return exitFailed
}

// downArgs says which network to end, where it is not the usual one.
func downArgs(config local.Config, a *app) string {
	if usual, err := a.upDir(""); err == nil && usual == config.Dir {
		return ""
	}
	return " --dir " + config.Dir
}

// upArgs says the config again as flags.
func upArgs(c local.Config) []string {
	return []string{
		"up", "--dir", c.Dir, "--block-time", c.BlockTime.String(), "--hubs", fmt.Sprint(c.Hubs),
		fmt.Sprintf("--restart=%t", c.Restart), "--credits", fmt.Sprint(c.Credits), "--escrow", fmt.Sprint(c.Escrow),
		"--check-window", c.CheckWindow.String(), "--engine", c.Engine,
	}
}

func newDownCommand(a *app) *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use:   "down",
		Short: "End the local network; it goes on next time where it stopped",
		Long: `End the local network. Providers redeem what they were paid, then everybody
leaves; fallow up goes on where it stopped. To be rid of it, remove its folder.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			dir, err := a.upDir(dir)
			if err != nil {
				return err
			}
			r, err := local.Read(dir)
			if errors.Is(err, local.ErrDown) {
				return fail(exitNotFound, err, "start one with: fallow up")
			}
			if err != nil {
				return err
			}
			p, err := os.FindProcess(r.PID)
			if err != nil {
				return err
			}
			if err := interrupt(p); err != nil {
				return err
			}
			tick := time.NewTicker(50 * time.Millisecond)
			defer tick.Stop()
			for local.Alive(r.PID) {
				if _, err := local.Read(dir); errors.Is(err, local.ErrDown) {
					break
				}
				select {
				case <-c.Context().Done():
					return c.Context().Err()
				case <-tick.C:
				}
			}
			return a.print(map[string]any{"down": dir}, func(w io.Writer) { fmt.Fprintf(w, "the local network in %s is down\n", dir) })
		},
	}
	c.Flags().StringVar(&dir, "dir", "", "`folder` of the network (default $FALLOW_HOME/local)")
	return c
}
