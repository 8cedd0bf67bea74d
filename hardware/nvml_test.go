//go:build cgo && linux

package hardware

import (
	"strings"
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxa100"
)

// dgx is eight A100s; the mock panics where a function is not set.
func dgx() *dgxa100.Server {
	s := dgxa100.New()
	for i, d := range s.Devices {
		d := d.(*dgxa100.Device)
		d.GetUtilizationRatesFunc = func() (nvml.Utilization, nvml.Return) {
			return nvml.Utilization{Gpu: uint32(10 * i)}, nvml.SUCCESS
		}
		d.GetPowerUsageFunc = func() (uint32, nvml.Return) { return 0, nvml.ERROR_NOT_SUPPORTED }
		d.GetMemoryInfoFunc = func() (nvml.Memory, nvml.Return) {
			return nvml.Memory{Total: 40 << 30, Used: 1 << 30}, nvml.SUCCESS
		}
		d.GetPciInfoFunc = func() (nvml.PciInfo, nvml.Return) {
			var p nvml.PciInfo
			for j, c := range "00000000:" + string(rune('1'+i)) + "7:00.0" {
				p.BusId[j] = uint8(c)
			}
			return p, nvml.SUCCESS
		}
	}
	return s
}

func TestNVML(t *testing.T) {
	roots := unpack(t, "amd.txtar")
	roots.GPUs = nvmlGPUs{dgx()}
	m := Read(t.Context(), roots)
	if len(m.GPUs) != 9 {
		t.Fatalf("%d devices, want the AMD card and eight A100s", len(m.GPUs))
	}
	g := m.GPUs[8]
	if g.Model != "Mock NVIDIA A100-SXM4-40GB" || g.MemoryBytes != 40<<30 || g.Address != "0000:87:00.0" ||
		g.BusyPercent != 70 || g.PowerMilliwatts != 0 || g.Source != "nvml" || g.UUID == "" {
		t.Errorf("%+v", g)
	}
	if a := NewSampler(roots, 1).Sample(t.Context()); a.GPUBusyPercent != 70 {
		t.Errorf("%+v", a)
	}
}

func TestNVMLOverSysfs(t *testing.T) {
	roots := unpack(t, "nvidia.txtar")
	s := dgx()
	s.Devices[0].(*dgxa100.Device).GetPciInfoFunc = func() (nvml.PciInfo, nvml.Return) {
		var p nvml.PciInfo
		for j, c := range "00000000:65:00.0" {
			p.BusId[j] = uint8(c)
		}
		return p, nvml.SUCCESS
	}
	s.DeviceGetCountFunc = func() (int, nvml.Return) { return 1, nvml.SUCCESS }
	roots.GPUs = nvmlGPUs{s}
	m := Read(t.Context(), roots)
	if len(m.GPUs) != 2 || m.GPUs[1].Source != "nvml" || m.GPUs[1].Driver != "nvidia" || m.GPUs[1].DeviceID != "2204" {
		t.Errorf("%+v", m.GPUs)
	}
}

func TestNVMLFailures(t *testing.T) {
	for _, c := range []struct {
		code nvml.Return
		want string
	}{
		{nvml.ERROR_LIBRARY_NOT_FOUND, "install the driver"},
		{nvml.ERROR_DRIVER_NOT_LOADED, "modprobe"},
		{nvml.ERROR_NO_PERMISSION, "may not"},
		{nvml.ERROR_UNKNOWN, "code 999"},
	} {
		_, err := nvmlGPUs{&mock.Interface{InitFunc: func() nvml.Return { return c.code }}}.GPUs(t.Context())
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%d: %v", c.code, err)
		}
	}
	s := dgx()
	s.DeviceGetHandleByIndexFunc = func(i int) (nvml.Device, nvml.Return) {
		if i == 3 {
			return nil, nvml.ERROR_GPU_IS_LOST
		}
		return s.Devices[i], nvml.SUCCESS
	}
	if got, err := (nvmlGPUs{s}).GPUs(t.Context()); err != nil || len(got) != 7 {
		t.Errorf("one lost board hid others: %d %v", len(got), err)
	}
}

// TestNVMLHere asks the real library: a list where there is a driver, a reason
// where there is none, never a crash.
func TestNVMLHere(t *testing.T) {
	got, err := nvmlLibrary().GPUs(t.Context())
	if err == nil && len(got) == 0 {
		t.Log("a driver without devices")
	}
	if err != nil && len(got) != 0 {
		t.Errorf("both %v and %v", got, err)
	}
}
