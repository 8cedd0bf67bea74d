package app

import (
	"crypto/sha256"
	"encoding/binary"

	storetypes "github.com/cosmos/cosmos-sdk/store/v2/types"
	sdk "github.com/cosmos/cosmos-sdk/types"
	"github.com/cosmos/cosmos-sdk/x/auth/ante"
	authsigning "github.com/cosmos/cosmos-sdk/x/auth/signing"

	"fallow.network/chain/adapter"
)

// rememberedSignatures is how many transactions a node remembers to be signed
// well, twice: the blocks of a busy minute, at 32 bytes each.
const rememberedSignatures = 20_000

// verified remembers which transactions were signed well when they came, so
// that the block which carries them need not check again: in pure Go that is a
// third of what a transaction costs. What is remembered follows from the bytes
// alone, so a node that has forgotten, or never saw the transaction before its
// block, comes to the same state with the same gas.
type verified struct {
	accounts ante.AccountKeeper
	inner    sdk.AnteDecorator
	signed   *adapter.Recent
}

func newVerified(accounts ante.AccountKeeper, inner sdk.AnteDecorator) *verified {
	return &verified{accounts: accounts, inner: inner, signed: adapter.NewRecent(rememberedSignatures)}
}

// AnteHandle lets the decorator inside check all but what is known.
func (v *verified) AnteHandle(ctx sdk.Context, tx sdk.Tx, simulate bool, next sdk.AnteHandler) (sdk.Context, error) {
	mode := ctx.ExecMode()
	if simulate || !ctx.IsSigverifyTx() || mode != sdk.ExecModeCheck && mode != sdk.ExecModeFinalize {
		return v.inner.AnteHandle(ctx, tx, simulate, next)
	}
	id, ok := v.id(ctx, tx)
	if !ok {
		return v.inner.AnteHandle(ctx, tx, simulate, next)
	}
	if mode == sdk.ExecModeFinalize {
		return v.inner.AnteHandle(ctx.WithIsSigverifyTx(!v.signed.Has(id)), tx, simulate, func(ctx sdk.Context, tx sdk.Tx, simulate bool) (sdk.Context, error) {
			return next(ctx.WithIsSigverifyTx(true), tx, simulate)
		})
	}
	return v.inner.AnteHandle(ctx, tx, simulate, func(ctx sdk.Context, tx sdk.Tx, simulate bool) (sdk.Context, error) {
		v.signed.Add(id) // it gets here with good signatures alone
		return next(ctx, tx, simulate)
	})
}

// id stands for all that decides whether a transaction is signed well: its
// bytes, the ledger, and the signers' numbers and keys. Reading those is not
// part of what the transaction pays for.
func (v *verified) id(ctx sdk.Context, tx sdk.Tx) (id [sha256.Size]byte, ok bool) {
	signed, ok := tx.(authsigning.SigVerifiableTx)
	if !ok || len(ctx.TxBytes()) == 0 {
		return id, false
	}
	signers, err := signed.GetSigners()
	if err != nil {
		return id, false
	}
	free := ctx.WithGasMeter(storetypes.NewInfiniteGasMeter())
	h := sha256.New()
	h.Write([]byte(ctx.ChainID()))
	h.Write([]byte{0})
	for _, signer := range signers {
		a := v.accounts.GetAccount(free, signer)
		if a == nil || a.GetPubKey() == nil {
			return id, false
		}
		number := a.GetAccountNumber()
		if ctx.BlockHeight() == 0 {
			number = 0 // as a genesis transaction is signed
		}
		key := a.GetPubKey()
		h.Write(binary.BigEndian.AppendUint64(nil, number))
		h.Write([]byte(key.Type()))
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(key.Bytes()))))
		h.Write(key.Bytes())
	}
	whole := sha256.Sum256(ctx.TxBytes())
	h.Write(whole[:])
	return [sha256.Size]byte(h.Sum(nil)), true
}

// anteHandler is the SDK's own chain of checks, with what verified remembers.
func (app *App) anteHandler() sdk.AnteHandler {
	check := ante.NewSigVerificationDecorator(app.Auth, app.txConfig.SignModeHandler(), ante.WithUnorderedTxGasCost(ante.DefaultUnorderedTxGasCost))
	return sdk.ChainAnteDecorators(
		ante.NewSetUpContextDecorator(),
		ante.NewExtensionOptionsDecorator(nil),
		ante.NewValidateBasicDecorator(),
		ante.NewTxTimeoutHeightDecorator(),
		ante.NewValidateMemoDecorator(app.Auth),
		ante.NewConsumeGasForTxSizeDecorator(app.Auth),
		ante.NewDeductFeeDecorator(app.Auth, app.Bank, app.FeeGrant, nil),
		ante.NewSetPubKeyDecorator(app.Auth),
		ante.NewValidateSigCountDecorator(app.Auth),
		ante.NewSigGasConsumeDecorator(app.Auth, ante.DefaultSigVerificationGasConsumer),
		newVerified(app.Auth, check),
		ante.NewIncrementSequenceDecorator(app.Auth),
	)
}
