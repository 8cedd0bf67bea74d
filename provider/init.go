package provider

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"fallow.network"
	"fallow.network/hardware"
)

// ErrExists is a home that has a config already.
var ErrExists = errors.New("there is a provider.toml already")

// Setup is what Init is told beside the defaults.
type Setup struct {
	Provider fallow.Account
	Region   string
	Hubs     []string
	Machine  hardware.Machine
	// Change edits the config before it is written; it may be nil.
	Change func(*Config)
}

// Init writes a provider.toml at path for the machine that was found, with
// figures in place of shares so that the owner sees what is lent, and makes
// the home. A config that is there stays: ErrExists.
func Init(path, home string, s Setup) (Config, error) {
	c := Default()
	c.Home, c.Provider, c.Region = home, s.Provider, s.Region
	c.Hubs = append(c.Hubs, s.Hubs...)
	if s.Change != nil {
		s.Change(&c)
	}
	lent, slots := c.Lend(s.Machine)
	c.Slots = slots
	c.Share.Cores = float64(lent.MilliCPU) / 1000
	c.Share.Memory = Bytes(lent.Memory >> 20 << 20)
	c.Share.Disk = Bytes(lent.Disk >> 20 << 20)
	if err := c.Validate(); err != nil {
		return c, err
	}
	b, err := c.Marshal()
	if err != nil {
		return c, fmt.Errorf("write %s: %w", path, err)
	}
	for _, dir := range []string{filepath.Dir(path), home} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return c, fmt.Errorf("provider's home: %w", err)
		}
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return c, fmt.Errorf("%w: %s", ErrExists, path)
	}
	if err != nil {
		return c, fmt.Errorf("write %s: %w", path, err)
	}
	if _, err := f.Write(b); err != nil {
		return c, errors.Join(fmt.Errorf("write %s: %w", path, err), f.Close(), os.Remove(path))
	}
	return c, f.Close()
}
