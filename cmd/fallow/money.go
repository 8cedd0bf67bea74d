package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fallow.network"
	"fallow.network/keys"
	"fallow.network/ledger"
	"fallow.network/sdk"
)

func moneyVerbs(a *app) []*cobra.Command {
	return []*cobra.Command{
		newKeysCommand(a), newBalanceCommand(a), newSendCommand(a), newDepositCommand(a), newWithdrawCommand(a), newGrantCommand(a),
	}
}

// logger writes what happens to standard error with --verbose, else nothing.
func (a *app) logger() *slog.Logger {
	if !a.verbose {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// purse opens the home's account on its ledger.
func (a *app) purse(ctx context.Context) (*sdk.Purse, error) {
	h, _, ring, err := a.ring()
	if err != nil {
		return nil, err
	}
	return h.OpenPurse(ctx, ring, a.logger())
}

// withPurse opens the purse for one verb.
func (a *app) withPurse(ctx context.Context, do func(*sdk.Purse) error) error {
	p, err := a.purse(ctx)
	if err != nil {
		return err
	}
	return errors.Join(do(p), p.Close())
}

// onlooker dials the ledger without a key.
func (a *app) onlooker(ctx context.Context) (c *ledger.Client, done func(), err error) {
	h, err := a.homeDir()
	if err != nil {
		return nil, nil, err
	}
	config, err := h.Load()
	if err != nil {
		return nil, nil, err
	}
	n, err := h.Network()
	if err != nil {
		return nil, nil, err
	}
	if c, err = sdk.Dial(ctx, n, config, a.logger()); err != nil {
		return nil, nil, err
	}
	return c, func() { _ = c.Close() }, nil // it only read
}

// balance is all that an account has, in every place.
type balance struct {
	Account  fallow.Account `json:"account"`
	Tokens   ledger.Tokens  `json:"ufal"`
	Credits  fallow.Credits `json:"ucredit"`
	Free     fallow.Pico    `json:"escrow_free"`
	Reserved fallow.Pico    `json:"escrow_reserved"`
	Leases   uint64         `json:"open_leases"`
	// RunsDry is when escrow runs out at its present rate; empty when nothing runs.
	RunsDry string `json:"runs_dry,omitempty"`
	// Maturing is pay on its way, by the time at which it arrives.
	Maturing []maturing `json:"maturing,omitempty"`
}

type maturing struct {
	Amount fallow.Credits `json:"ucredit"`
	At     time.Time      `json:"at"`
}

func newBalanceCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "balance [ACCOUNT]",
		Short: "Show coins, escrow, runway and pay on its way",
		Long: `Show what an account has: FAL for fees and bonds, credits for work, credits in
escrow (free, and reserved by leases), and pay that matures. By default it is
the account of this home.`,
		Example: `  fallow balance
  fallow balance fal1… --json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			h, config, ring, err := a.ring()
			if err != nil {
				return err
			}
			var account fallow.Account
			if len(args) == 1 {
				if account, err = keys.ParseAccount(args[0]); err != nil {
					return fail(exitUsage, err, "")
				}
			} else {
				k, err := ring.Show(config.Account)
				if err != nil {
					return err
				}
				account = k.Account
			}
			n, err := h.Network()
			if err != nil {
				return err
			}
			l, err := sdk.Dial(c.Context(), n, config, a.logger())
			if err != nil {
				return err
			}
			b, err := readBalance(c.Context(), l, account)
			if err = errors.Join(err, l.Close()); err != nil {
				return err
			}
			return a.print(b, func(w io.Writer) {
				table(w, func(row func(...any)) {
					row("account", b.Account)
					row("tokens", fmt.Sprintf("%s FAL", b.Tokens))
					row("credits", b.Credits)
					row("escrow", fmt.Sprintf("%s free, %s reserved, %d open leases", b.Free, b.Reserved, b.Leases))
					if b.RunsDry != "" {
						row("runs dry", b.RunsDry)
					}
					for _, m := range b.Maturing {
						row("maturing", fmt.Sprintf("%s at %s", m.Amount, m.At.Format(time.DateTime)))
					}
				})
			})
		},
	}
}

func readBalance(ctx context.Context, l *ledger.Client, account fallow.Account) (balance, error) {
	b := balance{Account: account}
	coins, err := l.Balance(ctx, account)
	if err != nil {
		return b, err
	}
	b.Tokens, b.Credits = coins.Tokens, coins.Credits
	escrow, err := l.Escrow(ctx, account)
	switch {
	case errors.Is(err, ledger.ErrNotFound):
	case err != nil:
		return b, err
	default:
		if b.Free, err = ledger.Pico(escrow.GetFree()); err != nil {
			return b, err
		}
		if b.Reserved, err = ledger.Pico(escrow.GetReserved()); err != nil {
			return b, err
		}
		b.Leases = escrow.GetOpenLeases()
		if at := escrow.GetDryUnixMs(); at > 0 {
			b.RunsDry = time.UnixMilli(at).Format(time.DateTime)
		}
	}
	for p, err := range l.Payouts(ctx, account) {
		if err != nil {
			return b, err
		}
		b.Maturing = append(b.Maturing, maturing{fallow.Credits(p.GetAmount()), time.UnixMilli(p.GetMaturesUnixMs())})
	}
	return b, nil
}

// parseTokens reads an amount of FAL that is not zero.
func parseTokens(s string) (ledger.Tokens, error) {
	amount, err := ledger.ParseTokens(strings.TrimSpace(strings.TrimSuffix(strings.ToUpper(s), "FAL")))
	if err != nil {
		return 0, typed(err)
	}
	if amount == 0 {
		return 0, usage("%.40q is nothing: want an amount of FAL, as 2.5", s)
	}
	return amount, nil
}

// sent is what a money verb prints.
type sent struct {
	Hash   ledger.Hash   `json:"tx"`
	Height fallow.Height `json:"height"`
	Bytes  int           `json:"bytes"`
	Fee    ledger.Tokens `json:"fee_ufal"`
	Amount string        `json:"amount"`
}

func (a *app) printSent(tx ledger.Tx, amount, what string) error {
	return a.print(sent{tx.Hash, tx.Height, tx.Bytes, tx.Fee, amount}, func(w io.Writer) {
		fmt.Fprintf(w, "%s in block %d (fee %s FAL, tx %s)\n", what, tx.Height, tx.Fee, tx.Hash)
	})
}

func newSendCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "send ACCOUNT AMOUNT",
		Short: "Send FAL to an account",
		Long: `Send FAL to an account.

Credits move through escrow alone: to give somebody credits for work, deposit
into their escrow with: fallow deposit AMOUNT --for ACCOUNT`,
		Example: `  fallow send fal1… 2.5`,
		Args:    cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			to, err := keys.ParseAccount(args[0])
			if err != nil {
				return fail(exitUsage, err, "")
			}
			amount, err := parseTokens(args[1])
			if err != nil {
				return err
			}
			return a.withPurse(c.Context(), func(p *sdk.Purse) error {
				tx, err := p.Sender.Transfer(c.Context(), to, amount)
				if err != nil {
					return err
				}
				return a.printSent(tx, amount.String(), fmt.Sprintf("sent %s FAL to %s", amount, to))
			})
		},
	}
}

func newDepositCommand(a *app) *cobra.Command {
	var beneficiary string
	c := &cobra.Command{
		Use:   "deposit CREDITS",
		Short: "Put credits into escrow, which funds leases",
		Example: `  fallow deposit 25
  fallow deposit 2.50 --for fal1…`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			amount, err := fallow.ParseCredits(args[0])
			if err != nil {
				return typed(err)
			}
			if amount == 0 {
				return usage("nothing to deposit: want an amount of credits, as 2.5")
			}
			var tenant fallow.Account
			if beneficiary != "" {
				if tenant, err = keys.ParseAccount(beneficiary); err != nil {
					return fail(exitUsage, err, "")
				}
			}
			return a.withPurse(c.Context(), func(p *sdk.Purse) error {
				tx, err := p.Sender.Deposit(c.Context(), tenant, amount)
				if err != nil {
					return err
				}
				return a.printSent(tx, amount.String(), fmt.Sprintf("%s credits are in escrow", amount))
			})
		},
	}
	c.Flags().StringVar(&beneficiary, "for", "", "another `account`'s escrow")
	return c
}

func newGrantCommand(a *app) *cobra.Command {
	var (
		limit   string
		expires int64
	)
	c := &cobra.Command{
		Use:   "client-key ACCOUNT",
		Short: "Let another account open leases from this escrow, within a limit",
		Long: `Let another account open leases from this escrow, within a limit and until a
height, so that the account's own key can stay offline.`,
		Example: `  fallow client-key fal1… --limit 5 --until 200000
  fallow client-key fal1… --limit 0`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			other, err := keys.ParseAccount(args[0])
			if err != nil {
				return fail(exitUsage, err, "")
			}
			if limit == "" {
				return usage("--limit is missing: want credits, or 0 to end it")
			}
			amount, err := fallow.ParseCredits(limit)
			if err != nil {
				return fail(exitUsage, fmt.Errorf("--limit: %w", err), "")
			}
			if expires < 0 || amount > 0 && expires == 0 {
				return usage("--until %d: want the last block height at which it may; fallow status shows the present one", expires)
			}
			return a.withPurse(c.Context(), func(p *sdk.Purse) error {
				tx, err := p.Sender.SetClientKey(c.Context(), other, amount, fallow.Height(expires))
				if err != nil {
					return err
				}
				return a.printSent(tx, amount.String(), fmt.Sprintf("%s may reserve %s credits until height %d", other, amount, expires))
			})
		},
	}
	c.Flags().StringVar(&limit, "limit", "", "`credits` that its leases may reserve in all; 0 ends it")
	c.Flags().Int64Var(&expires, "until", 0, "last block `height` at which it may")
	return c
}
