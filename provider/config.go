package provider

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"fallow.network"
	"fallow.network/hardware"
	"fallow.network/market"
)

// Config is a provider's provider.toml. Zero fields mean what Default says.
type Config struct {
	// Home holds the journal, the blobs and the control file. It is not in
	// the file: the file is found through it.
	Home string `toml:"-" json:"home"`
	// Provider is the account that owns this provider and is paid.
	Provider fallow.Account `toml:"provider" json:"provider" comment:"Account that owns this provider and is paid."`
	// Bond is what a first start locks to register, in whole FAL.
	Bond   uint64 `toml:"bond" json:"bond" comment:"Whole FAL that a first start locks to register."`
	Region string `toml:"region" json:"region" comment:"Where the machine stands, in your own words, as eu-west."`
	// Attributes are claims that a placement can ask for.
	Attributes map[string]string `toml:"attributes,omitempty" json:"attributes,omitempty"`
	// Hubs are multiaddrs with a peer id; empty takes the network's.
	Hubs []string `toml:"hubs" json:"hubs" comment:"Multiaddrs of hubs; empty takes the network's."`
	// Listen are multiaddrs for peers; loopback unless told otherwise.
	Listen []string `toml:"listen" json:"listen" comment:"Multiaddrs for peers. Loopback until you join a network beyond this machine."`
	// Announce are further multiaddrs at which peers reach this node, as a port
	// that a router forwards.
	Announce []string `toml:"announce,omitempty" json:"announce,omitempty"`
	// StatusAddr is where the status page and the metrics stand, on loopback.
	StatusAddr string `toml:"status_addr" json:"status_addr" comment:"Status page and metrics, on loopback alone."`
	Metrics    bool   `toml:"metrics" json:"metrics"`
	// Slots is how many tasks run at once, over all leases; 0 is one for each
	// core that is lent.
	Slots uint32 `toml:"slots" json:"slots" comment:"Tasks at once, over all leases; 0 is one for each core that is lent."`
	Share Share  `toml:"share" json:"share"`
	// Hours are windows in which work is taken, as "mon-fri 18:00-08:00" or
	// "daily 22:00-06:30". Empty is always.
	Hours []string `toml:"hours" json:"hours" comment:"When work is taken, as \"mon-fri 18:00-08:00\" or \"daily 22:00-06:30\"; empty is always."`
	// TimeZone is where the hours are meant, as Europe/Berlin; empty is this
	// machine's.
	TimeZone string `toml:"time_zone" json:"time_zone" comment:"Where the hours are meant, as Europe/Berlin; empty is this machine's."`
	Idle     Idle   `toml:"idle" json:"idle"`
	Prices   Prices `toml:"prices" json:"prices"`
	Offers   Offers `toml:"offers" json:"offers"`
	Redeem   Redeem `toml:"redeem" json:"redeem"`
	// DrainTimeout is how long a drain waits for work before it gives notice.
	DrainTimeout Duration `toml:"drain_timeout" json:"drain_timeout" comment:"How long a drain waits for work before it gives notice."`
}

// Share is how much of the machine may be lent.
type Share struct {
	// Cores lent; 0 takes Percent of what this process may use.
	Cores float64 `toml:"cores" json:"cores" comment:"Cores lent; 0 takes the percentage."`
	// Percent of cores and memory, where no figure is given.
	Percent int `toml:"percent" json:"percent" comment:"Of cores and memory, where no figure stands."`
	// Memory lent; 0 takes Percent.
	Memory Bytes `toml:"memory" json:"memory" comment:"As 4GiB; 0 takes the percentage."`
	// Disk lent for inputs, outputs and scratch; 0 takes a quarter of what is
	// free.
	Disk Bytes `toml:"disk" json:"disk" comment:"For inputs, outputs and scratch; 0 is a quarter of what is free."`
}

// Idle says when the owner's own use comes first.
type Idle struct {
	// Only offers when nobody has used the machine for Quiet.
	Only bool `toml:"only_when_idle" json:"only_when_idle" comment:"Offer only when nobody has used the machine for the quiet time."`
	// Pause starts no further task while the owner uses the machine.
	Pause bool `toml:"pause_at_activity" json:"pause_at_activity" comment:"Start no further task while you use the machine."`
	// Quiet is how long the machine must be left alone to count as idle.
	Quiet Duration `toml:"quiet" json:"quiet" comment:"How long the machine must be left alone to count as idle."`
	// Cores that other programs may use before the machine counts as in use.
	Cores float64 `toml:"cores" json:"cores" comment:"Cores that other programs may use before the machine counts as in use."`
	// GPUPercent of the busiest GPU above which it counts as in use.
	GPUPercent int `toml:"gpu_percent" json:"gpu_percent" comment:"Busier than this, a GPU counts as in use."`
	// Every is how often activity is looked at.
	Every Duration `toml:"every" json:"every" comment:"How often activity is looked at."`
}

// Prices are in credits. Those for batches are per gas and per task; those
// per second are for services, and give a batch's gas price at this machine's
// measured speed where MegaGas is zero.
type Prices struct {
	CoreSecond fallow.Pico `toml:"core_second" json:"core_second" comment:"Credits for a second of a core (services; batches where mega_gas is 0)."`
	GiBSecond  fallow.Pico `toml:"gib_second" json:"gib_second" comment:"Credits for a second of a GiB of memory (likewise)."`
	// DiskGiBSecond is for a service's disk that is kept while it is paused.
	DiskGiBSecond fallow.Pico `toml:"disk_gib_second" json:"disk_gib_second" comment:"Credits for a second of a GiB of disk that a paused service keeps."`
	// MegaGas is for 1,000,000 gas.
	MegaGas fallow.Pico `toml:"mega_gas" json:"mega_gas" comment:"Credits for 1,000,000 gas."`
	Task    fallow.Pico `toml:"task" json:"task" comment:"Credits for each task."`
	// Floor is the least price for 1,000,000 gas, whatever the rest says.
	Floor fallow.Pico `toml:"floor" json:"floor" comment:"Least credits for 1,000,000 gas, whatever the rest says."`
}

// Offers are the terms that go with a price.
type Offers struct {
	// UnpaidCeiling is in credits: work waits once receipts without a voucher
	// reach it.
	UnpaidCeiling fallow.Pico `toml:"unpaid_ceiling" json:"unpaid_ceiling" comment:"Credits of receipts without a voucher at which work waits."`
	// MaxReserve is in credits: the largest reserve that one lease may have.
	MaxReserve fallow.Pico `toml:"max_reserve" json:"max_reserve" comment:"Most credits that one lease may reserve."`
	// ClaimWindow is how long after a close vouchers can be redeemed.
	ClaimWindow Duration `toml:"claim_window" json:"claim_window" comment:"How long after a close vouchers can be redeemed."`
	// Silence is how long a lease may be without work or word before it ends.
	Silence Duration `toml:"silence" json:"silence" comment:"How long a lease may be without work or word before it ends."`
	// LeastSpeed is promised, in gas a second of one slot.
	LeastSpeed uint64 `toml:"least_speed" json:"least_speed" comment:"Gas a second of one slot that is promised."`
	// HoldBlocks is for how many blocks an offer is firm.
	HoldBlocks int64 `toml:"hold_blocks" json:"hold_blocks" comment:"For how many blocks an offer is firm."`
	// HoldTime ends a hold when no block is seen meanwhile.
	HoldTime Duration `toml:"hold_time" json:"hold_time" comment:"Ends a hold when no block is seen meanwhile."`
	// PerSecond is how many demands of one tenant are answered each second.
	PerSecond float64 `toml:"demands_per_second" json:"demands_per_second" comment:"Demands of one tenant that are answered each second."`
}

// Redeem says when vouchers are brought to the ledger.
type Redeem struct {
	// Amount in credits that is worth a transaction.
	Amount fallow.Pico `toml:"amount" json:"amount" comment:"Credits that are worth a transaction."`
	// Age at which a first voucher is worth one, whatever the amount; later ones
	// that add little, at up to 16 times that age.
	Age Duration `toml:"age" json:"age" comment:"Age at which a first voucher is brought there whatever its amount; later ones that add little, at up to 16 times that age."`
}

// Default is the config of a machine that nothing is known of yet.
func Default() Config {
	credits := func(s string) fallow.Pico {
		p, _ := fallow.ParsePico(s) // the literals below parse, as a test shows
		return p
	}
	return Config{
		Bond:       1000,
		Listen:     []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"},
		Hubs:       []string{},
		StatusAddr: "127.0.0.1:8460",
		Metrics:    true,
		Share:      Share{Percent: 75},
		Hours:      []string{},
		Idle: Idle{
			Quiet: Duration(5 * time.Minute), Cores: 0.5, GPUPercent: 20, Every: Duration(5 * time.Second),
		},
		Prices: Prices{
			CoreSecond: credits("0.000004"), GiBSecond: credits("0.0000005"), DiskGiBSecond: credits("0.00000001"),
			MegaGas: credits("0.000000004"), Task: credits("0.00000001"), Floor: credits("0.000000001"),
		},
		Offers: Offers{
			UnpaidCeiling: credits("0.05"), MaxReserve: credits("100"),
			ClaimWindow: Duration(10 * time.Minute), Silence: Duration(2 * time.Minute),
			LeastSpeed: 10_000_000, HoldBlocks: 30, HoldTime: Duration(2 * time.Minute), PerSecond: 20,
		},
		Redeem:       Redeem{Amount: credits("1"), Age: Duration(10 * time.Minute)},
		DrainTimeout: Duration(15 * time.Minute),
	}
}

// maxConfig bounds a config file, in bytes.
const maxConfig = 256 << 10

// ParseConfig reads a provider.toml over Default, and checks it.
func ParseConfig(b []byte) (Config, error) {
	c := Default()
	if len(b) > maxConfig {
		return c, fmt.Errorf("config of %d bytes: at most %d", len(b), maxConfig)
	}
	if err := toml.NewDecoder(bytes.NewReader(b)).DisallowUnknownFields().Decode(&c); err != nil {
		var strict *toml.StrictMissingError
		if errors.As(err, &strict) && len(strict.Errors) > 0 {
			row, col := strict.Errors[0].Position()
			return c, fmt.Errorf("line %d, column %d: unknown field %q", row, col, strings.Join(strict.Errors[0].Key(), "."))
		}
		var at *toml.DecodeError
		if errors.As(err, &at) {
			row, col := at.Position()
			return c, fmt.Errorf("line %d, column %d: %w", row, col, err)
		}
		return c, err
	}
	return c, c.Validate()
}

// LoadConfig reads the config at path for a provider whose home is home.
func LoadConfig(path, home string) (Config, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("provider's config: %w; make one with: fallow provider init", err)
	}
	c, err := ParseConfig(b)
	c.Home = home
	if err != nil {
		return c, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// Marshal writes the config as a provider.toml.
func (c Config) Marshal() ([]byte, error) { return toml.Marshal(c) }

// Validate says which field is wrong, and what it may be.
func (c Config) Validate() error {
	between := func(name string, d Duration, least, most time.Duration) error {
		if v := time.Duration(d); v < least || v > most {
			return fmt.Errorf("%s = %s: want %s to %s", name, v, least, most)
		}
		return nil
	}
	for name, p := range map[string]fallow.Pico{
		"core_second": c.Prices.CoreSecond, "gib_second": c.Prices.GiBSecond, "disk_gib_second": c.Prices.DiskGiBSecond,
		"mega_gas": c.Prices.MegaGas, "task": c.Prices.Task, "floor": c.Prices.Floor,
	} {
		if p.Cmp(maxUnitPrice) > 0 {
			return fmt.Errorf("prices.%s = %s: at most %s credits", name, p, maxUnitPrice)
		}
	}
	for name, p := range map[string]fallow.Pico{
		"offers.unpaid_ceiling": c.Offers.UnpaidCeiling, "offers.max_reserve": c.Offers.MaxReserve, "redeem.amount": c.Redeem.Amount,
	} {
		if v, err := p.Floor(); err != nil || v > market.MaxCredits {
			return fmt.Errorf("%s = %s: want less", name, p)
		}
	}
	ceiling, _ := c.Offers.UnpaidCeiling.Floor()
	reserve, _ := c.Offers.MaxReserve.Floor()
	switch {
	case len(c.Region) > market.MaxName || len(c.Attributes) > market.MaxAttributes:
		return errors.New("region or attributes: too long or too many")
	case len(c.Hubs) > 16 || len(c.Listen) > 16 || len(c.Announce) > 16:
		return errors.New("hubs, listen or announce: at most 16 of each")
	case c.Bond > 1_000_000_000_000:
		return fmt.Errorf("bond = %d: want FAL, at most 1000000000000", c.Bond)
	case c.Slots > market.MaxSlots:
		return fmt.Errorf("slots = %d: at most %d", c.Slots, market.MaxSlots)
	case !(c.Share.Cores >= 0 && c.Share.Cores <= 16384) || !(c.Idle.Cores >= 0 && c.Idle.Cores <= 16384):
		return errors.New("share.cores or idle.cores: want 0 to 16384")
	case c.Share.Percent < 1 || c.Share.Percent > 100:
		return fmt.Errorf("share.percent = %d: want 1 to 100", c.Share.Percent)
	case c.Share.Memory > market.MaxBytes || c.Share.Disk > market.MaxBytes:
		return errors.New("share.memory or share.disk: at most 1PiB")
	case c.Idle.GPUPercent < 0 || c.Idle.GPUPercent > 100:
		return fmt.Errorf("idle.gpu_percent = %d: want 0 to 100", c.Idle.GPUPercent)
	case ceiling == 0:
		return fmt.Errorf("offers.unpaid_ceiling = %s: want at least 0.000001", c.Offers.UnpaidCeiling)
	case reserve < ceiling:
		return fmt.Errorf("offers.max_reserve = %s: want at least the unpaid ceiling, %s", c.Offers.MaxReserve, c.Offers.UnpaidCeiling)
	case c.Offers.HoldBlocks < 1 || c.Offers.HoldBlocks > 10_000:
		return fmt.Errorf("offers.hold_blocks = %d: want 1 to 10000", c.Offers.HoldBlocks)
	case !(c.Offers.PerSecond > 0 && c.Offers.PerSecond <= 10_000):
		return fmt.Errorf("offers.demands_per_second = %v: want above 0, to 10000", c.Offers.PerSecond)
	case c.Prices.MegaGas.IsZero() && c.Prices.CoreSecond.IsZero() && c.Prices.Floor.IsZero():
		return errors.New("prices: mega_gas, core_second and floor are all zero: work would be for nothing")
	}
	for k, v := range c.Attributes {
		if err := (market.Attribute{Key: k, Value: v}).Check(); err != nil {
			return fmt.Errorf("attributes: %w", err)
		}
	}
	if _, err := c.schedule(); err != nil {
		return err
	}
	return errors.Join(
		checkLoopback(c.StatusAddr),
		between("idle.quiet", c.Idle.Quiet, 0, 24*time.Hour),
		between("idle.every", c.Idle.Every, 100*time.Millisecond, time.Hour),
		between("offers.claim_window", c.Offers.ClaimWindow, time.Second, 30*24*time.Hour),
		between("offers.silence", c.Offers.Silence, time.Second, 30*24*time.Hour),
		between("offers.hold_time", c.Offers.HoldTime, time.Second, 24*time.Hour),
		between("redeem.age", c.Redeem.Age, time.Second, 24*time.Hour),
		between("drain_timeout", c.DrainTimeout, 0, 7*24*time.Hour),
	)
}

// maxUnitPrice bounds a price in the config: a thousand credits.
var maxUnitPrice = fallow.PicoOf(1_000_000_000_000_000)

func checkLoopback(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("status_addr = %.80q: want a loopback address and port, as 127.0.0.1:8460", addr)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("status_addr = %.80q: the page has no login, so it stands on loopback alone", addr)
	}
	return nil
}

func (c Config) journalFile() string { return filepath.Join(c.Home, "journal.db") }
func (c Config) lockFile() string    { return filepath.Join(c.Home, "provider.lock") }

// Lend is what of m may be lent, and how many tasks run at once.
func (c Config) Lend(m hardware.Machine) (market.Resources, uint32) {
	milli := uint64(math.Round(c.Share.Cores * 1000))
	if milli == 0 {
		milli = uint64(m.CPU.UsableMilli) * uint64(c.Share.Percent) / 100
		milli = max(milli, uint64(c.Slots)*1000, 1000)
	}
	slots := c.Slots
	if slots == 0 {
		slots = uint32(max(1, milli/1000))
	}
	memory := uint64(c.Share.Memory)
	if memory == 0 {
		memory = m.Memory.UsableBytes / 100 * uint64(c.Share.Percent)
	}
	disk := uint64(c.Share.Disk)
	if disk == 0 {
		disk = m.Disk.FreeBytes / 4
	}
	return market.Resources{
		MilliCPU: uint32(min(milli, market.MaxMilliCPU)), Memory: min(memory, market.MaxBytes), Disk: min(disk, market.MaxBytes),
	}, slots
}

// attributes are the claims in a fixed order.
func (c Config) attributes() []market.Attribute {
	list := make([]market.Attribute, 0, len(c.Attributes))
	for k, v := range c.Attributes {
		list = append(list, market.Attribute{Key: k, Value: v})
	}
	slices.SortFunc(list, func(a, b market.Attribute) int { return strings.Compare(a.Key, b.Key) })
	return list
}

// Duration is a time.Duration that reads and writes as 250ms.
type Duration time.Duration

// MarshalText writes the duration as Go does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads a duration as 250ms or 2m.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = Duration(v)
	return err
}

// Bytes is a size that reads and writes as 4GiB.
type Bytes uint64

var units = []struct {
	name string
	size uint64
}{
	{"TiB", 1 << 40},
	{"GiB", 1 << 30},
	{"MiB", 1 << 20},
	{"KiB", 1 << 10},
	{"TB", 1e12},
	{"GB", 1e9},
	{"MB", 1e6},
	{"kB", 1e3},
	{"B", 1},
	{"", 1},
}

// String is the size in the largest binary unit that leaves it whole.
func (b Bytes) String() string {
	for _, u := range units[:4] {
		if b > 0 && uint64(b)%u.size == 0 {
			return strconv.FormatUint(uint64(b)/u.size, 10) + u.name
		}
	}
	return strconv.FormatUint(uint64(b), 10)
}

// MarshalText writes the size.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// UnmarshalText reads a size as 4GiB, 500MB or 1048576.
func (b *Bytes) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	for _, u := range units {
		digits, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(digits), 10, 64)
		if err != nil || n > math.MaxUint64/u.size {
			return fmt.Errorf("size %.40q: want a whole number and a unit, as 4GiB", s)
		}
		*b = Bytes(n * u.size)
		return nil
	}
	return fmt.Errorf("size %.40q: want a whole number and a unit, as 4GiB", s)
}
