package provider

import (
	"context"
	_ "embed" // the page
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"fallow.network"
	"fallow.network/hardware"
)

//go:embed page.html
var pageHTML []byte

// Status is what a provider says of itself to its owner. Amounts are in
// credits.
type Status struct {
	Protocol      string                `json:"protocol"`
	ChainID       string                `json:"chain_id"`
	Provider      fallow.Account        `json:"provider"`
	Node          fallow.Key            `json:"node"`
	Region        string                `json:"region"`
	PID           int                   `json:"pid"`
	UpSeconds     int64                 `json:"up_seconds"`
	Paused        bool                  `json:"paused"`
	Draining      bool                  `json:"draining"`
	Offering      bool                  `json:"offering"`
	Reason        fallow.Reason         `json:"reason,omitempty"`
	Detail        string                `json:"detail,omitempty"`
	Capacity      Usage                 `json:"capacity"`
	Height        fallow.Height         `json:"height"`
	BlockAgeMS    int64                 `json:"block_age_ms"`
	Standing      *StandingStatus       `json:"standing,omitempty"`
	Hubs          []HubStatus           `json:"hubs"`
	Addrs         []string              `json:"addrs"`
	Reach         ReachStatus           `json:"reach"`
	Traffic       Traffic               `json:"traffic"`
	Earned        fallow.Pico           `json:"earned"`
	Unredeemed    fallow.Pico           `json:"unredeemed"`
	Unpaid        fallow.Pico           `json:"unpaid"`
	GasSpeed      uint64                `json:"gas_speed"`
	Prices        Prices                `json:"prices"`
	Leases        []LeaseStatus         `json:"leases"`
	Declines      []DeclineRecord       `json:"declines"`
	DeclineCounts map[fallow.Reason]int `json:"decline_counts"`
	Activity      hardware.Activity     `json:"activity"`
	Hardware      hardware.Machine      `json:"hardware"`
}

// StandingStatus is the provider's standing on the ledger, in credits.
type StandingStatus struct {
	Epoch    uint64      `json:"epoch"`
	Exposure fallow.Pico `json:"exposure"`
	Ceiling  fallow.Pico `json:"ceiling"`
}

// HubStatus says whether a hub's board is held.
type HubStatus struct {
	Addr string `json:"addr"`
	Up   bool   `json:"up"`
}

// LeaseStatus is one lease at hand, in credits.
type LeaseStatus struct {
	ID        fallow.LeaseID `json:"id"`
	Tenant    fallow.Account `json:"tenant"`
	OpenedMS  int64          `json:"opened_unix_ms"`
	Slots     uint32         `json:"slots"`
	Slot      Lent           `json:"slot"`
	Connected bool           `json:"connected"`
	Running   int            `json:"running"`
	Pending   int            `json:"pending"`
	Receipts  int            `json:"receipts"`
	Gas       fallow.Gas     `json:"gas"`
	Charged   fallow.Pico    `json:"charged"`
	Vouched   fallow.Pico    `json:"vouched"`
	Redeemed  fallow.Pico    `json:"redeemed"`
	Ending    fallow.Reason  `json:"ending,omitempty"`
}

// Status takes stock.
func (d *Daemon) Status(ctx context.Context) (Status, error) {
	now := d.now()
	c, sched := d.config()
	paused, draining, activity := d.gate.is()
	height, seen := d.head()
	s := Status{
		Protocol: fallow.Protocol, ChainID: d.deps.ChainID, Provider: c.Provider, Node: d.node, Region: c.Region, PID: pid(),
		UpSeconds: int64(now.Sub(d.began).Seconds()), Paused: paused, Draining: draining, Capacity: d.capacity.usage(),
		Height: height, BlockAgeMS: -1, GasSpeed: d.speed(), Prices: c.Prices, Hubs: []HubStatus{}, Addrs: []string{},
		Leases: []LeaseStatus{}, Activity: activity, Hardware: d.deps.Machine, DeclineCounts: map[fallow.Reason]int{},
	}
	if !seen.IsZero() {
		s.BlockAgeMS = now.Sub(seen).Milliseconds()
	}
	s.Reach, s.Traffic = d.reach(), d.traffic()
	s.Reason, s.Detail = d.gate.offers(c, sched, now)
	s.Offering = s.Reason == ""
	st, known := d.standing()
	if known {
		s.Standing = &StandingStatus{st.Epoch, st.Exposure.Pico(), st.Ceiling.Pico()}
	}
	if s.Offering && (height == 0 || now.Sub(seen) > staleHead || !known || st.Epoch == 0) {
		s.Offering, s.Reason, s.Detail = false, fallow.ReasonChainAway, "no recent block was seen, or the bond is not known yet"
	}
	d.mu.Lock()
	for _, h := range c.Hubs {
		s.Hubs = append(s.Hubs, HubStatus{h, d.hubs[h]})
	}
	courier := d.courier
	d.mu.Unlock()
	if courier != nil {
		s.Addrs = append(s.Addrs, courier.Addrs()...)
	}
	for _, l := range d.all() {
		ls, unpaid, unredeemed := l.status()
		s.Leases = append(s.Leases, ls)
		s.Unpaid = sum(s.Unpaid, unpaid)
		s.Unredeemed = sum(s.Unredeemed, unredeemed)
	}
	d.desk.mu.Lock()
	s.Declines = slices.Clone(d.desk.declines)
	maps.Copy(s.DeclineCounts, d.desk.counts)
	d.desk.mu.Unlock()
	slices.Reverse(s.Declines)
	earned, err := d.journal.earned(ctx)
	if err != nil {
		return s, fmt.Errorf("read the journal: %w", err)
	}
	s.Earned = earned.Pico()
	return s, nil
}

func (l *lease) status() (s LeaseStatus, unpaid, unredeemed fallow.Pico) {
	l.mu.Lock()
	defer l.mu.Unlock()
	unredeemed, _ = l.paid.Sub(l.redeemed)
	return LeaseStatus{
		ID: l.id, Tenant: l.tenant, OpenedMS: unixMS(l.opened), Slots: l.terms.Slots, Slot: lentOf(l.terms.Slot), Connected: l.link != nil,
		Running: len(l.tasks) - len(l.pending), Pending: len(l.pending), Receipts: l.done.n, Gas: l.gas,
		Charged: l.charged, Vouched: l.paid, Redeemed: l.redeemed, Ending: l.over,
	}, l.unpaid(), unredeemed
}

// sum is a+b, or a where that does not fit, which no real amount comes near.
func sum(a, b fallow.Pico) fallow.Pico {
	if s, err := a.Add(b); err == nil {
		return s
	}
	return a
}

// inCredits is p as a float, for metrics.
func inCredits(p fallow.Pico) float64 { return (float64(p.Hi)*(1<<64) + float64(p.Lo)) / 1e12 }

// listenPage opens the page's port, and tells this home's owner where it is.
func (d *Daemon) listenPage(ctx context.Context) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", d.cfg.StatusAddr)
	if err != nil {
		return fmt.Errorf("status page on %s: %w; choose another status_addr, or port 0 for any", d.cfg.StatusAddr, err)
	}
	d.page = l.(*net.TCPListener)
	return d.writeControl()
}

// PageURL is where the status page stands.
func (d *Daemon) PageURL() string { return "http://" + d.page.Addr().String() + "/" }

// servePage serves the status page until ctx ends.
func (d *Daemon) servePage(ctx context.Context) {
	s := &http.Server{
		Handler: d.pageHandler(), ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(d.log.Handler(), slog.LevelDebug),
	}
	stopped := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stopped()
	if err := s.Serve(d.page); !errors.Is(err, http.ErrServerClosed) && ctx.Err() == nil {
		d.log.ErrorContext(ctx, "the status page ended", slog.Any("error", err))
	}
}

func (d *Daemon) pageHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'")
		_, _ = w.Write(pageHTML)
	})
	mux.HandleFunc("GET /status.json", func(w http.ResponseWriter, r *http.Request) {
		s, err := d.Status(r.Context())
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_ = json.NewEncoder(w).Encode(s)
	})
	if d.cfg.Metrics {
		mux.Handle("GET /metrics", promhttp.HandlerFor(d.metrics.registry, promhttp.HandlerOpts{}))
	}
	mux.HandleFunc("POST /control/{verb}", d.serveControl)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// A page of another site that resolves its name to this machine (DNS
		// rebinding) sends its own name as host.
		host, _, err := net.SplitHostPort(r.Host)
		if ip := net.ParseIP(host); err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			http.Error(w, "ask by a loopback address", http.StatusForbidden)
			return
		}
		w.Header().Set("X-Content-Type-Options", "nosniff")
		mux.ServeHTTP(w, r)
	})
}
