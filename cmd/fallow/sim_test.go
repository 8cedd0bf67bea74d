package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"fallow.network"
	"fallow.network/sim"
)

// TestSimBreach has the simulation find a breach: the verb prints what had
// happened until then, the story and the command that shows it again, and exits
// with its code.
func TestSimBreach(t *testing.T) {
	var got sim.Options
	breach := func(_ context.Context, o sim.Options) (sim.Report, error) {
		got = o
		return sim.Report{Command: o.Command(), Jobs: 3}, &sim.Breach{
			Invariant: "coins are conserved", Detail: "4 ucredit of 3", At: time.Hour, Parties: []fallow.Account{"fal1somebody"}, Command: o.Command(),
		}
	}
	for _, flags := range [][]string{nil, {"--json"}} {
		var out, errs bytes.Buffer
		root := newRoot(strings.NewReader(""), &out, &errs)
		for _, c := range root.Commands() {
			if c.Name() == "sim" {
				root.RemoveCommand(c)
			}
		}
		root.AddCommand(simCommand(&app{out: &out, err: &errs, json: len(flags) > 0}, breach))
		root.SetArgs(append(flags, "sim", "--seed", "9", "--providers", "20", "--tenants", "4", "--for", "2h", "--adversaries", "lie=10"))
		cmd, err := root.ExecuteContextC(t.Context())
		r := result{report(cmd, err), out.String(), errs.String()}
		r.want(t, exitBreach)
		want := "fallow sim --seed 9 --providers 20 --tenants 4 --for 2h0m0s --adversaries lie=10"
		has(t, r.err, "coins are conserved", "4 ucredit of 3", "1h0m0s", "fal1somebody", "replay with: "+want)
		if got.Seed != 9 || got.Command() != want {
			t.Errorf("ran %q", got.Command())
		}
		if len(flags) == 0 {
			has(t, r.out, "of 3 done")
			continue
		}
		var v map[string]any
		if err := json.Unmarshal(out.Bytes(), &v); err != nil || v["command"] != want {
			t.Errorf("%v: %s", err, out.String())
		}
	}
}

// TestSimReplays runs what the printed command says: the same events.
func TestSimReplays(t *testing.T) {
	home := t.TempDir()
	first := fallowIn(t, home, "", "--json", "sim", "--seed", "3", "--providers", "20", "--tenants", "3", "--for", "1h", "--adversaries", "withhold=30").want(t, exitOK).facts(t)
	words := strings.Fields(first["command"].(string))
	again := fallowIn(t, home, "", append([]string{"--json"}, words[1:]...)...).want(t, exitOK).facts(t)
	if first["digest"] == "" || first["digest"] != again["digest"] {
		t.Errorf("%v and %v", first["digest"], again["digest"])
	}
}

func TestSimFails(t *testing.T) {
	var errs bytes.Buffer
	c := simCommand(&app{out: &errs, err: &errs}, func(context.Context, sim.Options) (sim.Report, error) { return sim.Report{}, errors.New("no memory") })
	c.SetArgs([]string{})
	if err := c.ExecuteContext(t.Context()); err == nil || err.Error() != "no memory" {
		t.Errorf("got %v", err)
	}
	fallowIn(t, t.TempDir(), "", "sim", "--adversaries", "nobody=10").want(t, exitUsage)
}
