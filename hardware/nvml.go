//go:build cgo && linux

package hardware

import (
	"context"
	"errors"
	"fmt"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

// nvmlAPI is what is used of NVML: the real library loads itself when it is
// initialised, and the vendor's mock serves tests.
type nvmlAPI interface {
	Init() nvml.Return
	Shutdown() nvml.Return
	DeviceGetCount() (int, nvml.Return)
	DeviceGetHandleByIndex(index int) (nvml.Device, nvml.Return)
}

type nvmlGPUs struct{ api nvmlAPI }

func nvmlLibrary() GPULibrary { return nvmlGPUs{nvml.New()} }

func (nvmlGPUs) Name() string { return "nvml" }

func (n nvmlGPUs) GPUs(ctx context.Context) ([]GPU, error) {
	if r := n.api.Init(); r != nvml.SUCCESS {
		return nil, n.fail("load the driver's library", r)
	}
	defer func() { _ = n.api.Shutdown() }()
	count, r := n.api.DeviceGetCount()
	if r != nvml.SUCCESS {
		return nil, n.fail("count devices", r)
	}
	var found []GPU
	for i := range count {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		d, r := n.api.DeviceGetHandleByIndex(i)
		if r != nvml.SUCCESS {
			// One lost board must not hide the others.
			continue
		}
		found = append(found, nvmlDevice(d))
	}
	return found, nil
}

func nvmlDevice(d nvml.Device) GPU {
	g := GPU{Vendor: "nvidia", VendorID: pciNVIDIA, BusyPercent: -1, Source: "nvml"}
	if name, r := d.GetName(); r == nvml.SUCCESS {
		g.Model = name
	}
	if id, r := d.GetUUID(); r == nvml.SUCCESS {
		g.UUID = id
	}
	if m, r := d.GetMemoryInfo(); r == nvml.SUCCESS {
		g.MemoryBytes, g.MemoryUsedBytes = m.Total, m.Used
	}
	if p, r := d.GetPciInfo(); r == nvml.SUCCESS {
		g.Address = pciAddress(cString(p.BusId[:]))
	}
	if u, r := d.GetUtilizationRates(); r == nvml.SUCCESS {
		g.BusyPercent = int(min(u.Gpu, 100))
	}
	if mw, r := d.GetPowerUsage(); r == nvml.SUCCESS {
		g.PowerMilliwatts = uint64(mw)
	}
	return g
}

func (nvmlGPUs) fail(what string, r nvml.Return) error {
	// ErrorString needs the library too, so the missing one is said here.
	switch r {
	case nvml.ERROR_LIBRARY_NOT_FOUND:
		return errors.New("no NVIDIA driver library on this machine; install the driver to offer these devices")
	case nvml.ERROR_DRIVER_NOT_LOADED:
		return errors.New("the NVIDIA driver is not loaded; try: modprobe nvidia")
	case nvml.ERROR_NO_PERMISSION:
		return errors.New("this user may not talk to the NVIDIA driver")
	default:
		return fmt.Errorf("%s: code %d", what, int(r))
	}
}

func cString(b []uint8) string {
	s := make([]byte, 0, len(b))
	for _, c := range b {
		if c == 0 {
			break
		}
		s = append(s, c)
	}
	return string(s)
}
