package provider

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"fallow.network"
)

// controlFile says where a home's daemon listens and what word it obeys; only
// the owner can read it.
type controlFile struct {
	Addr  string `json:"addr"`
	Token string `json:"token"`
	PID   int    `json:"pid"`
}

const controlName = "control.json"

func pid() int { return os.Getpid() }

func (d *Daemon) writeControl() error {
	var b [32]byte
	if _, err := rand.Read(b[:]); err != nil {
		return fmt.Errorf("draw a control token: %w", err)
	}
	d.token = hex.EncodeToString(b[:])
	text, err := json.Marshal(controlFile{d.page.Addr().String(), d.token, pid()})
	if err != nil {
		return err
	}
	path := filepath.Join(d.cfg.Home, controlName)
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return fmt.Errorf("control file: %w", err)
	}
	return os.Rename(path+".new", path)
}

func (d *Daemon) removeControl() error {
	err := os.Remove(filepath.Join(d.cfg.Home, controlName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (d *Daemon) serveControl(w http.ResponseWriter, r *http.Request) {
	if subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), []byte("Bearer "+d.token)) != 1 {
		http.Error(w, "wrong token", http.StatusUnauthorized)
		return
	}
	var err error
	switch r.PathValue("verb") {
	case "pause":
		err = d.Pause(r.Context(), true)
	case "resume":
		err = d.Pause(r.Context(), false)
	case "drain":
		d.Drain()
	default:
		http.Error(w, "unknown verb", http.StatusNotFound)
		return
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// ErrNotRunning is a home without a daemon.
var ErrNotRunning = errors.New("no provider daemon runs on this home; start it with: fallow provider start")

// Control speaks to the daemon of a home, from another process of its owner.
type Control struct {
	file   controlFile
	client *http.Client
}

// Dial finds the daemon of a provider's home (Config.Home); ErrNotRunning when
// there is none.
func Dial(home string) (*Control, error) {
	b, err := os.ReadFile(filepath.Join(home, controlName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotRunning
	}
	if err != nil {
		return nil, fmt.Errorf("control file: %w", err)
	}
	c := &Control{client: &http.Client{Timeout: 10 * time.Second}}
	if err := json.Unmarshal(b, &c.file); err != nil {
		return nil, fmt.Errorf("control file of %s: %w", home, err)
	}
	return c, nil
}

// PID is the daemon's process.
func (c *Control) PID() int { return c.file.PID }

// PageURL is where its status page stands.
func (c *Control) PageURL() string { return "http://" + c.file.Addr + "/" }

// Status asks the daemon how it is.
func (c *Control) Status(ctx context.Context) (Status, error) {
	var s Status
	b, err := c.call(ctx, http.MethodGet, "status.json")
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, fmt.Errorf("provider's status: %w", err)
	}
	if s.Protocol != fallow.Protocol {
		return s, fmt.Errorf("the daemon speaks %q and this program %q: restart the daemon", s.Protocol, fallow.Protocol)
	}
	return s, nil
}

// Pause stops offers, or takes them up again.
func (c *Control) Pause(ctx context.Context, paused bool) error {
	verb := "resume"
	if paused {
		verb = "pause"
	}
	_, err := c.call(ctx, http.MethodPost, "control/"+verb)
	return err
}

// Drain makes the daemon finish what it has and end. It returns at once.
func (c *Control) Drain(ctx context.Context) error {
	_, err := c.call(ctx, http.MethodPost, "control/drain")
	return err
}

func (c *Control) call(ctx context.Context, method, path string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, c.PageURL()+path, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+c.file.Token)
	res, err := c.client.Do(r)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) && op.Op == "dial" {
			return nil, ErrNotRunning // it was killed and left its file
		}
		return nil, fmt.Errorf("ask the provider daemon: %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(res.Body, 16<<20))
	if err != nil {
		return nil, fmt.Errorf("ask the provider daemon: %w", err)
	}
	if res.StatusCode >= http.StatusMultipleChoices {
		return nil, fmt.Errorf("the provider daemon answers %s: %s", res.Status, bytes.TrimSpace(b))
	}
	return b, nil
}
