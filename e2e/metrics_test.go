//go:build linux

package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"fallow.network/local"
)

var (
	documented = regexp.MustCompile("(?m)^\\| `(fallow_[a-z_]+)` \\| (counter|gauge|histogram)(?:, by ([^|]*))? \\| \\S")
	labelWord  = regexp.MustCompile("`([a-z]+)`")
	mentioned  = regexp.MustCompile("fallow_[a-z_]*[a-z]")
	typeLine   = regexp.MustCompile(`^# TYPE (\S+) (\S+)$`)
	series     = regexp.MustCompile(`^(fallow_[a-z_]+?)(?:_bucket|_sum|_count)?(?:\{(.*)\})? `)
	labelName  = regexp.MustCompile(`([a-z_]+)="`)
)

// metrics holds docs/metrics.md against what each daemon of the network, and
// the network itself, serve: every name, its kind and its labels, both ways. Where each
// has its figures stands in up.json.
func cmdMetrics(ts *testscript.TestScript, neg bool, _ []string) {
	deny(ts, neg)
	up, err := local.Read(filepath.Join(storyOf(ts).home, "local"))
	ts.Check(err)
	page, err := os.ReadFile(filepath.Join(root, "docs", "metrics.md"))
	ts.Check(err)
	told := map[string]string{}
	for _, m := range documented.FindAllStringSubmatch(string(page), -1) {
		if told[m[1]] != "" {
			ts.Fatalf("docs/metrics.md has %s twice", m[1])
		}
		var by []string
		for _, l := range labelWord.FindAllStringSubmatch(m[3], -1) {
			by = append(by, l[1])
		}
		slices.Sort(by)
		told[m[1]] = m[2] + " " + strings.Join(by, ",")
	}
	for _, name := range mentioned.FindAllString(string(page), -1) {
		if told[name] == "" {
			ts.Fatalf("docs/metrics.md names %s in no row that can be read", name)
		}
	}
	served := map[string]string{}
	parties := []string{"up"}
	for name := range up.Parties {
		parties = append(parties, name)
	}
	slices.Sort(parties)
	for _, party := range parties {
		at := up.Metrics[party]
		if at == "" {
			ts.Fatalf("up.json names no metrics of %s", party)
		}
		found, others := scrape(ts, at)
		if len(found) == 0 {
			ts.Fatalf("%s serves no figures of ours", party)
		}
		for _, want := range []string{"go_goroutines", "process_resident_memory_bytes"} {
			if !others[want] {
				ts.Fatalf("%s serves no %s", party, want)
			}
		}
		if party == "node" && (!others["cometbft_consensus_height"] || !others["cometbft_mempool_size"]) {
			ts.Fatalf("the node serves nothing of CometBFT's")
		}
		for name, is := range found {
			if told[name] != is {
				ts.Fatalf("%s serves %s, a %s; docs/metrics.md says %q", party, name, is, told[name])
			}
			served[name] = party
		}
	}
	for name := range told {
		if served[name] == "" {
			ts.Fatalf("docs/metrics.md has %s, and nobody serves it", name)
		}
	}
	_, err = fmt.Fprintf(ts.Stdout(), "%d names of %d daemons\n", len(told), len(parties))
	ts.Check(err)
}

// scrape reads our names with their kind and label, and which others are there.
func scrape(ts *testscript.TestScript, at string) (ours map[string]string, others map[string]bool) {
	u, err := url.Parse(at)
	ts.Check(err)
	if ip := net.ParseIP(u.Hostname()); ip == nil || !ip.IsLoopback() {
		ts.Fatalf("figures at %s: not on loopback", at)
	}
	client := http.Client{Timeout: 10 * time.Second}
	r, err := client.Get(at)
	ts.Check(err)
	defer r.Body.Close() //nolint:errcheck // read only
	if r.StatusCode != http.StatusOK {
		ts.Fatalf("%s answers %s", at, r.Status)
	}
	ours, others = map[string]string{}, map[string]bool{}
	kinds := map[string]string{}
	lines := bufio.NewScanner(io.LimitReader(r.Body, 8<<20))
	for lines.Scan() {
		line := lines.Text()
		if m := typeLine.FindStringSubmatch(line); m != nil {
			kinds[m[1]] = m[2]
			others[m[1]] = true
			continue
		}
		if strings.Contains(line, `peer_id="`) {
			ts.Fatalf("%s has a series by peer: %s", at, line)
		}
		m := series.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		var by []string
		for _, l := range labelName.FindAllStringSubmatch(m[2], -1) {
			if l[1] != "le" {
				by = append(by, l[1])
			}
		}
		name := m[1]
		if kinds[name] == "" { // no histogram: the end is part of its name
			name, _, _ = strings.Cut(line, " ")
			name, _, _ = strings.Cut(name, "{")
		}
		slices.Sort(by)
		ours[name] = kinds[name] + " " + strings.Join(by, ",")
	}
	ts.Check(lines.Err())
	return ours, others
}
