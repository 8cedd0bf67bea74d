package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
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

// lockWait bounds how long a lock that others hold is asked for.
const lockWait = 300 * time.Millisecond

// mostEnds is how often a party may end before it answers for the first time.
const mostEnds = 3

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
	unlock, err := c.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	// What a network that was killed has left; unreadable, it says nothing.
	before, _ := readRunning(c.Dir)
	if err := os.Remove(runningFile(c.Dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var one sync.Mutex // parties tell what happens at the same time
	tell := func(party, what string) {
		one.Lock()
		defer one.Unlock()
		events(party, what)
	}
	p, err := c.loadPorts(ctx)
	defer p.release()
	if err != nil {
		return err
	}
	if err := c.waitForPorts(ctx, &p, before, tell); err != nil {
		return err
	}
	notes := p.unlike(c)
	for _, n := range notes {
		tell("up", n)
	}
	n, err := c.prepare(ctx, p)
	if err != nil {
		return err
	}

	own := newFigures()
	quiet, err := own.serve(ctx, p.Up)
	if err != nil {
		return err
	}
	defer quiet()
	u := &up{Config: c, events: tell, figures: own, children: map[string]*child{}, running: Running{
		PID: os.Getpid(), Parties: map[string]int{}, Status: map[string]string{"node": "http://" + hostPort(p.RPC)}, Notes: notes,
	}}
	for _, name := range c.names() {
		u.running.Status[name] = "http://" + hostPort(p.Status[name])
	}
	for i := range c.Hubs { // a hub has no page, but figures
		u.running.Status[c.hubName(i)] += "/metrics"
	}
	u.running.Metrics = map[string]string{"node": "http://" + hostPort(p.Metrics) + "/metrics", "up": "http://" + hostPort(p.Up) + "/metrics"}
	for _, name := range c.names() {
		u.running.Metrics[name] = "http://" + hostPort(p.Status[name]) + "/metrics"
	}
	defer func() { _ = os.Remove(runningFile(c.Dir)) }()
	err = u.start(ctx, n)
	if err == nil {
		u.mu.Lock()
		u.running.Ready = true
		u.figures.ready.Set(1)
		err = u.running.save(c.Dir)
		now := u.running
		u.mu.Unlock()
		ready(n, now)
		<-ctx.Done()
	}
	tell("up", "everybody leaves: providers redeem, then hubs, then the node")
	u.stop()
	tell("up", "is down")
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// lock makes the network this process' own. Those who look whether it is up hold
// the lock for a moment, so it is asked for more than once.
func (c Config) lock(ctx context.Context) (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	lock := flock.New(lockFile(c.Dir), flock.SetPermissions(0o600))
	switch ok, err := lock.TryLockContext(ctx, 10*time.Millisecond); {
	case errors.Is(err, context.DeadlineExceeded), err == nil && !ok:
		return nil, fmt.Errorf("the local network in %s is up: %w", c.Dir, sdk.ErrBusy)
	case err != nil:
		return nil, err
	}
	return func() { _ = lock.Unlock() }, nil
}

// up is a network that runs.
type up struct {
	Config
	events   func(party, what string)
	figures  *figures
	layers   []layer // in the order of start
	children map[string]*child

	mu      sync.Mutex
	running Running
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
	u.launch(ctx, []party{{name: "node", argv: []string{u.Node, "start", "--home", filepath.Join(u.Dir, "node")}}})
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
	u.launch(ctx, hubs)
	u.launch(ctx, providers)
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
	return party{name: name, argv: append([]string{u.Fallow, "--home", string(u.home(name))}, words...)}
}

// launch starts parties as one layer.
func (u *up) launch(ctx context.Context, parties []party) {
	// The layer outlives the caller's context: it is stopped in order.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	l := layer{cancel: cancel, done: new(sync.WaitGroup)}
	for _, p := range parties {
		c := &child{party: p, log: u.logFile(p.name), restart: u.Restart, events: u.events, backoff: firstBackoff, figures: u.figures}
		u.children[p.name] = c
		l.done.Go(func() {
			c.run(ctx, func(pid int) {
				u.mu.Lock()
				defer u.mu.Unlock()
				u.running.Parties[p.name] = pid
				if err := u.running.save(u.Dir); err != nil {
					u.events(p.name, err.Error())
				}
			})
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
		most := int32(mostEnds)
		if !u.Restart {
			most = 1
		}
		if u.children[name].ends.Load() >= most {
			return fmt.Errorf("%s ends as soon as it starts; %s ends with:\n%s", name, u.logFile(name), lastLines(u.logFile(name), 2000))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer: %w; %s ends with:\n%s", name, err, u.logFile(name), lastLines(u.logFile(name), 2000))
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
