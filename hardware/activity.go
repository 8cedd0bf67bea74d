package hardware

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
)

// Activity is what others than this program do on the machine.
type Activity struct {
	// Session is what logind says of the people at the machine.
	Session Session `json:"session"`
	// OthersMilliCPU is the processor time that programs other than this one
	// and its children used since the last sample, in thousandths of a thread;
	// -1 when unknown, as at the first sample.
	OthersMilliCPU int `json:"others_milli_cpu"`
	// GPUBusyPercent is the busiest GPU's, -1 when unknown.
	GPUBusyPercent int  `json:"gpu_busy_percent"`
	Load           Load `json:"load"`
}

// Session is what logind says of the people at the machine.
type Session struct {
	// Known is false where there is no logind to ask.
	Known bool `json:"known"`
	// Idle says that nobody has touched the machine for a while.
	Idle bool `json:"idle"`
	// SinceUnixMS is when Idle last changed, in Unix milliseconds; 0 unknown.
	SinceUnixMS int64 `json:"since_unix_ms"`
}

// Sampler watches activity from sample to sample. It is for one caller.
type Sampler struct {
	r    reader
	pid  int
	last ticks
	seen bool
}

// ticks are cumulative processor times in clock ticks.
type ticks struct{ total, idle, own uint64 }

// NewSampler watches the machine at roots; own work is that of process pid and
// of all its descendants.
func NewSampler(roots Roots, pid int) *Sampler {
	return &Sampler{r: reader{Roots: roots.withDefaults()}, pid: pid}
}

// Sample reads activity since the last sample. What can't be read is unknown.
func (s *Sampler) Sample(ctx context.Context) Activity {
	s.r.notes = nil
	a := Activity{OthersMilliCPU: -1, GPUBusyPercent: -1, Load: s.r.load()}
	now, threads, ok := s.ticks()
	if ok && s.seen && now.total > s.last.total {
		// Per thread, the counters of a span add up to the span.
		span := (now.total - s.last.total) / uint64(threads)
		busy := less(now.total-s.last.total, less(now.idle, s.last.idle))
		others := less(busy, less(now.own, s.last.own))
		if span > 0 {
			a.OthersMilliCPU = int(others * 1000 / span)
		}
	}
	s.last, s.seen = now, ok
	for _, g := range s.r.gpus(ctx) {
		a.GPUBusyPercent = max(a.GPUBusyPercent, g.BusyPercent)
	}
	if session, err := logind(ctx, s.r.Bus); err == nil {
		a.Session = session
	}
	return a
}

// less is a-b, or nothing where a counter went backwards.
func less(a, b uint64) uint64 {
	if a < b {
		return 0
	}
	return a - b
}

func (s *Sampler) ticks() (t ticks, threads int, ok bool) {
	text, err := file(s.r.Proc, "stat")
	if err != nil {
		return t, 0, false
	}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 || !strings.HasPrefix(f[0], "cpu") {
			continue
		}
		if f[0] != "cpu" {
			threads++
			continue
		}
		// user nice system idle iowait irq softirq steal; guest stands in user.
		for i, v := range f[1:min(len(f), 9)] {
			n, _ := strconv.ParseUint(v, 10, 63)
			t.total += n
			if i == 3 || i == 4 {
				t.idle += n
			}
		}
	}
	if t.total == 0 || threads == 0 {
		return t, 0, false
	}
	t.own = s.own()
	return t, threads, true
}

// own adds up the processor time of this process and all its descendants.
func (s *Sampler) own() uint64 {
	parent, used := map[int]int{}, map[int]uint64{}
	for _, name := range entries(s.r.Proc) {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		text, err := file(s.r.Proc, name, "stat")
		if err != nil {
			continue
		}
		// The command stands in brackets and may hold anything.
		f := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
		if len(f) < 15 {
			continue
		}
		parent[pid], _ = strconv.Atoi(f[1])
		// utime stime, and cutime cstime of children that were waited for.
		for _, v := range f[11:15] {
			n, _ := strconv.ParseUint(v, 10, 63)
			used[pid] += n
		}
	}
	var sum uint64
	for pid, n := range used {
		for at, hops := pid, 0; at > 0 && hops < 64; at, hops = parent[at], hops+1 {
			if at == s.pid {
				sum += n
				break
			}
		}
	}
	return sum
}

// logind asks whether the sessions of this machine are idle.
func logind(ctx context.Context, address string) (Session, error) {
	if path, ok := strings.CutPrefix(address, "unix:path="); ok {
		if _, err := os.Stat(filepath.Clean(path)); err != nil {
			return Session{}, fmt.Errorf("system bus: %w", err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	conn, err := dbus.Connect(address, dbus.WithContext(ctx))
	if err != nil {
		return Session{}, fmt.Errorf("connect to the system bus: %w", err)
	}
	defer func() { _ = conn.Close() }()
	manager := conn.Object("org.freedesktop.login1", "/org/freedesktop/login1")
	s := Session{Known: true}
	const get = "org.freedesktop.DBus.Properties.Get"
	if err := manager.CallWithContext(ctx, get, 0, "org.freedesktop.login1.Manager", "IdleHint").Store(&s.Idle); err != nil {
		return Session{}, fmt.Errorf("ask logind: %w", err)
	}
	var us uint64
	if err := manager.CallWithContext(ctx, get, 0, "org.freedesktop.login1.Manager", "IdleSinceHint").Store(&us); err == nil {
		s.SinceUnixMS = int64(us / 1000)
	}
	return s, nil
}
