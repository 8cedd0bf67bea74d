package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"fallow.network"
	"fallow.network/provider"
	"fallow.network/sdk"
)

// readyWait bounds how long a party may take to answer after its start.
const readyWait = 60 * time.Second

// Up makes the network if need be, starts every party and keeps it up until ctx
// ends, then stops them in the order that loses nothing. ready is called once,
// when work can be asked for; events tells what happens, party by party.
func Up(ctx context.Context, c Config, events func(party, what string), ready func(sdk.Network, Running)) error {
	if err := c.Validate(); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(c.Dir, "logs"), 0o700); err != nil {
		return err
	}
	lock := flock.New(filepath.Join(c.Dir, "up.lock"))
	if ok, err := lock.TryLock(); err != nil || !ok {
		return errors.Join(err, fmt.Errorf("the local network in %s is up: %w", c.Dir, sdk.ErrBusy))
	}
	defer func() { _ = lock.Unlock() }()
	p, err := c.loadPorts(ctx)
	if err != nil {
		return err
	}
	n, err := c.prepare(ctx, p)
	if err != nil {
		return err
	}

	u := &up{Config: c, events: events, running: Running{PID: os.Getpid(), Parties: map[string]int{}, Status: map[string]string{}}}
	for name, port := range p.Status {
		u.running.Status[name] = "http://" + hostPort(port)
	}
	defer func() { _ = os.Remove(runningFile(c.Dir)) }()
	err = u.start(ctx, n)
	if err == nil {
		u.mu.Lock()
		u.running.Ready = true
		err = u.running.save(c.Dir)
		now := u.running
		u.mu.Unlock()
		ready(n, now)
		<-ctx.Done()
	}
	u.stop()
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// up is a network that runs.
type up struct {
	Config
	events func(party, what string)

	mu      sync.Mutex
	running Running
	layers  []layer // in the order of start
}

// layer is what stops together.
type layer struct {
	cancel context.CancelFunc
	done   *sync.WaitGroup
}

// start brings up the node, then hubs, then providers, each layer once the one
// before it answers, and gives the tenant its escrow.
func (u *up) start(ctx context.Context, n sdk.Network) error {
	say := func(party, what string) { u.events(party, what) }
	u.launch([]party{{name: "node", argv: []string{u.Node, "start", "--home", filepath.Join(u.Dir, "node")}}})
	if err := u.await(ctx, "node", func(ctx context.Context) error {
		_, err := sdk.NetworkStatus(ctx, n)
		return err
	}); err != nil {
		return err
	}
	say("node", "answers")

	var hubs, providers []party
	for i := range u.Hubs {
		hubs = append(hubs, u.verb(u.hubName(i), "hub", "start"))
	}
	for _, q := range u.Providers {
		providers = append(providers, u.verb(q.Name, "provider", "start"))
	}
	u.launch(hubs)
	u.launch(providers)
	if err := sdk.Fund(ctx, u.Tenant(), fallow.Credits(u.Escrow*million)); err != nil {
		return fmt.Errorf("fund the tenant's escrow: %w", err)
	}
	say("tenant", fmt.Sprintf("has %d credits in escrow", u.Escrow))
	for i, addr := range n.Hubs {
		name := u.hubName(i)
		if err := u.await(ctx, name, func(ctx context.Context) error {
			st, err := sdk.HubStatus(ctx, addr)
			if err == nil && int(st.Providers) < len(u.Providers) {
				err = fmt.Errorf("%d of %d providers on its board", st.Providers, len(u.Providers))
			}
			return err
		}); err != nil {
			return err
		}
		say(name, fmt.Sprintf("answers, %d providers on its board", len(u.Providers)))
	}
	for _, q := range u.Providers {
		if err := u.await(ctx, q.Name, u.offering(q.Name)); err != nil {
			return err
		}
		say(q.Name, "makes offers")
	}
	return nil
}

// offering asks a provider's daemon whether it makes offers by now: it has
// seen a block and its bond.
func (u *up) offering(name string) func(context.Context) error {
	return func(ctx context.Context) error {
		control, err := provider.Dial(u.home(name).ProviderDir())
		if err != nil {
			return err
		}
		s, err := control.Status(ctx)
		if err == nil && !s.Offering {
			err = fmt.Errorf("%s %s", s.Reason.Text(), s.Detail)
		}
		return err
	}
}

func (u *up) verb(name string, words ...string) party {
	return party{name: name, home: u.home(name), argv: append([]string{u.Fallow, "--home", string(u.home(name))}, words...)}
}

// launch starts parties as one layer.
func (u *up) launch(parties []party) {
	// The layer outlives the caller's context: it is stopped in order.
	ctx, cancel := context.WithCancel(context.Background())
	l := layer{cancel: cancel, done: new(sync.WaitGroup)}
	for _, p := range parties {
		c := &child{party: p, log: u.logFile(p.name), restart: u.Restart, events: u.events}
		l.done.Go(func() {
			err := c.run(ctx, func(pid int) {
				u.mu.Lock()
				defer u.mu.Unlock()
				u.running.Parties[p.name] = pid
				if err := u.running.save(u.Dir); err != nil {
					u.events(p.name, err.Error())
				}
			})
			if err != nil {
				u.events(p.name, err.Error())
			}
		})
	}
	u.layers = append(u.layers, l)
}

func (u *up) logFile(name string) string { return filepath.Join(u.Dir, "logs", name+".log") }

// await asks until the party answers; its log's end explains when it does not.
func (u *up) await(ctx context.Context, name string, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, readyWait)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer: %w\n%s", name, err, lastLines(u.logFile(name), 2000))
		case <-tick.C:
		}
	}
}

// stop lets providers redeem and leave first, then hubs, then the node.
func (u *up) stop() {
	for i := len(u.layers) - 1; i >= 0; i-- {
		u.layers[i].cancel()
		u.layers[i].done.Wait()
	}
}
