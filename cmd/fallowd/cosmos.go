package main

import (
	"context"
	"slices"
	"strings"

	"cosmossdk.io/log/v2"
	cmtcfg "github.com/cometbft/cometbft/config"
	dbm "github.com/cosmos/cosmos-db"
	"github.com/cosmos/cosmos-sdk/client"
	"github.com/cosmos/cosmos-sdk/client/debug"
	"github.com/cosmos/cosmos-sdk/client/flags"
	"github.com/cosmos/cosmos-sdk/client/keys"
	"github.com/cosmos/cosmos-sdk/client/rpc"
	"github.com/cosmos/cosmos-sdk/crypto/keyring"
	"github.com/cosmos/cosmos-sdk/server"
	srvcmd "github.com/cosmos/cosmos-sdk/server/cmd"
	authcmd "github.com/cosmos/cosmos-sdk/x/auth/client/cli"
	genutilcli "github.com/cosmos/cosmos-sdk/x/genutil/client/cli"
	genutiltypes "github.com/cosmos/cosmos-sdk/x/genutil/types"
	"github.com/spf13/cobra"
	"github.com/spf13/viper"

	"fallow.network/chain/app"
)

// cosmosVerbs are what the SDK brings. They need the whole ledger's codecs,
// which take half a second to build, so they are only made when asked for.
var cosmosVerbs = []cosmosVerb{
	{"comet", "Node id, validator key and other facts of CometBFT"},
	{"debug", "Decode addresses, keys and transactions"},
	{"genesis", "Prepare the genesis of a network of many validators"},
	{"keys", "The operator's keys"},
	{"query", "Ask the ledger, module by module"},
	{"tx", "Make, sign and send transactions, module by module"},
}

type cosmosVerb struct{ name, short string }

// addCosmos adds the SDK's verbs: as they are when args ask for one, else as
// names alone. It returns the context that they want to run in.
func addCosmos(ctx context.Context, root *cobra.Command, args []string) (context.Context, error) {
	asked := func(a string) bool {
		return a == "q" || slices.ContainsFunc(cosmosVerbs, func(v cosmosVerb) bool { return v.name == a })
	}
	first := slices.IndexFunc(args, func(a string) bool {
		c, _, err := root.Find([]string{a})
		return asked(a) || err == nil && c != root
	})
	if first < 0 || !asked(args[first]) {
		for _, v := range cosmosVerbs {
			root.AddCommand(&cobra.Command{Use: v.name, Short: v.short, RunE: func(c *cobra.Command, _ []string) error { return c.Help() }})
		}
		return ctx, nil
	}
	ledger, err := app.New(log.NewNopLogger(), dbm.NewMemDB(), app.Settings{})
	if err != nil {
		return ctx, err
	}
	base := ledger.ClientContext().WithInput(root.InOrStdin()).WithOutput(root.OutOrStdout()).WithBroadcastMode(flags.BroadcastSync)
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error { return prepare(cmd, base) }
	verb := map[string]func() *cobra.Command{
		"comet": func() *cobra.Command {
			c := &cobra.Command{Use: "comet", Aliases: []string{"cometbft"}}
			c.AddCommand(server.ShowNodeIDCmd(), server.ShowValidatorCmd(), server.ShowAddressCmd(), server.VersionCmd())
			return c
		},
		"debug":   debug.Cmd,
		"genesis": func() *cobra.Command { return genutilcli.Commands(ledger.Encoding().Tx, ledger.Basics(), home()) },
		"keys":    keys.Commands,
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
	o := ledger.AutoCLI()
	o.ClientCtx = base
	return srvcmd.CreateExecuteContext(ctx), o.EnhanceRootCommand(root)
}

// prepare gives an SDK command what it looks for in its context. Where a home
// holds a node, its RPC, chain id and keyring are what flags leave unsaid.
func prepare(cmd *cobra.Command, base client.Context) error {
	dir, _ := cmd.Flags().GetString(flags.FlagHome)
	base = base.WithCmdContext(cmd.Context()).WithHomeDir(dir).WithKeyringDir(dir)
	cfg, settings := cmtcfg.DefaultConfig(), viper.New()
	cfg.SetRoot(dir)
	if app.Exists(dir) {
		var err error
		if cfg, _, settings, err = app.ReadHome(dir, nil); err != nil {
			return err
		}
		genesis, err := genutiltypes.AppGenesisFromFile(cfg.GenesisFile())
		if err != nil {
			return err
		}
		base = base.WithChainID(genesis.ChainID)
		if !strings.HasSuffix(cfg.RPC.ListenAddress, ":0") {
			node, err := client.NewClientFromNode(cfg.RPC.ListenAddress)
			if err != nil {
				return err
			}
			base = base.WithNodeURI(cfg.RPC.ListenAddress).WithClient(node)
		}
		ring, err := client.NewKeyringFromBackend(base, keyring.BackendTest)
		if err != nil {
			return err
		}
		base = base.WithKeyring(ring)
	}
	c, err := client.ReadPersistentCommandFlags(base, cmd.Flags())
	if err != nil {
		return err
	}
	if err := client.SetCmdClientContextHandler(c, cmd); err != nil {
		return err
	}
	return server.SetCmdServerContext(cmd, server.NewContext(settings, cfg, log.NewNopLogger()))
}
