package hardware

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// GPU is a graphics processor or accelerator.
type GPU struct {
	// Vendor is nvidia, amd, intel, or the PCI vendor in hex for others.
	Vendor string `json:"vendor"`
	Model  string `json:"model"`
	// Address is the PCI address, as 0000:65:00.0.
	Address  string `json:"address"`
	VendorID string `json:"vendor_id"`
	DeviceID string `json:"device_id"`
	// Driver is the kernel's driver, empty when none is bound.
	Driver string `json:"driver"`
	UUID   string `json:"uuid,omitempty"`
	// MemoryBytes is memory of its own, 0 when unknown or shared.
	MemoryBytes     uint64 `json:"memory_bytes"`
	MemoryUsedBytes uint64 `json:"memory_used_bytes"`
	// BusyPercent is -1 when unknown.
	BusyPercent int `json:"busy_percent"`
	// PowerMilliwatts is what it draws now, 0 when unknown.
	PowerMilliwatts uint64 `json:"power_milliwatts"`
	// Source is where the figures come from: nvml or sysfs.
	Source string `json:"source"`
}

// GPULibrary asks a vendor's own library, which knows more than sysfs does.
type GPULibrary interface {
	// Name stands in notes and in GPU.Source.
	Name() string
	// GPUs lists what the library sees. Without a driver it returns an error
	// that says so; it never crashes.
	GPUs(ctx context.Context) ([]GPU, error)
}

// Vendors of GPUs by PCI id.
const (
	pciNVIDIA = "10de"
	pciAMD    = "1002"
	pciIntel  = "8086"
)

func (r *reader) gpus(ctx context.Context) []GPU {
	found := r.pciGPUs()
	nvidia := 0
	for _, g := range found {
		if g.Vendor == "nvidia" {
			nvidia++
		}
	}
	if r.GPUs == nil {
		if nvidia > 0 {
			r.note("gpu: built without NVML (needs cgo), so NVIDIA devices show what sysfs knows")
		}
		return found
	}
	listed, err := r.GPUs.GPUs(ctx)
	if err != nil {
		// On a machine without such a device the missing library is no news.
		if nvidia > 0 {
			r.note("gpu: %s: %v", r.GPUs.Name(), err)
		}
		return found
	}
	return merge(found, listed)
}

// merge lays what a library said over what sysfs said of the same device.
func merge(found, listed []GPU) []GPU {
	for _, g := range listed {
		at := -1
		for i := range found {
			if g.Address != "" && found[i].Address == g.Address {
				at = i
			}
		}
		if at < 0 {
			found = append(found, g)
			continue
		}
		g.VendorID, g.DeviceID, g.Driver = found[at].VendorID, found[at].DeviceID, found[at].Driver
		found[at] = g
	}
	return found
}

func (r *reader) pciGPUs() []GPU {
	dir := filepath.Join(r.Sys, "bus", "pci", "devices")
	found := []GPU{}
	for _, address := range entries(dir) {
		class, err := number(dir, address, "class")
		if err != nil {
			continue
		}
		// 0x03 are display controllers, 0x12 processing accelerators.
		if base := class >> 16; base != 0x03 && base != 0x12 {
			continue
		}
		g := GPU{
			Address:     strings.ToLower(address),
			VendorID:    pciID(dir, address, "vendor"),
			DeviceID:    pciID(dir, address, "device"),
			BusyPercent: -1,
			Source:      "sysfs",
		}
		g.Driver = driver(dir, address)
		switch g.VendorID {
		case pciNVIDIA:
			g.Vendor = "nvidia"
			r.nvidia(&g)
		case pciAMD:
			g.Vendor = "amd"
			amd(&g, dir, address)
		case pciIntel:
			g.Vendor = "intel"
			intel(&g, dir, address)
		default:
			g.Vendor = g.VendorID
		}
		if g.Model == "" {
			g.Model = r.pciName(g.VendorID, g.DeviceID)
		}
		if g.Driver == "" {
			r.note("gpu: %s (%s) has no driver bound", g.Address, g.Model)
		}
		found = append(found, g)
	}
	return found
}

func pciID(parts ...string) string {
	n, err := number(parts...)
	if err != nil || n < 0 || n > 0xffff {
		return ""
	}
	return fmt.Sprintf("%04x", n)
}

// driver is read from uevent, which fixtures can hold and links can't.
func driver(parts ...string) string {
	text, _ := file(append(parts, "uevent")...)
	for line := range strings.Lines(text) {
		if d, ok := strings.CutPrefix(line, "DRIVER="); ok {
			return strings.TrimSpace(d)
		}
	}
	return ""
}

// nvidia reads what the vendor's driver shows without its library.
func (r *reader) nvidia(g *GPU) {
	text, _ := file(r.Proc, "driver", "nvidia", "gpus", g.Address, "information")
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(line, ":")
		switch strings.TrimSpace(key) {
		case "Model":
			g.Model = strings.TrimSpace(value)
		case "GPU UUID":
			g.UUID = strings.TrimSpace(value)
		}
	}
}

// amd reads the attributes of the amdgpu driver.
func amd(g *GPU, parts ...string) {
	at := filepath.Join(parts...)
	g.Model, _ = file(at, "product_name")
	g.UUID, _ = file(at, "unique_id")
	g.MemoryBytes = positive(at, "mem_info_vram_total")
	g.MemoryUsedBytes = positive(at, "mem_info_vram_used")
	if n, err := number(at, "gpu_busy_percent"); err == nil && n >= 0 && n <= 100 {
		g.BusyPercent = int(n)
	}
	for _, mon := range entries(at, "hwmon") {
		uw := positive(at, "hwmon", mon, "power1_average")
		if uw == 0 {
			uw = positive(at, "hwmon", mon, "power1_input")
		}
		g.PowerMilliwatts += uw / 1000
	}
}

// intel reads the attributes of the xe and i915 drivers; integrated devices
// share main memory and so have none of their own.
func intel(g *GPU, parts ...string) {
	at := filepath.Join(parts...)
	for _, name := range entries(at) {
		if strings.HasPrefix(name, "tile") {
			g.MemoryBytes += positive(at, name, "physical_vram_size_bytes")
		}
	}
	if g.MemoryBytes > 0 {
		return
	}
	for _, card := range entries(at, "drm") {
		if strings.HasPrefix(card, "card") {
			g.MemoryBytes += positive(at, "drm", card, "lmem_total_bytes")
		}
	}
}

// pciName looks a device up in the system's table of PCI names.
func (r *reader) pciName(vendor, device string) string {
	unknown := "device " + vendor + ":" + device
	f, err := os.Open(r.PCIIDs)
	if err != nil {
		return unknown
	}
	defer func() { _ = f.Close() }()
	scan := bufio.NewScanner(f)
	inVendor := false
	for scan.Scan() {
		line := scan.Text()
		switch {
		case line == "" || line[0] == '#':
		case line[0] != '\t':
			inVendor = strings.HasPrefix(line, vendor+" ")
		case inVendor && strings.HasPrefix(line, "\t"+device+" "):
			return strings.TrimSpace(line[len(device)+1:])
		}
	}
	return unknown
}

// pciAddress brings an address as libraries write it (00000000:07:00.0) into
// the form of sysfs (0000:07:00.0).
func pciAddress(s string) string {
	s = strings.ToLower(s)
	domain, rest, ok := strings.Cut(s, ":")
	if !ok {
		return s
	}
	n, err := strconv.ParseUint(domain, 16, 32)
	if err != nil {
		return s
	}
	return fmt.Sprintf("%04x:%s", n, rest)
}
