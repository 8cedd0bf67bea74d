package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	dbm "github.com/cometbft/cometbft-db"
	"github.com/cometbft/cometbft/light"
	"github.com/cometbft/cometbft/light/provider"
	lighthttp "github.com/cometbft/cometbft/light/provider/http"
	lightstore "github.com/cometbft/cometbft/light/store/db"
	cmttypes "github.com/cometbft/cometbft/types"
	codectypes "github.com/cosmos/cosmos-sdk/codec/types"
	cryptocodec "github.com/cosmos/cosmos-sdk/crypto/codec"
	cryptotypes "github.com/cosmos/cosmos-sdk/crypto/types"
	sdk "github.com/cosmos/cosmos-sdk/types"
	genutiltypes "github.com/cosmos/cosmos-sdk/x/genutil/types"
	stakingtypes "github.com/cosmos/cosmos-sdk/x/staking/types"

	"fallow.network/chain/app"
)

// block is what of a header the audit needs, proven.
type block struct {
	height  int64
	time    time.Time
	hash    []byte
	data    []byte // of its transactions
	results []byte // of the block before it
	app     []byte // of the state after the block before it
}

func toBlock(h *cmttypes.Header) block {
	return block{h.Height, h.Time, h.Hash(), h.DataHash, h.LastResultsHash, h.AppHash}
}

// chain is every block from the first on, linked by hashes to one that the
// light client verified.
type chain struct {
	node   *node
	client *light.Client
	now    func() time.Time
	blocks []block // blocks[i] has height i+1
}

func (c *chain) tip() int64 { return int64(len(c.blocks)) }

func (c *chain) at(height int64) block { return c.blocks[height-1] }

// follow finds the block that trust begins with and starts a light client on it.
func follow(ctx context.Context, cfg Config, enc app.Encoding, n *node, doc *cmttypes.GenesisDoc, report *Report) (*chain, error) {
	primary, err := lighthttp.New(doc.ChainID, n.address)
	if err != nil {
		return nil, fmt.Errorf("light client for %s: %w", n.address, err)
	}
	var witnesses []provider.Provider
	for _, w := range cfg.Witnesses {
		p, err := lighthttp.New(doc.ChainID, w)
		if err != nil {
			return nil, fmt.Errorf("witness %s: %w", w, err)
		}
		witnesses = append(witnesses, p)
	}
	if len(witnesses) == 0 {
		report.told("that there is no fork: no witness was asked")
		witnesses = append(witnesses, primary)
	}
	trust := light.TrustOptions{Period: TrustingPeriod, Height: cfg.TrustHeight, Hash: cfg.TrustHash}
	if trust.Height == 0 {
		first, err := primary.LightBlock(ctx, 1)
		if err != nil {
			return nil, verification(1, fmt.Errorf("fetch block 1 from %s (audit needs a node that keeps all blocks): %w", n.address, err))
		}
		if err := signedByGenesis(enc, doc, first); err != nil {
			return nil, err
		}
		if age := cfg.Now().Sub(first.Time); age > TrustingPeriod {
			return nil, fmt.Errorf("block 1 is %s old, and validators that left more than %s ago could have signed anything since: name a block that you believe with --trust HEIGHT:HASH",
				age.Round(time.Hour), TrustingPeriod)
		}
		trust.Height, trust.Hash = 1, first.Hash()
		report.Trust = "block 1, signed by the genesis' validators"
	} else {
		report.Trust = fmt.Sprintf("block %d, %X, as given", trust.Height, trust.Hash)
	}
	client, err := light.NewClient(ctx, doc.ChainID, trust, primary, witnesses, lightstore.New(dbm.NewMemDB(), "audit"), light.MaxClockDrift(time.Minute))
	if err != nil {
		return nil, verification(trust.Height, err)
	}
	return &chain{node: n, client: client, now: cfg.Now}, nil
}

// verification tells a node that is away from one whose blocks don't verify.
func verification(height int64, err error) error {
	for _, away := range []error{provider.ErrNoResponse, provider.ErrLightBlockNotFound, provider.ErrHeightTooHigh, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, away) {
			return fmt.Errorf("light client at block %d: %w", height, err)
		}
	}
	return lie(height, "light client: %v", err)
}

// advance verifies the node's latest block and links all before it to it.
func (c *chain) advance(ctx context.Context) error {
	latest, err := c.node.latest(ctx)
	if err != nil {
		return err
	}
	known := c.tip()
	if latest <= known {
		return nil
	}
	if latest < 3 {
		return fmt.Errorf("the ledger has %d blocks; try again after the third", latest)
	}
	verified, err := c.client.VerifyLightBlockAtHeight(ctx, latest, c.now())
	if err != nil {
		return verification(latest, err)
	}
	more := make([]block, latest-known)
	want := verified.Hash().Bytes()
	for high := latest; high > known; {
		low := max(known+1, high-19)
		headers, err := c.node.headers(ctx, low, high)
		if err != nil {
			return err
		}
		for i := len(headers) - 1; i >= 0; i-- {
			h := headers[i]
			if !bytes.Equal(h.Hash(), want) {
				return lie(h.Height, "its header is not the one that the verified chain names")
			}
			more[h.Height-known-1] = toBlock(&h)
			want = h.LastBlockID.Hash
		}
		high = low - 1
	}
	if known > 0 && !bytes.Equal(want, c.at(known).hash) {
		return lie(known+1, "it does not follow on the block that was verified before")
	}
	c.blocks = append(c.blocks, more...)
	return nil
}

// signedByGenesis checks that block 1 is signed by the validators that the
// genesis names, in it or by its first transactions.
func signedByGenesis(enc app.Encoding, doc *cmttypes.GenesisDoc, first *cmttypes.LightBlock) error {
	set, err := genesisValidators(enc, doc)
	if err != nil {
		return fmt.Errorf("read the genesis' validators: %w", err)
	}
	if !bytes.Equal(set.Hash(), first.ValidatorsHash) {
		return lie(1, "its validators are not the genesis' ones")
	}
	if err := first.ValidateBasic(doc.ChainID); err != nil {
		return lie(1, "%v", err)
	}
	if err := set.VerifyCommitLight(doc.ChainID, first.Commit.BlockID, 1, first.Commit); err != nil {
		return lie(1, "it is not signed by the genesis' validators: %v", err)
	}
	return nil
}

func genesisValidators(enc app.Encoding, doc *cmttypes.GenesisDoc) (*cmttypes.ValidatorSet, error) {
	var list []*cmttypes.Validator
	for _, v := range doc.Validators {
		list = append(list, cmttypes.NewValidator(v.PubKey, v.Power))
	}
	var state map[string]json.RawMessage
	if err := json.Unmarshal(doc.AppState, &state); err != nil {
		return nil, err
	}
	genesis := genutiltypes.GetGenesisStateFromAppState(enc.Codec, state)
	for i, raw := range genesis.GenTxs {
		tx, err := enc.Tx.TxJSONDecoder()(raw)
		if err != nil {
			return nil, fmt.Errorf("genesis transaction %d: %w", i, err)
		}
		for _, msg := range tx.GetMsgs() {
			m, ok := msg.(*stakingtypes.MsgCreateValidator)
			if !ok {
				continue
			}
			key, err := consensusKey(enc.Registry, m)
			if err != nil {
				return nil, fmt.Errorf("genesis transaction %d: %w", i, err)
			}
			cmtKey, err := cryptocodec.ToCmtPubKeyInterface(key)
			if err != nil {
				return nil, fmt.Errorf("genesis transaction %d: %w", i, err)
			}
			list = append(list, cmttypes.NewValidator(cmtKey, sdk.TokensToConsensusPower(m.Value.Amount, sdk.DefaultPowerReduction)))
		}
	}
	if len(list) == 0 {
		return nil, errors.New("there are none")
	}
	set := &cmttypes.ValidatorSet{}
	return set, set.UpdateWithChangeSet(list)
}

func consensusKey(registry codectypes.InterfaceRegistry, m *stakingtypes.MsgCreateValidator) (cryptotypes.PubKey, error) {
	if err := m.UnpackInterfaces(registry); err != nil {
		return nil, err
	}
	key, ok := m.Pubkey.GetCachedValue().(cryptotypes.PubKey)
	if !ok {
		return nil, errors.New("no public key")
	}
	return key, nil
}
