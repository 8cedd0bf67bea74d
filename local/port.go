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

// Ports are drawn below those that systems give to outgoing connections, so
// that a party finds its own free when it comes back.
const (
	lowPort   = 20_000
	highPort  = 32_000
	portTries = 1000
)

// picker picks free ports and holds them, so that none is picked twice.
type picker struct{ held []io.Closer }

func (f *picker) close() {
	for _, l := range f.held {
		_ = l.Close()
	}
}

// pick fills at, unless it is chosen already.
func (f *picker) pick(ctx context.Context, at *int) error {
	if *at != 0 {
		return nil
	}
	for range portTries {
		port := lowPort + rand.IntN(highPort-lowPort)
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

// free says whether every party finds its ports.
func (c Config) free(ctx context.Context, p ports) error {
	type one struct {
		party string
		port  int
	}
	all := []one{{"node", p.RPC}, {"node", p.GRPC}, {"node", p.REST}, {"node", p.Peer}, {"node", p.Metrics}, {"up", p.Up}}
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

// waitForPorts waits until what an earlier network left has gone.
func (c Config) waitForPorts(ctx context.Context, p ports, before Running, events func(party, what string)) error {
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
		err := c.free(ctx, p)
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
