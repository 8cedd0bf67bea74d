package hub

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"fallow.network"
	hubv1 "fallow.network/api/hub"
)

// tally is a counter that can be read again.
type tally struct {
	n atomic.Uint64
	prometheus.CounterFunc
}

func (t *tally) Inc() { t.n.Add(1) }

// stats are a hub's figures.
type stats struct {
	registry                              *prometheus.Registry
	providers                             prometheus.Gauge
	demands, answers, late, dropped, slow *tally
	refused                               *prometheus.CounterVec
	refusals                              atomic.Uint64
	match                                 prometheus.Histogram
}

func newStats() *stats {
	count := func(name, help string) *tally {
		t := &tally{}
		t.CounterFunc = prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(t.n.Load()) })
		return t
	}
	m := &stats{
		registry:  prometheus.NewRegistry(),
		providers: prometheus.NewGauge(prometheus.GaugeOpts{Name: "fallow_hub_providers", Help: "Providers on the board."}),
		demands:   count("fallow_hub_demands_total", "Demands put on the board."),
		answers:   count("fallow_hub_answers_total", "Sealed answers passed on."),
		late:      count("fallow_hub_answers_late_total", "Answers to no open question."),
		dropped:   count("fallow_hub_answers_dropped_total", "Answers dropped because too many bytes were held."),
		slow:      count("fallow_hub_slow_total", "Demands that a provider's full queue did not take."),
		refused:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "fallow_hub_refused_total", Help: "Refusals by reason."}, []string{"reason"}),
		match: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "fallow_hub_match_seconds", Help: "Time to find who could serve a demand.",
			Buckets: prometheus.ExponentialBuckets(1e-6, 4, 10),
		}),
	}
	m.refused.WithLabelValues(string(fallow.ReasonRateLimited)) // there from the start
	m.registry.MustRegister(m.providers, m.demands, m.answers, m.late, m.dropped, m.slow, m.refused, m.match,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *stats) refuse(r fallow.Reason) {
	m.refusals.Add(1)
	if !r.Known() {
		r = "other" // a label is never a stranger's word
	}
	m.refused.WithLabelValues(string(r)).Inc()
}

func (m *stats) status() *hubv1.StatusResponse {
	return &hubv1.StatusResponse{Demands: m.demands.n.Load(), Answers: m.answers.n.Load(), Refused: m.refusals.Load()}
}
