package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"time"
)

// Ports are drawn below those that Linux gives to outgoing connections, so that a
// party finds its own free when it comes back. They are drawn from a block that
// no other network on this machine has: parties take theirs seconds after they
// were found free.
const (
	lowPort    = 20_000
	highPort   = 32_000
	blockPorts = 100
	portTries  = 1000
)

// claim holds the first port of a block over UDP, as long as a network runs. That
// is the port of the network's own metrics, which are served over TCP.
func claim(ctx context.Context, port int) (io.Closer, error) {
	var lc net.ListenConfig
	return lc.ListenPacket(ctx, "udp", hostPort(port))
}

// release gives up the block.
func (p *ports) release() {
	if p.claim != nil {
		_ = p.claim.Close()
		p.claim = nil
	}
}

// picker picks free ports and holds them, so that none is picked twice.
type picker struct {
	block int          // the first port
	taken map[int]bool // the network's own from before
	held  []io.Closer
}

func (f *picker) close() {
	for _, l := range f.held {
		_ = l.Close()
	}
}

// choose chooses a block that nobody has, and claims it for p; one that p has
// stays.
func (f *picker) choose(ctx context.Context, p *ports) error {
	f.taken = map[int]bool{p.RPC: true, p.GRPC: true, p.REST: true, p.Peer: true, p.Metrics: true, p.Up: true}
	for _, m := range []map[string]int{p.Listen, p.Status} {
		for _, port := range m {
			f.taken[port] = true
		}
	}
	if p.Up != 0 {
		f.block = p.Up - p.Up%blockPorts
		return nil
	}
	for range portTries {
		first := lowPort + rand.IntN((highPort-lowPort)/blockPorts)*blockPorts
		c, err := claim(ctx, first)
		if err != nil {
			continue
		}
		var lc net.ListenConfig
		l, err := lc.Listen(ctx, "tcp", hostPort(first))
		if err != nil {
			_ = c.Close()
			continue
		}
		f.held = append(f.held, l)
		f.block, p.Up, p.claim = first, first, c
		return nil
	}
	return fmt.Errorf("no free block of %d ports between %d and %d", blockPorts, lowPort, highPort)
}

// pick fills at, unless it is chosen already, from the block; a network too large
// for one takes what is free elsewhere.
func (f *picker) pick(ctx context.Context, at *int) error {
	if *at != 0 {
		return nil
	}
	for i := range portTries {
		port := f.block + 1 + i
		if i+1 >= blockPorts {
			port = lowPort + rand.IntN(highPort-lowPort)
		}
		if f.taken[port] {
			continue
		}
		held, err := listen(ctx, port)
		f.held = append(f.held, held...)
		if err == nil {
			*at = port
			return nil
		}
	}
	return fmt.Errorf("no free port between %d and %d", lowPort, highPort)
}

// listen takes a port as the parties do, over TCP and UDP.
func listen(ctx context.Context, port int) ([]io.Closer, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", hostPort(port))
	if err != nil {
		return nil, err
	}
	u, err := lc.ListenPacket(ctx, "udp", hostPort(port))
	if err != nil {
		return []io.Closer{l}, err
	}
	return []io.Closer{l, u}, nil
}

// errPort is a party's port that somebody else holds.
var errPort = errors.New("used by another program")

// free says whether every party finds its ports; the network's own is claimed.
func (c Config) free(ctx context.Context, p ports) error {
	type one struct {
		party string
		port  int
	}
	all := []one{{"node", p.RPC}, {"node", p.GRPC}, {"node", p.REST}, {"node", p.Peer}, {"node", p.Metrics}}
	for _, n := range c.names() {
		all = append(all, one{n, p.Listen[n]}, one{n, p.Status[n]})
	}
	for _, at := range all {
		held, err := listen(ctx, at.port)
		for _, l := range held {
			err = errors.Join(err, l.Close())
		}
		if err != nil {
			return fmt.Errorf("port %d of %s is %w: %w", at.port, at.party, errPort, err)
		}
	}
	return nil
}

// Waits for ports: parties of a network that was killed settle before they
// leave; nobody else is waited for long.
const (
	killedWait = stopWait + 5*time.Second
	portWait   = 2 * time.Second
)

// waitForPorts claims the network's block, and waits until what an earlier
// network left has gone.
func (c Config) waitForPorts(ctx context.Context, p *ports, before Running, events func(party, what string)) error {
	wait := portWait
	for _, pid := range before.Parties {
		if Alive(pid) {
			wait = killedWait
		}
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for said := false; ; said = true {
		var err error
		if p.claim == nil {
			if p.claim, err = claim(ctx, p.Up); err != nil {
				p.claim, err = nil, fmt.Errorf("port %d of up is %w: %w", p.Up, errPort, err)
			}
		}
		if err == nil {
			err = c.free(ctx, *p)
		}
		if err == nil || !errors.Is(err, errPort) {
			return err
		}
		if !said && wait == killedWait {
			events("up", "waits for the parties of a network that was killed")
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, before.left(c.Dir))
		case <-tick.C:
		}
	}
}

// left says what to do about ports that stay in use.
func (r Running) left(dir string) error {
	var pids []string
	for _, name := range slices.Sorted(maps.Keys(r.Parties)) {
		if Alive(r.Parties[name]) {
			pids = append(pids, fmt.Sprintf("%d (%s)", r.Parties[name], name))
		}
	}
	if len(pids) > 0 {
		return fmt.Errorf("processes of an earlier network may still run; end them: %s", strings.Join(pids, ", "))
	}
	return fmt.Errorf("end that program, or make another network with --dir, or remove %s to make this one anew", dir)
}
