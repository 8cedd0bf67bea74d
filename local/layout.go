package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"github.com/pelletier/go-toml/v2"

	"fallow.network"
	"fallow.network/runner/wasm"
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
	// Engine runs everybody's tasks.
	Engine string
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
		ClaimWindow: 30 * time.Second, // longer than a party that died stays away
		Grace:       30 * time.Second,
		Unbonding:   2 * time.Minute,
		Engine:      wasm.Wazero,
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
	case !slices.Contains(wasm.Engines(), c.Engine):
		return fmt.Errorf("engine %.40q: want one of %s", c.Engine, strings.Join(wasm.Engines(), ", "))
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
	argv []string
}

func (c Config) home(name string) sdk.Home { return sdk.Home(filepath.Join(c.Dir, name)) }

// Tenant is the tenant's home.
func (c Config) Tenant() sdk.Home { return c.home("tenant") }

func (c Config) hubName(i int) string { return fmt.Sprintf("hub-%d", i+1) }

// ports are chosen once, when the network is made, from what was free then;
// beside them stands what else of the config can't be changed later.
type ports struct {
	RPC         int            `toml:"rpc"`
	GRPC        int            `toml:"grpc"`
	REST        int            `toml:"rest"`
	Peer        int            `toml:"peer"`
	Metrics     int            `toml:"metrics"` // of the node
	Up          int            `toml:"up"`      // metrics of the network itself
	Listen      map[string]int `toml:"listen"`
	Status      map[string]int `toml:"status"`
	BlockTime   sdk.Duration   `toml:"block_time"`
	CheckWindow sdk.Duration   `toml:"check_window"`
	Credits     uint64         `toml:"credits"`

	claim io.Closer // of the block of ports, while the network runs
}

func (c Config) portsFile() string { return filepath.Join(c.Dir, "ports.toml") }

// names are the parties that listen, but for the node.
func (c Config) names() []string {
	names := make([]string, 0, c.Hubs+len(c.Providers))
	for i := range c.Hubs {
		names = append(names, c.hubName(i))
	}
	for _, q := range c.Providers {
		names = append(names, q.Name)
	}
	return names
}

// loadPorts reads the ports, or chooses them and writes them down. What it chose
// is claimed until release.
func (c Config) loadPorts(ctx context.Context) (ports, error) {
	var p ports
	b, err := os.ReadFile(c.portsFile())
	switch {
	case err == nil:
		if err := sdk.ParseTOML(b, &p); err != nil {
			return p, fmt.Errorf("%s: %w", c.portsFile(), err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return p, err
	}
	var free picker
	defer free.close()
	if err := free.choose(ctx, &p); err != nil {
		return p, err
	}
	for _, at := range []*int{&p.RPC, &p.GRPC, &p.REST, &p.Peer, &p.Metrics} {
		if err := free.pick(ctx, at); err != nil {
			return p, err
		}
	}
	for _, m := range []*map[string]int{&p.Listen, &p.Status} {
		if *m == nil {
			*m = map[string]int{}
		}
		for _, n := range c.names() {
			at := (*m)[n]
			if err := free.pick(ctx, &at); err != nil {
				return p, err
			}
			(*m)[n] = at
		}
	}
	if p.BlockTime == 0 {
		p.BlockTime, p.CheckWindow, p.Credits = sdk.Duration(c.BlockTime), sdk.Duration(c.CheckWindow), c.Credits
	}
	if b, err = toml.Marshal(p); err != nil {
		return p, err
	}
	return p, writeFile(c.portsFile(), b)
}

// unlike tells of wishes that the network, made with others, can't fulfil. What
// is as by default is no wish.
func (p ports) unlike(c Config) []string {
	d := Default(c.Dir)
	var notes []string
	for _, w := range []struct {
		flag            string
		usual, want, is any
	}{
		{"--block-time", d.BlockTime, c.BlockTime, time.Duration(p.BlockTime)},
		{"--check-window", d.CheckWindow, c.CheckWindow, time.Duration(p.CheckWindow)},
		{"--credits", d.Credits, c.Credits, p.Credits},
	} {
		if w.want != w.is && w.want != w.usual {
			notes = append(notes, fmt.Sprintf("%s %v is left aside: the network was made with %v; make another with --dir, or remove %s", w.flag, w.want, w.is, c.Dir))
		}
	}
	return notes
}

// writeFile puts b at path by rename, so that a crash leaves the old or the new.
func writeFile(path string, b []byte) error {
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// Running says who runs; it stands in up.json while the network is up.
type Running struct {
	PID     int               `json:"pid"`
	Ready   bool              `json:"ready"`
	Parties map[string]int    `json:"parties"`
	Status  map[string]string `json:"status_pages"`
	// Metrics is where each party's figures stand.
	Metrics map[string]string `json:"metrics"`
	// Notes are what was asked for and can't be had.
	Notes []string `json:"notes,omitempty"`
}

// ErrDown is a folder in which no local network is up.
var ErrDown = errors.New("no local network is up")

func runningFile(dir string) string { return filepath.Join(dir, "up.json") }

func lockFile(dir string) string { return filepath.Join(dir, "up.lock") }

// Read tells who runs in dir; ErrDown when nobody does, whatever a network that
// was killed has left there.
func Read(dir string) (Running, error) {
	r, err := readRunning(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return r, fmt.Errorf("%w in %s", ErrDown, dir)
	}
	if err != nil {
		return r, err
	}
	// A process id may have gone to somebody else; a lock can't.
	lock := flock.New(lockFile(dir), flock.SetPermissions(0o600))
	free, err := lock.TryRLock()
	if err != nil {
		return r, err
	}
	if free {
		return Running{}, errors.Join(fmt.Errorf("%w in %s", ErrDown, dir), lock.Unlock())
	}
	return r, nil
}

func readRunning(dir string) (Running, error) {
	var r Running
	b, err := os.ReadFile(runningFile(dir))
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("%s: %w", runningFile(dir), err)
	}
	return r, nil
}

func (r Running) save(dir string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(runningFile(dir), append(b, '\n'))
}
