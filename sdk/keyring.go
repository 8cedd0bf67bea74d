package sdk

import (
	"io"
	"os"

	"fallow.network/keys"
)

// Ring opens the home's keyring. The passphrase comes from the config's file,
// the home's own passphrase file, a systemd credential or the terminal.
func (h Home) Ring(c Config, in io.Reader, prompt io.Writer) *keys.Ring {
	file := c.PassphraseFile
	if file == "" {
		if _, err := os.Stat(h.PassphraseFile()); err == nil {
			file = h.PassphraseFile()
		}
	}
	tty, ok := in.(*os.File)
	if !ok {
		tty = nil
	}
	return keys.OpenRing(h.KeyDir(), keys.Find(file, tty, prompt))
}

// Account unlocks the key that this home signs with.
func (h Home) Account(c Config, in io.Reader, prompt io.Writer) (*keys.Secret, error) {
	return h.Ring(c, in, prompt).Secret(c.Account)
}
