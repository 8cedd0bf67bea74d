package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"fallow.network/keys"
	"fallow.network/sdk"
)

// ring opens the home's keyring and config.
func (a *app) ring() (sdk.Home, sdk.Config, *keys.Ring, error) {
	h, err := a.homeDir()
	if err != nil {
		return h, sdk.Config{}, nil, err
	}
	config, err := h.Load()
	if err != nil {
		return h, config, nil, fail(exitUsage, err, "mend the file, or move it away for the defaults")
	}
	if a.words != "" {
		config.PassphraseFile = a.words
	}
	return h, config, h.Ring(config, a.in, a.err), nil
}

func newKeysCommand(a *app) *cobra.Command {
	return group("keys", "Account keys: add, list, show, export, import, delete", `Account keys. Each is a file in the home, sealed with the keyring's passphrase,
and comes from 24 recovery words that any Cosmos wallet takes. The passphrase is
asked for, or read from --passphrase-file, from the file that the config or
FALLOW_PASSPHRASE_FILE names, or from a systemd credential. The config's
account (main) is the one that signs.`,
		newKeysAddCommand(a), newKeysListCommand(a), newKeysShowCommand(a), newKeysExportCommand(a), newKeysImportCommand(a), newKeysDeleteCommand(a))
}

// keyNames completes the names of keys.
func (a *app) keyNames(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	_, _, ring, err := a.ring()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	all, err := ring.List()
	names := make([]string, 0, len(all))
	for _, k := range all {
		names = append(names, k.Name)
	}
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func newKeysAddCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "add NAME",
		Short: "Make a key; its recovery words are shown once",
		Example: `  fallow keys add savings
  fallow keys add bot --passphrase-file /etc/fallow/passphrase`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			_, _, ring, err := a.ring()
			if err != nil {
				return err
			}
			k, words, err := ring.Create(args[0])
			if err != nil {
				return err
			}
			return a.print(map[string]any{"key": k, "mnemonic": words}, func(w io.Writer) {
				fmt.Fprintf(w, "%s  %s\n", k.Name, k.Account)
				showMnemonic(w, words)
				fmt.Fprintln(w)
			})
		},
	}
}

func newKeysListCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List keys, and say which one signs; needs no passphrase",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, config, ring, err := a.ring()
			if err != nil {
				return err
			}
			all, err := ring.List()
			if err != nil {
				return err
			}
			return a.print(list(all), func(w io.Writer) {
				if len(all) == 0 {
					fmt.Fprintln(w, "no keys yet; make one with: fallow init")
					return
				}
				table(w, func(row func(...any)) {
					for _, k := range all {
						mark := ""
						if k.Name == config.Account {
							mark = "(signs)"
						}
						row(k.Name, k.Account, mark)
					}
				})
			})
		},
	}
}

func newKeysShowCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "show [NAME]",
		Short:             "Show a key's account and public key",
		Args:              cobra.MaximumNArgs(1),
		Example:           `  fallow keys show savings`,
		ValidArgsFunction: a.keyNames,
		RunE: func(_ *cobra.Command, args []string) error {
			_, config, ring, err := a.ring()
			if err != nil {
				return err
			}
			k, err := ring.Show(nameOr(args, config.Account))
			if err != nil {
				return err
			}
			return a.print(k, func(w io.Writer) {
				fmt.Fprintf(w, "name        %s\naccount     %s\npublic key  %s\n", k.Name, k.Account, k.Public)
			})
		},
	}
}

func nameOr(args []string, other string) string {
	if len(args) > 0 {
		return args[0]
	}
	return other
}

func newKeysExportCommand(a *app) *cobra.Command {
	var hex bool
	var to string
	c := &cobra.Command{
		Use:   "export NAME",
		Short: "Export a key, armoured with a passphrase of its own, or as bare hex",
		Long: `Export a key.

By default it is sealed with a passphrase of its own, in the armoured form that
Cosmos wallets and "fallowd keys import" read. --unsafe-hex prints the bare
private key, which browser wallets import: whoever sees it owns the account.`,
		Example: `  fallow keys export main -o main.asc
  fallow keys import main main.asc --home /media/backup`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.keyNames,
		RunE: func(_ *cobra.Command, args []string) error {
			_, _, ring, err := a.ring()
			if err != nil {
				return err
			}
			s, err := ring.Secret(args[0])
			if err != nil {
				return err
			}
			text := fmt.Sprintf("%x\n", s.Bytes())
			if !hex {
				words, err := a.askTwice("Passphrase for the exported key: ")
				if err != nil {
					return err
				}
				if text, err = s.Armor(words); err != nil {
					return fail(exitUsage, err, "")
				}
			}
			if to == "" {
				_, err = io.WriteString(a.out, text)
				return err
			}
			f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if err != nil {
				return fail(exitUsage, err, "name a file that does not exist yet")
			}
			_, err = f.WriteString(text)
			if err = errors.Join(err, f.Close()); err != nil {
				return err
			}
			return a.print(map[string]string{"exported": args[0], "file": to}, func(w io.Writer) { fmt.Fprintf(w, "exported %s to %s\n", args[0], to) })
		},
	}
	c.Flags().BoolVar(&hex, "unsafe-hex", false, "the bare private key in hex")
	c.Flags().StringVarP(&to, "output", "o", "", "new `file` (mode 0600) instead of standard output")
	return c
}

func newKeysImportCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "import NAME [FILE]",
		Short: "Import recovery words, an armoured key or a hex key, from a file or standard input",
		Long: `Import a key: recovery words (12 to 24 of them), an armoured key as fallow keys
export and Cosmos tools write it, or 64 hex digits. Words and hex must not be
arguments, which others on this machine can see: give them in a FILE or on
standard input.`,
		Example: `  fallow keys import savings words.txt
  fallow keys import savings <words.txt`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(_ *cobra.Command, args []string) error {
			_, _, ring, err := a.ring()
			if err != nil {
				return err
			}
			from := a.in
			if len(args) == 2 {
				f, err := os.Open(args[1])
				if err != nil {
					return fail(exitUsage, err, "")
				}
				defer func() { _ = f.Close() }() // it was only read
				from = f
			} else if f, ok := a.in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
				fmt.Fprintln(a.err, "Paste the words, the armoured key or the hex key, then end with Ctrl-D:")
			}
			text, err := io.ReadAll(io.LimitReader(from, 1<<16))
			if err != nil {
				return err
			}
			k, err := ring.Import(args[0], string(text), func() (string, error) {
				words, err := a.ask("Passphrase of the armoured key: ")
				if err != nil && from == a.in {
					return "", fail(exitUsage, err, "give the key as FILE, and its passphrase on standard input")
				}
				return words, err
			})
			if err != nil {
				return typed(err)
			}
			return a.print(k, func(w io.Writer) { fmt.Fprintf(w, "%s  %s\n", k.Name, k.Account) })
		},
	}
}

func newKeysDeleteCommand(a *app) *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:               "delete NAME",
		Short:             "Delete a key from this machine",
		Example:           `  fallow keys delete savings --yes`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.keyNames,
		RunE: func(_ *cobra.Command, args []string) error {
			if !yes {
				return fail(exitUsage, fmt.Errorf("deleting %s loses its money unless its words are written down", args[0]), "say --yes to do it")
			}
			_, _, ring, err := a.ring()
			if err != nil {
				return err
			}
			if err := ring.Delete(args[0]); err != nil {
				return err
			}
			return a.print(map[string]string{"deleted": args[0]}, func(w io.Writer) { fmt.Fprintln(w, "deleted", args[0]) })
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "its words are written down")
	return c
}

// askTwice asks for words that seal something: twice at a terminal, where
// nobody sees what is typed.
func (a *app) askTwice(prompt string) (string, error) {
	words, err := a.ask(prompt)
	if f, ok := a.in.(*os.File); err != nil || !ok || !term.IsTerminal(int(f.Fd())) {
		return words, err
	}
	again, err := a.ask("The same again: ")
	if err == nil && words != again {
		err = fail(exitUsage, errors.New("the two passphrases differ"), "type the same one twice")
	}
	return words, err
}

// ask reads one secret line: without echo at a terminal, else from the input.
func (a *app) ask(prompt string) (string, error) {
	if f, ok := a.in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		fmt.Fprint(a.err, prompt)
		b, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(a.err)
		return string(b), err
	}
	line, err := bufio.NewReader(io.LimitReader(a.in, 4096)).ReadString('\n')
	if err != nil && line == "" {
		return "", fail(exitUsage, errors.New("no passphrase on standard input"), "type it at a terminal, or give it as a line of standard input")
	}
	return strings.TrimRight(line, "\r\n"), nil
}
