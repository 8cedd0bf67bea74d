package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"cosmossdk.io/log/v2"
	cmtcmd "github.com/cometbft/cometbft/cmd/cometbft/commands"
	cmtcfg "github.com/cometbft/cometbft/config"
	cmtjson "github.com/cometbft/cometbft/libs/json"
	cmttypes "github.com/cometbft/cometbft/types"
	"github.com/cosmos/cosmos-sdk/server"
	"github.com/spf13/cobra"

	"fallow.network/chain/app"
)

// openHome takes a home for this process and loads its ledger, without consensus.
func openHome(dir string) (ledger *app.App, cfg *cmtcfg.Config, release func(), err error) {
	cfg, _, settings, err := app.ReadHome(dir, nil)
	if err != nil {
		return nil, nil, nil, &failure{exitUsage, err}
	}
	unlock, err := hold(dir)
	if err != nil {
		return nil, nil, nil, err
	}
	db, err := app.OpenState(dir, server.GetAppDBBackend(settings))
	if err != nil {
		unlock()
		return nil, nil, nil, err
	}
	if ledger, err = app.New(log.NewNopLogger(), db, settings, server.DefaultBaseappOptions(settings)...); err != nil {
		unlock()
		return nil, nil, nil, errors.Join(err, db.Close())
	}
	return ledger, cfg, func() { _ = ledger.Close(); unlock() }, nil
}

func newExportCommand() *cobra.Command {
	var (
		height  int64
		modules []string
		out     string
		chainID string
	)
	c := &cobra.Command{
		Use: "export", Short: "Write the state of this home as a genesis", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			dir, _ := c.Flags().GetString("home")
			ledger, cfg, release, err := openHome(dir)
			if err != nil {
				return err
			}
			defer release()
			if height > 0 {
				if err := ledger.LoadVersion(height); err != nil {
					return fmt.Errorf("load the state of height %d: %w", height, err)
				}
			}
			exported, err := ledger.Export(false, modules)
			if err != nil {
				return err
			}
			was, err := cmttypes.GenesisDocFromFile(cfg.GenesisFile())
			if err != nil {
				return fmt.Errorf("read genesis: %w", err)
			}
			params := cmttypes.ConsensusParamsFromProto(exported.ConsensusParams)
			doc := cmttypes.GenesisDoc{
				GenesisTime: time.Now().UTC(), ChainID: was.ChainID, InitialHeight: exported.Height,
				ConsensusParams: &params, Validators: exported.Validators, AppState: exported.AppState,
			}
			if chainID != "" {
				doc.ChainID = chainID
			}
			raw, err := cmtjson.Marshal(doc)
			if err != nil {
				return fmt.Errorf("write genesis: %w", err)
			}
			if out != "" {
				return os.WriteFile(out, raw, 0o600)
			}
			_, err = io.WriteString(c.OutOrStdout(), string(raw)+"\n")
			return err
		},
	}
	c.Flags().Int64Var(&height, "height", 0, "state of this block; the latest when 0")
	c.Flags().StringSliceVar(&modules, "modules", nil, "modules to write; all when empty")
	c.Flags().StringVarP(&out, "out", "o", "", "file to write; standard output when empty")
	c.Flags().StringVar(&chainID, "chain-id", "", "chain id of the genesis; this network's when empty")
	return c
}

func newRollbackCommand() *cobra.Command {
	var hard bool
	c := &cobra.Command{
		Use: "rollback", Short: "Take back the last block of this home", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			dir, _ := c.Flags().GetString("home")
			ledger, cfg, release, err := openHome(dir)
			if err != nil {
				return err
			}
			defer release()
			height, hash, err := cmtcmd.RollbackState(cfg, hard)
			if err != nil {
				return fmt.Errorf("roll consensus back: %w", err)
			}
			if err := ledger.CommitMultiStore().RollbackToVersion(height); err != nil {
				return fmt.Errorf("roll the state back: %w", err)
			}
			return json.NewEncoder(c.OutOrStdout()).Encode(map[string]string{"height": fmt.Sprint(height), "app_hash": fmt.Sprintf("%X", hash)})
		},
	}
	c.Flags().BoolVar(&hard, "hard", false, "remove the block too")
	return c
}
