package provider

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"github.com/gofrs/flock"

	"fallow.network"
	"fallow.network/blob"
	"fallow.network/wire"
)

// keepEnded is how long receipts of ended leases are kept as evidence.
const keepEnded = 30 * 24 * time.Hour

// Daemon is a running provider.
type Daemon struct {
	deps     Deps
	node     fallow.Key
	log      *slog.Logger
	lock     *flock.Flock
	journal  *journal
	capacity *capacity
	desk     *desk
	debts    debts
	pins     *pins
	metrics  *metrics
	gate     gate
	page     *net.TCPListener
	token    string

	// launch runs a task until the daemon ends; Run sets it.
	launch  func(l *lease, t *task)
	ending  atomic.Bool
	courier Courier
	wg      sync.WaitGroup // of everything that Run or a request started
	began   time.Time

	gasSpeed atomic.Uint64
	inBoxes  atomic.Int64  // tasks that run
	compare  chan struct{} // holds a token when the ledger should be compared
	settling chan struct{} // likewise for what is to be settled
	draining chan struct{} // likewise when a drain was asked for

	mu      sync.Mutex
	cfg     Config
	sched   schedule
	leases  map[fallow.LeaseID]*lease
	order   []*lease // by number; nil when one came or went
	orphans map[fallow.LeaseID]bool
	links   map[*link]bool
	hubs    map[string]bool
	height  fallow.Height
	seen    time.Time
	block   chan struct{} // closed at the next block
	stand   Standing
	stood   bool
	change  chan struct{} // closed when a lease ends or something is settled
	reload  chan struct{} // closed when the config changes
}

// New opens a provider's home: it takes its lock, so that a second daemon is
// refused with ErrBusy, and reads its journal. Run then runs it; a Daemon that
// is never run is closed by Close.
func New(ctx context.Context, c Config, deps Deps) (*Daemon, error) {
	if err := errors.Join(c.Validate(), deps.check()); err != nil {
		return nil, err
	}
	if err := wire.CheckAccount(string(c.Provider)); err != nil {
		return nil, fmt.Errorf("provider: %w; set it by: fallow provider init", err)
	}
	sched, err := c.schedule()
	if err != nil {
		return nil, err
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.patience == 0 {
		deps.patience = leaseWait
	}
	lock, err := lockHome(c)
	if err != nil {
		return nil, err
	}
	d := &Daemon{
		deps: deps, node: wire.PublicKey(deps.NodeKey), log: deps.Log, lock: lock, cfg: c, sched: sched,
		capacity: newCapacity(c.Lend(deps.Machine)), desk: newDesk(), pins: newPins(),
		compare: make(chan struct{}, 1), settling: make(chan struct{}, 1), draining: make(chan struct{}, 1),
		leases: map[fallow.LeaseID]*lease{}, orphans: map[fallow.LeaseID]bool{}, links: map[*link]bool{}, hubs: map[string]bool{},
		block: make(chan struct{}), change: make(chan struct{}), reload: make(chan struct{}),
		began: deps.Now(),
	}
	d.metrics = newMetrics(d)
	if err := d.open(ctx); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// open reads the home.
func (d *Daemon) open(ctx context.Context) error {
	var err error
	if d.journal, err = openJournal(ctx, d.cfg.journalFile(), func() bool { return d.inBoxes.Load() > 0 }); err != nil {
		return err
	}
	if err := d.journal.prune(ctx, d.now().Add(-keepEnded)); err != nil {
		return fmt.Errorf("prune the journal: %w", err)
	}
	for key, use := range map[string]func([]byte){
		metaPaused: func(b []byte) { d.gate.paused = len(b) > 0 && b[0] == 1 },
		metaSpeed: func(b []byte) {
			if len(b) == 8 {
				d.gasSpeed.Store(binary.BigEndian.Uint64(b))
			}
		},
	} {
		b, err := d.journal.meta(ctx, key)
		if err != nil {
			return fmt.Errorf("read the journal: %w", err)
		}
		use(b)
	}
	owed, err := d.journal.meta(ctx, metaDebts)
	if err == nil {
		err = d.debts.read(owed)
	}
	if err != nil {
		return fmt.Errorf("read the journal's debts: %w", err)
	}
	if err := d.resume(ctx); err != nil {
		return err
	}
	// Pins of leases that ended just before a crash.
	open := map[string]bool{}
	for id := range d.leases {
		open[blob.Holder(id)] = true
	}
	for _, h := range d.deps.Blobs.Holders() {
		if strings.HasPrefix(h, blob.Holder(1)[:len("lease-")]) && !open[h] {
			if err := d.deps.Blobs.Unpin(h); err != nil {
				return err
			}
		}
	}
	return d.listenPage(ctx)
}

const (
	metaPaused = "paused"
	metaSpeed  = "gas_speed"
	metaDebts  = "debts"
)

// Run serves until ctx ends or a drain is done. What runs when ctx ends stays
// in the journal and goes on at the next start.
func (d *Daemon) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	noted := context.AfterFunc(ctx, func() { d.ending.Store(true) })
	defer noted()
	// Tasks outlive the requests that bring them and end with the daemon.
	d.launch = func(l *lease, t *task) {
		ctx, cancel := context.WithCancelCause(ctx)
		t.cancel = cancel
		l.wg.Go(func() {
			defer cancel(nil)
			d.run(ctx, l, t)
		})
	}
	courier, err := d.deps.Listen(ctx, d.handler())
	if err != nil {
		return errors.Join(fmt.Errorf("listen for peers: %w", err), d.Close())
	}
	d.mu.Lock()
	d.courier = courier
	d.mu.Unlock()
	for _, part := range []func(context.Context){
		d.follow, d.reconcile, d.settler, d.boards, d.watch, d.keepPins, d.servePage, d.sweep, d.probe,
	} {
		d.wg.Go(func() { part(ctx) })
	}
	d.log.InfoContext(ctx, "provider is up", slog.String("node", d.node.Short()), slog.String("status_page", d.PageURL()),
		slog.Any("addrs", courier.Addrs()), slog.Uint64("slots", uint64(d.capacity.usage().Slots)))
	select {
	case <-ctx.Done():
	case <-d.draining:
		d.drain(ctx)
	}
	d.ending.Store(true)
	stop()
	stopping := refuse(connect.CodeUnavailable, fallow.ReasonProviderGone, "the provider is stopping; come again in a moment")
	d.mu.Lock()
	for k := range d.links {
		k.close(stopping)
	}
	d.mu.Unlock()
	for _, l := range d.all() {
		d.halt(l, context.Canceled)
	}
	d.flush()
	err = courier.Close()
	d.wg.Wait()
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], d.speed())
	return errors.Join(err, d.journal.setMeta(context.WithoutCancel(ctx), metaSpeed, b[:]), d.Close())
}

// lastWords is how long tenants have to take what was last said to them.
const lastWords = 2 * time.Second

// flush waits for connections that end to have sent everything.
func (d *Daemon) flush() {
	d.mu.Lock()
	links := slices.Collect(maps.Keys(d.links))
	d.mu.Unlock()
	t := time.NewTimer(lastWords)
	defer t.Stop()
	for _, k := range links {
		select {
		case <-k.gone:
		case <-t.C:
			return
		}
	}
}

// Close frees what New took. Run closes by itself.
func (d *Daemon) Close() error {
	var errs []error
	if d.page != nil {
		if err := d.page.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
		errs = append(errs, d.removeControl())
	}
	if d.journal != nil {
		errs = append(errs, d.journal.close())
	}
	return errors.Join(append(errs, d.lock.Close())...)
}

func (d *Daemon) now() time.Time { return d.deps.Now() }

func (d *Daemon) config() (Config, schedule) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cfg, d.sched
}

// Reload takes prices, terms, schedule, idle rules, redemption and claims of a
// new config; the rest needs a restart, and stale names what of it differs.
func (d *Daemon) Reload(c Config) (stale []string, err error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	sched, err := c.schedule()
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	old := d.cfg
	for name, same := range map[string]bool{
		"provider": old.Provider == c.Provider, "hubs": slices.Equal(old.Hubs, c.Hubs), "listen": slices.Equal(old.Listen, c.Listen), "announce": slices.Equal(old.Announce, c.Announce),
		"status_addr": old.StatusAddr == c.StatusAddr, "metrics": old.Metrics == c.Metrics,
		"slots": old.Slots == c.Slots, "share": old.Share == c.Share,
	} {
		if !same {
			stale = append(stale, name)
		}
	}
	d.cfg.Region, d.cfg.Attributes = c.Region, c.Attributes
	d.cfg.Hours, d.cfg.TimeZone, d.cfg.Idle = c.Hours, c.TimeZone, c.Idle
	d.cfg.Prices, d.cfg.Offers, d.cfg.Redeem, d.cfg.DrainTimeout = c.Prices, c.Offers, c.Redeem, c.DrainTimeout
	d.sched = sched
	close(d.reload)
	d.reload = make(chan struct{})
	d.log.Info("config reloaded", slog.Any("needs_restart", stale))
	d.wakeSettler()
	return stale, nil
}

func (d *Daemon) reloaded() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.reload
}

// changed wakes who waits for leases to end.
func (d *Daemon) changed() {
	d.mu.Lock()
	defer d.mu.Unlock()
	close(d.change)
	d.change = make(chan struct{})
}

func (d *Daemon) nextChange() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.change
}

func (d *Daemon) setHub(hub string, up bool) {
	d.mu.Lock()
	was := d.hubs[hub]
	d.hubs[hub] = up
	d.mu.Unlock()
	if up && !was {
		d.log.Info("on the board of a hub", slog.String("hub", hub))
	}
}

// Pause stops or takes up offering; leases that stand go on. It outlives a
// restart.
func (d *Daemon) Pause(ctx context.Context, paused bool) error {
	d.gate.set(func(g *gate) { g.paused = paused })
	b := []byte{0}
	if paused {
		b[0] = 1
	}
	if err := d.journal.setMeta(ctx, metaPaused, b); err != nil {
		return fmt.Errorf("pause: %w", err)
	}
	d.log.InfoContext(ctx, "lending paused or taken up", slog.Bool("paused", paused))
	return nil
}

// Drain makes Run end once the work at hand is done, paid and closed; no new
// offer is made from now on. It returns at once.
func (d *Daemon) Drain() {
	d.gate.set(func(g *gate) { g.draining = true })
	wake(d.draining)
}

const (
	// drainPay is how long a lease that has nothing more to do is kept for
	// its last voucher.
	drainPay  = 5 * time.Second
	drainLook = 200 * time.Millisecond
	// drainSettle bounds the last settlement.
	drainSettle = 2 * time.Minute
)

// drain waits for work to end, gives notice and settles.
func (d *Daemon) drain(ctx context.Context) {
	c, _ := d.config()
	d.log.InfoContext(ctx, "draining: no new offers", slog.Int("leases", len(d.all())))
	end := d.now().Add(time.Duration(c.DrainTimeout))
	quiet := map[fallow.LeaseID]time.Time{}
	for ctx.Err() == nil {
		now, left := d.now(), 0
		for _, l := range d.all() {
			l.mu.Lock()
			over, idle, owed := l.over != "", len(l.tasks) == 0, l.charged.Cmp(l.paid) > 0
			l.mu.Unlock()
			if over {
				continue
			}
			if idle && quiet[l.id].IsZero() {
				quiet[l.id] = now
			}
			if !idle {
				delete(quiet, l.id)
			}
			if now.After(end) || idle && (!owed || now.Sub(quiet[l.id]) > drainPay) {
				d.stop(l, fallow.ReasonProviderLeft, nil)
				l.mu.Lock()
				if l.link != nil {
					l.link.end(fallow.ReasonProviderLeft)
				}
				l.mu.Unlock()
				continue
			}
			left++
		}
		if left == 0 {
			break
		}
		if !d.await(ctx, drainLook) {
			return
		}
	}
	for end := d.now().Add(drainSettle); len(d.owing()) > 0 && d.now().Before(end); {
		if !d.await(ctx, drainLook) {
			return
		}
	}
	if left := d.owing(); len(left) > 0 {
		d.log.ErrorContext(ctx, "drained, but the ledger did not take everything; start again to settle", slog.Int("leases", len(left)))
		return
	}
	d.log.InfoContext(ctx, "drained")
}

// owing are leases that still have something to bring to the ledger.
func (d *Daemon) owing() []*lease {
	var list []*lease
	for _, l := range d.all() {
		l.mu.Lock()
		if !l.closing || l.paid.Cmp(l.redeemed) > 0 || len(l.release.Message) > 0 {
			list = append(list, l)
		}
		l.mu.Unlock()
	}
	return list
}

// await waits for a lease to end or for a while; false when ctx is over.
func (d *Daemon) await(ctx context.Context, wait time.Duration) bool {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-d.nextChange():
	case <-t.C:
	}
	return true
}

// sweep drops what uploads left unfinished, now and then.
func (d *Daemon) sweep(ctx context.Context) {
	for sleep(ctx, time.Hour) {
		if err := d.deps.Blobs.Sweep(ctx); err != nil && ctx.Err() == nil {
			d.log.WarnContext(ctx, "unfinished uploads could not be swept", slog.Any("error", err))
		}
	}
}
