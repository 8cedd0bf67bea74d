package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"cosmossdk.io/collections"
	"cosmossdk.io/math"
	"github.com/cometbft/cometbft/crypto/merkle"
	cmtcrypto "github.com/cometbft/cometbft/proto/tendermint/crypto"
	rpc "github.com/cometbft/cometbft/rpc/client"
	cmttypes "github.com/cometbft/cometbft/types"
	"github.com/cosmos/cosmos-sdk/store/v2/rootmulti"
	storetypes "github.com/cosmos/cosmos-sdk/store/v2/types"
	sdk "github.com/cosmos/cosmos-sdk/types"
	banktypes "github.com/cosmos/cosmos-sdk/x/bank/types"
	govtypes "github.com/cosmos/cosmos-sdk/x/gov/types"
	govv1 "github.com/cosmos/cosmos-sdk/x/gov/types/v1"
	ics23 "github.com/cosmos/ics23/go"
	"google.golang.org/protobuf/encoding/protowire"

	"fallow.network"
	"fallow.network/chain/app"
)

// comparer compares the replayed state with what the validators signed.
type comparer struct {
	node  *node
	chain *chain
}

// compare proves the final state: both modules' stores by their hashes, every
// credit and the bonds by the bank's balances.
func compare(ctx context.Context, enc app.Encoding, n *node, c *chain, doc *cmttypes.GenesisDoc, r *replay, report *Report) error {
	p := comparer{n, c}
	for i, store := range modules {
		same, err := p.same(ctx, store, r.height, r.roots[r.height-1][i])
		if err != nil {
			return err
		}
		if !same {
			return p.locate(ctx, enc, doc, r, i)
		}
	}
	if err := p.coins(ctx, r); err != nil {
		return err
	}
	report.Proven = r.height
	for id, height := range r.passed {
		if err := p.passed(ctx, id, height, r.height, report); err != nil {
			return err
		}
	}
	return nil
}

// same says whether a module's store had this hash after a block.
func (p comparer) same(ctx context.Context, store string, height int64, root []byte) (bool, error) {
	got, err := p.node.query(ctx, store, []byte{0}, height)
	if err != nil {
		return false, err
	}
	proven, err := p.root(store, height, got.Response.ProofOps)
	if err != nil {
		return false, err
	}
	return bytes.Equal(proven, root), nil
}

// root proves the hash of a module's store by the state's hash in the header
// of the next block.
func (p comparer) root(store string, height int64, ops *cmtcrypto.ProofOps) ([]byte, error) {
	if len(ops.Ops) != 2 || ops.Ops[1].Type != storetypes.ProofOpSimpleMerkleCommitment {
		return nil, lie(height, "a proof of %s that is none", store)
	}
	var proof ics23.CommitmentProof
	if err := proof.Unmarshal(ops.Ops[1].Data); err != nil || proof.GetExist() == nil {
		return nil, lie(height, "a proof of %s that can't be read", store)
	}
	root := proof.GetExist().Value
	if !ics23.VerifyMembership(ics23.TendermintSpec, p.chain.at(height+1).app, &proof, []byte(store), root) {
		return nil, lie(height, "the proof of %s does not lead to the state's hash", store)
	}
	return root, nil
}

// value reads a key and proves what stands there; nil is proven absence.
func (p comparer) value(ctx context.Context, store string, key []byte, height int64) ([]byte, error) {
	got, err := p.node.query(ctx, store, key, height)
	if err != nil {
		return nil, err
	}
	path := merkle.KeyPath{}
	path = path.AppendKey([]byte(store), merkle.KeyEncodingURL).AppendKey(key, merkle.KeyEncodingHex)
	runtime, root := rootmulti.DefaultProofRuntime(), p.chain.at(height+1).app
	value := got.Response.Value
	if len(value) == 0 {
		if err := runtime.VerifyAbsence(got.Response.ProofOps, root, path.String()); err != nil {
			return nil, lie(height, "key %s/%x: its absence is not proven: %v", store, key, err)
		}
		return nil, nil
	}
	if err := runtime.VerifyValue(got.Response.ProofOps, root, path.String(), value); err != nil {
		return nil, lie(height, "key %s/%x: its value is not proven: %v", store, key, err)
	}
	return value, nil
}

// coins proves that every account has the credits that the replay says, that
// there are no others, and that the bond pool holds the bonds.
func (p comparer) coins(ctx context.Context, r *replay) error {
	balances := collections.PairKeyCodec(sdk.AccAddressKey, collections.StringKey)
	check := func(what string, key []byte, want math.Int) error {
		value, err := p.value(ctx, banktypes.StoreKey, key, r.height)
		if err != nil {
			return err
		}
		got := math.ZeroInt()
		if value != nil {
			if got, err = sdk.IntValue.Decode(value); err != nil {
				return &Breach{Height: r.height, Key: fmt.Sprintf("bank/%x", key), What: fmt.Sprintf("%s is no amount: %v", what, err)}
			}
		}
		if !got.Equal(want) {
			return &Breach{Height: r.height, Key: fmt.Sprintf("bank/%x", key), What: fmt.Sprintf("%s is %s, the replay leaves %s", what, got, want)}
		}
		return nil
	}
	balance := func(address sdk.AccAddress, denom string, want math.Int) error {
		key, err := collections.EncodeKeyWithPrefix(banktypes.BalancesPrefix, balances, collections.Join(address, denom))
		if err != nil {
			return err
		}
		return check(fmt.Sprintf("the balance of %s in %s", address, denom), key, want)
	}
	sum := math.ZeroInt()
	for _, holder := range r.bank.holders() {
		want := r.bank.credits[holder]
		if err := balance(sdk.AccAddress(holder), fallow.CreditDenom, want); err != nil {
			return err
		}
		sum = sum.Add(want)
	}
	if err := balance(bondAddress, fallow.TokenDenom, r.bank.bonds()); err != nil {
		return err
	}
	key, err := collections.EncodeKeyWithPrefix(banktypes.SupplyKey, collections.StringKey, fallow.CreditDenom)
	if err != nil {
		return err
	}
	if !sum.Equal(r.bank.supply) {
		return &Breach{Height: r.height, What: fmt.Sprintf("%s%s are in accounts, genesis gave %s", sum, fallow.CreditDenom, r.bank.supply)}
	}
	return check("the supply of "+fallow.CreditDenom, key, sum)
}

// passed proves that a proposal, whose messages were replayed at the block
// that the node named, has passed by now.
func (p comparer) passed(ctx context.Context, id uint64, named, height int64, report *Report) error {
	key, err := collections.EncodeKeyWithPrefix(govtypes.ProposalsKeyPrefix, collections.Uint64Key, id)
	if err != nil {
		return err
	}
	value, err := p.value(ctx, govtypes.StoreKey, key, height)
	if err != nil {
		return err
	}
	var proposal govv1.Proposal
	if err := proposal.Unmarshal(value); err != nil || proposal.Status != govv1.StatusPassed {
		return lie(named, "proposal %d is said to have passed, and has not", id)
	}
	report.told("that proposal %d passed in block %d; that it passed is proven", id, named)
	return nil
}

// locate finds the first block after which a module's store is not what the
// rules leave, and the key that differs.
func (p comparer) locate(ctx context.Context, enc app.Encoding, doc *cmttypes.GenesisDoc, r *replay, module int) error {
	store := modules[module]
	good, bad, exact := int64(0), r.height, true
	for bad-good > 1 {
		middle := (good + bad) / 2
		same, err := false, error(nil)
		if middle > 1 { // block 1 has no proofs
			same, err = p.same(ctx, store, middle, r.roots[middle-1][module])
		} else {
			same = true
		}
		if b, ok := errors.AsType[*Breach](err); ok {
			return b
		}
		switch {
		case err != nil: // a state that the node no longer keeps
			good, exact = middle, false
		case same:
			good, exact = middle, true
		default:
			bad = middle
		}
	}
	breach := &Breach{Height: bad, What: "the ledger's state is not what the rules leave"}
	if !exact {
		breach.What += ", or was not before: older states are gone"
	}
	again, err := newReplay(ctx, enc, doc)
	if err != nil {
		return err
	}
	if err := again.until(ctx, p.node, p.chain, bad, nil); err != nil {
		return err
	}
	if err := p.differing(ctx, again, store, breach); err != nil {
		return err
	}
	return breach
}

// differing names the first key of a store at which the ledger and the replay
// differ.
func (p comparer) differing(ctx context.Context, r *replay, store string, breach *Breach) error {
	model := r.store.CacheMultiStore().GetKVStore(r.store.StoreKeysByName()[store])
	it := model.Iterator(nil, nil)
	defer it.Close() //nolint:errcheck // it only read memory
	for ; it.Valid(); it.Next() {
		value, err := p.value(ctx, store, it.Key(), r.height)
		if err != nil {
			return err
		}
		if !bytes.Equal(value, it.Value()) {
			breach.Key = fmt.Sprintf("%s/%x", store, it.Key())
			breach.What = fmt.Sprintf("the ledger holds %x, the rules leave %x", value, it.Value())
			return nil
		}
	}
	// All of the replay's keys stand. The node may name one that is too many;
	// a proof decides.
	for prefix := range 256 {
		got, err := p.node.rpc.ABCIQueryWithOptions(ctx, "/store/"+store+"/subspace", []byte{byte(prefix)}, rpc.ABCIQueryOptions{Height: r.height})
		if err != nil {
			return fmt.Errorf("list %s at %s: %w", store, p.node.address, err)
		}
		keys, err := listedKeys(got.Response.Value)
		if err != nil {
			return lie(r.height, "a list of %s that can't be read: %v", store, err)
		}
		for _, key := range keys {
			if model.Has(key) {
				continue
			}
			value, err := p.value(ctx, store, key, r.height)
			if err != nil {
				return err
			}
			if value != nil {
				breach.Key = fmt.Sprintf("%s/%x", store, key)
				breach.What = fmt.Sprintf("the ledger holds %x, which the rules did not make", value)
				return nil
			}
		}
	}
	breach.What = fmt.Sprintf("the store of %s has another history than the rules write", store)
	return nil
}

// listedKeys reads the keys of a list of pairs: field 1, whose field 1 is the
// key.
func listedKeys(b []byte) ([][]byte, error) {
	field := func(b []byte) (value, rest []byte, number protowire.Number, err error) {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, nil, 0, protowire.ParseError(n)
		}
		if kind != protowire.BytesType {
			return nil, nil, 0, errors.New("not a list of pairs")
		}
		value, m := protowire.ConsumeBytes(b[n:])
		if m < 0 {
			return nil, nil, 0, protowire.ParseError(m)
		}
		return value, b[n+m:], number, nil
	}
	var keys [][]byte
	for len(b) > 0 {
		pair, rest, _, err := field(b)
		if err != nil {
			return nil, err
		}
		for b = rest; len(pair) > 0; {
			value, more, number, err := field(pair)
			if err != nil {
				return nil, err
			}
			if pair = more; number == 1 {
				keys = append(keys, value)
			}
		}
	}
	return keys, nil
}
