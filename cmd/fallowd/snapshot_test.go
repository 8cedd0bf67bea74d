//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"fallow.network"
	leasev1 "fallow.network/api/lease"
	"fallow.network/ledger"
)

// trust asks the program which block to believe.
func (m *many) trust(nodes ...party) string {
	m.t.Helper()
	args := []string{"trust", "-q"}
	for _, v := range nodes {
		args = append(args, "--rpc", v.RPC)
	}
	out, errs, code := run(m.t, args...)
	if code != 0 {
		m.t.Fatalf("trust: code %d: %s", code, errs)
	}
	return strings.TrimSpace(out)
}

// snapshot lets a fifth node begin from a snapshot of the running network.
func (m *many) snapshot(leases []fallow.LeaseID, redeem func(fallow.LeaseID, fallow.Credits)) party {
	m.t.Helper()
	t, v := m.t, m.facts.Validators
	home := filepath.Join(m.facts.Dir, "fifth")
	out, errs, code := run(t, "init", "--json", "--home", home, "--genesis", m.facts.Genesis, "--peers", m.facts.Peers, "--moniker", "fifth",
		"--rpc", "127.0.0.1:0", "--p2p", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--api", "127.0.0.1:0", "--block-time", "500ms",
		"--sync-from", v[0].RPC+","+v[1].RPC, "--trust", m.trust(v[0], v[1]))
	var made initFacts
	if err := json.Unmarshal([]byte(out), &made); err != nil || code != 0 || made.GenesisHash != m.facts.GenesisHash {
		t.Fatalf("%v, code %d: %s", err, code, errs)
	}
	fifth := party{Name: "fifth", Home: home}
	start := func() {
		t.Helper()
		d := m.begin(fifth)
		d.ready()
		fifth.RPC, fifth.GRPC = d.RPC, d.GRPC
		m.caughtUp(fifth, 1)
	}
	start()
	s, err := m.status(fifth)
	if err != nil || s.Earliest <= 1 || s.Validator {
		t.Fatalf("the fifth node: %+v, %v", s, err)
	}
	t.Logf("it begins at block %d of %d", s.Earliest, s.Height)
	m.agree(append(v, fifth)...)

	// What a snapshot brought is answered from, written to and proven as if
	// every block had been carried out.
	redeem(leases[2], 70_000)
	m.agree(append(v, fifth)...)
	c := m.dial(fifth)
	if l, err := c.Lease(t.Context(), leases[0]); err != nil || l.GetClaimed() != "100000000000" {
		t.Errorf("a lease of before the snapshot: %v, %v", l, err)
	}
	if _, _, err := c.Sender(m.owner, ledger.Options{}).CloseLeases(t.Context(), fallow.ReasonCompleted, leases[5:]); err != nil {
		t.Errorf("close through the fifth node: %v", err)
	}

	// It restarts as any other, and an audit says what it lacks.
	m.nodes[fifth.Name].kill()
	start()
	m.agree(append(v, fifth)...)
	report, errs, code := run(t, "audit", "-q", "--rpc", fifth.RPC)
	if code != exitAway || !strings.Contains(errs, "keeps blocks from") || !strings.Contains(errs, "ask a node that keeps all blocks") {
		t.Errorf("audit of a node without early blocks: code %d: %s%s", code, report, errs)
	}

	// Killed before consensus took the snapshot over, and just after.
	for _, lost := range [][]string{{"state.db", "blockstore.db", "cs.wal"}, {"blockstore.db", "cs.wal"}} {
		m.nodes[fifth.Name].kill()
		for _, name := range lost {
			if err := os.RemoveAll(filepath.Join(home, "data", name)); err != nil {
				t.Fatal(err)
			}
		}
		start()
		m.agree(append(v, fifth)...)
	}
	return fifth
}

// pruned lets one validator keep next to nothing.
func (m *many) pruned() {
	m.t.Helper()
	t, v := m.t, m.facts.Validators[1]
	m.nodes[v.Name].kill()
	if _, errs, code := run(t, "start", "--home", v.Home, "--pruning", "everything"); code != exitUsage || !strings.Contains(errs, "--snapshot-interval 0") {
		t.Errorf("pruning everything with snapshots: code %d: %s", code, errs)
	}
	m.begin(v, "--pruning", "everything", "--snapshot-interval", "0").ready()
	m.caughtUp(v, 1)
	from := m.height(v)
	m.wait("pruning", func() bool { return m.height(v) > from+15 })
	conn, err := grpc.NewClient(v.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // nothing is left to do about it
	at := func(height int64) error {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "x-cosmos-block-height", fmt.Sprint(height))
		_, err := leasev1.NewQueryClient(conn).Account(ctx, &leasev1.QueryAccountRequest{Owner: string(m.tenant.Account())})
		return err
	}
	if err := at(from); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("failed to load state at height %d", from)) || !strings.Contains(err.Error(), "pruned") {
		t.Errorf("a query at a pruned block: %v", err)
	}
	if err := at(0); err != nil {
		t.Errorf("a query at the latest block: %v", err)
	}
	m.agree(m.facts.Validators...)
	report, errs, code := run(t, "audit", "-q", "--rpc", v.RPC)
	if code == 0 {
		t.Logf("the audit was quick enough for two states: %s", report)
	} else if code != exitAway || !strings.Contains(errs, "state") {
		t.Errorf("audit of a node without states: code %d: %s%s", code, report, errs)
	}
}

// TestCatchingUp asks a node that has not caught up: one of two validators.
func TestCatchingUp(t *testing.T) {
	m := newMany(t, 2)
	v := m.facts.Validators[0]
	m.begin(v)
	m.wait("an answer", func() bool { _, err := m.status(v); return err == nil })
	out, errs, code := run(t, "status", "--rpc", v.RPC)
	if code != 0 || !strings.Contains(out, "catching up: it answers from the past") {
		t.Errorf("status: code %d: %s%s", code, out, errs)
	}
	if _, err := ledger.Dial(t.Context(), m.endpoints(v)); !ledger.Away(err) || !strings.Contains(err.Error(), "still catching up with the ledger") {
		t.Errorf("a client of a node that catches up: %v", err)
	}
	other := m.facts.Validators[1]
	m.begin(other)
	m.nodes[v.Name].ready()
	m.caughtUp(v, 2)
	if c, err := ledger.Dial(t.Context(), m.endpoints(v)); err != nil {
		t.Errorf("a client of one that has caught up: %v", err)
	} else if err := c.Close(); err != nil {
		t.Error(err)
	}
	// They agree on a block to believe, and not with a node of another network.
	trust := m.trust(v, other)
	if !strings.HasPrefix(trust, "1:") || len(trust) != 66 {
		t.Errorf("trust %q", trust)
	}
	if _, errs, code := run(t, "trust", "--rpc", v.RPC, "--rpc", "127.0.0.1:1"); code != exitAway || !strings.Contains(errs, "no answer from a node at 127.0.0.1:1") {
		t.Errorf("trust with a node that is away: code %d: %s", code, errs)
	}
	stranger := newMany(t, 1, "--chain-id", "fallow-other-1")
	one := stranger.facts.Validators[0]
	stranger.begin(one).ready()
	if _, errs, code := run(t, "trust", "--height", "1", "--rpc", v.RPC, "--rpc", one.RPC); code != exitBreach || !strings.Contains(errs, "nodes of one network") {
		t.Errorf("trust of two networks: code %d: %s", code, errs)
	}
}

func TestHistoryBadUse(t *testing.T) {
	dir := t.TempDir()
	hash := strings.Repeat("ab", 32)
	for _, test := range []struct {
		name string
		args []string
		want string
	}{
		{"no such pruning", []string{"--pruning", "some"}, "want default, nothing, everything or custom"},
		{"too few states", []string{"--pruning-keep-recent", "1"}, "at least 2 states"},
		{"snapshots of nothing", []string{"--pruning", "everything"}, "--snapshot-interval 0"},
		{"one node's word", []string{"--sync-from", "a:1", "--trust", "7:" + hash}, "two or more"},
		{"nothing to believe", []string{"--sync-from", "a:1,b:1"}, "fallowd trust --rpc a:1 --rpc b:1"},
		{"trust without nodes", []string{"--trust", "7:" + hash}, "names 0 nodes"},
		{"a bad hash", []string{"--sync-from", "a:1,b:1", "--trust", "7:ab"}, "64 hex digits"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, errs, code := run(t, append([]string{"init", "--home", dir}, test.args...)...); code != exitUsage || !strings.Contains(errs, test.want) {
				t.Errorf("code %d: %s", code, errs)
			}
		})
	}
}
