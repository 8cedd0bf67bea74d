package hardware

import (
	"bufio"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// CPU is the processor.
type CPU struct {
	Model  string `json:"model"`
	Vendor string `json:"vendor"`
	// Arch is the system and architecture, as linux/amd64.
	Arch string `json:"arch"`
	// Sockets and Cores are physical; Threads is what the system schedules on.
	Sockets int `json:"sockets"`
	Cores   int `json:"cores"`
	Threads int `json:"threads"`
	// UsableMilli is how many thousandths of a thread this process may use:
	// all of them, or less where a control group holds it.
	UsableMilli int `json:"usable_milli"`
	// MaxMHz is the highest clock, 0 when unknown.
	MaxMHz int `json:"max_mhz"`
	// Features are the instruction sets that fast code looks for.
	Features []string `json:"features"`
	// Virtual says that a hypervisor stands between.
	Virtual bool `json:"virtual"`
}

// Memory is main memory.
type Memory struct {
	TotalBytes uint64 `json:"total_bytes"`
	// AvailableBytes could be taken now without swapping.
	AvailableBytes uint64 `json:"available_bytes"`
	// UsableBytes is the total, or less where a control group holds this process.
	UsableBytes uint64 `json:"usable_bytes"`
	SwapBytes   uint64 `json:"swap_bytes"`
}

// worthNaming are features that decide how fast compiled work is.
var worthNaming = []string{
	"sse4_1", "sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "amx_bf16",
	"aes", "sha_ni", "asimd", "sve", "sve2", "asimddp", "i8mm", "bf16", "sha2",
}

func (r *reader) cpu() CPU {
	c := CPU{Arch: Arch(), Features: []string{}}
	text, err := file(r.Proc, "cpuinfo")
	if err != nil {
		r.note("cpu: %s: %s", filepath.Join(r.Proc, "cpuinfo"), missing(err))
	}
	sockets, cores := map[string]bool{}, map[string]bool{}
	var socket string
	scan := bufio.NewScanner(strings.NewReader(text))
	scan.Buffer(nil, maxFile)
	for scan.Scan() {
		key, value, ok := strings.Cut(scan.Text(), ":")
		if !ok {
			continue
		}
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(key) {
		case "processor":
			c.Threads++
		case "model name", "Model", "cpu model", "uarch":
			setOnce(&c.Model, value)
		case "vendor_id", "CPU implementer":
			setOnce(&c.Vendor, vendorOfCPU(value))
		case "physical id":
			socket = value
			sockets[value] = true
		case "core id":
			cores[socket+"/"+value] = true
		case "flags", "Features":
			if len(c.Features) == 0 {
				c.Features, c.Virtual = features(value)
			}
		}
	}
	if c.Threads == 0 {
		c.Threads = runtime.NumCPU()
	}
	c.Sockets, c.Cores = max(1, len(sockets)), len(cores)
	if c.Cores == 0 {
		c.Cores = c.Threads
	}
	if c.Model == "" {
		c.Model = "unknown " + runtime.GOARCH
		r.note("cpu: the processor does not name its model")
	}
	c.MaxMHz = int(positive(r.Sys, "devices", "system", "cpu", "cpu0", "cpufreq", "cpuinfo_max_freq") / 1000)
	c.UsableMilli = c.Threads * 1000
	if quota, ok := r.cpuQuota(); ok && quota < c.UsableMilli {
		c.UsableMilli = quota
		r.note("cpu: a control group holds this process to %d.%03d of %d threads", quota/1000, quota%1000, c.Threads)
	}
	return c
}

func setOnce(at *string, value string) {
	if *at == "" {
		*at = value
	}
}

func features(flags string) (named []string, virtual bool) {
	named = []string{}
	for _, f := range strings.Fields(flags) {
		if f == "hypervisor" {
			virtual = true
		}
		if slices.Contains(worthNaming, f) {
			named = append(named, f)
		}
	}
	return named, virtual
}

func vendorOfCPU(id string) string {
	switch id {
	case "GenuineIntel":
		return "Intel"
	case "AuthenticAMD":
		return "AMD"
	case "0x41":
		return "ARM"
	case "0x61":
		return "Apple"
	case "0xc0":
		return "Ampere"
	default:
		return id
	}
}

func (r *reader) memory() Memory {
	text, err := file(r.Proc, "meminfo")
	if err != nil {
		r.note("memory: %s", missing(err))
	}
	kib := map[string]uint64{}
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(line, ":")
		fields := strings.Fields(value)
		if len(fields) == 0 {
			continue
		}
		if n, err := strconv.ParseUint(fields[0], 10, 53); err == nil {
			kib[key] = n
		}
	}
	m := Memory{TotalBytes: kib["MemTotal"] << 10, AvailableBytes: kib["MemAvailable"] << 10, SwapBytes: kib["SwapTotal"] << 10}
	m.UsableBytes = m.TotalBytes
	if limit, ok := r.memoryLimit(); ok && (limit < m.UsableBytes || m.UsableBytes == 0) {
		m.UsableBytes = limit
		m.AvailableBytes = min(m.AvailableBytes, limit)
		r.note("memory: a control group holds this process to %d MiB", limit>>20)
	}
	if m.UsableBytes == 0 && err == nil {
		r.note("memory: %s does not say how much there is", filepath.Join(r.Proc, "meminfo"))
	}
	return m
}

// groups are the folders of the control groups that hold this process for a
// controller, innermost first, in version 2 and 1.
func (r *reader) groups(controller string) []string {
	text, err := file(r.Proc, "self", "cgroup")
	if err != nil {
		return nil
	}
	var dirs []string
	for line := range strings.Lines(text) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		var root string
		switch {
		case parts[1] == "":
			root = filepath.Join(r.Sys, "fs", "cgroup")
		case slices.Contains(strings.Split(parts[1], ","), controller):
			root = filepath.Join(r.Sys, "fs", "cgroup", controller)
		default:
			continue
		}
		// In a container the path may be the host's; the root stays right.
		for at := filepath.Clean("/" + parts[2]); ; at = filepath.Dir(at) {
			dirs = append(dirs, filepath.Join(root, at))
			if at == "/" {
				break
			}
		}
	}
	return dirs
}

// cpuQuota is the tightest processor quota in thousandths of a thread.
func (r *reader) cpuQuota() (int, bool) {
	least, found := 0, false
	for _, dir := range r.groups("cpu") {
		var quota, period int64
		if text, err := file(dir, "cpu.max"); err == nil {
			q, p, _ := strings.Cut(text, " ")
			quota, _ = strconv.ParseInt(q, 10, 64) // "max" is no quota
			period, _ = strconv.ParseInt(p, 10, 64)
		} else {
			quota, _ = number(dir, "cpu.cfs_quota_us")
			period, _ = number(dir, "cpu.cfs_period_us")
		}
		if quota <= 0 || period <= 0 || quota > 1<<40 {
			continue
		}
		if m := int(quota * 1000 / period); !found || m < least {
			least, found = m, true
		}
	}
	return least, found
}

// memoryLimit is the tightest memory limit in bytes.
func (r *reader) memoryLimit() (uint64, bool) {
	least, found := uint64(0), false
	for _, dir := range r.groups("memory") {
		limit := positive(dir, "memory.max")
		if limit == 0 {
			limit = positive(dir, "memory.limit_in_bytes")
		}
		// Version 1 writes "no limit" as the largest multiple of a page.
		if limit == 0 || limit >= 1<<62 {
			continue
		}
		if !found || limit < least {
			least, found = limit, true
		}
	}
	return least, found
}
