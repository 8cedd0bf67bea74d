package hardware

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

// unpack lays a fixture out as a machine's roots. It is an archive because
// file names of sysfs hold colons, which module archives refuse.
func unpack(t *testing.T, name string) Roots {
	t.Helper()
	a, err := txtar.ParseFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, f := range a.Files {
		write(t, filepath.Join(dir, f.Name), string(f.Data))
	}
	return Roots{
		Sys: filepath.Join(dir, "sys"), Proc: filepath.Join(dir, "proc"), Disk: dir,
		Bus: "unix:path=" + filepath.Join(dir, "none"), PCIIDs: filepath.Join(dir, "pci.ids"), GPUs: noLibrary{},
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// noLibrary is a vendor's library on a machine without its driver.
type noLibrary struct{}

func (noLibrary) Name() string { return "nvml" }
func (noLibrary) GPUs(context.Context) ([]GPU, error) {
	return nil, errors.New("no driver library")
}

func TestReadNVIDIA(t *testing.T) {
	m := Read(t.Context(), unpack(t, "nvidia.txtar"))
	want := CPU{
		Model: "AMD Ryzen 5 5600X 6-Core Processor", Vendor: "AMD", Arch: Arch(), Sockets: 1, Cores: 2, Threads: 4,
		UsableMilli: 4000, MaxMHz: 4650,
		Features: []string{"sse4_1", "sse4_2", "avx", "avx2", "fma", "aes", "sha_ni"},
	}
	if d := cmp.Diff(want, m.CPU); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(Memory{32768000 << 10, 30000000 << 10, 32768000 << 10, 2097152 << 10}, m.Memory); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(Load{450, 1800, 12730}, m.Load); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]GPU{
		{Vendor: "1a03", Model: "ASPEED Graphics Family", Address: "0000:02:00.0", VendorID: "1a03", DeviceID: "2000", BusyPercent: -1, Source: "sysfs"},
		{
			Vendor: "nvidia", Model: "NVIDIA GeForce RTX 3090", Address: "0000:65:00.0", VendorID: "10de", DeviceID: "2204",
			Driver: "nvidia", UUID: "GPU-7f3f1b3c-0000-4d5e-9c1b-000000000001", BusyPercent: -1, Source: "sysfs",
		},
	}, m.GPUs); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]Network{
		{Name: "enp3s0", Up: true, Mbps: 2500, MTU: 1500},
		{Name: "veth0", Up: true, MTU: 1500, Virtual: true},
		{Name: "wlp4s0", MTU: 1500, Wireless: true},
	}, m.Networks); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(Power{"rapl", []EnergyDomain{{"package-0", 1000000, 65532610987}}}, m.Power); d != "" {
		t.Error(d)
	}
	notes := strings.Join(m.Notes, "\n")
	for _, w := range []string{"no driver library", "0000:02:00.0 (ASPEED Graphics Family) has no driver"} {
		if !strings.Contains(notes, w) {
			t.Errorf("no note of %q in:\n%s", w, notes)
		}
	}
	if m.Disk.FreeBytes == 0 || m.Disk.TotalBytes < m.Disk.FreeBytes {
		t.Errorf("disk %+v", m.Disk)
	}
}

func TestReadAMD(t *testing.T) {
	m := Read(t.Context(), unpack(t, "amd.txtar"))
	if d := cmp.Diff([]GPU{{
		Vendor: "amd", Model: "AMD Radeon RX 7900 XTX", Address: "0000:03:00.0", VendorID: "1002", DeviceID: "744c",
		Driver: "amdgpu", UUID: "d3a1f0c2b4e59687", MemoryBytes: 25753026560, MemoryUsedBytes: 1 << 30,
		BusyPercent: 37, PowerMilliwatts: 98000, Source: "sysfs",
	}}, m.GPUs); d != "" {
		t.Error(d)
	}
	if m.CPU.Vendor != "ARM" || m.CPU.UsableMilli != 1500 || m.CPU.Cores != 2 {
		t.Errorf("cpu %+v", m.CPU)
	}
	if m.Memory.UsableBytes != 4<<30 || m.Memory.AvailableBytes != 4<<30 {
		t.Errorf("memory %+v", m.Memory)
	}
}

func TestReadIntel(t *testing.T) {
	m := Read(t.Context(), unpack(t, "intel.txtar"))
	var got []uint64
	for _, g := range m.GPUs {
		if g.Vendor != "intel" {
			t.Errorf("vendor %q", g.Vendor)
		}
		got = append(got, g.MemoryBytes)
	}
	if d := cmp.Diff([]uint64{0, 0x3fa000000, 4 << 30}, got); d != "" {
		t.Error(d)
	}
	if m.CPU.UsableMilli != 500 || !m.CPU.Virtual {
		t.Errorf("cpu %+v", m.CPU)
	}
	if m.Memory.UsableBytes != 8192000<<10 {
		t.Errorf("an absent limit must not bind: %+v", m.Memory)
	}
}

func TestNothingReadable(t *testing.T) {
	dir := t.TempDir()
	m := Read(t.Context(), Roots{
		Sys: filepath.Join(dir, "s"), Proc: filepath.Join(dir, "p"), Disk: filepath.Join(dir, "not", "made", "yet"),
		Bus: "unix:path=" + filepath.Join(dir, "b"), PCIIDs: filepath.Join(dir, "i"), GPUs: noLibrary{},
	})
	if m.CPU.Threads < 1 || m.CPU.UsableMilli < 1000 || m.CPU.Model == "" {
		t.Errorf("cpu %+v", m.CPU)
	}
	if m.Disk.FreeBytes == 0 {
		t.Error("the disk that a missing folder would be on was not found")
	}
	if len(m.Notes) < 4 {
		t.Errorf("notes %q", m.Notes)
	}
	b, err := json.Marshal(m)
	if err != nil || !strings.Contains(string(b), `"gpus":[]`) {
		t.Errorf("%s %v", b, err)
	}
}

func TestGarbageDegrades(t *testing.T) {
	roots := unpack(t, "nvidia.txtar")
	junk := strings.Repeat("\x00\xff:: -9223372036854775808 \n", 50)
	err := filepath.WalkDir(filepath.Dir(roots.Sys), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		return os.WriteFile(path, []byte(junk), 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
	m := Read(t.Context(), roots)
	if m.CPU.Threads < 1 || len(m.Notes) == 0 {
		t.Errorf("%+v", m)
	}
	NewSampler(roots, 1).Sample(t.Context())
}

func TestThisMachine(t *testing.T) {
	m := Read(t.Context(), Roots{Disk: t.TempDir()})
	if m.CPU.Threads < 1 || m.CPU.UsableMilli < 1 || m.Memory.TotalBytes == 0 || m.Disk.FreeBytes == 0 {
		t.Errorf("%+v", m)
	}
}

func TestMilliwatts(t *testing.T) {
	at := func(uj uint64) Power { return Power{"rapl", []EnergyDomain{{"package-0", uj, 1000}}} }
	for _, c := range []struct {
		name     string
		from, to uint64
		ms       int64
		mw       uint64
		ok       bool
	}{
		{"runs up", 100, 900, 2, 400, true},
		{"wraps", 900, 100, 2, 100, true},
		{"no time", 1, 2, 0, 0, false},
	} {
		mw, ok := at(c.to).Milliwatts(at(c.from), c.ms)
		if mw != c.mw || ok != c.ok {
			t.Errorf("%s: %d %v, want %d %v", c.name, mw, ok, c.mw, c.ok)
		}
	}
	if _, ok := (Power{Source: "none"}).Milliwatts(Power{}, 5); ok {
		t.Error("power out of nothing")
	}
}
