//go:build linux

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"fallow.network/local"
)

// What a process may grow by from the first third of its life to the last: a
// part of what it had, and what a collector or a pool holds more or less.
const (
	soakPart       = 0.25
	soakMemory     = 24e6 // bytes
	soakGoroutines = 25
	soakFiles      = 12
	soakEvery      = 2 * time.Second // samples
	soakSettles    = 30 * time.Second
)

// sample is what a process held at a moment.
type sample struct {
	at                        time.Duration
	memory, files, goroutines float64
}

// life is a process of a party, from its start to its end.
type life struct {
	party   string
	pid     int
	samples []sample
}

// TestSoak keeps a network at work for SOAK_SECONDS while its parties are killed
// at random: every job is done, nobody loses money, the audit holds, and
// processes that live long hold no more at their end than at their beginning.
// make soak runs it.
func TestSoak(t *testing.T) {
	seconds, err := strconv.Atoi(os.Getenv("SOAK_SECONDS"))
	if err != nil || seconds <= 0 {
		return // half an hour: make soak
	}
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("SOAK_SEED"); s != "" {
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal("SOAK_SEED:", err)
		}
	}
	fmt.Printf("%d seconds; again with: make soak SOAK_SECONDS=%d SOAK_SEED=%d\n", seconds, seconds, seed)
	m := newMarket(t, filepath.Join(root, "build"), nil, "--hubs", "2")
	defer m.keepLogs("soak")
	s := &soak{market: m, begun: time.Now(), lives: map[int]*life{}, kills: map[string]int{}}
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(seconds)*time.Second)
	defer cancel()
	var beside sync.WaitGroup
	beside.Go(func() { s.watch(ctx) })
	beside.Go(func() { s.killer(ctx, rand.New(rand.NewPCG(seed, 0)), time.Duration(seconds)*time.Second) })
	for ctx.Err() == nil {
		s.job()
	}
	beside.Wait()
	s.books()
	s.table()
	out, err := m.run(2*time.Minute, "audit")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Print(out)
}

// soak is a network under fire.
type soak struct {
	*market
	begun         time.Time
	jobs, resumed int

	mu    sync.Mutex
	lives map[int]*life // by process
	kills map[string]int
}

// job runs one to its end, however often it has to be taken up again.
func (s *soak) job() {
	s.jobs++
	file, out := s.market.job(s.jobs, crashTasks, crashMillions/3)
	_, err := s.run(verbWait, "run", file, "--out", out)
	for tries := 0; err != nil && tries < 5; tries++ {
		// The ledger may be away at the start, and a market with nobody in it
		// makes no offers: people would try again.
		s.Logf("job %d: %v", s.jobs, err)
		time.Sleep(3 * time.Second)
		if strings.Contains(err.Error(), "fallow job resume") {
			s.resumed++
			_, err = s.run(verbWait, "job", "resume", s.last())
		} else {
			_, err = s.run(verbWait, "run", file, "--out", out)
		}
	}
	if err == nil {
		err = s.outputs(s.jobs, crashTasks)
	}
	if err != nil {
		s.Errorf("job %d is not done: %v", s.jobs, err)
	}
	if err := os.RemoveAll(filepath.Dir(file)); err != nil {
		s.Error(err)
	}
}

// killer ends a party now and then. Of hubs and providers the last live through
// all, and the node is left alone after a third, so that what they hold is seen
// over a long life.
func (s *soak) killer(ctx context.Context, dice *rand.Rand, whole time.Duration) {
	for {
		pause := time.Duration(6+dice.IntN(14)) * time.Second
		victim := []string{"hub-1", "provider-1", "provider-2", "provider-1", "provider-2", "node"}[dice.IntN(6)]
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		if victim == "node" && time.Since(s.begun) > whole/3 || s.pid(victim) == 0 {
			continue
		}
		fmt.Printf("%7.1fs  kill -9 %s\n", time.Since(s.begun).Seconds(), victim)
		s.kill(victim)
		s.mu.Lock()
		s.kills[victim]++
		s.mu.Unlock()
	}
}

// watch samples every process until ctx ends.
func (s *soak) watch(ctx context.Context) {
	for tick := time.NewTicker(soakEvery); ; {
		select {
		case <-ctx.Done():
			tick.Stop()
			return
		case <-tick.C:
		}
		r, err := local.Read(s.dir())
		if err != nil {
			continue // it is being written
		}
		for party, pid := range r.Parties {
			one := sample{at: time.Since(s.begun)}
			if one.memory, one.files = held(pid); one.memory == 0 {
				continue // it is dead, and not back yet
			}
			page := r.Status[party]
			if party == "node" {
				page = s.nodeFigures()
			}
			one.goroutines = goroutines(ctx, page)
			s.mu.Lock()
			if s.lives[pid] == nil {
				s.lives[pid] = &life{party: party, pid: pid}
			}
			s.lives[pid].samples = append(s.lives[pid].samples, one)
			s.mu.Unlock()
		}
	}
}

// nodeFigures is where the node's figures stand: CometBFT's own server has them.
func (s *soak) nodeFigures() string {
	b, err := os.ReadFile(filepath.Join(s.dir(), "node", "config", "config.toml"))
	if err != nil {
		return ""
	}
	_, after, ok := bytes.Cut(b, []byte("\nprometheus_listen_addr = \""))
	addr, _, closed := bytes.Cut(after, []byte("\""))
	if !ok || !closed {
		return ""
	}
	return "http://" + string(addr)
}

// held is a process' resident memory in bytes, and its open files.
func held(pid int) (memory, files float64) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, 0
	}
	f := strings.Fields(string(b))
	if len(f) < 2 {
		return 0, 0
	}
	pages, _ := strconv.ParseFloat(f[1], 64) // of the kernel's own making
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return 0, 0
	}
	return pages * float64(syscall.Getpagesize()), float64(len(open))
}

// goroutines asks a party's figures; 0 when it has none to tell.
func goroutines(ctx context.Context, page string) (n float64) {
	if page == "" {
		return 0
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(page, "/metrics")+"/metrics", nil)
	if err != nil {
		return 0
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close() //nolint:errcheck // it was only read
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if v, ok := bytes.CutPrefix(lines.Bytes(), []byte("go_goroutines ")); ok {
			n, _ = strconv.ParseFloat(string(v), 64) // 0 is no answer
		}
	}
	return n
}

// books waits until everybody is back and every lease is paid.
func (s *soak) books() {
	if err := s.await(90*time.Second, "everybody is back", s.whole); err != nil {
		s.Error(err)
	}
	var row crash
	if err := s.settled(&row, 0); err != nil {
		s.Error(err)
	}
	fmt.Printf("%d jobs, %d of them resumed, on %d leases; %s credits paid, signed work of %s that nobody took; kills: %v\n",
		s.jobs, s.resumed, row.leases, row.paid, row.lost, s.kills)
	if s.jobs < 3 {
		s.Errorf("%d jobs: that is no work", s.jobs)
	}
	if len(s.kills) == 0 {
		s.Error("nobody was killed: that is no fire")
	}
}

// mean is of some of a life's samples.
func mean(all []sample, of func(sample) float64) float64 {
	var sum float64
	for _, v := range all {
		sum += of(v)
	}
	return sum / float64(max(len(all), 1))
}

// table compares the first third of each long life with its last, and fails
// where something grew. A life begins to count when it has settled.
func (s *soak) table() {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Printf("\n%-12s %8s %8s  %s\n", "party", "process", "lived", "first third -> last third: resident MB, goroutines, open files")
	seen := map[string]bool{}
	for _, pid := range slices.Sorted(maps.Keys(s.lives)) {
		l := s.lives[pid]
		from := l.samples[0].at
		all := slices.Clone(l.samples)
		all = slices.DeleteFunc(all, func(v sample) bool { return v.at < from+soakSettles })
		lived := l.samples[len(l.samples)-1].at - from
		if len(all) < 9 || lived < time.Since(s.begun)/4 {
			continue
		}
		kind, _, _ := strings.Cut(l.party, "-")
		seen[kind] = true
		first, last := all[:len(all)/3], all[len(all)-len(all)/3:]
		line := fmt.Sprintf("%-12s %8d %8s ", l.party, pid, lived.Round(time.Second))
		for _, c := range []struct {
			what  string
			of    func(sample) float64
			slack float64
			unit  float64
		}{
			{"resident MB", func(v sample) float64 { return v.memory }, soakMemory, 1e6},
			{"goroutines", func(v sample) float64 { return v.goroutines }, soakGoroutines, 1},
			{"open files", func(v sample) float64 { return v.files }, soakFiles, 1},
		} {
			a, b := mean(first, c.of), mean(last, c.of)
			if a == 0 || b == 0 {
				s.Errorf("%s of %s (process %d) could not be read", c.what, l.party, pid)
			}
			line += fmt.Sprintf("  %7.1f -> %7.1f", a/c.unit, b/c.unit)
			if b > a*(1+soakPart)+c.slack {
				line += " GREW"
				s.Errorf("%s of %s (process %d) grew from %.1f to %.1f: more than a quarter and %.0f", c.what, l.party, pid, a/c.unit, b/c.unit, c.slack/c.unit)
			}
		}
		fmt.Println(line)
	}
	for _, kind := range []string{"node", "hub", "provider"} {
		if !seen[kind] {
			s.Errorf("no %s lived long enough to say anything", kind)
		}
	}
}
