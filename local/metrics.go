package local

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"fallow.network/sdk"
)

// figures are the network's own, as docs/metrics.md names them: who is up, and
// how often each had to be brought back.
type figures struct {
	registry *prometheus.Registry
	ready    prometheus.Gauge
	up       *prometheus.GaugeVec
	ends     *prometheus.CounterVec
}

func newFigures() *figures {
	const space = "fallow_up"
	f := &figures{
		registry: prometheus.NewRegistry(),
		ready:    prometheus.NewGauge(prometheus.GaugeOpts{Namespace: space, Name: "ready", Help: "1 once work can be asked for."}),
		up:       prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: space, Name: "party_up", Help: "1 while the party's process runs."}, []string{"party"}),
		ends:     prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: space, Name: "party_ends_total", Help: "How often the party ended by itself."}, []string{"party"}),
	}
	f.registry.MustRegister(f.ready, f.up, f.ends, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return f
}

// serve serves them on loopback until stop.
func (f *figures) serve(ctx context.Context, port int) (stop func(), err error) {
	return sdk.ServeMetrics(ctx, hostPort(port), f.registry)
}

// stands notes whether a party's process runs: 1 or 0.
func (f *figures) stands(party string, up float64) {
	if f != nil {
		f.up.WithLabelValues(party).Set(up)
		f.ends.WithLabelValues(party).Add(0) // there from the start
	}
}

// end notes that a party ended by itself.
func (f *figures) end(party string) {
	if f != nil {
		f.ends.WithLabelValues(party).Inc()
	}
}
