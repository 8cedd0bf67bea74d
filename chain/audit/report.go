package audit

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	sdk "github.com/cosmos/cosmos-sdk/types"
	"github.com/cosmos/gogoproto/proto"

	"fallow.network"
	leaseapi "fallow.network/api/chain/lease"
	providerapi "fallow.network/api/chain/provider"
)

// Counts are what was replayed.
type Counts struct {
	Blocks int64 `json:"blocks,string"`
	// Txs are all transactions, Ours those with messages of our modules, and
	// Failed those of ours that the ledger refused.
	Txs    int64 `json:"transactions,string"`
	Ours   int64 `json:"market_transactions,string"`
	Failed int64 `json:"market_transactions_failed,string"`
	// Messages are those of our modules that took effect.
	Messages int64 `json:"market_messages,string"`
	// Bytes that transactions with messages of ours take on the ledger.
	Bytes     int64 `json:"market_bytes,string"`
	Opened    int64 `json:"leases_opened,string"`
	Skipped   int64 `json:"offers_skipped,string"`
	Providers int64 `json:"providers_registered,string"`
	// Credits, in ucredit.
	Deposited fallow.Credits `json:"deposited_ucredit,string"`
	Withdrawn fallow.Credits `json:"withdrawn_ucredit,string"`
	Paid      fallow.Credits `json:"paid_ucredit,string"`
	Escrow    fallow.Credits `json:"escrow_ucredit,string"`
	// Bonded is in ufal.
	Bonded uint64 `json:"bonded_ufal,string"`
}

// see counts one message that took effect.
func (c *Counts) see(msg sdk.Msg, resp proto.Message) {
	c.Messages++
	switch m := msg.(type) {
	case *providerapi.MsgRegister:
		c.Providers++
	case *leaseapi.MsgOpenLeases:
		for _, r := range resp.(*leaseapi.MsgOpenLeasesResponse).Results {
			if r.Reason == "" {
				c.Opened++
			} else {
				c.Skipped++
			}
		}
	case *leaseapi.MsgWithdraw:
		c.Withdrawn += fallow.Credits(resp.(*leaseapi.MsgWithdrawResponse).Amount)
	case *leaseapi.MsgDeposit:
		c.Deposited += fallow.Credits(m.Amount)
	}
}

// Report is what an audit found.
type Report struct {
	Sound     bool          `json:"sound"`
	ChainID   string        `json:"chain_id"`
	Genesis   fallow.Digest `json:"genesis_hash"`
	Node      string        `json:"node"`
	Witnesses []string      `json:"witnesses,omitempty"`
	// Trust says which block verification began with, and why it is believed.
	Trust string `json:"trust"`
	// Height and Time are of the last block that was replayed; Proven is the
	// block whose whole state was proven to be what the rules leave.
	Height int64     `json:"height,string"`
	Time   time.Time `json:"time"`
	Proven int64     `json:"proven_height,string"`
	Counts
	// Told are facts that only the node vouches for.
	Told   []string `json:"as_told_by_node"`
	Breach *Breach  `json:"breach,omitempty"`
}

func (r *Report) told(format string, args ...any) {
	r.Told = append(r.Told, fmt.Sprintf(format, args...))
}

// count takes over what a replay counted.
func (r *Report) count(p *replay, c *chain) {
	r.Counts, r.Height = p.counts, p.height
	if p.height > 0 {
		r.Time = c.at(p.height).time
	}
	if out := p.bank.out; out.IsUint64() {
		r.Paid = fallow.Credits(out.Uint64()) - r.Withdrawn
	}
}

// Write prints the report for people.
func (r Report) Write(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) { fmt.Fprintf(t, name+"\t"+format+"\n", args...) }
	line("network", "%s, genesis %s", r.ChainID, r.Genesis)
	line("trust", "%s", r.Trust)
	line("blocks", "%d, to %s, all linked to a verified one", r.Blocks, r.Time.UTC().Format(time.RFC3339))
	line("transactions", "%d, %d of them for the market (%d refused), %d bytes", r.Txs, r.Ours, r.Failed, r.Bytes)
	line("replayed", "%d messages: %d providers registered, %d leases opened, %d offers skipped", r.Messages, r.Providers, r.Opened, r.Skipped)
	line("credits", "%s deposited = %s paid + %s withdrawn + %s in escrow", r.Deposited, r.Paid, r.Withdrawn, r.Escrow)
	line("bonds", "%s FAL", fallow.Credits(r.Bonded))
	if r.Proven > 0 {
		line("state", "proven at block %d: every entry of both modules, every credit and the bonds", r.Proven)
	}
	for _, s := range r.Told {
		line("as told by "+r.Node, "%s", s)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	verdict := "the books are sound\n"
	switch {
	case r.Breach != nil:
		verdict = fmt.Sprintf("BREACH: %v\n", r.Breach)
	case !r.Sound:
		verdict = "the audit did not finish\n"
	}
	_, err := io.WriteString(w, verdict)
	return err
}
