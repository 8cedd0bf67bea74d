package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"fallow.network/local"
	"fallow.network/sdk"
)

// noopModule is the least command: one memory, and a _start that returns.
var noopModule = []byte("\x00asm\x01\x00\x00\x00" +
	"\x01\x04\x01\x60\x00\x00" + "\x03\x02\x01\x00" + "\x05\x03\x01\x00\x01" +
	"\x07\x13\x02\x06memory\x02\x00\x06_start\x00\x00" + "\x0a\x04\x01\x02\x00\x0b")

// network is a local network of this program's own.
type network struct {
	dir    string // of everything
	fallow string
	env    []string
	pids   map[string]int
}

// startNetwork brings one up with blocks of a second, by the programs of a
// folder. What else is wanted of it stands in flags of fallow up.
func startNetwork(ctx context.Context, programs string, flags ...string) (_ *network, err error) {
	n := &network{}
	for name, at := range map[string]*string{"fallow": &n.fallow, "fallowd": new(string)} {
		path, err := filepath.Abs(filepath.Join(programs, name))
		if err != nil {
			return nil, err
		}
		if _, err := os.Stat(path); err != nil {
			return nil, fmt.Errorf("%w; build it with: make build", err)
		}
		*at = path
	}
	if n.dir, err = os.MkdirTemp("", "fallow-bench-"); err != nil {
		return nil, err
	}
	n.env = append(os.Environ(), "FALLOW_HOME="+n.dir)
	if _, err := n.run(ctx, append([]string{"up", "--detach", "--block-time", "1s"}, flags...)...); err != nil {
		return nil, errors.Join(err, n.end(ctx))
	}
	r, err := local.Read(n.local())
	if err != nil {
		return nil, errors.Join(err, n.end(ctx))
	}
	n.pids = r.Parties
	return n, nil
}

func (n *network) local() string { return filepath.Join(n.dir, "local") }

// kinds counts the parties of each kind.
func (n *network) kinds() map[string]int {
	all := map[string]int{}
	for party := range n.pids {
		kind, _, _ := strings.Cut(party, "-")
		all[kind]++
	}
	return all
}

// end takes the network down and removes its folder, whatever state it is in
// and whether or not the caller was interrupted.
func (n *network) end(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	r, err := local.Read(n.local())
	if err == nil {
		_, err = n.run(ctx, "down")
		if err != nil {
			for _, pid := range append([]int{r.PID}, values(r.Parties)...) {
				if p, no := os.FindProcess(pid); no == nil {
					_ = p.Kill() // it may be gone already
				}
			}
		}
	} else if errors.Is(err, local.ErrDown) {
		err = nil
	}
	return errors.Join(err, os.RemoveAll(n.dir))
}

func values(m map[string]int) []int {
	var all []int
	for _, v := range m {
		all = append(all, v)
	}
	return all
}

// run runs fallow and gives what it printed.
func (n *network) run(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, n.fallow, args...)
	cmd.Env, cmd.Dir = n.env, n.dir
	var told bytes.Buffer
	cmd.Stderr = &told
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("fallow %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(told.Bytes()))
	}
	return out, nil
}

// ask runs fallow --json and reads what it printed into v.
func (n *network) ask(ctx context.Context, v any, args ...string) error {
	out, err := n.run(ctx, append(args, "--json")...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, v); err != nil {
		return fmt.Errorf("read what fallow %s printed: %w", strings.Join(args, " "), err)
	}
	return nil
}

// job writes a job of so many tasks that do nothing, and gives its file. Checks
// is the rate at which they are run again.
func (n *network) job(name string, tasks int, checks string) (string, error) {
	file := filepath.Join(n.dir, name+".yaml")
	text := fmt.Sprintf("name: %s\nmodule: noop.wasm\nforeach: {i: 1..%d}\nlimits: {gas: 1M, memory: 64KiB, output: 64KiB, wall: 10s}\nchecks: {rate: %s}\n", name, tasks, checks)
	return file, errors.Join(os.WriteFile(filepath.Join(n.dir, "noop.wasm"), noopModule, 0o600), os.WriteFile(file, []byte(text), 0o600))
}

// tenant opens the network's tenant in this process.
func (n *network) tenant(ctx context.Context) (*sdk.Tenant, error) {
	h := local.Default(n.local()).Tenant()
	config, err := h.Load()
	if err != nil {
		return nil, err
	}
	return sdk.OpenTenant(ctx, h, h.Ring(config, nil, nil), slog.New(slog.DiscardHandler))
}

// memoryOf is a line of /proc/PID/status in MB: VmRSS, all that is resident;
// RssAnon, what of it is the process' own; RssFile, the pages of its program.
func memoryOf(pid int, what string) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, what+":"); ok {
			kib, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return float64(kib) * 1024 / 1e6, err
		}
	}
	return 0, fmt.Errorf("no %s of process %d", what, pid)
}

// tick is Linux' unit of processor time in /proc, the same on every machine
// that Go runs on.
const tick = 10 * time.Millisecond

// processorTime is what a process has used of it, in both modes.
func processorTime(pid int) (time.Duration, error) {
	f, err := statOf(pid)
	if err != nil {
		return 0, err
	}
	user, err := strconv.ParseInt(f[11], 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * tick, err
}

// statOf are the fields of /proc/PID/stat behind the program's name, which may
// hold spaces: 13 of them at least.
func statOf(pid int) ([]string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	_, rest, _ := bytes.Cut(b, []byte(") "))
	f := strings.Fields(string(rest))
	if len(f) < 13 {
		return nil, fmt.Errorf("%d fields in /proc/%d/stat", len(f), pid)
	}
	return f, nil
}
