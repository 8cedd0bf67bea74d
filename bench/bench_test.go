package main

import (
	"strings"
	"testing"
	"time"
)

func TestParseBench(t *testing.T) {
	all, err := parseBench("goos: linux\nBenchmarkMetered/C/tight-2 \t 1\t2143474877 ns/op\t 8.142 Ggas/s\t 1.009 x-bare\nBenchmarkNoop-16 500 92000 ns/op\nPASS\n")
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 2 || all[0].name != "C/tight" || all[0].figures["x-bare"] != 1.009 || all[1].name != "BenchmarkNoop" || all[1].figures["ns/op"] != 92000 {
		t.Errorf("got %+v", all)
	}
	for _, bad := range []string{"", "PASS\nok  \tfallow.network/hub\t1s\n", "BenchmarkX-2 1 many ns/op\n"} {
		if _, err := parseBench(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestAt(t *testing.T) {
	all := []time.Duration{5, 1, 4, 2, 3}
	for part, want := range map[float64]time.Duration{0: 1, 0.5: 3, 0.95: 5, 1: 5} {
		if got := at(all, part); got != want {
			t.Errorf("at %v: got %d, want %d", part, got, want)
		}
	}
	if at(nil, 0.5) != 0 {
		t.Error("of nothing there is something")
	}
}

// TestWanted: --only takes several words, each of which may be a part of a name.
func TestWanted(t *testing.T) {
	for only, want := range map[string]string{
		"": "ledger under load, the film, idle memory", ",": "ledger under load, the film, idle memory",
		"film": "the film", "idle,film,": "the film, idle memory", "led": "ledger under load", "bidders": "",
	} {
		var names []string
		for _, p := range (&bench{only: only}).wanted([]part{{name: "ledger under load"}, {name: "the film"}, {name: "idle memory"}}) {
			names = append(names, p.name)
		}
		if got := strings.Join(names, ", "); got != want {
			t.Errorf("--only %q: got %q, want %q", only, got, want)
		}
	}
}

// TestTable: a goal is met or not, a row that was not measured is neither.
func TestTable(t *testing.T) {
	var w strings.Builder
	table{Machine: machine{Model: "M", Cores: 2, Load: "0 0 0"}, Rows: []Row{
		{What: "low", Value: 1.5, Unit: "ms", Goal: 2, Ratio: 3, Baseline: "nothing"},
		{What: "high", Value: 1200, Unit: "tasks/s", Goal: 1000, Over: true},
		{What: "missed", Value: 3, Unit: "ms", Goal: 2},
		{What: "lost", Note: "not measured: away"},
	}}.print(&w)
	var got []string
	for _, line := range strings.Split(strings.TrimSpace(w.String()), "\n")[4:] {
		got = append(got, strings.Join(strings.Fields(line), " "))
	}
	want := []string{"low 1.5 ms <= 2 ms yes 3x nothing", "high 1200 tasks/s > 1000 tasks/s yes", "missed 3 ms <= 2 ms no", "lost not measured: away"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got %q", got)
	}
}
