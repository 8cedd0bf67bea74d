package ledger

import (
	"errors"

	"google.golang.org/protobuf/proto"

	"fallow.network"
	"fallow.network/trace"
)

// told ends the span of a transaction, which began when it was to be signed:
// it stands in a block by now, or never will as far as is known.
func (c *Client) told(span trace.Span, messages []proto.Message, tx Tx, err error) {
	if !c.config.Trace.On() {
		return
	}
	span.Text("ledger.kind", kindOf(messages)).Int("ledger.messages", int64(len(messages)))
	if tx.Height > 0 {
		span.Text("ledger.hash", tx.Hash.String()).Int("ledger.height", int64(tx.Height)).
			Int("ledger.gas", int64(tx.GasUsed)).Int("ledger.bytes", int64(tx.Bytes)).Int("ledger.fee_ufal", int64(tx.Fee))
	}
	var unsettled *UnsettledError
	switch {
	case err == nil:
		span.End("")
	case errors.As(err, &unsettled):
		span.Text("ledger.hash", unsettled.Hash.String()).End(fallow.ReasonTimeout)
	case Away(err):
		span.End(fallow.ReasonChainAway)
	default:
		span.End(fallow.ReasonAborted)
	}
}
