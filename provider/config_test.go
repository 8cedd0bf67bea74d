package provider

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fallow.network"
	"fallow.network/hardware"
)

func TestDefaultIsValid(t *testing.T) {
	c := Default()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	// The literals in Default that would be zero had they not parsed.
	for name, p := range map[string]fallow.Pico{
		"core": c.Prices.CoreSecond, "gib": c.Prices.GiBSecond, "disk": c.Prices.DiskGiBSecond, "gas": c.Prices.MegaGas,
		"task": c.Prices.Task, "floor": c.Prices.Floor, "ceiling": c.Offers.UnpaidCeiling, "reserve": c.Offers.MaxReserve, "redeem": c.Redeem.Amount,
	} {
		if p.IsZero() {
			t.Errorf("default %s is zero", name)
		}
	}
	b, err := c.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	back, err := ParseConfig(b)
	if err != nil {
		t.Fatalf("%v in\n%s", err, b)
	}
	if d := cmp.Diff(c, back); d != "" {
		t.Error(d)
	}
}

func TestConfigErrors(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"colour = 3", `line 1, column 1: unknown field "colour"`},
		{"[prices]\nmega_gas = \"cheap\"", "want credits"},
		{"[prices]\nmega_gas = \"-1\"", "want credits"},
		{"[prices]\nmega_gas = \"1001\"", "at most 1000"},
		{"[prices]\nmega_gas = \"0\"\ncore_second = \"0\"\nfloor = \"0\"", "for nothing"},
		{"[share]\npercent = 0", "share.percent = 0: want 1 to 100"},
		{"[share]\nmemory = \"12 parsecs\"", "as 4GiB"},
		{"[share]\ncores = -1.0", "share.cores"},
		{"[share]\ncores = nan", "share.cores"},
		{"hours = [\"someday 10:00-12:00\"]", "mon-fri 18:00-08:00"},
		{"time_zone = \"Middle/Earth\"", "Europe/Berlin"},
		{"status_addr = \"0.0.0.0:80\"", "loopback alone"},
		{"status_addr = \"nonsense\"", "127.0.0.1:8460"},
		{"[offers]\nunpaid_ceiling = \"0\"", "unpaid_ceiling"},
		{"[offers]\nmax_reserve = \"0.01\"", "at least the unpaid ceiling"},
		{"[offers]\nclaim_window = \"1ms\"", "offers.claim_window = 1ms: want 1s to"},
		{"[offers]\nhold_blocks = 0", "hold_blocks"},
		{"[offers]\ndemands_per_second = 0.0", "demands_per_second"},
		{"slots = 70000", "at most 65536"},
		{"[attributes]\n\"\" = \"x\"", "attributes"},
		{"slots = [", "line 1"},
	} {
		_, err := ParseConfig([]byte(c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.text, err, c.want)
		}
	}
}

func TestLend(t *testing.T) {
	m := hardware.Machine{
		CPU: hardware.CPU{UsableMilli: 8000}, Memory: hardware.Memory{UsableBytes: 16 << 30}, Disk: hardware.Disk{FreeBytes: 400 << 30},
	}
	for _, c := range []struct {
		name  string
		edit  func(*Config)
		milli uint32
		slots uint32
	}{
		{"a share", func(*Config) {}, 6000, 6},
		{"cores", func(c *Config) { c.Share.Cores = 2.5 }, 2500, 2},
		{"slots", func(c *Config) { c.Slots = 3 }, 6000, 3},
		{"more slots than the share", func(c *Config) { c.Slots = 12 }, 12000, 12},
		{"a small machine", func(c *Config) { c.Share.Percent = 5 }, 1000, 1},
	} {
		cfg := Default()
		c.edit(&cfg)
		r, slots := cfg.Lend(m)
		if r.MilliCPU != c.milli || slots != c.slots {
			t.Errorf("%s: %d milli, %d slots; want %d, %d", c.name, r.MilliCPU, slots, c.milli, c.slots)
		}
		if r.Disk != 100<<30 {
			t.Errorf("%s: disk %d", c.name, r.Disk)
		}
	}
}

func TestInit(t *testing.T) {
	dir := t.TempDir()
	path, home := filepath.Join(dir, "provider.toml"), filepath.Join(dir, "provider")
	m := hardware.Read(t.Context(), hardware.Roots{Disk: dir})
	c, err := Init(path, home, Setup{Provider: testOwner, Region: "eu", Hubs: []string{"/ip4/127.0.0.1/tcp/1/p2p/x"}, Machine: m})
	if err != nil {
		t.Fatal(err)
	}
	back, err := LoadConfig(path, home)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(c, back); d != "" {
		t.Error(d)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	if _, err := Init(path, home, Setup{Provider: testOwner, Machine: m}); !errors.Is(err, ErrExists) {
		t.Errorf("a second init: %v", err)
	}
	if _, err := LoadConfig(filepath.Join(dir, "none"), home); err == nil || !strings.Contains(err.Error(), "fallow provider init") {
		t.Errorf("no hint in %v", err)
	}
}

func TestBytes(t *testing.T) {
	for text, want := range map[string]Bytes{"4GiB": 4 << 30, "500 MB": 500e6, "7": 7, "1kB": 1000, "3TiB": 3 << 40, "12B": 12} {
		var b Bytes
		if err := b.UnmarshalText([]byte(text)); err != nil || b != want {
			t.Errorf("%s: %d %v, want %d", text, b, err, want)
		}
		var again Bytes
		if err := again.UnmarshalText([]byte(b.String())); err != nil || again != b {
			t.Errorf("%s does not survive %s", text, b)
		}
	}
	for _, bad := range []string{"", "GiB", "-1", "99999999999TiB", "1.5GiB"} {
		var b Bytes
		if err := b.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q is %d", bad, b)
		}
	}
}

func TestSchedule(t *testing.T) {
	at := func(s string) time.Time {
		v, err := time.ParseInLocation("2006-01-02 15:04", s, time.UTC)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	// 2026-11-25 is a Wednesday.
	for _, c := range []struct {
		hours []string
		at    string
		open  bool
		next  string
	}{
		{nil, "2026-11-25 12:00", true, ""},
		{[]string{"daily 00:00-24:00"}, "2026-11-25 12:00", true, ""},
		{[]string{"mon-fri 18:00-08:00"}, "2026-11-25 17:59", false, "2026-11-25 18:00"},
		{[]string{"mon-fri 18:00-08:00"}, "2026-11-25 18:00", true, "2026-11-26 08:00"},
		{[]string{"mon-fri 18:00-08:00"}, "2026-11-28 07:59", true, "2026-11-28 08:00"}, // Friday's night
		{[]string{"mon-fri 18:00-08:00"}, "2026-11-28 18:00", false, "2026-11-30 18:00"},
		{[]string{"sat,sun 00:00-24:00", "mon-fri 22:00-06:00"}, "2026-11-29 23:59", true, "2026-11-30 00:00"},
		{[]string{"fri-mon 10:00-11:00"}, "2026-11-29 10:30", true, "2026-11-29 11:00"}, // over the week's end
	} {
		cfg := Default()
		cfg.Hours, cfg.TimeZone = c.hours, "UTC"
		s, err := cfg.schedule()
		if err != nil {
			t.Fatal(err)
		}
		if got := s.open(at(c.at)); got != c.open {
			t.Errorf("%q at %s: open %v", c.hours, c.at, got)
		}
		next := s.next(at(c.at))
		if c.next == "" && !next.IsZero() || c.next != "" && !next.Equal(at(c.next)) {
			t.Errorf("%q at %s: next %s, want %s", c.hours, c.at, next, c.next)
		}
	}
}

func FuzzWindow(f *testing.F) {
	for _, s := range []string{"mon-fri 18:00-08:00", "daily 22:00-06:30", "sat,sun 0:00-24:00", "", "mon 24:00-01:00", "sun-mon 1:1-2:2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		w, err := parseWindow(text)
		if err != nil {
			return
		}
		if w.from < 0 || w.from >= minutesOfDay || w.to <= w.from || w.to > 2*minutesOfDay {
			t.Errorf("%q is %+v", text, w)
		}
		s := schedule{windows: []window{w}, zone: time.UTC}
		s.open(time.Unix(0, 0))
	})
}

func FuzzConfig(f *testing.F) {
	b, err := Default().Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("slots = 3\n[share]\nmemory = \"4GiB\"\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseConfig(b)
		if err != nil {
			return
		}
		out, err := c.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseConfig(out); err != nil && len(out) <= maxConfig { // escapes and comments make it longer
			t.Errorf("what was written does not read: %v\n%s", err, out)
		}
	})
}
