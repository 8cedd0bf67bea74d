package provider

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"fallow.network"
)

// metrics are named in docs/metrics.md.
type metrics struct {
	registry  *prometheus.Registry
	offers    prometheus.Counter
	declines  *prometheus.CounterVec
	malformed prometheus.Counter
	leases    prometheus.Counter
	ended     *prometheus.CounterVec
	receipts  prometheus.Counter
	failures  *prometheus.CounterVec
	vouchers  prometheus.Counter
	gas       prometheus.Counter
	redeemed  prometheus.Counter
}

func newMetrics(d *Daemon) *metrics {
	const space = "fallow_provider"
	count := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: space, Name: name, Help: help})
	}
	counts := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: space, Name: name, Help: help}, []string{"reason"})
	}
	gauge := func(name, help string, f func() float64) prometheus.GaugeFunc {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: space, Name: name, Help: help}, f)
	}
	m := &metrics{
		registry:  prometheus.NewRegistry(),
		offers:    count("offers_total", "Offers made."),
		declines:  counts("declines_total", "Demands declined, by reason."),
		malformed: count("malformed_total", "Messages that were no valid demand."),
		leases:    count("leases_total", "Leases taken in."),
		ended:     counts("leases_ended_total", "Leases that ended, by reason."),
		receipts:  count("receipts_total", "Receipts signed."),
		failures:  counts("task_failures_total", "Tasks without a result, by reason."),
		vouchers:  count("vouchers_total", "Vouchers taken."),
		gas:       count("gas_total", "Gas of signed receipts."),
		redeemed:  count("redeemed_credits_total", "Credits redeemed from vouchers."),
	}
	for vec, r := range map[*prometheus.CounterVec]fallow.Reason{m.declines: fallow.ReasonNoCapacity, m.ended: fallow.ReasonCompleted, m.failures: fallow.ReasonAborted} {
		vec.WithLabelValues(string(r)) // there from the start
	}
	m.registry.MustRegister(m.offers, m.declines, m.malformed, m.leases, m.ended, m.receipts, m.failures, m.vouchers, m.gas, m.redeemed,
		gauge("slots", "Slots lent.", func() float64 { return float64(d.capacity.usage().Slots) }),
		gauge("slots_held", "Slots held by open offers.", func() float64 { return float64(d.capacity.usage().SlotsHeld) }),
		gauge("slots_leased", "Slots under leases.", func() float64 { return float64(d.capacity.usage().SlotsLeased) }),
		gauge("tasks_running", "Tasks that run now.", func() float64 { return float64(d.capacity.usage().Running) }),
		gauge("open_leases", "Leases at hand.", func() float64 { return float64(len(d.all())) }),
		gauge("hubs_connected", "Hubs whose board this provider is on.", func() float64 { return float64(d.hubsUp()) }),
		gauge("ledger_height", "Newest block seen.", func() float64 { h, _ := d.head(); return float64(h) }),
		gauge("unpaid_credits", "Receipts without a voucher, in credits.", func() float64 { return d.sums().unpaid }),
		gauge("unredeemed_credits", "Vouchers not yet redeemed, in credits.", func() float64 { return d.sums().unredeemed }),
		gauge("exposure_credits", "Open reserves and unmatured payouts on the ledger, in credits.", func() float64 {
			s, _ := d.standing()
			return float64(s.Exposure) / 1e6
		}),
		gauge("exposure_ceiling_credits", "Half the bond's value, in credits.", func() float64 {
			s, _ := d.standing()
			return float64(s.Ceiling) / 1e6
		}),
		gauge("gas_speed", "Measured gas a second of one slot.", func() float64 { return float64(d.speed()) }),
		gauge("reachable", "1 when a hub's dial reached this node, directly or through a relay.", func() float64 {
			return oneIf(d.reach().Path == PathDirect || d.reach().Path == PathRelayed)
		}),
		gauge("reachable_direct", "1 when a hub's dial reached this node without a relay.", func() float64 { return oneIf(d.reach().Path == PathDirect) }),
		moved(d, "direct", "in", func(t Traffic) uint64 { return t.DirectIn }), moved(d, "direct", "out", func(t Traffic) uint64 { return t.DirectOut }),
		moved(d, "relayed", "in", func(t Traffic) uint64 { return t.RelayedIn }), moved(d, "relayed", "out", func(t Traffic) uint64 { return t.RelayedOut }),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return m
}

// label is a reason as a label: never a stranger's word.
func label(r fallow.Reason) string {
	if r.Known() {
		return string(r)
	}
	return "other"
}

// moved counts the bytes of requests and answers on one path.
func moved(d *Daemon, path, way string, of func(Traffic) uint64) prometheus.CounterFunc {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{
		Namespace: "fallow_provider", Name: "bytes_total", Help: "Bytes of requests and answers, by path and way.",
		ConstLabels: prometheus.Labels{"path": path, "way": way},
	}, func() float64 { return float64(of(d.traffic())) })
}

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

func (d *Daemon) hubsUp() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for _, up := range d.hubs {
		if up {
			n++
		}
	}
	return n
}

// totals are amounts over all leases at hand, in credits, for people.
type totals struct{ unpaid, unredeemed float64 }

func (d *Daemon) sums() totals {
	var t totals
	for _, l := range d.all() {
		l.mu.Lock()
		t.unpaid += inCredits(l.unpaid())
		if p, err := l.paid.Sub(l.redeemed); err == nil {
			t.unredeemed += inCredits(p)
		}
		l.mu.Unlock()
	}
	return t
}
