// Package hardware reads what a machine has: processor, memory, disk, GPUs,
// network links, load, power and whether its owner is at it.
//
// Its one invariant: unknown hardware degrades and never fails. What can't be
// read is left at its zero value and a note says what was missing and why.
//
// It measures nothing by load and proves nothing to anyone: what stands here is
// what the machine says of itself, for its own owner and its own policy.
package hardware

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// maxFile bounds what is read of one file of sysfs or procfs, in bytes.
const maxFile = 4 << 20

// Roots says where to read. Zero fields stand for the running system's own.
type Roots struct {
	// Sys is where sysfs is mounted, "/sys".
	Sys string
	// Proc is where procfs is mounted, "/proc".
	Proc string
	// Disk is a path on the disk that work would be kept on; it need not
	// exist yet. Empty means the working directory.
	Disk string
	// Bus is the address of the system's D-Bus, for logind.
	Bus string
	// PCIIDs is the table of PCI names, used for GPUs that don't name themselves.
	PCIIDs string
	// GPUs asks a vendor's library; nil means NVML where it was built in.
	GPUs GPULibrary
}

func (r Roots) withDefaults() Roots {
	for _, d := range []struct {
		field *string
		value string
	}{
		{&r.Sys, "/sys"},
		{&r.Proc, "/proc"},
		{&r.Disk, "."},
		{&r.Bus, "unix:path=/run/dbus/system_bus_socket"},
		{&r.PCIIDs, "/usr/share/misc/pci.ids"},
	} {
		if *d.field == "" {
			*d.field = d.value
		}
	}
	if r.GPUs == nil {
		r.GPUs = nvmlLibrary()
	}
	return r
}

// Machine is everything that was found.
type Machine struct {
	CPU      CPU       `json:"cpu"`
	Memory   Memory    `json:"memory"`
	Disk     Disk      `json:"disk"`
	GPUs     []GPU     `json:"gpus"`
	Networks []Network `json:"networks"`
	Load     Load      `json:"load"`
	Power    Power     `json:"power"`
	// Notes say what could not be read, and why.
	Notes []string `json:"notes,omitempty"`
}

// Network is one link, loopback left out.
type Network struct {
	Name string `json:"name"`
	Up   bool   `json:"up"`
	// Mbps is the link's speed in megabits a second, 0 when unknown.
	Mbps     int  `json:"mbps"`
	MTU      int  `json:"mtu"`
	Wireless bool `json:"wireless"`
	// Virtual links have no device of their own.
	Virtual bool `json:"virtual"`
}

// Load is the run queue's length averaged over 1, 5 and 15 minutes, in
// thousandths.
type Load struct {
	OneMilli     int `json:"one_milli"`
	FiveMilli    int `json:"five_milli"`
	FifteenMilli int `json:"fifteen_milli"`
}

// Disk is the file system that holds Path.
type Disk struct {
	Path       string `json:"path"`
	TotalBytes uint64 `json:"total_bytes"`
	// FreeBytes is what this user may still write.
	FreeBytes uint64 `json:"free_bytes"`
}

// Read takes stock. It never fails: see Machine.Notes.
func Read(ctx context.Context, roots Roots) Machine {
	r := reader{Roots: roots.withDefaults()}
	m := Machine{
		CPU:      r.cpu(),
		Memory:   r.memory(),
		Disk:     r.disk(),
		GPUs:     r.gpus(ctx),
		Networks: r.networks(),
		Load:     r.load(),
		Power:    r.power(),
	}
	m.Notes = r.notes
	return m
}

// reader gathers notes on the way.
type reader struct {
	Roots
	notes []string
}

func (r *reader) note(format string, args ...any) {
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

// file reads a small file whole; absence is an error like any other.
func file(parts ...string) (string, error) {
	f, err := os.Open(filepath.Join(parts...))
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	b := make([]byte, 0, 4096)
	for len(b) < maxFile {
		if len(b) == cap(b) {
			b = slices.Grow(b, cap(b))
		}
		n, err := f.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if err != nil || n == 0 {
			// Attributes of sysfs fail in the middle (EINVAL) where the
			// device has nothing to say; what came before is of no use then.
			if err != nil && err.Error() != "EOF" {
				return "", err
			}
			break
		}
	}
	return strings.TrimSpace(string(b)), nil
}

// number reads a file that holds one integer.
func number(parts ...string) (int64, error) {
	s, err := file(parts...)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(s, 0, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", filepath.Join(parts...), err)
	}
	return n, nil
}

// positive is number, or 0 when there is none or it is negative.
func positive(parts ...string) uint64 {
	n, err := number(parts...)
	if err != nil || n < 0 {
		return 0
	}
	return uint64(n)
}

func entries(parts ...string) []string {
	list, err := os.ReadDir(filepath.Join(parts...))
	if err != nil {
		return nil
	}
	names := make([]string, 0, len(list))
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

func exists(parts ...string) bool {
	_, err := os.Stat(filepath.Join(parts...))
	return err == nil
}

func (r *reader) networks() []Network {
	dir := filepath.Join(r.Sys, "class", "net")
	var found []Network
	for _, name := range entries(dir) {
		// ARPHRD_LOOPBACK is 772; bonding_masters is a file, not a link.
		if kind, err := number(dir, name, "type"); err != nil || kind == 772 {
			continue
		}
		state, _ := file(dir, name, "operstate")
		n := Network{
			Name:     name,
			Up:       state == "up",
			Mbps:     int(positive(dir, name, "speed")),
			MTU:      int(positive(dir, name, "mtu")),
			Wireless: exists(dir, name, "wireless") || exists(dir, name, "phy80211"),
			Virtual:  !exists(dir, name, "device"),
		}
		// Drivers of virtual links answer UINT32_MAX for "no idea".
		if n.Mbps >= 1<<31-1 {
			n.Mbps = 0
		}
		found = append(found, n)
	}
	if found == nil {
		r.note("network: no links under %s", dir)
	}
	return found
}

func (r *reader) load() Load {
	s, err := file(r.Proc, "loadavg")
	fields := strings.Fields(s)
	if err != nil || len(fields) < 3 {
		r.note("load: %s", missing(err))
		return Load{}
	}
	return Load{milli(fields[0]), milli(fields[1]), milli(fields[2])}
}

// milli reads 0.45 as 450.
func milli(s string) int {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(f >= 0 && f < 1e6) {
		return 0
	}
	return int(f * 1000)
}

// missing says in a few words why something could not be read.
func missing(err error) string {
	switch {
	case err == nil:
		return "not in a form that is known here"
	case errors.Is(err, fs.ErrNotExist):
		return "not present on this machine"
	case errors.Is(err, fs.ErrPermission):
		return "not readable by this user"
	default:
		return err.Error()
	}
}

func (r *reader) disk() Disk {
	path, err := filepath.Abs(r.Disk)
	if err != nil {
		r.note("disk: %s", missing(err))
		return Disk{Path: r.Disk}
	}
	d := Disk{Path: path}
	// The home may not be made yet: what counts is the disk it would be on.
	for at := path; ; at = filepath.Dir(at) {
		d.TotalBytes, d.FreeBytes, err = space(at)
		if err == nil {
			return d
		}
		if !errors.Is(err, fs.ErrNotExist) || at == filepath.Dir(at) {
			r.note("disk: %s: %s", path, missing(err))
			return d
		}
	}
}

// FreeBytes is what this user may still write at path.
func FreeBytes(path string) (uint64, error) {
	_, free, err := space(path)
	if err != nil {
		return 0, fmt.Errorf("free space at %s: %w", path, err)
	}
	return free, nil
}

// Arch names the processor's architecture and the system, as linux/amd64.
func Arch() string { return runtime.GOOS + "/" + runtime.GOARCH }
