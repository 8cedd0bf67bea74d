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

	"github.com/spf13/cobra"

	"fallow.network/local"
	"fallow.network/sdk"
)

func networkVerbs(a *app) []*cobra.Command {
	return []*cobra.Command{newUpCommand(a), newDownCommand(a), newStatusCommand(a), newHubCommand(a), newAuditCommand(a), newSimCommand(a)}
}

// networkFacts is what status prints.
type networkFacts struct {
	ChainID  string         `json:"chain_id"`
	Height   int64          `json:"height"`
	BehindMS int64          `json:"behind_ms"`
	Hubs     []hubFacts     `json:"hubs"`
	Local    *local.Running `json:"local,omitempty"`
}

type hubFacts struct {
	Addr      string `json:"addr"`
	Answers   bool   `json:"answers"`
	Providers uint32 `json:"providers"`
	Error     string `json:"error,omitempty"`
}

func newStatusCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show where the network stands: ledger, hubs, providers",
		Long: `Show where the network of this home stands: the ledger's latest block and how
old it is, each hub and how many providers are on its board, and the processes
of a local network.`,
		Example: `  fallow status
  fallow status --json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			h, err := a.homeDir()
			if err != nil {
				return err
			}
			n, err := h.Network()
			if err != nil {
				return err
			}
			st, err := sdk.NetworkStatus(c.Context(), n)
			if err != nil {
				return err
			}
			f := networkFacts{ChainID: n.ChainID, Height: int64(st.Height), BehindMS: st.Behind.Milliseconds(), Hubs: []hubFacts{}}
			for _, addr := range n.Hubs {
				hub := hubFacts{Addr: addr}
				if s, err := sdk.HubStatus(c.Context(), addr); err != nil {
					hub.Error = firstLine(err)
				} else {
					hub.Answers, hub.Providers = true, s.GetProviders()
				}
				f.Hubs = append(f.Hubs, hub)
			}
			f.Local = a.localRunning(n)
			return a.print(f, func(w io.Writer) {
				fmt.Fprintf(w, "%s at height %d, %s old\n", f.ChainID, f.Height, st.Behind.Round(1e7))
				table(w, func(row func(...any)) {
					for _, hub := range f.Hubs {
						if hub.Answers {
							row("hub", hub.Addr, fmt.Sprintf("%d providers", hub.Providers))
						} else {
							row("hub", hub.Addr, "away")
						}
					}
					if f.Local == nil {
						return
					}
					for _, name := range slices.Sorted(maps.Keys(f.Local.Parties)) {
						state := "away"
						if local.Alive(f.Local.Parties[name]) {
							state = fmt.Sprintf("pid %d", f.Local.Parties[name])
						}
						row(name, f.Local.Status[name], state)
					}
				})
			})
		},
	}
}

// localRunning is who runs of the usual local network, if n is that one.
func (a *app) localRunning(n sdk.Network) *local.Running {
	dir, err := a.upDir("")
	if err != nil {
		return nil
	}
	here, err := sdk.Home(dir).Network()
	if err != nil || here.Genesis != n.Genesis {
		return nil
	}
	r, err := local.Read(dir)
	if err != nil {
		return nil
	}
	return &r
}

func newHubCommand(a *app) *cobra.Command {
	var settings sdk.HubSettings
	initial := &cobra.Command{
		Use:   "init",
		Short: "Make a hub's key and hub.toml in the home; prints its address for network files",
		Example: `  fallow hub init
  fallow hub init --open --listen /ip4/0.0.0.0/tcp/4100 --announce /dns4/hub.example.org/tcp/4100`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			h, err := a.homeDir()
			if err != nil {
				return err
			}
			addr, err := sdk.InitHub(h, settings)
			if err != nil {
				return fail(exitUsage, err, "")
			}
			return a.print(map[string]string{"addr": addr, "config": h.HubFile()}, func(w io.Writer) { fmt.Fprintln(w, addr) })
		},
	}
	d := sdk.DefaultHub()
	initial.Flags().StringSliceVar(&settings.Listen, "listen", d.Listen, "`multiaddrs` to listen on; leave loopback with --open")
	initial.Flags().BoolVar(&settings.Open, "open", false, "let --listen leave loopback")
	initial.Flags().StringSliceVar(&settings.Announce, "announce", nil, "further `multiaddrs` at which others reach it")
	initial.Flags().StringVar(&settings.Status, "status", d.Status, "loopback `address` of metrics and health; empty for none")
	start := &cobra.Command{
		Use:   "start",
		Short: "Run the hub of this home until it is told to stop",
		Long: `Run the hub of this home until it is told to stop: Ctrl-C or SIGTERM. Providers
on its board find another; nothing is lost.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			h, err := a.homeDir()
			if err != nil {
				return err
			}
			log, err := a.daemonLog(h)
			if err != nil {
				return err
			}
			defer lean(c.Context())()
			return a.traced(c.Context(), h, "hub", log, func(ctx context.Context) error { return sdk.ServeHub(ctx, h, log) })
		},
	}
	status := &cobra.Command{
		Use:   "status [ADDR]",
		Short: "Ask a hub how many providers it has and what passed through it",
		Long: `Ask a hub how many providers are on its board and what passed through it; by
default every hub of the network that this home has joined.`,
		Example: `  fallow hub status
  fallow hub status /ip4/127.0.0.1/tcp/4100/p2p/12D3Koo…`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			addrs := args
			if len(args) == 0 {
				h, err := a.homeDir()
				if err != nil {
					return err
				}
				n, err := h.Network()
				if err != nil {
					return err
				}
				addrs = n.Hubs
			}
			all := []any{}
			var errs []error
			for _, addr := range addrs {
				s, err := sdk.HubStatus(c.Context(), addr)
				if err != nil {
					errs = append(errs, fail(exitAway, err, ""))
					continue
				}
				all = append(all, map[string]any{
					"addr": addr, "protocol": s.GetProtocol(), "chain_id": s.GetChainId(), "providers": s.GetProviders(),
					"demands": s.GetDemands(), "answers": s.GetAnswers(), "refused": s.GetRefused(),
				})
				if !a.json {
					fmt.Fprintf(plain{a.out}, "%s\n  %s, %s, %s, %d refused\n", addr,
						count(int(s.GetProviders()), "provider"), count(int(s.GetDemands()), "demand"), count(int(s.GetAnswers()), "answer"), s.GetRefused())
				}
			}
			if a.json {
				errs = append(errs, a.print(all, nil))
			}
			return errors.Join(errs...)
		},
	}
	return group("hub", "Run a hub: rendezvous, relay and demand board in one", `Run a hub: rendezvous, relay and demand board in one. Providers hold a stream to
it, tenants ask through it, and it relays to providers that cannot be reached. It
keeps nothing and decides nothing: hubs are interchangeable.`, initial, start, status)
}

func newAuditCommand(a *app) *cobra.Command {
	var trust, node string
	c := &cobra.Command{
		Use:   "audit",
		Short: "Prove the books: replay verified blocks by the rules and compare with proven state",
		Long: `Prove the books. A light client verifies blocks from a trusted height and hash
(by default the genesis that the network file names); our messages are replayed
by the pure rules; the outcome is compared with state proven against the
verified headers. Nothing is taken from events. Where only a node's word stands
behind a fact, the report says so.

It exits with 8 and names the first breach when the books do not hold.`,
		Example: `  fallow audit
  fallow audit --trust 120000:5C2F… --node https://rpc.example.org`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			h, err := a.homeDir()
			if err != nil {
				return err
			}
			n, err := h.Network()
			if err != nil {
				return err
			}
			bin, err := sdk.FindNode()
			if err != nil {
				return fail(exitUsage, err, "the audit is part of fallowd: put it beside fallow (make build does), or name it in $FALLOWD")
			}
			if node == "" {
				node = n.RPC[0]
			}
			argv := []string{"audit", "--rpc", node, "--genesis-hash", n.Genesis.String()}
			if trust != "" {
				argv = append(argv, "--trust", trust)
			}
			for _, other := range n.RPC {
				if other != node {
					argv = append(argv, "--witness", other)
				}
			}
			if a.json {
				argv = append(argv, "--json")
			}
			cmd := exec.CommandContext(c.Context(), bin, argv...)
			cmd.Stdout, cmd.Stderr = a.out, a.err
			cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
			err = cmd.Run()
			if _, ended := errors.AsType[*exec.ExitError](err); ended {
				e := exitOfProcess(err)
				return fail(e, fmt.Errorf("%s audit: %s", filepath.Base(bin), e.text), "")
			}
			return err
		},
	}
	c.Flags().StringVar(&trust, "trust", "", "`HEIGHT:HASH` of a block header to trust (default: the network file's genesis)")
	c.Flags().StringVar(&node, "node", "", "RPC `endpoint` to read from (default: the network file's first)")
	return c
}
