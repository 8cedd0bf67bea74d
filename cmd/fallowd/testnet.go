package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"cosmossdk.io/log/v2"
	"github.com/cometbft/cometbft/p2p"
	dbm "github.com/cosmos/cosmos-db"
	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/cobra"

	"fallow.network"
	"fallow.network/chain/app"
)

// Bounds and steps of a test network.
const (
	mostParties = 64 // of each kind
	portStep    = 10 // ports that one party may use
	million     = 1_000_000
	spareTokens = 100   // FAL that a provider has beside its bond, for fees
	firstPort   = 27000 // by default
)

// testnet says what network to write.
type testnet struct {
	dir                                  string
	validators, hubs, providers, tenants int
	port                                 int
	hosts                                []string
	home                                 app.Home
	genesis                              app.Genesis
	bond, credits, tokens                uint64
	fallow                               string // the program that makes the homes of its parties
	taken                                []net.Listener
	at                                   int // parties that have their ports
}

// party is one home of a test network and what it is called by.
type party struct {
	Name    string `json:"name"`
	Home    string `json:"home"`
	Account string `json:"account,omitempty"`
	NodeID  string `json:"node_id,omitempty"`
	Address string `json:"address,omitempty"` // that others dial
	RPC     string `json:"rpc,omitempty"`
	GRPC    string `json:"grpc,omitempty"`
	API     string `json:"api,omitempty"`
	Metrics string `json:"metrics,omitempty"`
	Status  string `json:"status,omitempty"`
	Start   string `json:"start,omitempty"`
}

type testnetFacts struct {
	Dir         string        `json:"dir"`
	ChainID     string        `json:"chain_id"`
	GenesisHash fallow.Digest `json:"genesis_hash"`
	Genesis     string        `json:"genesis"`
	NetworkFile string        `json:"network_file"`
	Peers       string        `json:"peers"`
	Validators  []party       `json:"validators"`
	Hubs        []party       `json:"hubs"`
	Providers   []party       `json:"providers"`
	Tenants     []party       `json:"tenants"`
}

// networkFile is what fallow join takes; sdk.Network reads it.
type networkFile struct {
	Protocol string        `toml:"protocol"`
	ChainID  string        `toml:"chain_id"`
	Genesis  fallow.Digest `toml:"genesis"`
	RPC      []string      `toml:"rpc"`
	GRPC     []string      `toml:"grpc"`
	Hubs     []string      `toml:"hubs"`
}

func newTestnetCommand() *cobra.Command {
	t := testnet{
		validators: 4, hubs: 1, providers: 2, tenants: 1, port: firstPort, bond: 10_000, credits: 1000, tokens: 1000,
		home: app.DefaultHome(), genesis: app.DefaultGenesis("fallow-test-1", time.Time{}),
	}
	var (
		accounts []string
		asJSON   bool
	)
	c := &cobra.Command{
		Use: "testnet DIR", Short: "Write the homes of a whole network: validators, hubs, providers, a tenant", Args: oneFolder,
		Long: `Writes a folder with one home for each party of a new network, ready to start:
validators that share a genesis and dial each other, hubs, providers with a
bond, and a funded tenant. Nothing is started; the commands that do are printed.

Everything listens on loopback, each party at ports of its own from
--first-port on, ten apart. With --hosts each validator and hub is reached at
its own host and listens on all devices: move each home to its machine. A host
may hold {}, which becomes the party's name, as in {}.example.org.

  DIR/validator-1 …    fallowd start --home
  DIR/hub-1 …          fallow hub start --home
  DIR/provider-1 …     fallow provider start --home
  DIR/tenant-1         fallow run --home, and every other verb
  DIR/network.toml     the network file, for fallow join
  DIR/genesis.json     for fallowd init --genesis, to follow the ledger

Keys lie in the homes, mode 0600; the tenants' and providers' recovery words
are not shown, so fund no account of worth here. Homes of hubs, providers and
tenants are made by the program fallow, which stands beside fallowd, on PATH
or in $FALLOW.`,
		Example: `  fallowd testnet ./net
  fallowd testnet ./net --validators 7 --hubs 2 --providers 20 --block-time 500ms
  fallowd testnet ./net --hosts '{}.example.org'
  fallowd testnet ./net --hosts 10.0.0.1,10.0.0.2,10.0.0.3,10.0.0.4,10.0.0.5`,
		RunE: func(c *cobra.Command, args []string) error {
			var err error
			if t.dir, err = filepath.Abs(args[0]); err != nil {
				return err
			}
			app.SetPrefixes()
			for _, s := range accounts {
				f, err := app.ParseFunding(s)
				if err != nil {
					return &failure{exitUsage, err}
				}
				t.genesis.Accounts = append(t.genesis.Accounts, f)
			}
			if err := t.validate(); err != nil {
				return &failure{exitUsage, err}
			}
			facts, err := t.write(c.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(facts)
			}
			return facts.print(c.OutOrStdout())
		},
	}
	f := c.Flags()
	f.IntVar(&t.validators, "validators", t.validators, "how many validators, each with a node")
	f.IntVar(&t.hubs, "hubs", t.hubs, "how many hubs")
	f.IntVar(&t.providers, "providers", t.providers, "how many providers")
	f.IntVar(&t.tenants, "tenants", t.tenants, "how many funded tenants")
	f.IntVar(&t.port, "first-port", t.port, "first port; 0 takes whatever is free now")
	f.StringSliceVar(&t.hosts, "hosts", nil, "`host` of each validator, then of each hub; or one with {} for the party's name")
	f.Uint64Var(&t.bond, "bond", t.bond, "FAL that each provider locks at its first start")
	f.Uint64Var(&t.credits, "credits", t.credits, "credits of each tenant")
	f.Uint64Var(&t.tokens, "tokens", t.tokens, "FAL of each tenant")
	genesisFlags(f, &t.genesis, &accounts)
	nodeFlags(f, &t.home)
	f.BoolVar(&asJSON, "json", false, "print what was written as JSON")
	return c
}

func oneFolder(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return &failure{exitUsage, errors.New("name the folder to write, as: fallowd testnet ./net")}
	}
	return nil
}

// validate says what is wrong with t and how to put it right.
func (t *testnet) validate() error {
	for _, n := range []struct {
		what        string
		count, from int
	}{{"validators", t.validators, 1}, {"hubs", t.hubs, 0}, {"providers", t.providers, 0}, {"tenants", t.tenants, 0}} {
		if n.count < n.from || n.count > mostParties {
			return fmt.Errorf("--%s %d: want %d to %d", n.what, n.count, n.from, mostParties)
		}
	}
	parties := t.validators + t.hubs + t.providers
	if last := 65535 - parties*portStep; t.port != 0 && (t.port < 1024 || t.port > last) {
		return fmt.Errorf("--first-port %d: want 1024 to %d for %d parties, or 0 for free ones", t.port, last, parties)
	}
	for _, h := range t.hosts {
		if h == "" || strings.ContainsAny(strings.ReplaceAll(h, "{}", ""), " /@{}:") {
			return fmt.Errorf("--hosts %.60q: want names or IPv4 addresses without a port, as 10.0.0.1 or {}.example.org", h)
		}
	}
	template := len(t.hosts) == 1 && strings.Contains(t.hosts[0], "{}")
	if want := t.validators + t.hubs; len(t.hosts) > 0 && !template && len(t.hosts) != want {
		return fmt.Errorf("--hosts names %d: want one for each of %d validators and %d hubs, or one with {} in it", len(t.hosts), t.validators, t.hubs)
	}
	if t.credits > 1<<40 || t.tokens > 1<<40 || t.bond > 1<<40 {
		return errors.New("--credits, --tokens and --bond: want at most 1099511627776 each")
	}
	t.home.Dir = t.dir
	if err := t.home.Validate(); err != nil {
		return err
	}
	t.genesis.BlockTime = t.home.BlockTime
	if err := t.genesis.Validate(); err != nil {
		return err
	}
	switch list, err := os.ReadDir(t.dir); {
	case err == nil && len(list) > 0:
		return fmt.Errorf("%s is not empty; name another folder, or remove it", t.dir)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if t.hubs+t.providers+t.tenants == 0 {
		return nil
	}
	var err error
	t.fallow, err = findFallow()
	return err
}

// write lays every home; what an error leaves half done is removed.
func (t *testnet) write(ctx context.Context) (facts testnetFacts, err error) {
	defer func() {
		t.release()
		if err != nil {
			err = errors.Join(err, os.RemoveAll(t.dir))
		}
	}()
	if err := os.MkdirAll(t.dir, 0o700); err != nil {
		return facts, fmt.Errorf("make %s: %w", t.dir, err)
	}
	facts = testnetFacts{
		Dir: t.dir, ChainID: t.genesis.ChainID, Genesis: filepath.Join(t.dir, "genesis.json"), NetworkFile: filepath.Join(t.dir, "network.toml"),
		Validators: []party{}, Hubs: []party{}, Providers: []party{}, Tenants: []party{},
	}
	file := networkFile{Protocol: fallow.Protocol, ChainID: t.genesis.ChainID, RPC: []string{}, GRPC: []string{}, Hubs: []string{}}
	var homes []app.Home
	for i := range t.validators {
		h, p, err := t.validator(i)
		if err != nil {
			return facts, err
		}
		homes, facts.Validators = append(homes, h), append(facts.Validators, p)
		file.RPC, file.GRPC = append(file.RPC, "http://"+p.RPC), append(file.GRPC, p.GRPC)
	}
	for i := range t.hubs {
		p, err := t.hub(ctx, i)
		if err != nil {
			return facts, err
		}
		facts.Hubs, file.Hubs = append(facts.Hubs, p), append(file.Hubs, p.Address)
	}
	if err := t.people(ctx, &facts); err != nil {
		return facts, err
	}
	ledger, err := app.New(log.NewNopLogger(), dbm.NewMemDB(), app.Settings{})
	if err != nil {
		return facts, err
	}
	t.genesis.Time = time.Now()
	raw, err := app.Found(ctx, ledger, t.genesis, homes...)
	if err != nil {
		return facts, err
	}
	facts.GenesisHash = fallow.Sum(raw)
	file.Genesis = facts.GenesisHash
	if err := t.identify(&facts); err != nil {
		return facts, err
	}
	text, err := toml.Marshal(file)
	if err != nil {
		return facts, fmt.Errorf("write the network file: %w", err)
	}
	if err := errors.Join(os.WriteFile(facts.NetworkFile, text, 0o644), os.WriteFile(facts.Genesis, raw, 0o644)); err != nil {
		return facts, err
	}
	return facts, t.join(ctx, &facts)
}

// validator chooses the home of validator i.
func (t *testnet) validator(i int) (app.Home, party, error) {
	h := t.home
	h.Moniker = fmt.Sprintf("validator-%d", i+1)
	h.Dir = filepath.Join(t.dir, h.Moniker)
	ports, err := t.ports(5)
	if err != nil {
		return h, party{}, err
	}
	on, at := "127.0.0.1", t.host(i, h.Moniker)
	if len(t.hosts) > 0 {
		on, h.External = "0.0.0.0", join(at, ports[1])
	}
	h.RPC, h.P2P, h.GRPC, h.API = join(on, ports[0]), join(on, ports[1]), join(on, ports[2]), join("127.0.0.1", ports[3])
	h.Metrics = join("127.0.0.1", ports[4])
	return h, party{
		Name: h.Moniker, Home: h.Dir, RPC: join(at, ports[0]), Address: join(at, ports[1]), GRPC: join(at, ports[2]), API: h.API, Metrics: h.Metrics,
		Start: "fallowd start --home " + h.Dir,
	}, nil
}

// identify adds what the validators' keys say.
func (t *testnet) identify(facts *testnetFacts) error {
	var peers []string
	for i := range facts.Validators {
		v := &facts.Validators[i]
		key, err := p2p.LoadNodeKey(filepath.Join(v.Home, "config", "node_key.json"))
		if err != nil {
			return fmt.Errorf("read the node key of %s: %w", v.Name, err)
		}
		v.NodeID = string(key.ID())
		v.Address = v.NodeID + "@" + v.Address
		peers = append(peers, v.Address)
	}
	facts.Peers = strings.Join(peers, ",")
	return nil
}

// host is where others reach the i'th of validators and hubs.
func (t *testnet) host(i int, name string) string {
	switch len(t.hosts) {
	case 0:
		return "127.0.0.1"
	case 1:
		return strings.ReplaceAll(t.hosts[0], "{}", name)
	default:
		return strings.ReplaceAll(t.hosts[i], "{}", name)
	}
}

// ports gives the next party its ports: n from its ten, or n that are free.
func (t *testnet) ports(n int) ([]int, error) {
	first := t.port + t.at*portStep
	t.at++
	ports := make([]int, n)
	for i := range ports {
		if ports[i] = first + i; t.port != 0 {
			continue
		}
		l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a local socket, closed by release
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		t.taken = append(t.taken, l) // so that nobody is given it twice
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports, nil
}

func (t *testnet) release() {
	for _, l := range t.taken {
		_ = l.Close()
	}
	t.taken = nil
}

func join(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

// print says what was written and how to start it.
func (f testnetFacts) print(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "wrote %s for %s (genesis %s)\n", f.Dir, f.ChainID, f.GenesisHash)
	fmt.Fprintf(&b, "\nStart each, in a shell or a unit of its own; validators first:\n\n")
	for _, list := range [][]party{f.Validators, f.Hubs, f.Providers} {
		for _, p := range list {
			fmt.Fprintf(&b, "  %s\n", p.Start)
		}
	}
	for _, p := range f.Tenants {
		fmt.Fprintf(&b, "\nThen rent, as %s:\n\n  fallow deposit 100 --home %s\n  fallow run JOB-FILE --home %s\n", p.Name, p.Home, p.Home)
	}
	fmt.Fprintf(&b, "\nOthers join with:\n\n  fallow join %s\n  fallowd init --genesis %s --peers %s\n", f.NetworkFile, f.Genesis, f.Peers)
	_, err := io.WriteString(w, b.String())
	return err
}
