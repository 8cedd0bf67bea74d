package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"cosmossdk.io/math"
	cmtcfg "github.com/cometbft/cometbft/config"
	"github.com/cometbft/cometbft/crypto"
	cmtjson "github.com/cometbft/cometbft/libs/json"
	"github.com/cometbft/cometbft/p2p"
	"github.com/cometbft/cometbft/privval"
	clienttx "github.com/cosmos/cosmos-sdk/client/tx"
	cryptocodec "github.com/cosmos/cosmos-sdk/crypto/codec"
	"github.com/cosmos/cosmos-sdk/crypto/hd"
	"github.com/cosmos/cosmos-sdk/crypto/keyring"
	sdk "github.com/cosmos/cosmos-sdk/types"
	"github.com/cosmos/cosmos-sdk/types/tx/signing"
	genutiltypes "github.com/cosmos/cosmos-sdk/x/genutil/types"
	stakingtypes "github.com/cosmos/cosmos-sdk/x/staking/types"

	"fallow.network"
)

// pocket is what an operator has beside its stake, in ufal, for fees.
const pocket = 1_000_000_000

// Found writes a home and the genesis of a new network with this home's node
// as its only validator, and returns the genesis file's bytes.
func (h Home) Found(ctx context.Context, app *App, g Genesis) ([]byte, error) {
	return Found(ctx, app, g, h)
}

// Found writes the homes of a new network's validators, each of g's stake, and
// the one genesis that they share, and returns the genesis file's bytes. Nodes
// dial each other where there are several; each validator's operator account
// lies in its home's test keyring.
func Found(ctx context.Context, app *App, g Genesis, homes ...Home) ([]byte, error) {
	if err := g.Validate(); err != nil {
		return nil, err
	}
	if len(homes) == 0 {
		return nil, errors.New("a network without a validator")
	}
	var (
		configs   []*cmtcfg.Config
		founders  []founder
		operators []Funding
	)
	stake := sdk.NewInt64Coin(fallow.TokenDenom, int64(g.Stake))
	for _, h := range homes {
		cfg, err := h.write()
		if err != nil {
			return nil, err
		}
		f, err := h.founder(app, cfg)
		if err != nil {
			return nil, err
		}
		configs, founders = append(configs, cfg), append(founders, f)
		operators = append(operators, Funding{Address: f.address.String(), Coins: sdk.NewCoins(stake.AddAmount(math.NewInt(pocket)))})
	}
	g.Accounts = append(operators, g.Accounts...)
	doc, err := g.document(app, func(state map[string]rawJSON) error {
		var signed []json.RawMessage
		for _, f := range founders {
			tx, err := f.join(ctx, app, g.ChainID, stake)
			if err != nil {
				return fmt.Errorf("%s: %w", f.moniker, err)
			}
			signed = append(signed, tx)
		}
		return setJSON(app.codec, state, genutiltypes.ModuleName, genutiltypes.NewGenesisState(signed))
	})
	if err != nil {
		return nil, err
	}
	raw, err := cmtjson.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("write genesis: %w", err)
	}
	for i, cfg := range configs {
		if peers := others(founders, i); peers != "" && homes[i].Peers == "" {
			cfg.P2P.PersistentPeers = peers
			if err := writeConfig(cfg); err != nil {
				return nil, err
			}
		}
		if err := writeGenesis(cfg, raw); err != nil {
			return nil, err
		}
	}
	return raw, nil
}

// founder is one of a new network's validators.
type founder struct {
	moniker string
	peer    string // id@host:port
	ring    keyring.Keyring
	address sdk.AccAddress // the operator's
	key     crypto.PubKey  // that signs blocks
}

// founder makes the operator's key, or finds the one of an attempt that was cut
// short.
func (h Home) founder(app *App, cfg *cmtcfg.Config) (founder, error) {
	ring, err := keyring.New(sdk.KeyringServiceName(), keyring.BackendTest, h.Dir, nil, app.codec)
	if err != nil {
		return founder{}, fmt.Errorf("open the home's keyring: %w", err)
	}
	operator, err := ring.Key(Operator)
	if err != nil {
		if operator, _, err = ring.NewMnemonic(Operator, keyring.English, hd.CreateHDPath(fallow.CoinType, 0, 0).String(), "", hd.Secp256k1); err != nil {
			return founder{}, fmt.Errorf("make the operator's key: %w", err)
		}
	}
	address, err := operator.GetAddress()
	if err != nil {
		return founder{}, fmt.Errorf("read the operator's key: %w", err)
	}
	node, err := p2p.LoadNodeKey(cfg.NodeKeyFile())
	if err != nil {
		return founder{}, fmt.Errorf("read the node key: %w", err)
	}
	at := h.External
	if at == "" {
		at = h.P2P
	}
	return founder{
		moniker: h.Moniker, peer: string(node.ID()) + "@" + at, ring: ring, address: address,
		key: privval.LoadFilePV(cfg.PrivValidatorKeyFile(), cfg.PrivValidatorStateFile()).Key.PubKey,
	}, nil
}

// others are all peers but the i'th.
func others(all []founder, i int) string {
	var peers []string
	for j, f := range all {
		if j != i {
			peers = append(peers, f.peer)
		}
	}
	return strings.Join(peers, ",")
}

// join is the signed transaction of genesis that makes f a validator.
func (f founder) join(ctx context.Context, app *App, chainID string, stake sdk.Coin) (json.RawMessage, error) {
	consensus, err := cryptocodec.FromCmtPubKeyInterface(f.key)
	if err != nil {
		return nil, fmt.Errorf("read the validator's key: %w", err)
	}
	msg, err := stakingtypes.NewMsgCreateValidator(sdk.ValAddress(f.address).String(), consensus, stake,
		stakingtypes.NewDescription(f.moniker, "", "", "", ""),
		stakingtypes.NewCommissionRates(math.LegacyNewDecWithPrec(5, 2), math.LegacyNewDecWithPrec(20, 2), math.LegacyNewDecWithPrec(1, 2)), math.OneInt())
	if err != nil {
		return nil, fmt.Errorf("make the validator's message: %w", err)
	}
	builder := app.txConfig.NewTxBuilder()
	if err := builder.SetMsgs(msg); err != nil {
		return nil, fmt.Errorf("make the validator's transaction: %w", err)
	}
	builder.SetGasLimit(200_000)
	// At genesis every account's number counts as 0.
	factory := clienttx.Factory{}.WithTxConfig(app.txConfig).WithKeybase(f.ring).WithChainID(chainID).
		WithSignMode(signing.SignMode_SIGN_MODE_DIRECT).WithSequence(0).WithAccountNumber(0)
	if err := clienttx.Sign(ctx, factory, Operator, builder, true); err != nil {
		return nil, fmt.Errorf("sign the validator's transaction: %w", err)
	}
	raw, err := app.txConfig.TxJSONEncoder()(builder.GetTx())
	if err != nil {
		return nil, fmt.Errorf("write the validator's transaction: %w", err)
	}
	return raw, nil
}

// writeGenesis puts the genesis in place last and by rename: a home that was
// cut short before holds no node yet, and making it can begin anew.
func writeGenesis(cfg *cmtcfg.Config, raw []byte) error {
	to := cfg.GenesisFile()
	if err := os.WriteFile(to+".new", raw, 0o600); err != nil {
		return fmt.Errorf("write genesis: %w", err)
	}
	return os.Rename(to+".new", to)
}

func writeConfig(cfg *cmtcfg.Config) error {
	if err := cfg.ValidateBasic(); err != nil {
		return fmt.Errorf("check the node's settings: %w", err)
	}
	cmtcfg.WriteConfigFile(filepath.Join(cfg.RootDir, "config", "config.toml"), cfg)
	return nil
}
