package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"
	cmtcfg "github.com/cometbft/cometbft/config"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"

	"fallow.network"
)

// figures count what the blocks that this process carried out came to. They
// are read off what a block returns, so that no rule and no handler knows of
// them. docs/metrics.md names them.
type figures struct {
	registry *prometheus.Registry
	height   prometheus.Gauge
	took     prometheus.Histogram
	txs      *prometheus.CounterVec
	events   *prometheus.CounterVec
	skipped  *prometheus.CounterVec
	ended    *prometheus.CounterVec
	credits  *prometheus.CounterVec
}

// marks are our modules' events by their type's last word, and what the
// figures call them.
var marks = map[string]string{
	"EventDeposit": "deposit", "EventWithdraw": "withdraw", "EventLeaseOpened": "lease_opened", "EventLeaseSkipped": "lease_skipped",
	"EventLeaseState": "lease_state", "EventRedeemed": "redeemed", "EventPaid": "paid",
	"EventRegistered": "registered", "EventUpdated": "updated", "EventUnbonding": "unbonding", "EventUnbonded": "unbonded",
}

func newFigures() *figures {
	const space = "fallow_node"
	vec := func(name, help, label string, values ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: space, Name: name, Help: help}, []string{label})
		for _, of := range values { // a series that is there from the start has a rate from the start
			v.WithLabelValues(of)
		}
		return v
	}
	f := &figures{
		registry: prometheus.NewRegistry(),
		height:   prometheus.NewGauge(prometheus.GaugeOpts{Namespace: space, Name: "height", Help: "Newest block carried out."}),
		took: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: space, Name: "block_seconds", Help: "Time to carry out a block.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 12),
		}),
		txs:     vec("transactions_total", "Transactions in blocks, by how they ended.", "result", "ok", "refused"),
		events:  vec("events_total", "What our modules did, by event.", "event"),
		skipped: vec("leases_skipped_total", "Offers that opened no lease, by reason.", "reason", string(fallow.ReasonFunds)),
		ended:   vec("leases_ended_total", "Leases that closed, by reason.", "reason", string(fallow.ReasonCompleted)),
		credits: vec("credits_total", "Credits moved by our modules, by what moved them.", "by", "deposit", "withdraw", "redeemed", "paid"),
	}
	for _, m := range marks {
		f.events.WithLabelValues(m)
	}
	f.registry.MustRegister(f.height, f.took, f.txs, f.events, f.skipped, f.ended, f.credits)
	return f
}

// block takes in what a block came to.
func (f *figures) block(height int64, took time.Duration, r *abci.ResponseFinalizeBlock) {
	f.height.Set(float64(height))
	f.took.Observe(took.Seconds())
	for _, tx := range r.TxResults {
		if tx.Code != 0 {
			f.txs.WithLabelValues("refused").Inc()
			continue
		}
		f.txs.WithLabelValues("ok").Inc()
		f.take(tx.Events)
	}
	f.take(r.Events)
}

func (f *figures) take(events []abci.Event) {
	for _, e := range events {
		rest, ours := strings.CutPrefix(e.Type, "fallow.")
		if !ours {
			continue
		}
		name := marks[rest[strings.LastIndexByte(rest, '.')+1:]]
		if name == "" {
			continue
		}
		f.events.WithLabelValues(name).Inc()
		switch name {
		case "lease_skipped":
			f.skipped.WithLabelValues(reasonLabel(attribute(e, "reason"))).Inc()
		case "lease_state":
			if attribute(e, "state") == "closed" {
				f.ended.WithLabelValues(reasonLabel(attribute(e, "reason"))).Inc()
			}
		case "deposit", "withdraw", "redeemed", "paid":
			if n, err := strconv.ParseUint(attribute(e, "amount"), 10, 64); err == nil {
				f.credits.WithLabelValues(name).Add(float64(n) / 1e6)
			}
		}
	}
}

// attribute is one of a typed event, whose values are JSON.
func attribute(e abci.Event, key string) string {
	i := slices.IndexFunc(e.Attributes, func(a abci.EventAttribute) bool { return a.Key == key })
	if i < 0 {
		return ""
	}
	return strings.Trim(e.Attributes[i].Value, `"`)
}

// reasonLabel keeps labels to the words of this version: what a transaction
// says may become no series of its own.
func reasonLabel(s string) string {
	if r := fallow.Reason(s); r.Known() {
		return s
	}
	return "other"
}

// counted says whether CometBFT's own figures are taken already: they stand in
// the process' one registry, for the process' first node.
var counted atomic.Bool

// cometFigures turns CometBFT's own figures on where they are asked for.
func cometFigures(c *cmtcfg.InstrumentationConfig) *cmtcfg.InstrumentationConfig {
	own := *c
	own.Prometheus = own.Prometheus && counted.CompareAndSwap(false, true)
	return &own
}

// bounded leaves out series that others can make more of: those by peer.
type bounded struct{ prometheus.Gatherer }

// Gather is what the process' registry holds, but for series by peer.
func (b bounded) Gather() ([]*dto.MetricFamily, error) {
	all, err := b.Gatherer.Gather()
	return slices.DeleteFunc(all, func(f *dto.MetricFamily) bool {
		return slices.ContainsFunc(f.GetMetric(), func(m *dto.Metric) bool {
			return slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetName() == "peer_id" })
		})
	}), err
}

// serveFigures serves all figures at addr until ctx ends, and says where. It
// is loopback unless the node's owner wrote otherwise.
func (n *Node) serveFigures(ctx context.Context, addr string, most int) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("metrics on %s: %w", addr, err)
	}
	n.MetricsAddress = l.Addr().String()
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(prometheus.Gatherers{n.figures.registry, bounded{prometheus.DefaultGatherer}}, promhttp.HandlerOpts{MaxRequestsInFlight: most}))
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10}
	n.group.Go(func() error {
		defer context.AfterFunc(ctx, func() { _ = s.Close() })()
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve metrics: %w", err)
		}
		return nil
	})
	return nil
}
