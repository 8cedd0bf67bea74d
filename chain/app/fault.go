package app

import (
	"strings"

	abci "github.com/cometbft/cometbft/abci/types"
	sdk "github.com/cosmos/cosmos-sdk/types"

	"fallow.network/fault"
)

// FinalizeBlock is the base app's. A block with a message of the market passes
// a point on which nothing of it is on disk.
func (app *App) FinalizeBlock(req *abci.RequestFinalizeBlock) (*abci.ResponseFinalizeBlock, error) {
	resp, err := app.BaseApp.FinalizeBlock(req)
	if fault.Built {
		if app.market = app.hasMarket(req.Txs); app.market {
			fault.Point("chain/finalized")
		}
	}
	return resp, err
}

// Commit is the base app's. After a block with a message of the market it
// passes a point on which CometBFT does not know yet that the state is written.
func (app *App) Commit() (*abci.ResponseCommit, error) {
	resp, err := app.BaseApp.Commit()
	if app.market {
		fault.Point("chain/committed")
	}
	return resp, err
}

// hasMarket says whether a transaction holds a message of ours.
func (app *App) hasMarket(txs [][]byte) bool {
	for _, raw := range txs {
		tx, err := app.txConfig.TxDecoder()(raw)
		if err != nil {
			continue
		}
		for _, m := range tx.GetMsgs() {
			if strings.HasPrefix(sdk.MsgTypeURL(m), "/fallow.lease.") {
				return true
			}
		}
	}
	return false
}
