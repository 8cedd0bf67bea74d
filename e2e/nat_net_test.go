//go:build linux

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// nat is how a router translates.
type nat string

const (
	// cone keeps a socket's outer port for all destinations.
	cone nat = "masquerade"
	// symmetric draws another for each.
	symmetric nat = "masquerade fully-random"
)

// internet is a public network with two routers behind which a provider and a
// tenant sit, each in a network namespace of its own. The routers drop what
// nobody inside has asked for.
type internet struct {
	t    *testing.T
	name string
	// delay and loss, in percent, of the lines between routers and homes; none
	// is a cable of the kernel's.
	delay time.Duration
	loss  int
}

// Public addresses: of the ledger and the hubs, and of the two routers.
const (
	publicHost = "192.0.0.129"
	outerA     = "192.0.0.140"
	outerB     = "192.0.0.150"
)

// newInternet lays the network; it goes away with the test.
func newInternet(t *testing.T, a, b nat, lines ...func(*internet)) *internet {
	t.Helper()
	var missing []string
	for tool, deb := range map[string]string{"ip": "iproute2", "tc": "iproute2", "nft": "nftables"} {
		if _, err := exec.LookPath(tool); err != nil {
			missing = append(missing, deb)
		}
	}
	if len(missing) > 0 {
		t.Fatalf("needs: apt-get install -y --no-install-recommends %s", strings.Join(missing, " "))
	}
	if os.Geteuid() != 0 {
		t.Fatal("needs root, for network namespaces")
	}
	n := &internet{t: t, name: fmt.Sprintf("fl%d", os.Getpid())}
	for _, l := range lines {
		l(n)
	}
	t.Cleanup(n.remove)
	for _, ns := range []string{"pub", "ra", "rb", "a", "b"} {
		n.ip("netns", "add", n.ns(ns))
		n.in(ns, "ip", "link", "set", "lo", "up")
	}
	n.in("pub", "ip", "link", "add", "br0", "type", "bridge")
	n.in("pub", "ip", "addr", "add", publicHost+"/25", "dev", "br0")
	for _, hub := range hubHosts {
		n.in("pub", "ip", "addr", "add", hub+"/25", "dev", "br0")
	}
	n.in("pub", "ip", "link", "set", "br0", "up")
	n.router("ra", "a", outerA, "10.1.0", a)
	n.router("rb", "b", outerB, "10.2.0", b)
	return n
}

func (n *internet) ns(name string) string { return n.name + name }

// router joins one namespace to the public network.
func (n *internet) router(router, inside, outer, net string, kind nat) {
	n.ip("link", "add", n.ns("o"+inside), "netns", n.ns("pub"), "type", "veth", "peer", "name", "out", "netns", n.ns(router))
	n.in("pub", "ip", "link", "set", n.ns("o"+inside), "master", "br0", "up")
	if n.delay > 0 || n.loss > 0 {
		newWire(n.t, n.ns(router), "in", n.ns(inside), "eth", n.delay, n.loss)
	} else {
		n.ip("link", "add", "in", "netns", n.ns(router), "type", "veth", "peer", "name", "eth", "netns", n.ns(inside))
	}
	for _, words := range [][]string{
		{"ip", "addr", "add", outer + "/25", "dev", "out"},
		{"ip", "link", "set", "out", "up"},
		{"ip", "addr", "add", net + ".1/24", "dev", "in"},
		{"ip", "link", "set", "in", "up"},
		{"sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"},
	} {
		n.in(router, words[0], words[1:]...)
	}
	n.rules(router, `table ip home {
	chain post { type nat hook postrouting priority 100; oifname "out" `+string(kind)+` }
	chain fwdchain {
		type filter hook forward priority 0; policy drop
		iifname "in" accept
		ct state established,related accept
	}
	chain input {
		type filter hook input priority 0; policy drop
		iifname "in" accept
		iifname "lo" accept
		ct state established,related accept
		icmp type echo-request accept
	}
}`)
	n.in(inside, "ip", "addr", "add", net+".2/24", "dev", "eth")
	n.in(inside, "ip", "link", "set", "eth", "up")
	n.in(inside, "ip", "route", "add", "default", "via", net+".1")
}

// rules loads nftables rules into a namespace.
func (n *internet) rules(ns, text string) {
	n.t.Helper()
	cmd := exec.Command("ip", "netns", "exec", n.ns(ns), "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(strings.NewReplacer("; ", ";\n", " }", "\n}").Replace(text) + "\n")
	if b, err := cmd.CombinedOutput(); err != nil {
		n.t.Fatalf("nft in %s: %v: %s", ns, err, b)
	}
}

func (n *internet) ip(words ...string) {
	n.t.Helper()
	if b, err := exec.Command("ip", words...).CombinedOutput(); err != nil {
		n.t.Fatalf("ip %s: %v: %s", strings.Join(words, " "), err, b)
	}
}

// in runs a command in a namespace.
func (n *internet) in(ns, command string, words ...string) {
	n.t.Helper()
	if b, err := n.command(context.Background(), ns, command, words...).CombinedOutput(); err != nil {
		n.t.Fatalf("in %s: %s %s: %v: %s", ns, command, strings.Join(words, " "), err, b)
	}
}

func (n *internet) command(ctx context.Context, ns, command string, words ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", n.ns(ns), command}, words...)...)
}

// spoil makes a router lose so many percent of what it forwards; all is a
// partition, and 0 heals.
func (n *internet) spoil(router string, percent int) {
	n.rules(router, "table ip spoil\ndelete table ip spoil")
	switch {
	case percent >= 100:
		n.rules(router, "table ip spoil {\n\tchain fwdchain { type filter hook forward priority -10; drop }\n}")
	case percent > 0:
		n.rules(router, fmt.Sprintf(`table ip spoil {
	chain fwdchain { type filter hook forward priority -10; numgen random mod 100 < %d drop }
}`, percent))
	}
}

func (n *internet) remove() {
	for _, ns := range []string{"a", "b", "ra", "rb", "pub"} {
		if b, err := exec.Command("ip", "netns", "del", n.ns(ns)).CombinedOutput(); err != nil {
			n.t.Logf("remove %s: %v: %s", n.ns(ns), err, b)
		}
	}
}
