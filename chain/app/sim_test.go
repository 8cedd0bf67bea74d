package app

import (
	"os"
	"testing"

	"cosmossdk.io/log/v2"
	abci "github.com/cometbft/cometbft/abci/types"
	dbm "github.com/cosmos/cosmos-db"
	"github.com/cosmos/cosmos-sdk/baseapp"
	"github.com/cosmos/cosmos-sdk/client"
	"github.com/cosmos/cosmos-sdk/codec"
	servertypes "github.com/cosmos/cosmos-sdk/server/types"
	simtestutil "github.com/cosmos/cosmos-sdk/testutil/sims"
	"github.com/cosmos/cosmos-sdk/testutil/simsx"
	sdk "github.com/cosmos/cosmos-sdk/types"
	simcli "github.com/cosmos/cosmos-sdk/x/simulation/client/cli"
)

func TestMain(m *testing.M) {
	SetPrefixes()
	simcli.GetSimulatorFlags()
	os.Exit(m.Run())
}

// simulated is the ledger as the SDK's simulator wants it.
type simulated struct{ *App }

// GetBaseApp is the app's base.
func (s simulated) GetBaseApp() *baseapp.BaseApp { return s.BaseApp }

// AppCodec is the app's codec.
func (s simulated) AppCodec() codec.Codec { return s.codec }

// TxConfig is how the app writes transactions.
func (s simulated) TxConfig() client.TxConfig { return s.txConfig }

// LegacyAmino is the app's amino codec.
func (s simulated) LegacyAmino() *codec.LegacyAmino { return s.legacyAmino }

// LoadHeight goes back to a height.
func (s simulated) LoadHeight(height int64) error { return s.LoadVersion(height) }

// BeginBlocker begins a block.
func (s simulated) BeginBlocker(ctx sdk.Context) (sdk.BeginBlock, error) {
	return s.modules.BeginBlock(ctx)
}

// EndBlocker ends a block.
func (s simulated) EndBlocker(ctx sdk.Context) (sdk.EndBlock, error) { return s.modules.EndBlock(ctx) }

// InitChainer loads a genesis.
func (s simulated) InitChainer(ctx sdk.Context, req *abci.RequestInitChain) (*abci.ResponseInitChain, error) {
	return s.initChain(ctx, req)
}

// ExportAppStateAndValidators writes the state.
func (s simulated) ExportAppStateAndValidators(zero bool, _, modules []string) (servertypes.ExportedApp, error) {
	return s.Export(zero, modules)
}

// TestSimulation lets the SDK's simulator play all of its modules on this
// ledger, with chance but one seed.
func TestSimulation(t *testing.T) {
	blocks := 6
	if os.Getenv("FALLOW_LONG") != "" {
		blocks = 60
	}
	simcli.FlagNumBlocksValue, simcli.FlagBlockSizeValue, simcli.FlagCommitValue = blocks, 20, true
	simsx.RunWithSeeds(t, func(l log.Logger, db dbm.DB, _ bool, o servertypes.AppOptions, more ...func(*baseapp.BaseApp)) simulated {
		a, err := New(l, db, o, more...)
		if err != nil {
			t.Fatal(err)
		}
		return simulated{a}
	}, func(a simulated) simsx.SimStateFactory {
		return simsx.SimStateFactory{
			Codec: a.codec, AppStateFn: simtestutil.AppStateFn(a.codec, a.simulation, a.basics.DefaultGenesis(a.codec)),
			BlockedAddr: map[string]bool{}, AccountSource: a.Auth, BalanceSource: a.Bank,
		}
	}, []int64{1}, nil)
}
