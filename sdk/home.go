package sdk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/pelletier/go-toml/v2"

	"fallow.network"
	"fallow.network/runner/wasm"
	"fallow.network/trace"
)

// Home is one party's folder: its config, keys, network file and state.
type Home string

func (h Home) at(parts ...string) string {
	return filepath.Join(append([]string{string(h)}, parts...)...)
}

// ConfigFile is the party's config.
func (h Home) ConfigFile() string { return h.at("fallow.toml") }

// NetworkFile is the network that the home has joined.
func (h Home) NetworkFile() string { return h.at("network.toml") }

// KeyDir holds the keyring.
func (h Home) KeyDir() string { return h.at("keys") }

// PassphraseFile unlocks the keyring, where nobody is to be asked.
func (h Home) PassphraseFile() string { return h.at("passphrase") }

// TenantDB is what the tenant's engine knows of its jobs and leases.
func (h Home) TenantDB() string { return h.at("tenant.db") }

// BlobDir holds the tenant's inputs and outputs by their digests.
func (h Home) BlobDir() string { return h.at("blobs") }

// WASMCache holds compiled modules.
func (h Home) WASMCache() string { return h.at("cache", "wasm") }

// checkDir holds what runs of the tenant's own checks write, a folder a process.
func (h Home) checkDir() string { return h.at("checks") }

// ProviderDir holds the provider's journal, blobs and node key.
func (h Home) ProviderDir() string { return h.at("provider") }

// ProviderFile is the provider's config.
func (h Home) ProviderFile() string { return h.at("provider.toml") }

// HubDir holds the hub's key.
func (h Home) HubDir() string { return h.at("hub") }

// HubFile is the hub's config.
func (h Home) HubFile() string { return h.at("hub.toml") }

// Config is a party's fallow.toml; flags stand over it.
type Config struct {
	// Account is the key that signs, by its name in the keyring.
	Account string `toml:"account" json:"account"`
	// PassphraseFile unlocks the keyring for daemons and scripts; mode 0600.
	// Empty asks at the terminal, or takes a systemd credential.
	PassphraseFile string `toml:"passphrase_file" json:"passphrase_file"`
	// GasPrice is what a unit of the ledger's gas is paid with, in ufal.
	GasPrice string `toml:"gas_price" json:"gas_price"`
	// AnswerWait is how long offers are collected for a demand.
	AnswerWait Duration `toml:"answer_wait" json:"answer_wait"`
	// Check says where samples are re-run: own, market or both.
	Check string `toml:"check" json:"check"`
	// Engine runs WASM tasks: wazero, wazero-interpreter, or wasmtime where this
	// build has it. Results are the same.
	Engine string `toml:"engine" json:"engine"`
	// Punch lets jobs open sockets beyond this machine, to meet a provider
	// behind a NAT halfway, on networks that are elsewhere.
	Punch bool `toml:"punch" json:"punch"`
	// LogLevel is debug, info, warn or error.
	LogLevel string `toml:"log_level" json:"log_level"`
	// LogFormat is text or json.
	LogFormat string `toml:"log_format" json:"log_format"`
	// TraceEndpoint is a collector's URL, as http://127.0.0.1:4318; empty does
	// not trace. OTEL_EXPORTER_OTLP_ENDPOINT stands over it.
	TraceEndpoint string `toml:"trace_endpoint" json:"trace_endpoint"`
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

// Default is the config of a new home.
func Default() Config {
	return Config{
		Account:    "main",
		GasPrice:   "0.001",
		AnswerWait: Duration(300 * time.Millisecond),
		Check:      "both",
		Engine:     wasm.Wazero,
		Punch:      true,
		LogLevel:   "info",
		LogFormat:  "text",
	}
}

// Validate says which field is wrong, and what it may be.
func (c Config) Validate() error {
	one := func(field, v string, of ...string) error {
		for _, o := range of {
			if v == o {
				return nil
			}
		}
		return fmt.Errorf("%s = %.40q: want one of %q", field, v, of)
	}
	switch wait := time.Duration(c.AnswerWait); {
	case c.Account == "":
		return errors.New("account is empty: want the name of a key, as main")
	case wait < 20*time.Millisecond || wait > time.Minute:
		return fmt.Errorf("answer_wait = %s: want 20ms to 1m", wait)
	}
	if _, err := fallow.ParsePico(c.GasPrice); err != nil {
		return fmt.Errorf("gas_price: %w", err)
	}
	return errors.Join(
		one("check", c.Check, "own", "market", "both"),
		one("engine", c.Engine, wasm.Engines()...),
		one("log_level", c.LogLevel, "debug", "info", "warn", "error"),
		one("log_format", c.LogFormat, "text", "json"),
		trace.Check(c.TraceEndpoint),
	)
}

// Load reads the config over its defaults; a home without a file has the defaults.
func (h Home) Load() (Config, error) {
	c := Default()
	b, err := os.ReadFile(h.ConfigFile())
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, err
	}
	if err := ParseTOML(b, &c); err != nil {
		return c, fmt.Errorf("%s: %w", h.ConfigFile(), err)
	}
	if err := c.Validate(); err != nil {
		return c, fmt.Errorf("%s: %w", h.ConfigFile(), err)
	}
	return c, nil
}

// Save writes the config.
func (h Home) Save(c Config) error {
	if err := c.Validate(); err != nil {
		return err
	}
	b, err := toml.Marshal(c)
	if err != nil {
		return err
	}
	return writeFile(h.ConfigFile(), b, 0o600)
}

// Network is the network that the home has joined.
func (h Home) Network() (Network, error) { return LoadNetwork(h.NetworkFile()) }
