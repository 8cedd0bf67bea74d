package sdk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"fallow.network/client"
	"fallow.network/formats"
	"fallow.network/meter"
)

// Submit is the client's, and refuses first what every provider would refuse:
// a module that can't be metered, that asks for other hosts, or that is no
// command.
func (t *Tenant) Submit(ctx context.Context, j *formats.Job, files client.Folder, o client.Options) (client.JobID, error) {
	at := filepath.FromSlash(j.Module)
	if !filepath.IsAbs(at) {
		at = filepath.Join(string(files), at)
	}
	if err := checkModule(at, uint32(j.Limits.MemoryBytes/meter.PageBytes)); err != nil {
		return "", fmt.Errorf("module %s: %w", at, err)
	}
	return t.Client.Submit(ctx, j, files, o)
}

func checkModule(at string, pages uint32) error {
	f, err := os.Open(at)
	if err != nil {
		return err
	}
	b, err := io.ReadAll(io.LimitReader(f, meter.MaxModuleBytes+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if !strings.HasPrefix(string(b), "\x00asm\x01\x00\x00\x00") {
		return nil // what else it may be, the client explains
	}
	if len(b) > meter.MaxModuleBytes {
		return fmt.Errorf("larger than %d bytes", meter.MaxModuleBytes)
	}
	m, err := meter.Instrument(b, meter.Profile{MemoryPages: pages})
	switch {
	case err != nil:
		return err
	case !m.Command:
		return errors.New("exports no _start: build it as a WASI command")
	}
	return nil
}
