package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"fallow.network"
)

type versionFacts struct {
	Version  string `json:"version"`
	Protocol string `json:"protocol"`
	Cosmos   string `json:"cosmos_sdk"`
	Comet    string `json:"cometbft"`
	Go       string `json:"go"`
}

func newVersionCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "version", Short: "Print this program's version and its protocol", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			v := versionFacts{Version: version, Protocol: fallow.Protocol, Go: runtime.Version()}
			if info, ok := debug.ReadBuildInfo(); ok {
				for _, m := range info.Deps {
					switch m.Path {
					case "github.com/cosmos/cosmos-sdk":
						v.Cosmos = m.Version
					case "github.com/cometbft/cometbft":
						v.Comet = m.Version
					}
				}
			}
			if asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(v)
			}
			fmt.Fprintf(c.OutOrStdout(), "fallowd %s (%s, cosmos-sdk %s, cometbft %s, %s)\n", v.Version, v.Protocol, v.Cosmos, v.Comet, v.Go)
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return c
}
