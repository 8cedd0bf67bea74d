package local

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/pelletier/go-toml/v2"

	"fallow.network"
	"fallow.network/sdk"
)

// Provider is one provider of the local network.
type Provider struct {
	// Name is its folder.
	Name string
	// Slots is how many tasks it takes at once.
	Slots int
	// GasPrice is credits for 1,000,000 gas, TaskFee credits a task.
	GasPrice, TaskFee string
	Region            string
	// Bond is its bond in FAL.
	Bond uint64
}

// Config says what network to run, and where.
type Config struct {
	// Dir holds every home, the logs and who runs.
	Dir string
	// Fallow and Node are the two binaries.
	Fallow, Node string
	ChainID      string
	BlockTime    time.Duration
	Hubs         int
	Providers    []Provider
	// Credits and Tokens fund the tenant, in credits and FAL; Escrow is what
	// it deposits at once.
	Credits, Tokens, Escrow uint64
	// Windows of the ledger, short so that a whole job is seen through.
	CheckWindow, ClaimWindow, Grace, Unbonding time.Duration
	// Restart brings a party back that died.
	Restart bool
}

// Default is one validator, one hub, three providers of different prices and
// sizes, and one tenant.
func Default(dir string) Config {
	return Config{
		Dir:       dir,
		ChainID:   "fallow-local-1",
		BlockTime: time.Second,
		Hubs:      1,
		Providers: []Provider{
			{Name: "provider-1", Slots: 1, GasPrice: "0.000000004", TaskFee: "0.00000001", Region: "eu-west", Bond: 10_000},
			{Name: "provider-2", Slots: 2, GasPrice: "0.000000005", TaskFee: "0.00000001", Region: "eu-west", Bond: 20_000},
			{Name: "provider-3", Slots: 1, GasPrice: "0.0000000035", TaskFee: "0.00000002", Region: "us-east", Bond: 5_000},
		},
		Credits:     1000,
		Tokens:      1000,
		Escrow:      100,
		CheckWindow: 15 * time.Second,
		ClaimWindow: 5 * time.Second,
		Grace:       30 * time.Second,
		Unbonding:   2 * time.Minute,
		Restart:     true,
	}
}

// Validate says which field is wrong, and what it may be.
func (c Config) Validate() error {
	switch {
	case c.Dir == "":
		return errors.New("no folder for the local network")
	case c.BlockTime < 250*time.Millisecond || c.BlockTime > time.Minute:
		return fmt.Errorf("block time %s: want 250ms to 1m", c.BlockTime)
	case c.Hubs < 1 || c.Hubs > 4:
		return fmt.Errorf("%d hubs: want 1 to 4", c.Hubs)
	case len(c.Providers) < 1 || len(c.Providers) > 32:
		return fmt.Errorf("%d providers: want 1 to 32", len(c.Providers))
	case c.Escrow > c.Credits:
		return fmt.Errorf("escrow of %d credits from %d", c.Escrow, c.Credits)
	case c.Unbonding <= c.CheckWindow:
		return fmt.Errorf("unbonding %s: want longer than the check window %s", c.Unbonding, c.CheckWindow)
	}
	for _, p := range c.Providers {
		for _, s := range []string{p.GasPrice, p.TaskFee} {
			if _, err := fallow.ParsePico(s); err != nil {
				return fmt.Errorf("%s: %w", p.Name, err)
			}
		}
	}
	return nil
}

// party is a process of the network.
type party struct {
	name string
	home sdk.Home
	argv []string
	env  []string
}

func (c Config) home(name string) sdk.Home { return sdk.Home(filepath.Join(c.Dir, name)) }

// Tenant is the tenant's home.
func (c Config) Tenant() sdk.Home { return c.home("tenant") }

func (c Config) hubName(i int) string { return fmt.Sprintf("hub-%d", i+1) }

// ports are chosen once, when the network is made, from what was free then.
type ports struct {
	RPC       int            `toml:"rpc"`
	GRPC      int            `toml:"grpc"`
	REST      int            `toml:"rest"`
	Peer      int            `toml:"peer"`
	Listen    map[string]int `toml:"listen"`
	Status    map[string]int `toml:"status"`
	BlockTime sdk.Duration   `toml:"block_time"`
}

func (c Config) portsFile() string { return filepath.Join(c.Dir, "ports.toml") }

// loadPorts reads the ports, or chooses them and writes them down.
func (c Config) loadPorts(ctx context.Context) (ports, error) {
	var p ports
	b, err := os.ReadFile(c.portsFile())
	switch {
	case err == nil:
		if err := toml.NewDecoder(bytes.NewReader(b)).DisallowUnknownFields().Decode(&p); err != nil {
			return p, fmt.Errorf("%s: %w", c.portsFile(), err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return p, err
	}
	var held []net.Listener
	defer func() {
		for _, l := range held {
			_ = l.Close()
		}
	}()
	take := func(at int) (int, error) {
		if at != 0 {
			return at, nil
		}
		var lc net.ListenConfig
		l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return 0, err
		}
		held = append(held, l)
		return l.Addr().(*net.TCPAddr).Port, nil
	}
	for _, at := range []*int{&p.RPC, &p.GRPC, &p.REST, &p.Peer} {
		if *at, err = take(*at); err != nil {
			return p, err
		}
	}
	if p.Listen == nil {
		p.Listen, p.Status = map[string]int{}, map[string]int{}
	}
	names := make([]string, 0, c.Hubs+len(c.Providers))
	for i := range c.Hubs {
		names = append(names, c.hubName(i))
	}
	for _, q := range c.Providers {
		names = append(names, q.Name)
	}
	for _, n := range names {
		for _, m := range []map[string]int{p.Listen, p.Status} {
			if m[n], err = take(m[n]); err != nil {
				return p, err
			}
		}
	}
	if p.BlockTime == 0 {
		p.BlockTime = sdk.Duration(c.BlockTime)
	}
	b, err = toml.Marshal(p)
	if err != nil {
		return p, err
	}
	return p, os.WriteFile(c.portsFile(), b, 0o600)
}

// Running says who runs; it stands in up.json while the network is up.
type Running struct {
	PID     int               `json:"pid"`
	Ready   bool              `json:"ready"`
	Parties map[string]int    `json:"parties"`
	Status  map[string]string `json:"status_pages"`
}

func runningFile(dir string) string { return filepath.Join(dir, "up.json") }

// Read reads who runs in dir.
func Read(dir string) (Running, error) {
	var r Running
	b, err := os.ReadFile(runningFile(dir))
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(b, &r)
}

func (r Running) save(dir string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	at := runningFile(dir)
	if err := os.WriteFile(at+".new", append(b, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(at+".new", at)
}
