package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"fallow.network/hardware"
	"fallow.network/provider"
	"fallow.network/runner/wasm"
	"fallow.network/sdk"
)

// finding is one line of the doctor's: what was looked at, whether it is well,
// and if not, what follows and what to do.
type finding struct {
	What string `json:"what"`
	// State is yes, partly or no.
	State string `json:"state"`
	Found string `json:"found"`
	Fix   string `json:"fix,omitempty"`
}

func newDoctorCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Say what this machine can and can't do here, and why",
		Long: `Say what this machine can and can't do here, and why: its hardware as far as it
can be lent, the programs that some verbs need, and this home's config, keys and
network. It changes nothing.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			h, err := a.homeDir()
			if err != nil {
				return err
			}
			at := string(h)
			for { // the home may not exist yet; its disk does
				if _, err := os.Stat(at); err == nil || filepath.Dir(at) == at {
					break
				}
				at = filepath.Dir(at)
			}
			m := hardware.Read(c.Context(), hardware.Roots{Disk: at})
			all := diagnose(c.Context(), h, m)
			return a.print(map[string]any{"machine": m, "findings": all}, func(w io.Writer) {
				table(w, func(row func(...any)) {
					for _, f := range all {
						row(f.State, f.What, f.Found)
						if f.Fix != "" {
							row("", "", "→ "+f.Fix)
						}
					}
				})
				for _, n := range m.Notes {
					fmt.Fprintf(w, "note: %s\n", n)
				}
			})
		},
	}
}

func diagnose(ctx context.Context, h sdk.Home, m hardware.Machine) []finding {
	var all []finding
	add := func(what, state, found, fix string) { all = append(all, finding{what, state, found, fix}) }
	pick := func(ok bool, no string) string {
		if ok {
			return "yes"
		}
		return no
	}

	add("processor", "yes", fmt.Sprintf("%s, %d threads, %d.%03d usable", m.CPU.Model, m.CPU.Threads, m.CPU.UsableMilli/1000, m.CPU.UsableMilli%1000), "")
	add("memory", pick(m.Memory.UsableBytes >= 1<<30, "partly"), size(m.Memory.AvailableBytes)+" free of "+size(m.Memory.UsableBytes), "")
	disk := finding{What: "disk", State: "yes", Found: size(m.Disk.FreeBytes) + " free at " + m.Disk.Path}
	if m.Disk.FreeBytes < 2<<30 {
		disk.State, disk.Fix = "no", "less than 2 GiB: free some, or put the home elsewhere with --home"
	}
	all = append(all, disk)
	if len(m.GPUs) == 0 {
		add("GPUs", "no", "none found", "")
	}
	for _, g := range m.GPUs {
		add("GPU", pick(g.Driver != "", "partly"), fmt.Sprintf("%s %s, %s, driver %s", g.Vendor, g.Model, size(g.MemoryBytes), cmp.Or(g.Driver, "none")), "")
	}

	switch runtime.GOARCH {
	case "amd64", "arm64":
		fix := ""
		if runtime.GOOS != "linux" {
			fix = "lend from Linux: only there a task's process is limited by the kernel too"
		}
		add("WASM tasks (run, lend)", pick(fix == "", "partly"), "compiled, "+runtime.GOOS+"/"+runtime.GOARCH+"; engines of this build: "+strings.Join(wasm.Engines(), ", "), fix)
	default:
		add("WASM tasks (run, lend)", "partly", "interpreted on "+runtime.GOARCH+", many times slower", "")
	}
	tool := func(what, fix string, names ...string) {
		for _, n := range names {
			if p, err := exec.LookPath(n); err == nil {
				add(what, "yes", p, "")
				return
			}
		}
		add(what, "no", strings.Join(names, ", ")+" not on PATH", fix)
	}
	if p, err := sdk.FindNode(); err == nil {
		add("own ledger node (up, audit)", "yes", p, "")
	} else {
		add("own ledger node (up, audit)", "no", err.Error(), "put it beside fallow (make build does), or name it in $FALLOWD")
	}
	tool("films as mp4", "apt-get install ffmpeg; without it a film is a GIF", "ffmpeg")
	tool("building C guests", "apt-get install clang lld wasi-libc", "clang")

	return append(all, diagnoseHome(ctx, h)...)
}

// diagnoseHome looks at the home, its keys and its network.
func diagnoseHome(ctx context.Context, h sdk.Home) []finding {
	var all []finding
	add := func(what, state, found, fix string) { all = append(all, finding{what, state, found, fix}) }
	config, err := h.Load()
	if err != nil {
		add("config", "no", err.Error(), "mend the file, or move it away for the defaults")
		return all
	}
	found, err := h.Ring(config, nil, io.Discard).List()
	switch {
	case err != nil:
		add("keys", "no", err.Error(), "")
	case len(found) == 0:
		add("keys", "no", "none in "+string(h), "fallow init, or a local network with: fallow up")
	default:
		add("keys", "yes", fmt.Sprintf("%d in %s", len(found), h), "")
	}
	n, err := h.Network()
	if err != nil {
		add("network", "no", firstLine(err), "")
		return all
	}
	status, err := sdk.NetworkStatus(ctx, n)
	if err != nil {
		add("network "+n.ChainID, "no", firstLine(err), "start it with: fallow up, or look at the network file "+h.NetworkFile())
		return all
	}
	add("network "+n.ChainID, "yes", fmt.Sprintf("height %d, %s ago", status.Height, status.Behind.Round(100e6)), "")
	return append(all, diagnoseReach(ctx, h, n)...)
}

// diagnoseReach tells how tenants come to this home's provider, if it has one.
func diagnoseReach(ctx context.Context, h sdk.Home, n sdk.Network) []finding {
	config, err := provider.LoadConfig(h.ProviderFile(), h.ProviderDir())
	if err != nil {
		return nil // it does not lend; provider start says what is wrong
	}
	const what = "reached by tenants"
	if sdk.Elsewhere(n.Hubs) && !sdk.LeavesLoopback(config.Listen) {
		return []finding{{what, "partly", "the provider listens on loopback, and the network is elsewhere: relays alone lead to it", `listen = ["/ip4/0.0.0.0/tcp/0", "/ip4/0.0.0.0/udp/0/quic-v1"] in ` + h.ProviderFile()}}
	}
	control, err := provider.Dial(h.ProviderDir())
	if err != nil {
		return []finding{{what, "partly", "not tested: the provider does not run", "fallow provider start"}}
	}
	s, err := control.Status(ctx)
	if err != nil {
		return []finding{{what, "no", firstLine(err), ""}}
	}
	switch s.Reach.Path {
	case provider.PathDirect, provider.PathRelayed:
		return []finding{{what, "yes", s.Reach.Text, ""}}
	case provider.PathNone:
		return []finding{{what, "no", s.Reach.Text, "let this machine reach the hubs, or forward a port to it and name it in announce (docs/network.md)"}}
	default:
		return []finding{{what, "partly", s.Reach.Text, ""}}
	}
}

func firstLine(err error) string {
	if errors.Is(err, sdk.ErrNotJoined) {
		return "none joined"
	}
	s, _, _ := strings.Cut(err.Error(), "\n")
	return s
}

// size is a count of bytes for people.
func size(n uint64) string {
	const unit = 1 << 10
	v, suffix := float64(n), "B"
	for _, s := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if v < unit {
			break
		}
		v, suffix = v/unit, s
	}
	if suffix == "B" {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", v, suffix)
}
