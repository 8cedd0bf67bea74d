package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"fallow.network"
	"fallow.network/keys"
	"fallow.network/sdk"
)

func machineVerbs(a *app) []*cobra.Command {
	return []*cobra.Command{newInitCommand(a), newJoinCommand(a), newDoctorCommand(a), newVersionCommand(a)}
}

func newVersionCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the program's and the protocol's version",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := map[string]string{"version": version, "protocol": fallow.Protocol, "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH}
			return a.print(v, func(w io.Writer) {
				fmt.Fprintf(w, "fallow %s (%s, %s, %s)\n", version, fallow.Protocol, v["platform"], v["go"])
			})
		},
	}
}

func newInitCommand(a *app) *cobra.Command {
	var draw bool
	c := &cobra.Command{
		Use:   "init",
		Short: "Make a home: config and an account key",
		Long: `Make a home: config and an account key.

The account's recovery words are shown once. Write them down: they are the
only way back to its money when this machine is lost.

The key is sealed with a passphrase, which is asked for. --passphrase-file is
remembered in the home's config, and --draw-passphrase makes such a file.`,
		Example: `  fallow init
  fallow init --draw-passphrase --home /srv/fallow`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if draw && a.words != "" {
				return usage("--draw-passphrase and --passphrase-file: want one of the two")
			}
			base, err := a.baseDir()
			if err != nil {
				return err
			}
			h := sdk.Home(base)
			if _, err := os.Stat(h.ConfigFile()); err == nil {
				return fail(exitBusy, fmt.Errorf("%s is a home already", h), "use it as it is, or name another with --home DIR")
			}
			config := sdk.Default()
			if a.words != "" {
				if config.PassphraseFile, err = filepath.Abs(a.words); err != nil {
					return err
				}
			}
			if draw {
				if err := keys.WritePassphrase(h.PassphraseFile()); err != nil {
					return err
				}
			}
			ring := h.Ring(config, a.in, a.err)
			k, words, err := ring.Create(config.Account)
			if errors.Is(err, keys.ErrExists) { // an earlier init was cut short
				words = ""
				k, err = ring.Show(config.Account)
			}
			if errors.Is(err, keys.ErrNoPassphrase) {
				return fail(exitUsage, err, "or have one drawn and kept in the home: fallow init --draw-passphrase")
			}
			if err != nil {
				return err
			}
			if err := h.Save(config); err != nil {
				return err
			}
			return a.print(map[string]any{"home": h, "account": k.Account, "mnemonic": words}, func(w io.Writer) {
				fmt.Fprintf(w, "home     %s\naccount  %s\n", h, k.Account)
				if words == "" {
					fmt.Fprintf(w, "\nThe key stood already. Unless its words are written down, keep what this gives: fallow keys export %s\n", k.Name)
				} else {
					showMnemonic(w, words)
				}
				fmt.Fprint(w, "\nNext, join a network by its file: fallow join NETWORK-FILE\n")
			})
		},
	}
	c.Flags().BoolVar(&draw, "draw-passphrase", false, "draw a passphrase and keep it in the home, for machines that unlock alone")
	return c
}

func showMnemonic(w io.Writer, words string) {
	fmt.Fprintf(w, "\nWrite these %d words down now; they are shown once and kept nowhere:\n\n", len(strings.Fields(words)))
	for i, word := range strings.Fields(words) {
		fmt.Fprintf(w, "  %2d %-10s", i+1, word)
		if i%6 == 5 {
			fmt.Fprintln(w)
		}
	}
}

func newJoinCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "join NETWORK-FILE|URL",
		Short: "Join a network by its network file",
		Long: `Join a network by its network file. Whoever runs the network publishes it; it
names the ledger, by the digest of its genesis, and where ledger and hubs are.
A local network's stands in its folder.`,
		Example: `  fallow join https://example.org/network.toml
  fallow join ~/.fallow/local/network.toml --home ann`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			base, err := a.baseDir()
			if err != nil {
				return err
			}
			h := sdk.Home(base)
			b, err := readNetworkFile(c, args[0])
			if err != nil {
				return fail(exitUsage, fmt.Errorf("read the network file: %w", err), "give the path or the address of a network file")
			}
			n, err := sdk.ParseNetwork(b)
			if err != nil {
				return fail(exitUsage, fmt.Errorf("%s: %w", args[0], err), "ask whoever gave it to you for a good one")
			}
			if old, err := h.Network(); err == nil && old.Genesis != n.Genesis {
				return fail(exitBusy, fmt.Errorf("%s has joined %s already", h, old.ChainID), "use another home with --home DIR")
			}
			if err := n.Save(h.NetworkFile()); err != nil {
				return err
			}
			return a.print(n, func(w io.Writer) {
				fmt.Fprintf(w, "joined %s: %s, genesis %s\n", n.ChainID, count(len(n.Hubs), "hub"), n.Genesis.Short())
				if _, err := os.Stat(h.KeyDir()); err != nil {
					fmt.Fprintln(w, "\nNext, make an account: fallow init")
				}
			})
		},
	}
}

// readNetworkFile takes a path or a URL.
func readNetworkFile(c *cobra.Command, from string) ([]byte, error) {
	if !strings.HasPrefix(from, "https://") && !strings.HasPrefix(from, "http://") {
		return os.ReadFile(from)
	}
	req, err := http.NewRequestWithContext(c.Context(), http.MethodGet, from, nil)
	if err != nil {
		return nil, err
	}
	client := http.Client{Timeout: 20 * time.Second}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err = errors.Join(err, resp.Body.Close()); err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", from, resp.Status)
	}
	return b, err
}

func newManCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:    "man DIR",
		Short:  "Write the manual pages",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			if err := doc.GenManTree(c.Root(), &doc.GenManHeader{Title: "FALLOW", Section: "1", Source: "fallow " + version}, args[0]); err != nil {
				return err
			}
			n := 0
			err := filepath.WalkDir(args[0], func(_ string, d fs.DirEntry, err error) error {
				if err == nil && strings.HasSuffix(d.Name(), ".1") {
					n++
				}
				return err
			})
			fmt.Fprintf(a.out, "%d pages in %s\n", n, args[0])
			return err
		},
	}
}
