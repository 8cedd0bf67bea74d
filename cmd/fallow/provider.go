package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fallow.network/keys"
	"fallow.network/ledger"
	"fallow.network/provider"
	"fallow.network/sdk"
)

func lendVerbs(a *app) []*cobra.Command { return []*cobra.Command{newProviderCommand(a)} }

func newProviderCommand(a *app) *cobra.Command {
	return group("provider", "Lend this machine: init, start, status, pause, resume, drain, bond, unbond, grant", `Lend this machine and be paid for work that was done. fallow provider init looks
at the machine and writes prices, share and hours; start registers it with a
bond, offers and runs. Pause when you want it for yourself; drain before you
switch it off.`,
		newProviderInitCommand(a), newProviderStartCommand(a), newProviderStatusCommand(a),
		newProviderControlCommand(a, "pause", "Make no offers until resume; signed offers stay valid", "no more offers; what is leased goes on. fallow provider resume ends it"),
		newProviderControlCommand(a, "resume", "Make offers again", "it makes offers again"),
		newProviderControlCommand(a, "drain", "Finish what is leased, redeem, and end the daemon", "no more offers; the daemon ends when what is leased is done"),
		newProviderBondCommand(a), newProviderUnbondCommand(a), newProviderGrantCommand(a))
}

func newProviderInitCommand(a *app) *cobra.Command {
	var (
		s     sdk.ProviderSettings
		owner string
	)
	c := &cobra.Command{
		Use:   "init",
		Short: "Look at this machine and write provider.toml: what is lent, when, and for how much",
		Long: `Look at this machine and write provider.toml: what is lent, when, and for how
much. Edit it as you like; a running daemon reads prices, hours and idle rules
again on SIGHUP.

The owner is paid. By default it is the home's account; with --owner the key in
this home is an operator's, which may redeem and maintain and nothing else (see
fallow provider grant).`,
		Example: `  fallow provider init --region eu-west
  fallow provider init --slots 2 --gas-price 0.000000004 --bond 1000`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			h, err := a.homeDir()
			if err != nil {
				return err
			}
			if s.Slots < 0 || s.Slots > 4096 {
				return usage("--slots %d: want 1 to 4096, or 0 for one for each core that is lent", s.Slots)
			}
			if owner != "" {
				if s.Owner, err = keys.ParseAccount(owner); err != nil {
					return fail(exitUsage, err, "")
				}
			}
			config, err := sdk.InitProvider(c.Context(), h, s)
			if errors.Is(err, provider.ErrExists) {
				return fail(exitBusy, err, "edit it, or move it away to begin anew")
			}
			if err != nil {
				return fail(exitUsage, err, "")
			}
			return a.print(config, func(w io.Writer) {
				fmt.Fprintf(w, "wrote %s\n\n", h.ProviderFile())
				table(w, func(row func(...any)) {
					row("paid to", config.Provider)
					row("lends", fmt.Sprintf("%s cores in %s, %s memory, %s disk", fmt.Sprint(config.Share.Cores), count(int(config.Slots), "slot"), config.Share.Memory, config.Share.Disk))
					row("asks", fmt.Sprintf("%s credits for 1,000,000,000 gas, %s a task", perGiga(config.Prices.MegaGas), config.Prices.Task))
					row("bond", fmt.Sprintf("%d FAL at the first start", config.Bond))
					row("listens", strings.Join(config.Listen, ", "))
					row("page", "http://"+config.StatusAddr)
				})
				fmt.Fprintln(w, "\nNext: fallow provider start")
			})
		},
	}
	f := c.Flags()
	f.StringVar(&owner, "owner", "", "`account` that is paid, when it is not this home's")
	f.StringVar(&s.Region, "region", "", "region that placements can ask for, as eu-west")
	f.IntVar(&s.Slots, "slots", 0, "tasks at once (default: one for each core that is lent)")
	f.StringVar(&s.GasPrice, "gas-price", "", "`credits` for 1,000,000 gas")
	f.StringVar(&s.TaskFee, "task-fee", "", "`credits` for each task")
	f.Uint64Var(&s.Bond, "bond", 0, "`FAL` to lock at the first start")
	f.StringSliceVar(&s.Listen, "listen", nil, "`multiaddrs` to listen on (default: free ports on loopback, on every address once a network elsewhere is joined)")
	f.StringSliceVar(&s.Announce, "announce", nil, "further `multiaddrs` at which peers reach it, as a port that a router forwards")
	f.StringVar(&s.Status, "status", "", "loopback `address` of the status page")
	return c
}

func newProviderStartCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "start",
		Short: "Run the provider of this home until it is told to stop",
		Long: `Run the provider of this home until it is told to stop. The first start
registers it with its bond. SIGTERM stops it: what runs goes on at the next
start. SIGHUP reads prices, hours and idle rules again.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			h, _, ring, err := a.ring()
			if err != nil {
				return err
			}
			log, err := a.daemonLog(h)
			if err != nil {
				return err
			}
			reload := make(chan os.Signal, 1)
			notifyReload(reload)
			defer signal.Stop(reload)
			defer lean(c.Context())()
			err = a.traced(c.Context(), h, "provider", log, func(ctx context.Context) error { return sdk.ServeProvider(ctx, h, ring, reload, log) })
			if c.Context().Err() != nil && errors.Is(err, c.Context().Err()) {
				return nil
			}
			return err
		},
	}
}

func newProviderStatusCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show what is lent, what runs, what was earned, and why demands were declined",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			h, err := a.homeDir()
			if err != nil {
				return err
			}
			control, err := provider.Dial(h.ProviderDir())
			if err != nil {
				return fail(exitAway, err, "")
			}
			s, err := control.Status(c.Context())
			if err != nil {
				return fail(exitAway, err, "")
			}
			return a.print(s, func(w io.Writer) {
				table(w, func(row func(...any)) {
					row("provider", s.Provider)
					state := "offering"
					if !s.Offering {
						state = "no offers: " + cmp.Or(s.Detail, s.Reason.Text())
					}
					row("state", state)
					row("reach", s.Reach.Text)
					row("up", time.Duration(s.UpSeconds)*time.Second)
					row("lends", lends(s.Capacity))
					row("asks", fmt.Sprintf("%s credits per Ggas, %s a task", perGiga(s.Prices.MegaGas), s.Prices.Task))
					if s.Standing != nil {
						row("standing", fmt.Sprintf("%s credits of open work and unmatured pay, of %s that the bond allows", s.Standing.Exposure, s.Standing.Ceiling))
					}
					row("earned", fmt.Sprintf("%s credits, %s not redeemed yet, %s not vouched for yet", s.Earned, s.Unredeemed, s.Unpaid))
					for _, hub := range s.Hubs {
						up := "away"
						if hub.Up {
							up = "on its board"
						}
						row("hub", hub.Addr+"  "+up)
					}
					for _, l := range s.Leases {
						row(fmt.Sprintf("lease %d", l.ID), fmt.Sprintf("%s  %d running, %d waiting, %s, %s credits", short(l.Tenant), l.Running, l.Pending, count(l.Receipts, "receipt"), l.Charged))
					}
					for _, r := range slices.Sorted(maps.Keys(s.DeclineCounts)) {
						row("declined", fmt.Sprintf("%s: %s", count(s.DeclineCounts[r], "demand"), r.Text()))
					}
					row("page", control.PageURL())
				})
			})
		},
	}
}

// lends says what is lent and how much of it is spoken for.
func lends(u provider.Usage) string {
	s := fmt.Sprintf("%s: %d running, %d leased, %d held by offers; %d.%03d cores, %s memory, %s disk", count(int(u.Slots), "slot"), u.Running, u.SlotsLeased, u.SlotsHeld,
		u.Lent.MilliCPU/1000, u.Lent.MilliCPU%1000, size(u.Lent.MemoryBytes), size(u.Lent.DiskBytes))
	if u.Lent.GPUs > 0 {
		s += fmt.Sprintf(", %d %s", u.Lent.GPUs, u.Lent.GPUModel)
	}
	return s
}

func newProviderControlCommand(a *app, verb, text, done string) *cobra.Command {
	return &cobra.Command{
		Use:   verb,
		Short: text,
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			h, err := a.homeDir()
			if err != nil {
				return err
			}
			control, err := provider.Dial(h.ProviderDir())
			if err != nil {
				return fail(exitAway, err, "")
			}
			switch verb {
			case "drain":
				err = control.Drain(c.Context())
			default:
				err = control.Pause(c.Context(), verb == "pause")
			}
			if err != nil {
				return fail(exitAway, err, "")
			}
			return a.print(map[string]string{"done": verb}, func(w io.Writer) { fmt.Fprintln(w, done) })
		},
	}
}

func newProviderBondCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "bond FAL",
		Short:   "Add to the bond; half of its value bounds open work and unmatured pay",
		Example: `  fallow provider bond 5000`,
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			amount, err := parseTokens(args[0])
			if err != nil {
				return err
			}
			return a.withPurse(c.Context(), func(p *sdk.Purse) error {
				tx, err := p.Sender.Bond(c.Context(), amount)
				if err != nil {
					return err
				}
				return a.printSent(tx, amount.String(), fmt.Sprintf("%s FAL more in bond", amount))
			})
		},
	}
}

func newProviderUnbondCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "unbond FAL|all",
		Short: "Begin to take the bond back; it leaves after the unbonding time",
		Example: `  fallow provider unbond 1000
  fallow provider unbond all`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			var amount ledger.Tokens
			if args[0] != "all" {
				var err error
				if amount, err = parseTokens(args[0]); err != nil {
					return err
				}
			}
			return a.withPurse(c.Context(), func(p *sdk.Purse) error {
				at, tx, err := p.Sender.Unbond(c.Context(), amount)
				if err != nil {
					return err
				}
				return a.printSent(tx, amount.String(), "leaves at "+time.UnixMilli(int64(at)).Format(time.DateTime))
			})
		},
	}
}

func newProviderGrantCommand(a *app) *cobra.Command {
	var (
		allowance string
		days      int
	)
	c := &cobra.Command{
		Use:   "grant OPERATOR",
		Short: "Let an operator key redeem and maintain for this owner, and nothing else",
		Long: `Let an operator key redeem and maintain for this owner, and nothing else. Run
it where the owner's key is; the machine that lends holds the operator's alone,
and earnings go to the owner.`,
		Example: `  fallow provider grant fal1… --fees 10 --days 365`,
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			operator, err := keys.ParseAccount(args[0])
			if err != nil {
				return fail(exitUsage, err, "")
			}
			fees, err := ledger.ParseTokens(allowance)
			if err != nil {
				return fail(exitUsage, err, "")
			}
			if days < 1 || days > 3650 {
				return usage("--days %d: want 1 to 3650", days)
			}
			until := time.Now().AddDate(0, 0, days)
			return a.withPurse(c.Context(), func(p *sdk.Purse) error {
				tx, err := p.Sender.GrantOperator(c.Context(), operator, ledger.Upkeep(), fees, until)
				if err != nil {
					return err
				}
				return a.printSent(tx, fees.String(), fmt.Sprintf("%s may redeem and maintain until %s", operator, until.Format(time.DateOnly)))
			})
		},
	}
	c.Flags().StringVar(&allowance, "fees", "10", "`FAL` of its fees that this account pays")
	c.Flags().IntVar(&days, "days", 365, "how long")
	return c
}
