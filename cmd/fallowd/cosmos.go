package main

import (
	"context"
	"slices"

	"cosmossdk.io/log/v2"
	cmtcfg "github.com/cometbft/cometbft/config"
	dbm "github.com/cosmos/cosmos-db"
	"github.com/cosmos/cosmos-sdk/client"
	"github.com/cosmos/cosmos-sdk/client/config"
	"github.com/cosmos/cosmos-sdk/client/debug"
	"github.com/cosmos/cosmos-sdk/client/flags"
	"github.com/cosmos/cosmos-sdk/client/keys"
	"github.com/cosmos/cosmos-sdk/client/rpc"
	"github.com/cosmos/cosmos-sdk/server"
	srvcmd "github.com/cosmos/cosmos-sdk/server/cmd"
	srvconfig "github.com/cosmos/cosmos-sdk/server/config"
	servertypes "github.com/cosmos/cosmos-sdk/server/types"
	authcmd "github.com/cosmos/cosmos-sdk/x/auth/client/cli"
	genutilcli "github.com/cosmos/cosmos-sdk/x/genutil/client/cli"
	"github.com/spf13/cobra"

	"fallow.network/chain/app"
)

// cosmosVerbs are what the SDK brings. They need the whole ledger's codecs,
// which take half a second to build, so they are only added when asked for.
var cosmosVerbs = []struct{ name, short string }{
	{"comet", "Node id, validator key and other facts of CometBFT"},
	{"debug", "Decode addresses, keys and transactions"},
	{"export", "Write the state as a genesis"},
	{"genesis", "Prepare the genesis of a network of many validators"},
	{"keys", "The operator's keys"},
	{"query", "Ask the ledger, module by module"},
	{"rollback", "Take back the last block of this home"},
	{"tx", "Make, sign and send transactions, module by module"},
}

func addCosmos(ctx context.Context, root *cobra.Command, args []string) error {
	asked := ""
	for _, a := range args { // flags and their values name no verb
		if a == "q" {
			a = "query"
		}
		if i := slices.IndexFunc(cosmosVerbs, func(v struct{ name, short string }) bool { return v.name == a }); i >= 0 {
			asked = a
			break
		}
		if c, _, err := root.Find([]string{a}); err == nil && c != root {
			break
		}
	}
	if asked == "" {
		for _, v := range cosmosVerbs {
			root.AddCommand(&cobra.Command{Use: v.name, Short: v.short, RunE: func(c *cobra.Command, _ []string) error { return c.Help() }})
		}
		return nil
	}
	ledger, err := app.New(log.NewNopLogger(), dbm.NewMemDB(), app.Settings{})
	if err != nil {
		return err
	}
	root.SetContext(srvcmd.CreateExecuteContext(ctx))
	dir := home()
	base := ledger.ClientContext().WithHomeDir(dir).WithInput(root.InOrStdin()).WithOutput(root.OutOrStdout())
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		c, err := client.ReadPersistentCommandFlags(base.WithCmdContext(cmd.Context()), cmd.Flags())
		if err != nil {
			return err
		}
		if c, err = config.ReadFromClientConfig(c); err != nil {
			return err
		}
		if err := client.SetCmdClientContextHandler(c, cmd); err != nil {
			return err
		}
		srv := srvconfig.DefaultConfig()
		srv.MinGasPrices = app.DefaultHome().GasPrice
		return server.InterceptConfigsPreRunHandler(cmd, srvconfig.DefaultConfigTemplate, srv, cmtcfg.DefaultConfig())
	}
	create := func(l log.Logger, db dbm.DB, o servertypes.AppOptions) servertypes.Application {
		return must(app.New(l, db, o, server.DefaultBaseappOptions(o)...))
	}
	export := func(l log.Logger, db dbm.DB, height int64, zero bool, _ []string, o servertypes.AppOptions, modules []string) (servertypes.ExportedApp, error) {
		a, err := app.New(l, db, o, server.DefaultBaseappOptions(o)...)
		if err != nil {
			return servertypes.ExportedApp{}, err
		}
		if height > 0 {
			if err := a.LoadVersion(height); err != nil {
				return servertypes.ExportedApp{}, err
			}
		}
		return a.Export(zero, modules)
	}
	verb := map[string]func() *cobra.Command{
		"comet": func() *cobra.Command {
			c := &cobra.Command{Use: "comet", Aliases: []string{"cometbft"}}
			c.AddCommand(server.ShowNodeIDCmd(), server.ShowValidatorCmd(), server.ShowAddressCmd(), server.VersionCmd())
			return c
		},
		"debug":    debug.Cmd,
		"export":   func() *cobra.Command { return server.ExportCmd(export, dir) },
		"genesis":  func() *cobra.Command { return genutilcli.Commands(ledger.Encoding().Tx, ledger.Basics(), dir) },
		"keys":     keys.Commands,
		"rollback": func() *cobra.Command { return server.NewRollbackCmd(create, dir) },
		"query": func() *cobra.Command {
			c := &cobra.Command{Use: "query", Aliases: []string{"q"}, RunE: client.ValidateCmd}
			c.AddCommand(rpc.WaitTxCmd(), server.QueryBlockCmd(), server.QueryBlockResultsCmd(), authcmd.QueryTxsByEventsCmd(), authcmd.QueryTxCmd())
			return c
		},
		"tx": func() *cobra.Command {
			c := &cobra.Command{Use: "tx", RunE: client.ValidateCmd}
			c.AddCommand(authcmd.GetSignCommand(), authcmd.GetSignBatchCommand(), authcmd.GetMultiSignCommand(), authcmd.GetValidateSignaturesCommand(),
				authcmd.GetBroadcastCommand(), authcmd.GetEncodeCommand(), authcmd.GetDecodeCommand(), authcmd.GetSimulateCmd())
			return c
		},
	}
	for _, v := range cosmosVerbs {
		c := verb[v.name]()
		c.Short = v.short
		root.AddCommand(c)
	}
	root.PersistentFlags().String(flags.FlagLogLevel, "warn", "debug, info, warn or error")
	root.PersistentFlags().String(flags.FlagLogFormat, "plain", "json or plain")
	root.PersistentFlags().Bool(flags.FlagLogNoColor, false, "plain logs without colours")
	root.PersistentFlags().String(flags.FlagVerboseLogLevel, "debug", "log level while an upgrade runs")
	o := ledger.AutoCLI()
	o.ClientCtx = base
	return o.EnhanceRootCommand(root)
}

// must is for the SDK's callbacks, which cannot return an error.
func must(a *app.App, err error) *app.App {
	if err != nil {
		panic(err)
	}
	return a
}
