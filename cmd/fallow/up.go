package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"fallow.network/local"
	"fallow.network/sdk"
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
		Long: `Run a whole market on this machine: one validator, one or two hubs, three
providers with different prices and sizes and a tenant with credits, each a
process of its own with its own key and home. Work is real, money is play.

It runs until Ctrl-C and goes on next time where it stopped. Homes, logs and
who runs stand in $FALLOW_HOME/local. Other verbs use its tenant by default.`,
		Example: `  fallow up
  fallow up --detach --hubs 2 --block-time 250ms
  fallow down`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var err error
			if config.Dir, err = a.upDir(dir); err != nil {
				return err
			}
			if config.Fallow, err = os.Executable(); err != nil {
				return err
			}
			if config.Node, err = sdk.FindNode(); err != nil {
				return fail(exitUsage, err, "build it with: make build")
			}
			if err := config.Validate(); err != nil {
				return fail(exitUsage, err, "")
			}
			if detach {
				return a.detach(c.Context(), config)
			}
			return a.runUp(c.Context(), config)
		},
	}
	f := c.Flags()
	f.StringVar(&dir, "dir", "", "folder of the network (default $FALLOW_HOME/local)")
	f.BoolVarP(&detach, "detach", "d", false, "return when it is ready and leave it running; end it with fallow down")
	f.DurationVar(&config.BlockTime, "block-time", config.BlockTime, "wait from one block to the next, 250ms to 1m; fixed when the network is made")
	f.IntVar(&config.Hubs, "hubs", config.Hubs, "how many hubs, 1 to 4")
	f.BoolVar(&config.Restart, "restart", config.Restart, "bring a party back that died")
	f.Uint64Var(&config.Credits, "credits", config.Credits, "credits of the tenant")
	f.Uint64Var(&config.Escrow, "escrow", config.Escrow, "credits that the tenant deposits at once")
	f.DurationVar(&config.CheckWindow, "check-window", config.CheckWindow, "time from a redemption to its payout")
	return c
}

func upDir(dir string) (string, error) {
	if dir != "" {
		return filepath.Abs(dir)
	}
	base, err := a.baseDir()
	if err != nil {
		return "", err
	}
	return filepath.Abs(localDir(base))
}

func (a *app) runUp(ctx context.Context, config local.Config) error {
	begun := time.Now()
	events := func(party, what string) {
		if !a.json {
			fmt.Fprintf(a.out, "%6.1fs  %-12s %s\n", time.Since(begun).Seconds(), party, what)
		}
	}
	var printed error
	err := local.Up(ctx, config, events, func(n sdk.Network, r local.Running) {
		printed = a.print(map[string]any{"ready": true, "network": n, "running": r, "dir": config.Dir}, func(w io.Writer) {
			fmt.Fprintf(w, "\n%s is up in %s\n", n.ChainID, config.Dir)
			names := make([]string, 0, len(r.Status))
			for name := range r.Status {
				names = append(names, name)
			}
			slices.Sort(names)
			for _, name := range names {
				fmt.Fprintf(w, "  %-12s %s\n", name, r.Status[name])
			}
			fmt.Fprintf(w, "\nRent from it:  fallow run examples/hello/job.yaml\nProve it:      fallow audit\nEnd it:        Ctrl-C, or fallow down\n")
		})
	})
	return errors.Join(err, printed)
}

// detach starts the same verb in a session of its own and waits until it is ready.
func (a *app) detach(ctx context.Context, config local.Config) error {
	if r, err := local.Read(config.Dir); err == nil && alive(r.PID) {
		return fmt.Errorf("the local network in %s is up: %w", config.Dir, sdk.ErrBusy)
	}
	if err := os.MkdirAll(filepath.Join(config.Dir, "logs"), 0o700); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(config.Dir, "logs", "up.log"), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
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
			return a.print(map[string]any{"ready": true, "dir": config.Dir, "running": r}, func(w io.Writer) {
				fmt.Fprintf(w, "the local network is up in %s; end it with: fallow down\n", config.Dir)
			})
		}
		select {
		case err := <-ended:
			b, _ := os.ReadFile(log.Name())
			return fmt.Errorf("the local network did not come up: %w\n%s", err, b)
		case <-ctx.Done():
			return errors.Join(ctx.Err(), cmd.Process.Signal(os.Interrupt))
		case <-tick.C:
		}
	}
}

// upArgs says the config again as flags.
func upArgs(c local.Config) []string {
	return []string{
		"up", "--dir", c.Dir, "--block-time", c.BlockTime.String(), "--hubs", fmt.Sprint(c.Hubs),
		fmt.Sprintf("--restart=%t", c.Restart), "--credits", fmt.Sprint(c.Credits), "--escrow", fmt.Sprint(c.Escrow),
		"--check-window", c.CheckWindow.String(),
	}
}

func newDownCommand(a *app) *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use:   "down",
		Short: "End the local network; it goes on next time where it stopped",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			dir, err := a.upDir(dir)
			if err != nil {
				return err
			}
			r, err := local.Read(dir)
			if err != nil || !alive(r.PID) {
				return fail(exitNotFound, fmt.Errorf("no local network is up in %s", dir), "")
			}
			p, err := os.FindProcess(r.PID)
			if err != nil {
				return err
			}
			if err := p.Signal(os.Interrupt); err != nil {
				return err
			}
			tick := time.NewTicker(50 * time.Millisecond)
			defer tick.Stop()
			for alive(r.PID) {
				select {
				case <-c.Context().Done():
					return c.Context().Err()
				case <-tick.C:
				}
			}
			return a.print(map[string]any{"down": dir}, func(w io.Writer) { fmt.Fprintln(w, "down") })
		},
	}
	c.Flags().StringVar(&dir, "dir", "", "folder of the network (default $FALLOW_HOME/local)")
	return c
}
