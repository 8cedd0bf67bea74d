package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"fallow.network"
	"fallow.network/client"
)

// hostile is a name that clears a screen, forges a line and turns text around.
const hostile = "a\x1b[2J\n\rpaid 0\t\u202eb\u009b31m\xff"

// acts says whether a terminal would act on text.
func acts(s string) bool {
	return strings.ContainsAny(s, "\x1b\r\u202e\u009b") || strings.Contains(s, "\xff")
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"film/frame-001.ppm": "film/frame-001.ppm", "Grüße, 世界": "Grüße, 世界", "": "",
		hostile: `a\x1b[2J\x0a\x0dpaid 0\x09\u202eb\u009b31m\xff`,
	} {
		if got := clean(in); got != want {
			t.Errorf("%q is written %q, want %q", in, got, want)
		}
	}
	var b bytes.Buffer
	if n, err := fmt.Fprintf(plain{&b}, "%s\n", hostile); err != nil || n != len(hostile)+1 || acts(b.String()) || !strings.HasSuffix(b.String(), "\n") {
		t.Errorf("%d, %v: %q", n, err, b.String())
	}
}

// What strangers say reaches no terminal as they said it, in any form of output.
func TestStrangersNames(t *testing.T) {
	var out bytes.Buffer
	a := &app{out: &out, err: io.Discard}
	if err := a.print(nil, func(w io.Writer) {
		table(w, func(row func(...any)) { row("stdout", hostile, fallow.Account(hostile)) })
	}); err != nil {
		t.Fatal(err)
	}
	if acts(out.String()) || strings.Count(out.String(), "\n") != 1 {
		t.Errorf("a table says %q", out.String())
	}
	events := []client.Event{
		client.OfferSeen{Provider: hostile, Region: hostile},
		client.Declined{Provider: hostile, Reason: hostile, Detail: hostile},
		client.LeaseOpened{Lease: 1, Provider: hostile},
		client.TaskIssued{Lease: 1},
		client.ProviderLost{Lease: 1, Detail: hostile, Provider: hostile},
		client.TaskDone{Lease: 1, Label: hostile, Exit: "trap: " + hostile},
		client.TaskFailed{Label: hostile, Detail: hostile},
		client.Warning{Text: hostile},
		client.CheckDone{By: hostile, Detail: hostile},
		client.Verdict{Detail: hostile},
		client.LeaseEnded{Lease: 1, Reason: hostile},
	}
	var lines bytes.Buffer
	w := newWatch("job", 3, 0, time.Now())
	tell := linesTo(&lines, w)
	for _, e := range events {
		tell(e)
	}
	if acts(lines.String()) || strings.Count(lines.String(), "\n") != len(events)-1 {
		t.Errorf("lines say %q", lines.String())
	}
	d := &display{watch: w, now: time.Now(), width: 80}
	for _, s := range []string{"\u202e", "\u009b", "\r", "\x1b[2J", "\xff"} {
		if strings.Contains(d.draw(), s) {
			t.Errorf("the display says %q", s)
		}
	}
	var life bytes.Buffer
	printLife(plain{&life}, &client.Life{
		Wall: time.Second, Recorded: true,
		Moments:   []client.Moment{{Kind: "lost", Provider: hostile, Detail: hostile}, {Kind: "decline", Provider: hostile, Reason: hostile, Detail: hostile}, {Kind: hostile}},
		Providers: []client.LifeProvider{{Provider: hostile, Region: hostile, Reason: hostile, Losses: 1, Detail: hostile}},
		Slowest:   &client.LifeTask{Label: hostile, Provider: hostile, Why: client.SlowGas, Times: 2},
		Tries:     []client.LifeTry{{Provider: hostile, Reason: hostile, Count: 1}},
	}, &client.Bill{Job: "j"}, 80)
	if acts(life.String()) {
		t.Errorf("a life says %q", life.String())
	}
}
