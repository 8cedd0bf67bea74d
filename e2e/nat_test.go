//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

const (
	megabyte = 1 << 20
	// talk bounds what hubs and a provider, who are connected directly, say to
	// each other in one story.
	talk = 256 << 10
)

// TestNAT tells how a provider behind one router serves a tenant behind
// another.
func TestNAT(t *testing.T) {
	if os.Getenv("FALLOW_LONG") == "" {
		return // some minutes, and root: make test-all
	}
	t.Run("cone", natCone)
	t.Run("symmetric", natSymmetric)
	t.Run("upgrade", natUpgrade)
	t.Run("partition", natPartition)
	t.Run("far", natFar)
}

// Both routers keep ports: the sides meet halfway, and bulk goes directly.
func natCone(t *testing.T) {
	m := newApart(t, newInternet(t, cone, cone))
	if s := m.mustStatus(); s.Reach.Path != "relayed" || len(s.Reach.Direct) > 0 {
		t.Fatalf("behind a router that drops what is new: %+v", s.Reach)
	}
	m.dropped(t)
	if out, err := m.try("a", "fallow", "--home", m.home("provider"), "doctor"); err != nil || !strings.Contains(out, "behind a NAT") {
		t.Errorf("the doctor does not tell of the NAT: %v: %s", err, out)
	}
	// At the speed of memory all of it would be over before anybody met.
	m.line()
	job := m.work("direct", 2, 4*megabyte, 1)
	m.ended(m.rent(job, "direct"), "direct", 2)
	s := m.mustStatus()
	t.Logf("cone to cone: %+v", s.Traffic)
	if s.Traffic.DirectIn < 4*megabyte {
		t.Errorf("bulk did not go directly: %+v", s.Traffic)
	}
	if all := s.Traffic.DirectIn + s.Traffic.RelayedIn; all > 8*megabyte+2*megabyte {
		t.Errorf("%d bytes came in for %d of inputs: it began anew", all, 8*megabyte)
	}
}

// line makes of what the tenant sends a line of 24 Mbit/s, 3 MB a second.
func (m *apart) line() {
	m.in("rb", "tc", "qdisc", "add", "dev", "out", "root", "tbf", "rate", "24mbit", "burst", "64k", "latency", "200ms")
}

// A router draws ports: the relay carries all.
func natSymmetric(t *testing.T) {
	m := newApart(t, newInternet(t, symmetric, symmetric))
	job := m.work("relayed", 2, 4*megabyte, 1)
	m.ended(m.rent(job, "relayed"), "relayed", 2)
	s := m.mustStatus()
	t.Logf("symmetric: %+v", s.Traffic)
	if s.Traffic.RelayedIn < 8*megabyte || s.Traffic.DirectIn > talk {
		t.Errorf("it did not go through the relay: %+v", s.Traffic)
	}
}

// Bulk begins on the relay while the way between the routers is shut, and goes
// on directly when it opens.
func natUpgrade(t *testing.T) {
	m := newApart(t, newInternet(t, cone, cone))
	const size = 32 * megabyte
	m.rules("rb", "table ip shut {\n\tchain fwdchain { type filter hook forward priority -10; ip daddr "+outerA+" drop }\n}")
	m.line() // so that much is left when the way opens
	job := m.rent(m.work("upgrade", 1, size, 1), "upgrade")
	m.await("bulk on the relay", func() error {
		s, err := m.status()
		if err == nil && s.Traffic.RelayedIn < megabyte {
			err = fmt.Errorf("%+v", s.Traffic)
		}
		return err
	})
	if s := m.mustStatus(); s.Traffic.DirectIn > talk {
		t.Errorf("direct, through a way that is shut: %+v", s.Traffic)
	}
	m.rules("rb", "delete table ip shut")
	m.ended(job, "upgrade", 1)
	s := m.mustStatus()
	t.Logf("upgraded: %+v", s.Traffic)
	if s.Traffic.RelayedIn < megabyte || s.Traffic.DirectIn < size/4 {
		t.Errorf("it did not move to the direct connection: %+v", s.Traffic)
	}
	// What was under way on the relay is lost and comes again; nothing else.
	if all := s.Traffic.DirectIn + s.Traffic.RelayedIn; all > size+size/8 {
		t.Errorf("%d bytes came in for %d: it began anew", all, size)
	}
}

// The provider is cut off from everybody in mid-job, then is back; and the
// whole goes over lines that lose packets.
func natPartition(t *testing.T) {
	m := newApart(t, newInternet(t, cone, cone))
	m.spoil("ra", 5)
	m.spoil("rb", 5)
	const tasks = 6
	job := m.rent(m.work("cut", tasks, megabyte, 1000), "cut")
	m.await("work in progress", func() error {
		s, err := m.status()
		if err == nil && (len(s.Leases) == 0 || s.Leases[0].Receipts == 0 || s.Leases[0].Running == 0) {
			err = fmt.Errorf("%+v", s.Leases)
		}
		return err
	})
	m.spoil("ra", 100)
	m.await("the tenant notices", func() error {
		if text := job.out.String() + job.err.String(); !strings.Contains(text, "away") && !strings.Contains(text, "gone") {
			return errors.New(text)
		}
		return nil
	})
	m.spoil("ra", 5)
	m.ended(job, "cut", tasks)
	// Nobody is paid twice: the books are replayed from the ledger's blocks.
	m.await("the books", func() error {
		_, err := m.try("b", "fallow", "--home", m.home("tenant"), "audit")
		return err
	})
}

// The lines lose 5 percent of all packets, and the way from one home to the
// other takes 40 ms.
func natFar(t *testing.T) {
	m := newApart(t, newInternet(t, cone, cone, func(n *internet) { n.delay, n.loss = 20*time.Millisecond, 5 }))
	m.ended(m.rent(m.work("far", 2, 2*megabyte, 1), "far"), "far", 2)
	s := m.mustStatus()
	t.Logf("far: %+v", s.Traffic)
	if s.Traffic.DirectIn+s.Traffic.RelayedIn < 4*megabyte {
		t.Errorf("the inputs did not come in: %+v", s.Traffic)
	}
}

// dropped is the positive control: a new connection from outside to a port on
// which the provider listens does not arrive behind the router, while one from
// inside goes out.
func (m *apart) dropped(t *testing.T) {
	t.Helper()
	dial := func(ns, host, port string) error {
		return m.command(t.Context(), ns, "timeout", "2", "bash", "-c", "</dev/tcp/"+host+"/"+port).Run()
	}
	var status struct{ Addrs []string }
	m.facts(m.fallow("a", "provider", "provider", "status"), &status)
	var ports []string
	for _, a := range status.Addrs {
		if p := strings.Split(a, "/"); len(p) > 4 && p[2] == "10.1.0.2" && p[3] == "tcp" {
			ports = append(ports, p[4])
		}
	}
	if len(ports) != 1 {
		t.Fatalf("the provider's own port among %q", status.Addrs)
	}
	if err := dial("ra", "10.1.0.2", ports[0]); err != nil {
		t.Errorf("nothing listens at the provider: %v", err)
	}
	if err := dial("pub", outerA, ports[0]); err == nil {
		t.Error("a new connection from outside passes the router")
	}
	if err := dial("a", hubHosts[0], "4100"); err != nil {
		t.Errorf("the provider does not get out: %v", err)
	}
}
