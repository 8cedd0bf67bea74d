package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"cosmossdk.io/core/address"
	"cosmossdk.io/log/v2"
	abci "github.com/cometbft/cometbft/abci/types"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	coretypes "github.com/cometbft/cometbft/rpc/core/types"
	cmttypes "github.com/cometbft/cometbft/types"
	dbm "github.com/cosmos/cosmos-db"
	"github.com/cosmos/cosmos-sdk/runtime"
	pruning "github.com/cosmos/cosmos-sdk/store/v2/pruning/types"
	"github.com/cosmos/cosmos-sdk/store/v2/rootmulti"
	storetypes "github.com/cosmos/cosmos-sdk/store/v2/types"
	sdk "github.com/cosmos/cosmos-sdk/types"
	authcodec "github.com/cosmos/cosmos-sdk/x/auth/codec"
	"github.com/cosmos/cosmos-sdk/x/authz"
	govtypes "github.com/cosmos/cosmos-sdk/x/gov/types"
	govv1 "github.com/cosmos/cosmos-sdk/x/gov/types/v1"
	"github.com/cosmos/gogoproto/proto"

	"fallow.network"
	leaseapi "fallow.network/api/chain/lease"
	providerapi "fallow.network/api/chain/provider"
	"fallow.network/chain/app"
	"fallow.network/chain/lease"
	"fallow.network/chain/provider"
)

// modules are those that are replayed, in the order in which blocks end them.
var modules = []string{lease.Name, provider.Name}

// replay runs our two modules, and nothing else of the ledger, over stores of
// their own that hash as the ledger's do.
type replay struct {
	enc      app.Encoding
	chainID  string
	store    *rootmulti.Store
	first    storetypes.CacheMultiStore // genesis, until block 1 commits it
	bank     *purse
	provider *provider.Keeper
	lease    *lease.Keeper

	height int64
	// roots[h-1] are the hashes of the modules' stores after block h.
	roots [][2][]byte
	// votes are proposals with messages of ours, until they are decided.
	votes map[uint64][]sdk.Msg
	// passed are proposals whose messages were replayed, at a block that only
	// the node names.
	passed map[uint64]int64
	counts Counts
}

// fixed is what the keepers ask of the auth module.
type fixed struct{ address.Codec }

func (f fixed) AddressCodec() address.Codec { return f.Codec }

func (fixed) GetModuleAccount(context.Context, string) sdk.ModuleAccountI { return nil }

func newReplay(ctx context.Context, enc app.Encoding, doc *cmttypes.GenesisDoc) (*replay, error) {
	var state map[string]json.RawMessage
	if err := json.Unmarshal(doc.AppState, &state); err != nil {
		return nil, fmt.Errorf("read genesis: %w", err)
	}
	keys := storetypes.NewKVStoreKeys(modules...)
	r := &replay{
		enc: enc, chainID: doc.ChainID, store: rootmulti.NewStore(dbm.NewMemDB(), log.NewNopLogger()),
		votes: map[uint64][]sdk.Msg{}, passed: map[uint64]int64{},
	}
	r.store.SetPruning(pruning.NewPruningOptions(pruning.PruningEverything))
	r.store.SetIAVLSyncPruning(true)
	for _, name := range modules {
		r.store.MountStoreWithDB(keys[name], storetypes.StoreTypeIAVL, nil)
	}
	if err := r.store.LoadLatestVersion(); err != nil {
		return nil, fmt.Errorf("open a state to replay on: %w", err)
	}
	var err error
	if r.bank, err = newPurse(enc, state); err != nil {
		return nil, err
	}
	accounts := fixed{authcodec.NewBech32Codec(fallow.Bech32Prefix)}
	r.provider = provider.NewKeeper(runtime.NewKVStoreService(keys[provider.Name]), accounts, r.bank, app.Authority())
	r.lease = lease.NewKeeper(runtime.NewKVStoreService(keys[lease.Name]), accounts, r.bank, r.provider, app.Authority())
	r.provider.SetExposure(r.lease.Exposure)
	r.provider.SetCheckWindow(r.lease.CheckWindow)

	r.first = r.store.CacheMultiStore()
	first := r.context(ctx, r.first, 1, doc.GenesisTime)
	var providers providerapi.GenesisState
	var leases leaseapi.GenesisState
	for _, part := range []struct {
		name string
		into proto.Message
		load func() error
	}{
		{provider.Name, &providers, func() error { return r.provider.InitGenesis(first, providers) }},
		{lease.Name, &leases, func() error { return r.lease.InitGenesis(first, leases) }}, //nolint:contextcheck // an sdk.Context is one
	} {
		if err := enc.Codec.UnmarshalJSON(state[part.name], part.into); err != nil {
			return nil, fmt.Errorf("read the genesis of %s: %w", part.name, err)
		}
		if err := part.load(); err != nil {
			return nil, fmt.Errorf("load the genesis of %s: %w", part.name, err)
		}
	}
	return r, nil
}

func (r *replay) context(ctx context.Context, ms storetypes.MultiStore, height int64, when time.Time) sdk.Context {
	header := cmtproto.Header{ChainID: r.chainID, Height: height, Time: when}
	return sdk.NewContext(ms, header, false, log.NewNopLogger()).WithContext(ctx)
}

// until replays the blocks up to a height; the one behind it must be known,
// since it proves the results.
func (r *replay) until(ctx context.Context, n *node, c *chain, height int64, progress func(done, of int64)) error {
	for r.height < height {
		if err := ctx.Err(); err != nil {
			return err
		}
		b := c.at(r.height + 1)
		txs, err := n.txs(ctx, b)
		if err != nil {
			return err
		}
		var results *coretypes.ResultBlockResults
		if len(txs) > 0 || len(r.votes) > 0 {
			if results, err = n.results(ctx, b, c.at(b.height+1)); err != nil {
				return err
			}
		}
		if err := r.block(ctx, b, txs, results); err != nil {
			return err
		}
		if progress != nil && (r.height%500 == 0 || r.height == height) {
			progress(r.height, height)
		}
	}
	return nil
}

// block replays one block.
func (r *replay) block(parent context.Context, b block, txs cmttypes.Txs, results *coretypes.ResultBlockResults) error {
	cache := r.first
	if cache == nil {
		cache = r.store.CacheMultiStore()
	}
	r.first = nil
	ctx := r.context(parent, cache, b.height, b.time)
	if results != nil && len(results.TxsResults) != len(txs) {
		return lie(b.height, "%d results for %d transactions", len(results.TxsResults), len(txs))
	}
	for i, raw := range txs {
		if err := r.tx(ctx, b.height, raw, results.TxsResults[i]); err != nil { //nolint:contextcheck // an sdk.Context is one
			return err
		}
	}
	if len(r.votes) > 0 && results != nil {
		if err := r.decide(ctx, b.height, results.FinalizeBlockEvents); err != nil { //nolint:contextcheck // an sdk.Context is one
			return err
		}
	}
	for _, module := range []struct {
		name string
		end  func(context.Context) error
	}{{lease.Name, r.lease.EndBlock}, {provider.Name, r.provider.EndBlock}} {
		if err := module.end(ctx); err != nil { //nolint:contextcheck // an sdk.Context is one
			return &Breach{Height: b.height, What: fmt.Sprintf("the rules can't end the block for %s: %v", module.name, err)}
		}
	}
	cache.Write()
	r.store.Commit()
	var roots [2][]byte
	for i, name := range modules {
		id := r.store.GetStoreByName(name).(storetypes.CommitStore).LastCommitID()
		roots[i] = bytes.Clone(id.Hash)
	}
	r.roots = append(r.roots, roots)
	r.height = b.height
	r.counts.Blocks++
	r.counts.Txs += int64(len(txs))
	return nil
}

// tx replays one transaction whose result is proven.
func (r *replay) tx(ctx sdk.Context, height int64, raw cmttypes.Tx, result *abci.ExecTxResult) error {
	name := fmt.Sprintf("%X", raw.Hash())
	tx, err := r.enc.Tx.TxDecoder()(raw)
	if err != nil {
		if result.Code == 0 {
			return &Breach{Height: height, Tx: name, What: fmt.Sprintf("the ledger took what can't be read: %v", err)}
		}
		return nil
	}
	if !ours(tx.GetMsgs()) {
		return nil
	}
	r.counts.Ours++
	r.counts.Bytes += int64(len(raw))
	if result.Code != 0 {
		r.counts.Failed++
		return nil
	}
	var data sdk.TxMsgData
	if err := proto.Unmarshal(result.Data, &data); err != nil || len(data.MsgResponses) != len(tx.GetMsgs()) {
		return &Breach{Height: height, Tx: name, What: "its result does not answer its messages"}
	}
	cache := ctx.MultiStore().CacheMultiStore()
	inside := ctx.WithMultiStore(cache).WithEventManager(sdk.NewEventManager())
	for i, msg := range tx.GetMsgs() {
		if err := r.message(inside, msg, data.MsgResponses[i].Value); err != nil {
			return &Breach{Height: height, Tx: name, What: fmt.Sprintf("message %d (%s): %v", i, sdk.MsgTypeURL(msg), err)}
		}
	}
	cache.Write()
	return nil
}

// message replays one message and compares the answer. want is nil where no
// answer is known.
func (r *replay) message(ctx sdk.Context, msg sdk.Msg, want []byte) error {
	switch m := msg.(type) {
	case *authz.MsgExec:
		var answer authz.MsgExecResponse
		if err := proto.Unmarshal(want, &answer); err != nil {
			return err
		}
		inner, err := m.GetMessages()
		if err != nil {
			return err
		}
		if want != nil && len(answer.Results) != len(inner) {
			return fmt.Errorf("%d answers to %d messages", len(answer.Results), len(inner))
		}
		for i, msg := range inner {
			var one []byte
			if want != nil {
				one = answer.Results[i]
			}
			if err := r.message(ctx, msg, one); err != nil {
				return fmt.Errorf("within it, %s: %w", sdk.MsgTypeURL(msg), err)
			}
		}
		return nil
	case *govv1.MsgSubmitProposal:
		return r.propose(m, want)
	}
	got, known, err := r.lease.Handle(ctx, msg)
	if !known && err == nil {
		got, known, err = r.provider.Handle(ctx, msg)
	}
	if err != nil {
		return fmt.Errorf("the ledger accepted what the rules refuse: %w", err)
	}
	if !known {
		return nil
	}
	r.counts.see(msg, got)
	raw, err := proto.Marshal(got)
	if err != nil {
		return err
	}
	if want != nil && !bytes.Equal(raw, want) {
		return fmt.Errorf("the ledger answered %x, the rules answer %x", want, raw)
	}
	return nil
}

// propose remembers a proposal with messages of ours.
func (r *replay) propose(m *govv1.MsgSubmitProposal, want []byte) error {
	msgs, err := m.GetMsgs()
	if err != nil || !ours(msgs) {
		return err
	}
	var answer govv1.MsgSubmitProposalResponse
	if err := proto.Unmarshal(want, &answer); err != nil {
		return err
	}
	r.votes[answer.ProposalId] = msgs
	return nil
}

// decide replays the messages of proposals that have passed. Only the node
// says in which block they did: votes are no messages of ours.
func (r *replay) decide(ctx sdk.Context, height int64, events []abci.Event) error {
	for _, e := range events {
		if e.Type != govtypes.EventTypeActiveProposal && e.Type != govtypes.EventTypeInactiveProposal {
			continue
		}
		var id uint64
		result := ""
		for _, a := range e.Attributes {
			switch a.Key {
			case govtypes.AttributeKeyProposalID:
				if _, err := fmt.Sscan(a.Value, &id); err != nil {
					return lie(height, "a proposal with the number %.40q", a.Value)
				}
			case govtypes.AttributeKeyProposalResult:
				result = a.Value
			}
		}
		msgs, ok := r.votes[id]
		switch {
		case !ok || result == govtypes.AttributeValueExpeditedProposalRejected: // it goes on as a usual one
			continue
		case result == govtypes.AttributeValueProposalPassed:
			cache := ctx.MultiStore().CacheMultiStore()
			inside := ctx.WithMultiStore(cache).WithEventManager(sdk.NewEventManager())
			for i, msg := range msgs {
				if err := r.message(inside, msg, nil); err != nil {
					return &Breach{Height: height, What: fmt.Sprintf("proposal %d, message %d (%s): %v", id, i, sdk.MsgTypeURL(msg), err)}
				}
			}
			cache.Write()
			r.passed[id] = height
		}
		delete(r.votes, id)
	}
	return nil
}

// ours says whether messages are for our modules, within others too.
func ours(msgs []sdk.Msg) bool {
	for _, msg := range msgs {
		var inner []sdk.Msg
		switch m := msg.(type) {
		case *authz.MsgExec:
			inner, _ = m.GetMessages()
		case *govv1.MsgSubmitProposal:
			inner, _ = m.GetMsgs()
		default:
			if mine(msg) {
				return true
			}
		}
		if ours(inner) {
			return true
		}
	}
	return false
}

func mine(msg sdk.Msg) bool {
	url := sdk.MsgTypeURL(msg)
	return strings.HasPrefix(url, "/fallow.lease.v1.") || strings.HasPrefix(url, "/fallow.provider.v1.")
}

// invariants proves the replayed books against the coins that they moved.
func (r *replay) invariants(parent context.Context) error {
	ctx := r.context(parent, r.store.CacheMultiStore(), r.height, time.UnixMilli(0))
	held, err := r.bank.escrow()
	if err != nil {
		return err
	}
	if err := r.lease.Books(ctx).Invariants(held); err != nil { //nolint:contextcheck // an sdk.Context is one
		return &Breach{Height: r.height, What: err.Error()}
	}
	bonded, err := r.provider.Registry(ctx).Bonded() //nolint:contextcheck // an sdk.Context is one
	if err != nil {
		return err
	}
	if got := r.bank.bonds(); !got.IsUint64() || got.Uint64() != uint64(bonded) {
		return &Breach{Height: r.height, What: fmt.Sprintf("bonds of %d ufal, but %s came in", bonded, got)}
	}
	r.counts.Bonded, r.counts.Escrow = uint64(bonded), held
	return nil
}
